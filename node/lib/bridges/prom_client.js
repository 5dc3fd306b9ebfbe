'use strict';

// memguard's metrics in a registry of prom-client or @prometheus-io/client that the
// program has already. Lazy: a scrape reads, nothing runs between two scrapes. The
// registry alone keeps the bridge alive.
const native = require('../native');
const { samplesByFamily } = require('./families');
const { failure, kindOf } = require('../errors');
const { reportOnce, textOf } = require('../report');

// Both libraries register it themselves in collectDefaultMetrics(), which throws where
// the name is taken already.
const OF_THE_LIBRARY = new Set(['process_open_fds']);
const NEEDED = ['registerMetric', 'getSingleMetric', 'removeSingleMetric'];
const OPTIONS = ['prefix', 'processOpenFds'];

// A process tells nothing of other processes.
const OF_MANY = /^memguard_(service_|processes_|process_ends_)/;
const OWN = native.metricNames
  .map((name, index) => ({ name, type: native.metricTypes[index], help: native.metricHelps[index] }))
  .filter(({ name }) => !OF_MANY.test(name));

const bridges = new WeakMap(); // by registry

function optionsOf(given) {
  if (given === null || typeof given !== 'object') throw failure('ETYPE', `options must be an object, not ${kindOf(given)}`);
  for (const name of Object.keys(given)) {
    if (!OPTIONS.includes(name)) throw failure('EINVAL', `option ${JSON.stringify(name)} is unknown, allowed: ${OPTIONS.join(', ')}`);
  }
  const { prefix = '', processOpenFds = false } = given;
  if (typeof prefix !== 'string') throw failure('ETYPE', `prefix must be a string, not ${kindOf(prefix)}`);
  if (!/^([a-zA-Z_][a-zA-Z0-9_]*)?$/.test(prefix)) {
    throw failure('EINVAL', `prefix is ${JSON.stringify(prefix)}, allowed: letters, digits and "_", no digit first`);
  }
  if (typeof processOpenFds !== 'boolean') {
    throw failure('ETYPE', `processOpenFds must be true or false, not ${kindOf(processOpenFds)}`);
  }
  return { prefix, processOpenFds };
}

/** The values of one sample, as these libraries have them: what differs between them,
 *  and the labels that they share. */
function valuesOf(name, { value, buckets }) {
  if (buckets === null) return [{ own: {}, value }];
  const values = buckets.map(({ le, count }) => (
    { metricName: `${name}_bucket`, own: { le: le === Infinity ? '+Inf' : String(le) }, value: count }
  ));
  values.push({ metricName: `${name}_sum`, own: {}, value });
  values.push({ metricName: `${name}_count`, own: {}, value: buckets.at(-1).count });
  return values;
}

/** One family, as a registry holds it. */
class BridgeMetric {
  #bridge;
  #family;
  #fullName;

  constructor(bridge, { name, type, help }, prefix) {
    this.#bridge = bridge;
    this.#family = name;
    this.#fullName = prefix + name;
    this.name = this.#fullName; // a registry of OpenMetrics takes "_total" off it
    this.help = help;
    this.type = type;
    // Each process has labels of its own; what comes twice comes from two threads of
    // one process, which show the same.
    this.aggregator = 'max';
  }

  #with(labelsOf) {
    const { name, help, type, aggregator } = this;
    const values = this.#bridge.samplesOf(this.#family).flatMap((sample) => (
      valuesOf(this.#fullName, sample).map(({ own, ...value }) => ({ ...value, ...labelsOf(own, sample.labels) }))
    ));
    return { name, help, type, aggregator, values };
  }

  get() {
    return this.#with((own, shared) => ({ labels: { ...own, ...shared } }));
  }

  /** As get(); a registry then formats shared labels once. */
  getForPromString() {
    return this.#with((own, shared) => ({ labels: own, sharedLabels: shared }));
  }

  /** What a process did cannot be reset. */
  reset() {}
}

class PromClientBridge {
  #registry; // null: unregistered
  #metrics = new Map(); // by the name in the registry
  #snapshot = null; // of the scrape under way
  #skipped = [];
  #options;

  constructor(registry, options) {
    this.#registry = registry;
    this.#options = options;
    for (const family of OWN) this.#add(family, options);
  }

  #add(family, { prefix, processOpenFds }) {
    const name = prefix + family.name;
    const isTheirs = !processOpenFds && OF_THE_LIBRARY.has(name);
    try {
      if (isTheirs || this.#registry.getSingleMetric(name) !== undefined) {
        this.#skipped.push({ name, reason: isTheirs ? 'the library has it itself' : 'the name is taken' });
        return;
      }
      const metric = new BridgeMetric(this, family, prefix);
      this.#registry.registerMetric(metric);
      this.#metrics.set(name, metric);
    } catch (error) {
      this.#skipped.push({ name, reason: textOf(error) });
    }
  }

  /** For the metrics: what a family shows now. A scrape asks for all of them at once,
   *  and one reading is for all. */
  samplesOf(family) {
    if (this.#registry === null) return [];
    if (this.#snapshot === null) {
      this.#snapshot = samplesByFamily();
      Promise.resolve().then(() => {
        this.#snapshot = null;
      });
    }
    return this.#snapshot.get(family) ?? [];
  }

  hasOptions(options) {
    return OPTIONS.every((name) => this.#options[name] === options[name]);
  }

  get names() {
    return [...this.#metrics.keys()];
  }

  get skipped() {
    return this.#skipped.map((one) => ({ ...one }));
  }

  get isRegistered() {
    return this.#registry !== null;
  }

  unregister() {
    const registry = this.#registry;
    if (registry === null) return;
    this.#registry = null;
    bridges.delete(registry);
    for (const [name, metric] of this.#metrics) {
      try {
        if (registry.getSingleMetric(name) === metric) registry.removeSingleMetric(name);
      } catch (error) {
        reportOnce(registry, 'removing a metric', error);
      }
    }
  }
}

/** Puts memguard's metrics into `registry`. */
function registerPromClient(registry, given = {}) {
  const options = optionsOf(given);
  if (registry === null || typeof registry !== 'object' || !NEEDED.every((name) => typeof registry[name] === 'function')) {
    throw failure('ETYPE', `registry must be a Registry of prom-client or @prometheus-io/client, not ${kindOf(registry)}`);
  }
  const there = bridges.get(registry);
  if (there !== undefined) {
    if (there.hasOptions(options)) return there;
    throw failure('ECONFLICT', 'registry has memguard\'s metrics with other options, allowed: the same, or unregister() first');
  }
  const bridge = new PromClientBridge(registry, options);
  bridges.set(registry, bridge);
  return bridge;
}

module.exports = { registerPromClient };
