'use strict';

// QueueMemory: what a queue manager offers of memguard, as methods of its own.
const { failure, kindOf } = require('./errors');
const { defineDisposal } = require('./disposal');
const { isPlain } = require('./config');
const { MemoryOptimizationService } = require('./optimizer');
const { callSafely } = require('./report');

const METHODS = [
  'optimizeMemory', 'getMemoryStatus', 'getMemoryOptimizationHistory', 'createMemorySnapshot', 'updateMemoryOptimizationConfig',
];

/** Events of the service by the name that a queue manager gives them. */
const EVENTS = {
  'alert:memory-threshold': 'memory:alert',
  'alert:rapid-growth': 'memory:rapid-growth',
  'alert:memory-leak': 'memory:leak',
  'optimization:completed': 'memory:optimization:completed',
  'optimization:failed': 'memory:optimization:failed',
};

class QueueMemory {
  #service;
  #manager = null;
  #listeners = [];

  constructor(service) {
    if (!(service instanceof MemoryOptimizationService)) {
      throw failure('ETYPE', `service must be a MemoryOptimizationService, not ${kindOf(service)}`);
    }
    this.#service = service;
  }

  attach(manager) {
    if (Object(manager) !== manager) throw failure('ETYPE', `a queue manager must be an object, not ${kindOf(manager)}`);
    if (this.#manager !== null) throw failure('ECONFLICT', 'it is attached to a queue manager already');
    const taken = METHODS.find((name) => name in manager);
    if (taken !== undefined) throw failure('EEXISTS', `the queue manager has ${taken} already`);
    for (const name of METHODS) {
      const value = (...values) => this[name](...values);
      Object.defineProperty(manager, name, { value, configurable: true, enumerable: false, writable: true });
    }
    this.#manager = manager;
    this.#listeners = Object.entries(EVENTS).map(([from, to]) => [from, (payload) => this.#forward(to, payload)]);
    for (const [name, listener] of this.#listeners) this.#service.on(name, listener);
    return manager;
  }

  #forward(name, payload) {
    const { emit } = this.#manager;
    if (typeof emit === 'function') callSafely(emit, this.#manager, [name, payload], `a listener of '${name}'`);
  }

  detach() {
    if (this.#manager === null) return;
    for (const [name, listener] of this.#listeners) this.#service.off(name, listener);
    for (const name of METHODS) delete this.#manager[name];
    this.#manager = null;
    this.#listeners = [];
  }

  async optimizeMemory(options = {}) {
    if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
    const { reason, ...rest } = options;
    return this.#service.performOptimization(reason, rest);
  }

  getMemoryStatus() {
    const health = this.#service.healthCheck();
    return {
      enabled: this.#service.getConfig().enabled,
      current: health.stats,
      optimization: this.#service.getServiceStats(),
      health,
      recommendations: health.recommendations,
    };
  }

  getMemoryOptimizationHistory(count) {
    return this.#service.getOptimizationHistory(count);
  }

  createMemorySnapshot() {
    return this.#service.createUsageSnapshot();
  }

  updateMemoryOptimizationConfig(changes) {
    this.#service.updateConfig(changes);
  }
}

defineDisposal(QueueMemory, 'detach');

module.exports = { QueueMemory };
