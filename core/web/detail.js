/* detail.js - everything about the chosen process but its charts. */
import { put } from './table.js';
import { bytes, count, milliseconds, moment, nameOf, percent, words } from './text.js';

const entriesShown = 30;
const typesShown = 12;
const byId = (id) => document.getElementById(id);

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* ---- tiles ------------------------------------------------------------------- */

function tilesOf(one) {
  const { facts } = one;
  const { reading } = facts;
  const heap = reading.heap_used_bytes;
  const total = reading.heap_total_bytes;
  const share = heap !== null && total ? percent((100 * heap) / total) : null;
  const pauses = Object.values(facts.gc ?? {});
  const p95 = pauses.length > 0 ? Math.max(...pauses.map((kind) => kind.p95_ms)) : null;
  const domain = nameOf('domain', facts.domain);
  return [
    ['rss', bytes(reading.rss_bytes), words('peak', { bytes: bytes(facts.peak_rss_bytes) })],
    ['heap', bytes(heap), share ? words('heap_share', { percent: share, bytes: bytes(total) }) : ''],
    ['native', bytes(one.nativeBytes), words('native_note')],
    ['limit', bytes(facts.limit_bytes), words('usage_note', { percent: percent(one.usage), domain })],
    ['gcs', count(one.collections), words('gc_note', { ms: milliseconds(one.collectionsMs) })],
    ['pause', milliseconds(facts.last_pause_ms), p95 === null ? '' : words('p95', { ms: milliseconds(p95) })],
    ['freed', bytes(facts.freed_bytes), words('rounds', { count: count(facts.rounds) })],
    ['fds', count(reading.fd_count), words('threads', { count: count(reading.thread_count) })],
  ];
}

function showTiles(one) {
  const list = byId('tiles');
  tilesOf(one).forEach(([id, value, note], index) => {
    let tile = list.children[index];
    if (!tile) {
      tile = make('div', `tile tile-${id}`);
      tile.append(make('dt'), make('dd', 'value'), make('dd', 'under'));
      list.append(tile);
    }
    const [name, number, under] = tile.children;
    put(name, words(`tile_${id}`));
    put(number, value);
    put(under, note);
  });
}

/* ---- head --------------------------------------------------------------------- */

function showVerdict(one) {
  const box = byId('verdict');
  const { facts, verdict } = one;
  box.hidden = verdict === null;
  if (verdict === null) return;
  const [title, text] = box.children;
  box.dataset.tone = verdict.tone;
  put(title, `${words('post_mortem')}: ${words(verdict.name)}`);
  const last = words('last_sign', {
    time: moment(facts.heartbeat_unix_ms), rss: bytes(facts.reading.rss_bytes),
    peak: bytes(facts.peak_rss_bytes), usage: percent(one.usage), domain: nameOf('domain', facts.domain),
  });
  put(text, `${verdict.text ? words(verdict.text) : ''} ${last}`.trim());
}

/** What /api/v1/processes says. */
export function showProcess(one) {
  const { facts } = one;
  put(byId('who'), facts.program);
  put(byId('what'), `${words('pid', { pid: facts.pid })} · ${facts.runtime} ${facts.runtime_version} · ${words(one.state.name)}`);
  for (const id of ['collect', 'optimize']) byId(id).disabled = !facts.alive;
  showVerdict(one);
  showTiles(one);
}

/* ---- lists -------------------------------------------------------------------- */

function entry(tone, title, aside, lines) {
  const item = make('li', 'entry');
  item.dataset.tone = tone;
  const head = make('div', 'entry-head');
  head.append(make('strong', '', title), make('time', '', aside));
  item.append(head, ...lines.filter(Boolean).map((line) => make('p', '', line)));
  return item;
}

function measured(value, unit) {
  if (value === null || value === undefined) return '';
  switch (unit) {
    case 'ratio': return percent(100 * value);
    case 'seconds': return milliseconds(1000 * value);
    case 'bytes': return bytes(value);
    case 'mb_per_minute': return `${value.toFixed(1)} MB/min`;
    case 'bytes_per_minute': return `${bytes(value)}/min`;
    case 'count_per_minute': return `${count(Math.round(value))}/min`;
    case 'descriptors': return count(Math.round(value));
    default: return '';
  }
}

/** In the reader's language what the summary says in English; of a kind or unit that
 *  this page does not know, the summary itself. */
