import memguard from './index.js';

export default memguard;
export const {
  BufferManager,
  IndicatorCache,
  ManagedConnectionPool,
  MemoryMonitor,
  MemoryOptimizationService,
  QueueMemory,
  ResourceManager,
  ResourceStats,
  ResourceType,
  ReusePool,
  RingBuffer,
  StageBase,
  cacheStats,
  capabilities,
  decide,
  errorCodes,
  loadConfig,
  poolStats,
  processInfo,
  registerCache,
  registerPool,
  rssBytes,
  version,
} = memguard;
