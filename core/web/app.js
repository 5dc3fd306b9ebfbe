/* app.js - asks once a second and shows what has come. */
import { act, ApiError, hasToken, read, setToken } from './api.js';
import { Charts } from './charts.js';
import { showAlerts, showLeaks, showOptimizations, showProcess } from './detail.js';
import { reconcile, sparkMs } from './process.js';
import { put, Table } from './table.js';
import { bytes, milliseconds, switchLanguage, translate, words } from './text.js';
import { Track } from './track.js';

const api = 'api/v1/';
const everyMs = 1000;
const hiddenEveryMs = 5000;
const soonMs = 50;
const longestWaitMs = 10000;
const listsEvery = 5; // looks; sooner when a count of the process changed
const sparksAtOnce = 4;
const ranges = [
  { id: '2m', ring: 'second', seconds: 120, every: 1 },
  { id: '10m', ring: 'second', seconds: 600, every: 1 },
  { id: '6h', ring: 'minute', seconds: 21600, every: 10 },
];
const points = { second: 600, minute: 360 };
const leastSpanS = 60;
const unauthorized = 401;
const bytesPerMb = 1048576;

const byId = (id) => document.getElementById(id);
const state = {
  processes: new Map(), chosen: null, nowMs: 0, range: ranges[1], filter: '',
  link: { name: 'wait' }, lists: null, looks: 0, waitMs: everyMs, timer: 0,
  isLooking: false, isWanted: false, wasAsked: false,
};
const track = new Track(points.second + 60); // and room for gaps
const charts = new Charts(byId('charts'));
const table = new Table(byId('processes'), choose);
table.refresh = showTable;

/* ---- showing -------------------------------------------------------------------- */

function showLink() {
  const { name, seconds } = state.link;
  byId('link').dataset.state = name;
  put(byId('link').firstElementChild, words(name, { seconds }));
}

function showSummary() {
  const all = [...state.processes.values()];
  const alive = all.filter((one) => one.facts.alive).length;
  const firing = all.reduce((sum, one) => sum + one.firing.length, 0);
  const parts = [['alive', alive], ['dead', all.length - alive], ['firing', firing]];
  const list = byId('summary');
  while (list.children.length < parts.length) list.append(document.createElement('li'));
  parts.forEach(([name, number], index) => {
    const item = list.children[index];
    item.className = name;
    item.hidden = number === 0 && name !== 'alive';
    put(item, words(name, { count: number }));
  });
  document.title = firing > 0 ? `(${firing}) memguard` : 'memguard';
}

function isFound(one) {
  const { program, pid } = one.facts;
  return `${program} ${pid}`.toLowerCase().includes(state.filter);
}

function showTable() {
  const list = [...state.processes.values()].filter(isFound);
  table.show(list, state.chosen, state.nowMs);
  byId('nobody').hidden = list.length > 0 || state.link.name === 'wait';
  put(byId('nobody'), words(state.processes.size > 0 ? 'nothing_found' : 'nobody'));
}

/** The end of what is drawn: now, or a little after the end of a dead process. */
function span() {
  const { facts } = state.chosen;
  const { seconds } = state.range;
  const lastS = Math.max(facts.heartbeat_unix_ms ?? 0, track.lastUnixMs) / 1000;
  const endS = facts.alive ? null : lastS;
  const nowS = Math.max(state.nowMs / 1000, lastS);
  const to = endS === null ? nowS : Math.min(nowS, endS + seconds / 6);
  // One that began a moment ago has the whole width for what there is of it.
  const began = track.length > 0 ? track.time[0] - seconds / 60 : to;
  const from = Math.max(to - seconds, Math.min(began, to - leastSpanS));
  return { from, to, endS, limit: facts.limit_bytes };
}

function showDetail() {
  byId('detail').hidden = state.chosen === null;
  if (state.chosen === null) return;
  showProcess(state.chosen);
  if (!document.hidden) charts.update(track, span());
}

function showLists() {
  if (state.lists === null) return;
  showAlerts(state.chosen, state.lists.alerts);
  showLeaks(state.chosen, state.lists.leaks);
  showOptimizations(state.lists.optimizations);
}

function showRanges() {
  const group = byId('ranges');
  for (const range of ranges) {
    let button = group.querySelector(`[data-range="${range.id}"]`);
    if (!button) {
      button = document.createElement('button');
      button.type = 'button';
      button.dataset.range = range.id;
      button.addEventListener('click', () => chooseRange(range));
      group.append(button);
    }
    put(button, words(`range_${range.id}`));
    button.setAttribute('aria-pressed', String(range === state.range));
  }
}