function valueOf(alert) {
  const value = measured(alert.value, alert.unit);
  if (value === '') return alert.summary;
  const threshold = measured(alert.threshold, alert.unit);
  const text = threshold === '' ? value : words('from', { value, threshold });
  return alert.subject ? `${alert.subject} · ${text}` : text;
}

function activeAlert(alert, one) {
  const isOver = alert.state === 'resolved';
  const state = isOver ? 'is_resolved' : one.facts.alive ? 'is_firing' : 'was_firing';
  return entry(
    isOver ? 'none' : alert.severity,
    nameOf('kind', alert.kind),
    `${words(state)} · ${words('since', { time: moment(alert.since_unix_ms) })}`,
    [valueOf(alert), alert.culprit && words('culprit', { name: alert.culprit })],
  );
}

function pastAlert(note) {
  const levels = [...new Set([note.previous, note.level])].filter(Boolean);
  const lines = [
    note.counter ? `${note.counter}: ${count(note.count)} / ${count(note.threshold)}` : '',
    note.mb_per_minute ? `${note.growing ?? ''} +${note.mb_per_minute.toFixed(1)} MB/min` : '',
    note.event === 'level:changed' ? levels.map((name) => words(name)).join(' → ') : words(note.level ?? ''),
    note.usage_percent ? percent(note.usage_percent) : '',
    note.rss_bytes ? `RSS ${bytes(note.rss_bytes)}` : '',
    note.repeats > 0 ? words('repeated', { count: count(note.repeats) }) : '',
  ];
  return entry('past', nameOf('event', note.event ?? note.kind), moment(note.last_unix_ms ?? note.unix_ms), [
    lines.filter(Boolean).join(' · '),
  ]);
}

function fill(id, items, emptyKey) {
  const list = byId(id);
  list.replaceChildren(...items.slice(0, entriesShown));
  if (items.length === 0) list.append(make('li', 'empty', words(emptyKey)));
}

export function showAlerts(one, { active, history }) {
  const past = [...history].reverse().map(pastAlert);
  if (active.length > 0 && past.length > 0) past.unshift(make('li', 'divider', words('earlier')));
  fill('alerts', [...active.map((alert) => activeAlert(alert, one)), ...past], 'no_alerts');
}

export function showOptimizations({ optimizations }) {
  const rounds = [...optimizations].reverse().map((round) => {
    const actions = (round.actions ?? []).map((name) => nameOf('action', name)).join(', ');
    const usage = `${percent(100 * round.usage_before)} → ${percent(100 * round.usage_after)}`;
    const title = round.freed_bytes > 0 ? words('freed', { bytes: bytes(round.freed_bytes) }) : words('nothing_freed');
    return entry(round.freed_bytes > 0 ? 'normal' : 'none', title, moment(round.unix_ms), [
      [actions, usage, words('took', { ms: milliseconds(round.took_ms) }), nameOf('reason', round.reason)].filter(Boolean).join(' · '),
    ]);
  });
  fill('optimizations', rounds, 'no_optimizations');
}

/** A cell whose parts stay whole where it wraps. */
function parts(className, texts) {
  const cell = make('td', className);
  cell.append(...texts.filter(Boolean).map((text) => make('span', '', text)));
  return cell;
}

function typeRow(type) {
  const row = make('tr');
  const name = make('th', 'type-name', type.name);
  name.scope = 'row';
  name.title = type.name;
  const alive = [count(type.count), type.bytes === null ? '' : bytes(type.bytes)];
  const grown = [
    type.grown_count ? `${type.grown_count > 0 ? '+' : ''}${count(type.grown_count)}` : '',
    type.grown_bytes ? bytes(type.grown_bytes) : '',
  ];
  row.append(name, parts('number', alive), parts('number grown', grown));
  return row;
}

export function showLeaks(one, { leaks, types, span_ms: spanMs }) {
  const table = byId('types');
  fill('leaks', leaks.map((alert) => activeAlert(alert, one)), 'no_leaks');
  byId('leaks').hidden = leaks.length === 0 && types.length > 0;
  table.hidden = types.length === 0;
  const heads = [words('type'), words('type_count'), words('type_grown', { span: milliseconds(spanMs) })];
  const cells = heads.map((text, index) => {
    const cell = make('th', index > 0 ? 'number' : '', text);
    cell.scope = 'col';
    return cell;
  });
  table.tHead.rows[0].replaceChildren(...cells);
  table.tBodies[0].replaceChildren(...types.slice(0, typesShown).map(typeRow));
}
