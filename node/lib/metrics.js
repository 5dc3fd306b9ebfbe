'use strict';

// What this process shows, as metrics: text for a scraper, or samples for code.
const native = require('./native');
const { failure, kindOf } = require('./errors');
const segment = require('./segment');

const CANONICAL = 1; // groups, as in the core
const ALL = 3;
const NS_PER_SECOND = 1e9;
const [TEXT_CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE] = native.metricContentTypes;

const boundsNs = [...native.metricBoundsNs, Infinity];
const boundsSeconds = boundsNs.map((bound) => bound / NS_PER_SECOND);

function groupsOf(compatible) {
  return compatible ? ALL : CANONICAL;
}

function option(options, name, otherwise) {
  const value = options[name] ?? otherwise;
  if (typeof value !== 'boolean') throw failure('ETYPE', `${name} must be a boolean, not ${kindOf(value)}`);
  return value;
}

/** Text in Prometheus' format 0.0.4, or OpenMetrics 1.0.0. */
function metricsText(options = {}) {
  segment.begin();
  return native.metricsText(option(options, 'openMetrics', false), groupsOf(option(options, 'compatible', true)));
}

function bucketsOf(unit, counts) {
  const bounds = unit === 'ns' ? boundsNs : boundsSeconds;
  return counts.map((count, index) => ({ le: bounds[index], count }));
}

/** The same as objects, in the order of the text. */
function collectMetrics(options = {}) {
  const families = [];
  let last = -1;
  segment.begin();
  native.metricsCollect(groupsOf(option(options, 'compatible', true)), (index, labels, value, counts) => {
    const unit = native.metricUnits[index];
    if (index !== last) {
      last = index;
      families.push({
        name: native.metricNames[index],
        type: native.metricTypes[index],
        unit,
        help: native.metricHelps[index],
        samples: [],
      });
    }
    families.at(-1).samples.push({ labels, value, buckets: counts && bucketsOf(unit, counts) });
  });
  return families;
}

module.exports = { OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, collectMetrics, metricsText };