function showAll() {
  translate(document);
  table.translate();
  charts.translate();
  put(byId('language'), words('switch_language'));
  byId('language').lang = document.documentElement.lang === 'en' ? 'zh-CN' : 'en';
  put(byId('unlock'), words(hasToken() ? 'unlocked' : 'unlock'));
  byId('unlock').classList.toggle('is-open', hasToken());
  showLink();
  showSummary();
  showRanges();
  showTable();
  showDetail();
  showLists();
}

/* ---- looking -------------------------------------------------------------------- */

async function loadHistory(one) {
  const { ring } = state.range;
  const query = { pid: one.pid, ring, max: points[ring] };
  if (track.lastUnixMs > 0) query.since_unix_ms = track.lastUnixMs;
  const answer = await read(`${api}memory/history`, query);
  // The reader may have chosen another meanwhile.
  if (state.chosen === one && state.range.ring === ring)
    track.add(answer.fields, answer.points, one.facts.limit_bytes);
}

async function loadLists(one) {
  const { alerts, rounds } = one.facts;
  const mark = `${alerts} ${rounds} ${one.firing.length} ${one.facts.alive}`;
  if (state.lists?.key === one.key && state.lists.mark === mark && state.looks % listsEvery !== 0) return;
  const query = { pid: one.pid };
  const [alertList, leaks, optimizations] = await Promise.all(
    ['alerts', 'leaks', 'optimizations'].map((name) => read(`${api}memory/${name}`, query)),
  );
  if (state.chosen !== one) return;
  state.lists = { key: one.key, mark, alerts: alertList, leaks, optimizations };
  showLists();
}

/** Some rows a look: a fleet of hundreds is filled in within a minute. */
async function loadSparks() {
  const waiting = [...state.processes.values()].filter((one) => !one.hasHistory && one.key === String(one.pid));
  await Promise.all(waiting.slice(0, sparksAtOnce).map(async (one) => {
    one.hasHistory = true;
    const query = { pid: one.pid, ring: 'second', max: sparkMs / 1000 };
    const { fields, points: list } = await read(`${api}memory/history`, query);
    const [at, rss] = [fields.indexOf('unix_ms'), fields.indexOf('rss_bytes')];
    one.spark.fillBefore(list.map((point) => [point[at], point[rss]]));
  }));
}

/** What is asked about one process fails with it alone: it may just have gone. */
async function isolated(promise) {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 0 || error.status === unauthorized) throw error;
  }
}

function chooseFirst() {
  if (state.chosen !== null && state.processes.get(state.chosen.key) === state.chosen) return;
  const all = [...state.processes.values()];
  const next = state.processes.get(state.chosen?.key) ?? all.find((one) => one.facts.alive) ?? all[0] ?? null;
  setChosen(next);
}

async function look() {
  const answer = await read(`${api}processes`);
  state.nowMs = answer.unix_ms;
  reconcile(state.processes, answer.processes);
  chooseFirst();
  const one = state.chosen;
  if (one !== null && one.key === String(one.pid)) {
    const isDue = track.length === 0 || state.looks % state.range.every === 0;
    if (isDue) await isolated(loadHistory(one));
    await isolated(loadLists(one));
  }
  await isolated(loadSparks());
  state.link = { name: 'live' };
  state.waitMs = everyMs;
  state.looks += 1;
}

function lost(error) {
  if (!(error instanceof ApiError)) throw error;
  state.waitMs = Math.min(longestWaitMs, state.waitMs * 2);
  if (error.status === unauthorized) {
    state.link = { name: 'locked_out' };
    const wasSent = hasToken();
    setToken(null);
    // Who cancels is not asked again by each look.
    if (wasSent || !state.wasAsked) askForToken({ why: 'token_read_why', isWrong: wasSent });
    state.wasAsked = true;
  } else {
    state.link = { name: 'away', seconds: Math.round(state.waitMs / 1000) };
  }
}

/** One look at a time; the next one is planned when this one is over. */
async function run() {
  clearTimeout(state.timer);
  state.isWanted = state.isLooking;
  if (state.isLooking) return;
  state.isLooking = true;
  const began = performance.now();
  try {
    await look();
  } catch (error) {
    lost(error);
  } finally {
    state.isLooking = false;
    const wait = document.hidden ? Math.max(hiddenEveryMs, state.waitMs) : state.waitMs;
    const spent = state.waitMs === everyMs ? performance.now() - began : 0;
    state.timer = setTimeout(run, state.isWanted ? 0 : Math.max(soonMs, wait - spent));
  }
  showLink();
  showSummary();
  showTable();
  showDetail();
}

