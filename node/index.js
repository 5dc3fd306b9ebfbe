'use strict';

// memguard for Node. What it offers is described in index.d.ts.
const native = require('./lib/native');
const { BufferManager } = require('./lib/buffers');
const { loadConfig } = require('./lib/config');
const { codes } = require('./lib/errors');
const { ResourceManager, ResourceStats, ResourceType } = require('./lib/manager');
const { MemoryMonitor } = require('./lib/monitor');
const { capabilities, processInfo, rssBytes } = require('./lib/process');
const { StageBase } = require('./lib/stage');

module.exports = {
  BufferManager,
  MemoryMonitor,
  ResourceManager,
  ResourceStats,
  ResourceType,
  StageBase,
  errorCodes: codes,
  loadConfig,
  processInfo,
  rssBytes,
  version: native.version,
  get capabilities() {
    return capabilities();
  },
  get alerts() {
    return require('./lib/alerts');
  },
  get bullmq() {
    return require('./lib/bullmq');
  },
  get decide() {
    return require('./lib/decide');
  },
  get encoding() {
    return require('./lib/encoding').functions;
  },
  get leak() {
    return require('./lib/leak_tools');
  },
  get serializers() {
    return require('./lib/serializers');
  },
  get transports() {
    return require('./lib/transports');
  },
};

// Loaded when first asked for: most programs need few of them.
for (const [name, file] of Object.entries({
  HeapTuner: 'tuning',
  FdWatch: 'fd_watch',
  IndicatorCache: 'reuse',
  LeakCulprit: 'leak_finding',
  LeakDetector: 'leak',
  LeakFinding: 'leak_finding',
  ManagedConnectionPool: 'connection_pool',
  MemoryLeakDetected: 'leak_finding',
  MemoryOptimizationService: 'optimizer',
  MemoryPool: 'memory_pool',
  ObjectPool: 'object_pool',
  PooledArray: 'object_pool',
  PooledBuffer: 'memory_pool',
  PooledBufferWriter: 'pooled_writer',
  QueueMemory: 'queue',
  ReusePool: 'reuse',
  RingBuffer: 'reuse',
  adviseNodeOptions: 'tuning',
  adviseWorker: 'tuning',
  cacheStats: 'caches',
  collectMetrics: 'metrics',
  fastifyPlugin: 'web',
  metricsText: 'metrics',
  middleware: 'web',
  poolStats: 'caches',
  registerCache: 'caches',
  registerOpenTelemetry: 'bridges/open_telemetry',
  registerPool: 'caches',
  registerPromClient: 'bridges/prom_client',
  serve: 'web_server',
  sharedPool: 'memory_pool',
})) {
  Object.defineProperty(module.exports, name, { enumerable: true, get: () => require(`./lib/${file}`)[name] });
}
