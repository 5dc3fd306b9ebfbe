'use strict';

// From events of the core to what listeners are given.
const native = require('./native');
const { roundAt } = require('./reclaim');
const { at, named, statsOf } = require('./sample');

// What each issue compares: the value in force and its threshold.
const compared = {
  heap_warning: [(stats) => stats.heapUsedPercentage, (settings) => settings.thresholds.heapUsedWarning],
  heap_critical: [(stats) => stats.heapUsedPercentage, (settings) => settings.thresholds.heapUsedCritical],
  rss_warning: [(stats) => stats.rssMB, (settings) => settings.thresholds.rssWarning],
  rss_critical: [(stats) => stats.rssMB, (settings) => settings.thresholds.rssCritical],
  usage_high: [(stats, usage) => 100 * usage, (settings) => settings.memory.alertThreshold],
  usage_critical: [(stats, usage) => 100 * usage, (settings) => settings.memory.forceGcThreshold],
};

/** The set bits of `issues` as alerts: type, level, message, value, threshold. */
function alertsOf(issues, stats, usage, settings) {
  const alerts = [];
  native.issueNames.forEach((type, bit) => {
    if ((issues & (1 << bit)) === 0) return;
    const level = type.endsWith('critical') ? 'critical' : 'warning';
    const alert = { type, level, message: native.issueTexts[bit] };
    if (type in compared) {
      const [value, threshold] = compared[type];
      alert.value = value(stats, usage);
      alert.threshold = threshold(settings);
    }
    alerts.push(alert);
  });
  return alerts;
}

const payloads = {
  'monitoring:started': (event, stats, settings) => ({ intervalMs: settings.memory.monitorInterval * 1000 }),
  'monitoring:stopped': () => undefined,
  'stats:collected': (event, stats) => stats,
  'threshold:exceeded': (event, stats, settings) => ({
    level: named(native.healthNames, event.severity),
    alerts: alertsOf(event.issues, stats, event.row[at.usage], settings),
    stats,
  }),
  'trend:rapid-growth': (event, stats) => ({
    type: event.growthIsHeap === 1 ? 'heap' : 'rss',
    mbPerMinute: event.mbPerMinute,
    stats,
  }),
  'leak:suspected': (event, stats) => findingOf(event, stats),
  'leak:warning': (event, stats) => leakOf(event, stats),
  'leak:critical': (event, stats) => leakOf(event, stats),
  'leak:withdrawn': (event, stats) => findingOf(event, stats),
  'fd:warning': (event, stats) => ({
    count: event.count,
    threshold: event.threshold,
    growthPerMinute: Number.isNaN(event.growthPerMinute) ? null : event.growthPerMinute,
    stats,
  }),
  'level:changed': (event, stats) => ({
    level: named(native.levelNames, event.row[at.level]),
    previous: named(native.levelNames, event.previous),
    usage: event.row[at.usage],
    domain: named(native.domainNames, event.row[at.domain]),
    stats,
  }),
  pressure: (event, stats) => ({
    pressure: event.row[at.pressure],
    domain: named(native.domainNames, event.row[at.domain]),
    stats,
  }),
  'optimization:automatic': (event) => roundAt(event.round),
  'memory:unreclaimable': (event) => roundAt(event.round),
};

// `finding` is a number, which MemoryMonitor puts the LeakFinding in the place of.
function findingOf(event, stats) {
  return { finding: event.finding, growthPerMinute: event.growthPerMinute, stats };
}

function leakOf(event, stats) {
  if (event.finding !== 0) return { key: '', count: 0, threshold: 0, ...findingOf(event, stats) };
  return { key: event.counter, count: event.count, threshold: event.threshold, stats };
}

/** Name and payload of an event of the core. */
function describe(event, settings) {
  const name = named(native.eventNames, event.kind);
  return { name, payload: payloads[name]?.(event, statsOf(event.row), settings) };
}

module.exports = { alertsOf, describe };
