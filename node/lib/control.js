'use strict';

// Does what the memguard tool asks of this process. Answers have the keys of Python,
// so that the tool sees one form.
const { codes, failure } = require('./errors');
const { TARGET } = require('./monitor');
const { oldestMonitor } = require('./core');
const { textOf } = require('./report');

const KINDS = ['young', 'full', 'release'];
const TOP = 10;
const TOP_MOST = 10_000;
const MS_PER_SECOND = 1000;

function snakeOf(name) {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1_$2')
    .toLowerCase();
}

const AS_THEY_ARE = ['counters']; // their keys are the program's

/** The same value with keys in snake_case. */
function inSnake(value) {
  if (Array.isArray(value)) return value.map(inSnake);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [snakeOf(key), AS_THEY_ARE.includes(key) ? inner : inSnake(inner)]),
  );
}

/** A finding as Python tells it. */
function findingRow(finding) {
  const row = inSnake(finding.asDict());
  return { ...row, since: row.since / MS_PER_SECOND };
}

function argumentsOf(text) {
  let given = {};
  try {
    if (text.trim() !== '') given = JSON.parse(text);
  } catch (cause) {
    throw failure('EINVAL', `arguments are no JSON: ${textOf(cause)}`);
  }
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw failure('ETYPE', `arguments are ${text.slice(0, 40)}, allowed: an object`);
  }
  return given;
}

const commands = {
  collect(monitor, { kind = 'full' }) {
    if (!KINDS.includes(kind)) {
      throw failure('EINVAL', `kind is ${JSON.stringify(kind)}, allowed: ${KINDS.join(', ')}`);
    }
    return monitor[TARGET].core.reclaim([kind], 'manual', 0);
  },

  optimize: (monitor) => monitor.optimizeMemory('aggressive'),

  snapshot: (monitor) => ({
    memoryStats: monitor.collectMemoryStats(),
    gc: monitor.getGCStats(),
    reclaim: monitor.getReclaimStats(),
    trends: monitor.getMemoryTrends(),
    counters: { ...monitor.getObjectCounters() },
    leakDetection: monitor.settings.leak.leakDetection ? monitor.leakDetector.findings.map(findingRow) : [],
  }),

  /** The types with the most objects: V8 does not tell their bytes. */
  census(monitor, { top = TOP }) {
    if (!Number.isInteger(top) || top < 1 || top > TOP_MOST) {
      throw failure('EINVAL', `top is ${JSON.stringify(top)}, allowed: 1 to ${TOP_MOST}`);
    }
    const { types, absent } = require('./leak_census').census();
    if (types === null) throw failure('EABSENT', absent.types);
    const rows = Array.from(types, ([type, count]) => ({ type, count }));
    return rows.sort((one, other) => other.count - one.count).slice(0, top);
  },

  read_config: (monitor) => monitor.settings,

  update_config(monitor, changes) {
    monitor.updateConfig(changes);
    return monitor.settings;
  },
};

/** @returns [code, text]: "OK" and JSON, or the code of an error and its reason. */
async function run(command, text) {
  try {
    const answer = await commands[command](oldestMonitor(), argumentsOf(text));
    return ['OK', JSON.stringify(inSnake(answer))];
  } catch (error) {
    return [typeof error?.code === 'string' ? error.code : codes.EHOST, textOf(error)];
  }
}

module.exports = { findingRow, run };
