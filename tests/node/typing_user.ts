// A program as a user would write it; `tsc --strict` has to accept it.
import memguard, {
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
} from 'memguard';
import type { MemguardError, MemoryStats, Sample, ThresholdEvent } from 'memguard';

interface Order {
  id: number;
  text: string;
}

const manager = new ResourceManager(
  { memory_monitor: { maxMemoryMb: '1GB', pressureThreshold: 0.85 }, sampleInterval: '250ms' },
  { profile: 'production', environment: false },
);

const orders: Order[] = manager.createBuffer<Order>('orders', async (items) => {
  await Promise.resolve(items.length);
});
orders.push({ id: 1, text: 'one' });
if (manager.shouldFlushBuffer('orders')) void manager.flushBuffer<Order>('orders');
// @ts-expect-error a buffer of orders takes orders
orders.push('two');
// @ts-expect-error names are strings
manager.shouldFlushBuffer(1);

const monitor: MemoryMonitor = manager.memoryMonitor;
monitor.on('threshold:exceeded', ({ level, alerts, stats }: ThresholdEvent) => {
  const first = alerts[0];
  console.log(level, first?.message, stats.rssMB.toFixed(1));
});
monitor.once('leak:critical', (leak) => console.log(leak.key, leak.count + leak.threshold));
monitor.on('stats:collected', (stats: MemoryStats) => stats.heapUsedPercentage);
monitor.registerPressureCallback((pressure) => pressure > 0.9);
monitor.updateThresholds({ heapUsedWarning: 60, rssCritical: '2GB' });
monitor.startMonitoring(5000);
const sample: Sample | null = monitor.latest;
const rss: number = sample?.rssBytes ?? rssBytes();
// @ts-expect-error samples are read-only
if (sample) sample.usage = 1;
const freed: number = monitor.triggerGc();
const trend: 'increasing' | 'decreasing' | 'stable' = monitor.getMemoryTrends(20).trend;

const stats: ResourceStats = manager.getResourceStats();
const used: number | null = stats.memoryUsageMb;
const kind: ResourceType = ResourceType.TEMP_FILE;
const length: number = manager.managedResource({ fd: 3 }, (file) => file.fd, (file) => file.fd + 1);
const resource = manager.managedResource(new Map<string, number>(), (map) => map.clear());
const size: number = resource.value.size;
void resource.dispose();

class MaskStage extends StageBase {
  readonly #rows: string[] = this.resourceManager.createBuffer<string>('rows');

  run(row: string): number {
    this._initialized = true;
    return this.#rows.push(row);
  }

  override async _cleanupStageSpecific(): Promise<void> {
    await Promise.resolve();
  }
}

async function main(): Promise<void> {
  const stage = new MaskStage({ chunk_size: 1000, resource_manager: { buffer_manager: { default_buffer_size: 200 } } });
  stage.run('a');
  await stage.cleanup();

  const alone = new BufferManager({ minBufferSize: 5 });
  alone.createBuffer('x').push(1);
  const due: boolean = alone.shouldFlushBuffer('x', 0.95);
  const level: string = new decide.LevelTracker({}).update(0.95, 0);
  const best: number = decide.usage({ rss_bytes: 1 }, { max_memory_mb: 1 }).usage;
  console.log(due, level, best, decide.trend([[0, 1], [1, null]]).points, loadConfig('x.json'));
  console.log(version, memguard.version, capabilities.gcHooks, processInfo().threads, rss, freed, trend, used, kind, length, size);

  const service = new MemoryOptimizationService({ memoryOptimization: { threshold: '75%' } }, { monitor });
  service.registerStrategy('sessions', async ({ reason, signal }) => signal.aborted || reason === 'emergency', { priority: 5 });
  service.registerCleanup(() => undefined);
  service.setConnectionPool({ getStats: () => ({ active: 1, idle: 2 }) });
  service.on('optimization:completed', (done) => console.log(done.freedMemoryMB.toFixed(1), done.optimizations[0]?.outcome));
  service.start();
  const report = await service.performOptimization('emergency', { force: true });
  const queue = new QueueMemory(service).attach({ name: 'jobs' });
  const status = queue.getMemoryStatus();
  console.log(queue.name, report.method, status.health.degraded, status.optimization.successRate, service.getConfig().intervalMs);
  // @ts-expect-error not a reason
  void service.performOptimization('bored');
  const plan = decide.strategyPlan('aggressive', { round: 1, freedBytes: null });
  console.log(plan.actions, new decide.Optimizer().due({ nowMs: 0, usage: 0.9, level: 'high' }));
  await service.close();

  try {
    manager.updateConfig({ max_memory_mb: -1 });
  } catch (error) {
    if ((error as MemguardError).code !== errorCodes.ERANGE) throw error;
  }
  await manager.close();
}

void main();
