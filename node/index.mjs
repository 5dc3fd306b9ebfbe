import memguard from './index.js';

export default memguard;
export const {
  BufferManager,
  MemoryMonitor,
  MemoryOptimizationService,
  QueueMemory,
  ResourceManager,
  ResourceStats,
  ResourceType,
  StageBase,
  capabilities,
  decide,
  errorCodes,
  loadConfig,
  processInfo,
  rssBytes,
  version,
} = memguard;
