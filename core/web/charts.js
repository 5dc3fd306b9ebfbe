/* charts.js - three charts of one process on one time axis.
 *
 * uPlot draws. Its instances are made once and get new data: making them anew with
 * each process or second would leave work to the collector of this very page. */
import { bytes, milliseconds, moment, percent, words } from './text.js';

const uPlot = globalThis.uPlot;
const levelColours = ['--level-normal', '--level-elevated', '--level-high', '--level-critical'];
const byteSteps = Array.from({ length: 36 }, (_, power) => 2 ** (power + 8));
const timeSteps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const limitReach = 2.5; // times the highest value: beyond, the limit is told, not drawn
const palette = new Map();

function colour(name) {
  if (!palette.has(name))
    palette.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return palette.get(name);
}

const plans = [
  {
    id: 'memory', format: bytes, steps: byteSteps,
    series: [
      { id: 'rss', colour: '--rss', fill: '--rss-fill', width: 2 },
      { id: 'heap', colour: '--heap', fill: '--heap-fill', width: 1.5 },
      { id: 'native', colour: '--native', width: 1.5 },
      { id: 'limit', colour: '--limit', width: 1.5, dash: [6, 4] },
    ],
  },
  {
    id: 'usage', format: percent, least: 100,
    series: [{ id: 'usage', colour: '--usage', fill: '--usage-fill', width: 1.5 }],
  },
  {
    id: 'gc', format: milliseconds, least: 5,
    series: [{ id: 'gc', colour: '--gc', fill: '--gc', width: 0, bars: true }],
  },
];

function highest(column) {
  let most = 0;
  for (const value of column) if (value !== null && value > most) most = value;
  return most;
}

function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent.append(made);
  return made;
}

class Chart {
  constructor(plan, parent, sync) {
    this.plan = plan;
    this.facts = { from: 0, to: 1, endS: null };
    this.figure = element('figure', `chart chart-${plan.id}`, parent);
    this.figure.tabIndex = 0;
    this.figure.setAttribute('role', 'group');
    const caption = element('figcaption', '', this.figure);
    this.title = element('h3', '', caption);
    this.keys = plan.series.map((series) => this.#makeKey(series, caption));
    this.note = element('span', 'note', caption);
    this.at = element('time', 'at', caption);
    this.body = element('div', 'plot', this.figure);
    this.plot = new uPlot(this.#options(sync), [[], ...plan.series.map(() => [])], this.body);
    this.figure.addEventListener('keydown', (event) => this.#walk(event));
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.body);
  }

  #makeKey(series, parent) {
    const key = element('button', 'key', parent);
    key.type = 'button';
    key.setAttribute('aria-pressed', 'true');
    element('i', `swatch swatch-${series.id}`, key);
    const name = element('span', '', key);
    const value = element('b', '', key);
    key.addEventListener('click', () => {
      const index = this.plan.series.indexOf(series) + 1;
      const isShown = !this.plot.series[index].show;
      key.setAttribute('aria-pressed', String(isShown));
      this.plot.setSeries(index, { show: isShown });
    });
    return { name, value, key };
  }

  #options(sync) {
    const { plan } = this;
    const font = '11px system-ui, sans-serif';
    const grid = { stroke: () => colour('--grid'), width: 1 };
    const axis = { stroke: () => colour('--faint'), font, grid, ticks: { show: false } };
    return {
      width: 300, height: 120, legend: { show: false }, padding: [8, 20, 0, 0],
      cursor: { sync: { key: sync }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [this.facts.from, this.facts.to] },
        y: { range: () => [0, this.#top()] },
      },
      axes: [
        { ...axis, space: 64, size: 26, incrs: timeSteps, values: (_, splits) => splits.map((s) => this.#tick(s)) },
        {
          ...axis, size: 62, space: 26, ...(plan.steps ? { incrs: plan.steps } : {}),
          values: (_, splits) => splits.map((value) => plan.format(value).replace('.0 ', ' ')),
        },
      ],
      series: [{}, ...plan.series.map((series) => this.#series(series))],
      hooks: {
        drawClear: [() => this.#drawEnd()],
        draw: [() => this.plan.id === 'usage' && this.#drawLevels()],
        setCursor: [() => this.showValues()],
      },
    };
  }

  #series(series) {
    return {
      stroke: () => colour(series.colour),
      fill: series.fill && (() => colour(series.fill)),
      width: series.width, dash: series.dash, points: { show: false }, spanGaps: false,
      ...(series.bars ? { paths: uPlot.paths.bars({ size: [0.9, 8, 1] }) } : {}),
    };
  }

  #tick(seconds) {
    const text = moment(seconds * 1000);
    return this.facts.to - this.facts.from > 300 ? text.replace(/:\d\d$/, '') : text;
  }

  #top() {
    const { plan, data } = this;
    if (!data) return plan.least ?? 1;
    let most = 0;
    plan.series.forEach((series, index) => {
      if (series.id !== 'limit' && this.plot?.series[index + 1].show !== false)
        most = Math.max(most, highest(data[index + 1]));
    });
    const limit = plan.id === 'memory' ? (this.facts.limit ?? Infinity) : Infinity;
    if (limit <= most * limitReach) most = Math.max(most, limit);
    return Math.max(plan.least ?? 1, most * 1.08);
  }

  /** The time after the end of a process: nothing can be there. */
  #drawEnd() {
    const { endS, to } = this.facts;
    if (endS === null || endS >= to) return;
    const { ctx, bbox } = this.plot;
    const left = Math.max(bbox.left, this.plot.valToPos(endS, 'x', true));
    const right = bbox.left + bbox.width;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, right - left, bbox.height);
    ctx.clip();
    ctx.fillStyle = colour('--void');
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.strokeStyle = colour('--void-line');
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    for (let x = left - bbox.height; x < right; x += 9 * devicePixelRatio) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.fillStyle = colour('--limit');
    ctx.fillRect(left, bbox.top, 2 * devicePixelRatio, bbox.height);
    ctx.restore();
  }

  /** A strip below the curve: which level was in force. */
  #drawLevels() {
    const { ctx, bbox } = this.plot;
    const { times, level } = this;
    if (!times || times.length === 0) return;
    const height = 4 * devicePixelRatio;
    const reach = Math.max(1, this.stepS) * 2;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (let i = 0; i < times.length; i += 1) {
      if (level[i] === null) continue;
      const next = times[i + 1] ?? Math.min(times[i] + reach, this.facts.endS ?? Infinity);
      const x = this.plot.valToPos(times[i], 'x', true);
      const width = this.plot.valToPos(Math.min(next, times[i] + reach), 'x', true) - x;
      ctx.fillStyle = colour(levelColours[level[i]] ?? levelColours[0]);
      ctx.fillRect(x, bbox.top + bbox.height - height, Math.max(1, width) + 0.5, height);
    }
    ctx.restore();
  }

  #walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.target !== this.figure || !this.times?.length) return;
    event.preventDefault();
    const last = this.times.length - 1;
    const from = this.plot.cursor.idx ?? last + (step < 0 ? 1 : 0);
    const index = Math.min(last, Math.max(0, from + step));
    const left = this.plot.valToPos(this.times[index], 'x');
    this.plot.setCursor({ left, top: 10 });
  }