/* ---- choosing -------------------------------------------------------------------- */

function setChosen(one) {
  state.chosen = one;
  state.lists = null;
  track.clear();
  put(byId('outcome'), '');
}

function choose(one) {
  if (one === state.chosen) return;
  setChosen(one);
  showTable();
  showDetail();
  run();
}

function chooseRange(range) {
  if (range.ring !== state.range.ring) track.clear();
  state.range = range;
  showRanges();
  showDetail();
  run();
}

/* ---- acting ----------------------------------------------------------------------- */

let afterToken = null;

function askForToken({ why = 'token_why', isWrong = false, then = null } = {}) {
  afterToken = then;
  byId('token-why').dataset.text = why;
  put(byId('token-why'), words(why));
  byId('token-error').hidden = !isWrong;
  put(byId('token-error'), isWrong ? words('token_wrong') : '');
  byId('token-value').value = '';
  if (!byId('token').open) byId('token').showModal();
}

function closeToken() {
  byId('token').close();
  showAll();
}

/** Of a round, or of the report of an optimization, in the words of its runtime. */
function outcomeOf(action, answer) {
  const round = answer.round ?? answer;
  const freedMb = round.freed_memory_mb ?? round.freedMemoryMB ?? 0;
  const freed = round.freed_bytes ?? round.freedBytes ?? freedMb * bytesPerMb;
  const ms = milliseconds(round.took_ms ?? round.tookMs ?? round.duration_ms ?? round.durationMs ?? null);
  const name = freed > 0 ? { collect: 'collected_freed', optimize: 'optimized' } : { collect: 'collected', optimize: 'optimized_nothing' };
  return words(name[action], { ms, bytes: bytes(freed) });
}

function tell(text, tone) {
  const outcome = byId('outcome');
  outcome.dataset.tone = tone;
  put(outcome, text);
}

async function perform(action) {
  const one = state.chosen;
  if (one === null || !one.facts.alive || byId(action).ariaBusy === 'true') return;
  if (!hasToken()) {
    askForToken({ then: () => perform(action) });
    return;
  }
  byId(action).ariaBusy = 'true';
  tell(words('working'), 'none');
  try {
    const path = `${api}memory/${action === 'collect' ? 'gc' : 'optimize'}`;
    const text = outcomeOf(action, await act(path, { pid: one.pid }));
    if (state.chosen === one) tell(text, 'normal');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    tell(words('failed', { why: error.message }), 'critical');
    if (error.status === unauthorized) {
      setToken(null);
      showAll();
      askForToken({ isWrong: true, then: () => perform(action) });
    }
  } finally {
    byId(action).ariaBusy = 'false';
    run();
  }
}

/* ---- wiring ------------------------------------------------------------------------ */

const keys = {
  ArrowDown: () => table.step(state.chosen, 1),
  ArrowUp: () => table.step(state.chosen, -1),
  j: () => table.step(state.chosen, 1),
  k: () => table.step(state.chosen, -1),
  g: () => perform('collect'),
  o: () => perform('optimize'),
  '/': () => byId('filter').focus(),
};

// Single keys act in the list alone: elsewhere they belong to the reader's tools.
byId('processes').addEventListener('keydown', (event) => {
  const action = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!action || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  action();
});
byId('filter').addEventListener('input', (event) => {
  state.filter = event.target.value.trim().toLowerCase();
  showTable();
});
byId('filter').addEventListener('keydown', (event) => {
  if (event.key === 'ArrowDown' || event.key === 'Enter') table.focus(table.sorted[0]);
});
byId('collect').addEventListener('click', () => perform('collect'));
byId('optimize').addEventListener('click', () => perform('optimize'));
byId('unlock').addEventListener('click', () => {
  if (!hasToken()) return askForToken({ why: state.link.name === 'locked_out' ? 'token_read_why' : 'token_why' });
  setToken(null);
  return showAll();
});
byId('language').addEventListener('click', () => {
  switchLanguage();
  showAll();
});
byId('token-cancel').addEventListener('click', closeToken);
byId('token').querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault();
  setToken(byId('token-value').value.trim());
  byId('token-value').value = '';
  closeToken();
  const then = afterToken;
  afterToken = null;
  state.waitMs = everyMs;
  if (then) then();
  run();
});
document.addEventListener('visibilitychange', () => document.hidden || run());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showTable);

showAll();
run();
