/* table.js - the list of processes: one row each, reused from second to second. */
import { drawSpark } from './charts.js';
import { sparkMs } from './process.js';
import { bytes, count, milliseconds, percent, words } from './text.js';

const rank = ['normal', 'none', 'elevated', 'high', 'critical'];

function heaviness(one) {
  return one.facts.reading.rss_bytes ?? -1;
}

/* by: what to sort by; numbers go down first, names up. */
const columns = [
  { id: 'program', by: (one) => one.facts.program, isText: true },
  { id: 'state', by: (one) => rank.indexOf(one.state.tone) },
  { id: 'trend' },
  { id: 'rss', by: heaviness, isNumber: true },
  { id: 'heap', by: (one) => one.facts.reading.heap_used_bytes ?? -1, isNumber: true },
  { id: 'native', by: (one) => one.nativeBytes ?? -1, isNumber: true },
  { id: 'usage', by: (one) => one.usage ?? -1 },
  { id: 'gcs', by: (one) => one.collections, isNumber: true },
  { id: 'pause', by: (one) => one.facts.last_pause_ms ?? -1, isNumber: true },
  { id: 'alerts', by: (one) => one.firing.length, isNumber: true },
];

export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

class Row {
  constructor(choose) {
    this.row = make('tr', '', null);
    this.cells = Object.fromEntries(
      columns.map(({ id, isNumber }) => [id, make('td', `cell-${id}${isNumber ? ' number' : ''}`, this.row)]),
    );
    this.button = make('button', 'program', this.cells.program);
    this.button.type = 'button';
    this.name = make('span', 'program-name', this.button);
    this.about = make('span', 'program-about', this.button);
    this.badge = make('span', 'badge', this.cells.state);
    this.canvas = make('canvas', 'spark', this.cells.trend);
    this.canvas.setAttribute('aria-hidden', 'true');
    this.meter = make('span', 'meter', this.cells.usage);
    this.bar = make('i', '', this.meter);
    this.share = make('span', 'share', this.cells.usage);
    this.alerts = make('span', '', this.cells.alerts);
    this.row.addEventListener('click', () => choose(this.one));
  }

  show(one, isChosen, isStop, nowMs) {
    const { facts, state } = one;
    this.one = one;
    put(this.name, facts.program);
    put(this.about, `${words('pid', { pid: facts.pid })} · ${facts.runtime} ${facts.runtime_version}`);
    put(this.badge, words(state.name));
    this.badge.dataset.tone = state.tone;
    put(this.cells.rss, bytes(facts.reading.rss_bytes));
    put(this.cells.heap, bytes(facts.reading.heap_used_bytes));
    put(this.cells.native, bytes(one.nativeBytes));
    put(this.share, percent(one.usage));
    this.meter.dataset.tone = facts.alive ? state.tone : 'none';
    this.bar.style.width = `${Math.min(100, one.usage ?? 0).toFixed(1)}%`;
    put(this.cells.gcs, count(one.collections));
    put(this.cells.pause, milliseconds(facts.last_pause_ms));
    put(this.alerts, one.firing.length > 0 ? String(one.firing.length) : '');
    this.alerts.className = one.firing.length > 0 ? 'count' : '';
    this.row.classList.toggle('is-dead', !facts.alive);
    this.row.dataset.pid = facts.pid;
    this.row.dataset.chosen = isChosen;
    this.button.setAttribute('aria-current', String(isChosen));
    this.button.tabIndex = isStop ? 0 : -1;
    if (!document.hidden) drawSpark(this.canvas, one.spark, nowMs, sparkMs, facts.alive);
  }
}

export class Table {
  /** @param choose called with the process that the reader chose. */
  constructor(table, choose) {
    this.head = table.tHead.rows[0];
    this.body = table.tBodies[0];
    this.choose = choose;
    this.rows = new Map();
    this.sorted = [];
    this.sort = { by: null, down: true };
    this.heads = columns.map((column) => this.#makeHead(column));
    this.translate();
  }

  #makeHead(column) {
    const head = make('th', `cell-${column.id}${column.isNumber ? ' number' : ''}`, this.head);
    head.scope = 'col';
    if (!column.by) return { column, head, text: head };
    const text = make('button', 'sort', head);
    text.type = 'button';
    text.addEventListener('click', () => {
      const isSame = this.sort.by === column;
      this.sort = { by: column, down: isSame ? !this.sort.down : !column.isText };
      this.showSort();
      this.refresh?.();
    });
    return { column, head, text };
  }

  showSort() {
    for (const { column, head } of this.heads)
      if (this.sort.by === column) head.setAttribute('aria-sort', this.sort.down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
  }

  translate() {
    for (const { column, text } of this.heads) {
      text.textContent = words(`column_${column.id}`);
      if (column.by) text.title = words('sort_by', { column: words(`column_${column.id}`) });
    }
  }

  /** Living ones first, in the order of their pids, unless sorted. */
  #order(list) {
    const { by, down } = this.sort;
    const plain = (a, b) => Number(b.facts.alive) - Number(a.facts.alive) || a.pid - b.pid;
    if (!by) return list.sort(plain);
    const sign = down ? -1 : 1;
    return list.sort((a, b) => {
      const [left, right] = [by.by(a), by.by(b)];
      return (left < right ? -sign : left > right ? sign : 0) || plain(a, b);
    });
  }

  show(list, chosen, nowMs) {
    this.sorted = this.#order(list);
    const stop = this.sorted.includes(chosen) ? chosen : this.sorted[0];
    const kept = new Set(this.sorted.map((one) => one.key));
    for (const [key, row] of this.rows) {
      if (kept.has(key)) continue;
      row.row.remove();
      this.rows.delete(key);
    }
    this.sorted.forEach((one, index) => {
      let row = this.rows.get(one.key);
      if (!row) this.rows.set(one.key, (row = new Row(this.choose)));
      if (this.body.rows[index] !== row.row) this.#place(row, index);
      row.show(one, one === chosen, one === stop, nowMs);
    });
  }

  /** Moving a row takes the focus from it. */
  #place(row, index) {
    const hadFocus = row.row.contains(document.activeElement);
    this.body.insertBefore(row.row, this.body.rows[index] ?? null);
    if (hadFocus) row.button.focus({ preventScroll: true });
  }

  /** Chooses the row `step` below the chosen one and moves the focus there. */
  step(chosen, step) {
    const at = this.sorted.indexOf(chosen);
    const next = this.sorted[Math.min(this.sorted.length - 1, Math.max(0, at + step))];
    if (!next) return;
    this.choose(next);
    this.rows.get(next.key).button.focus();
  }

  focus(one) {
    this.rows.get(one?.key)?.button.focus();
  }
}