  #resize() {
    const width = Math.floor(this.body.clientWidth);
    const height = Math.floor(this.body.clientHeight);
    if (width > 60 && height > 40 && (width !== this.plot.width || height !== this.plot.height))
      this.plot.setSize({ width, height });
  }

  /** The values under the cursor, else the latest. */
  showValues() {
    if (!this.data) return;
    const hovered = this.plot?.cursor.left >= 0 ? this.plot.cursor.idx : null;
    const index = hovered ?? this.data[0].length - 1;
    const told = this.plan.series.map((series, number) => {
      const text = this.#tell(series, this.data[number + 1][index] ?? null);
      const { name, value } = this.keys[number];
      if (value.textContent !== text) value.textContent = text;
      return `${name.textContent} ${text}`;
    });
    this.at.textContent = hovered === null ? '' : moment(this.data[0][index] * 1000);
    const chart = words(`chart_${this.plan.id}`);
    const label = words('chart_label', { chart, values: told.join(', ') });
    this.figure.setAttribute('aria-label', label);
  }

  translate() {
    this.title.textContent = words(`chart_${this.plan.id}`);
    this.plan.series.forEach((series, index) => {
      this.keys[index].name.textContent = words(`series_${series.id}`);
    });
  }

  update(track, facts) {
    this.facts = facts;
    this.times = track.time;
    this.level = track.level;
    this.stepS = track.stepS;
    this.data = [track.time, ...this.plan.series.map((series) => track[series.id])];
    this.figure.classList.toggle('is-empty', track.length === 0);
    this.plot.setData(this.data);
    this.note.textContent = this.#note();
    this.showValues();
  }

  /** What cannot be seen in the chart. */
  #note() {
    const { endS } = this.facts;
    if (this.times.length === 0) return words('no_points');
    return endS === null ? '' : words('ended_at', { time: moment(endS * 1000) });
  }

  /** The value of a series in words; of a limit also where it is. */
  #tell(series, value) {
    const text = this.plan.format(value);
    return series.id === 'limit' && value > this.#top() ? `${text} ↑` : text;
  }

  redraw() {
    this.plot.redraw(false, true);
  }
}

export class Charts {
  constructor(parent) {
    this.charts = plans.map((plan) => new Chart(plan, parent, 'memguard'));
    for (const query of ['(prefers-color-scheme: dark)', '(prefers-contrast: more)'])
      matchMedia(query).addEventListener('change', () => this.restyle());
    this.translate();
  }

  restyle() {
    palette.clear();
    for (const chart of this.charts) chart.redraw();
  }

  translate() {
    for (const chart of this.charts) chart.translate();
  }

  /** @param facts {from, to, endS, limit}: seconds since 1970; endS null while it
   *  lives; limit in bytes or null. */
  update(track, facts) {
    for (const chart of this.charts) chart.update(track, facts);
  }
}

/** A small curve of one number, from 0 up, over the last `spanMs`. */
export function drawSpark(canvas, spark, nowMs, spanMs, isAlive) {
  const scale = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (width === 0 || height === 0) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const ctx = canvas.getContext('2d');
  ctx.clearRect(0, 0, width, height);
  const most = highest(spark.values) * 1.15 || 1;
  const toX = (ms) => width - ((nowMs - ms) / spanMs) * width;
  const toY = (value) => height - scale - (value / most) * (height - 2 * scale);
  ctx.beginPath();
  let lastMs = -Infinity;
  let first = null;
  spark.values.forEach((value, index) => {
    const ms = spark.times[index];
    if (value === null || ms < nowMs - spanMs) return;
    if (ms - lastMs > 30000) ctx.moveTo(toX(ms), toY(value));
    else ctx.lineTo(toX(ms), toY(value));
    first ??= ms;
    lastMs = ms;
  });
  if (first === null) return;
  ctx.strokeStyle = colour(isAlive ? '--rss' : '--faint');
  ctx.lineWidth = 1.4 * scale;
  ctx.lineJoin = 'round';
  ctx.stroke();
  ctx.lineTo(toX(lastMs), height);
  ctx.lineTo(toX(first), height);
  ctx.fillStyle = colour('--rss-fill');
  if (isAlive) ctx.fill();
}
