// A program as a user would write it; `tsc --strict` has to accept it.
import memguard, {
  BufferManager,
  FdWatch,
  HeapTuner,
  IndicatorCache,
  LeakDetector,
  MemoryLeakDetected,
  ManagedConnectionPool,
  MemoryMonitor,
  MemoryOptimizationService,
  MemoryPool,
  ObjectPool,
  PooledBuffer,
  PooledBufferWriter,
  QueueMemory,
  ResourceManager,
  ResourceStats,
  ResourceType,
  ReusePool,
  RingBuffer,
  StageBase,
  adviseNodeOptions,
  adviseWorker,
  bullmq,
  cacheStats,
  capabilities,
  decide,
  errorCodes,
  fastifyPlugin,
  leak,
  loadConfig,
  middleware,
  poolStats,
  processInfo,
  registerCache,
  registerOpenTelemetry,
  registerPool,
  registerPromClient,
  rssBytes,
  encoding,
  serializers,
  serve,
  sharedPool,
  transports,
  version,
} from 'memguard';
import type {
  AlertSettings,
  BrokenConnectionError,
  MemguardError,
  MemoryStats,
  PoolFinding,
  ReclaimRound,
  Sample,
  Serializer,
  ThresholdEvent,
  WebServer,
} from 'memguard';
import { createServer } from 'node:http';
import { metrics as openTelemetry } from '@opentelemetry/api';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import fastify from 'fastify';
import { Registry, register } from 'prom-client';
import { matchers } from '../../node/jest.js';
import { stress } from '../../node/stress.js';

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
const alertSettings: AlertSettings = manager.settings.alert;
console.log(alertSettings.alertsEnabled, alertSettings.highUsageFor + alertSettings.gcHighFor);
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
monitor.registerShedCallback(({ reason, sample: latest }) => console.log(reason, latest?.usage));
monitor.on('memory:unreclaimable', (round) => round.isUnreclaimable);
monitor.on('optimization:automatic', ({ steps }) => steps.map(({ action }) => action === 'release'));
const round: ReclaimRound = monitor.getReclaimHistory(1)[0] ?? monitor.releaseMemory();
const releases: number = monitor.getReclaimStats().actions.release + round.freedBytes;
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
  const policy = new decide.Policy({ gcInterval: '1m' });
  const { action, reason }: { action: string; reason: string } = policy.next({ nowMs: 0, usage: 0.9, level: 'high' });
  policy.done('caches', { tookMs: 1.5 }, 2);
  const fits: boolean = policy.mayCollect('high', 5, 2);
  console.log(action, reason, fits, policy.timeToLimitMs, decide.budgetBytes(2 ** 28, 0.5));
  console.log(due, level, best, decide.trend([[0, 1], [1, null]]).points, loadConfig('x.json'));
  console.log(version, memguard.version, capabilities.gcHooks, processInfo().threads, rss, freed, trend, used, kind, length, size, releases);

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
  const advised: number | null = adviseNodeOptions({ limitBytes: 2 ** 30, headroom: 0.3 }).maxOldSpaceSizeMb;
  const limits: { maxOldGenerationSizeMb?: number } = adviseWorker({ monitor, share: 0.5 });
  const tuner: HeapTuner = manager.heapTuner;
  tuner.reportLoad(0.2);
  // @ts-expect-error a share is a number
  adviseWorker({ share: '50%' });
  console.log(advised, limits, new HeapTuner(monitor).report().collections.full, new decide.Idle().due);
  await service.close();

  try {
    manager.updateConfig({ max_memory_mb: -1 });
  } catch (error) {
    if ((error as MemguardError).code !== errorCodes.ERANGE) throw error;
  }
  await manager.close();
}

void main();

const prices = new Map<string, number>();
const registration = registerCache(prices, { name: 'prices', minEntries: 10, onEvict: (key, value) => key.length + value });
manager.registerCache(new Set<number>(), { onEvict: (member) => member.toFixed(1) }).unregister();
// @ts-expect-error a key of prices is a string
registerCache(prices, { onEvict: (key: number) => key });
registerPool({ close: 1 }, { trim: (share) => share * 2, name: 'any' });
const frames = new ReusePool(() => Buffer.alloc(10), { reset: (item) => item.fill(0), maxSize: 5 });
const first: number = frames.using((frame) => frame[0] ?? 0);
const indicators = new IndicatorCache<number>({ maxEntries: 5 });
const indicatorKey: string = IndicatorCache.makeKey('BTC', '1m', 'ema', { period: 20, of: ['close'] }, new Date());
const average: number = indicators.getOrCompute(indicatorKey, () => 1.5);
// @ts-expect-error a typed array is data
IndicatorCache.makeKey('BTC', '1m', 'ema', { prices: () => 1 });
const ring = new RingBuffer({ maxCandles: 5, columns: ['price', 'volume'] as const });
ring.append(average, first);
const newest: Float64Array = ring.latest(3).price;
// @ts-expect-error there is no such column
ring.column('close');
const connections = new ManagedConnectionPool(async () => ({ id: 1, destroyed: false }), {
  maxConnections: 5,
  isClosed: (connection) => connection.destroyed,
  idleTimeout: 60,
});
const id: Promise<number> = connections.connection((connection) => connection.id, { timeout: 5 });
console.log(registration.getStats().dropped, newest[0], id, cacheStats().length, poolStats()[0]?.idle);
void connections.close();

const pool: MemoryPool = sharedPool();
const rental: PooledBuffer = pool.rent(1000);
const bytes: Buffer = rental.buffer;
rental.return();
const writer: PooledBufferWriter = manager.pool.rentWriter(10, 100);
writer.getSpan(5).fill(0);
writer.advance(5);
const written: number = writer.write(new Float64Array(1));
writer.detach().release();
// @ts-expect-error text has to be encoded first
writer.write('text');
// @ts-expect-error only a pool makes one
new PooledBuffer();
const batch = pool.rentArray<{ id: number }>(10);
batch.push({ id: 1 });
const ids: number[] = batch.map(({ id }) => id);
const objects = new ObjectPool(() => new Map<string, number>(), { reset: (item) => item.clear() });
const entries: number = objects.borrow((item) => item.size);
const borrowed = objects.borrow();
borrowed.value.set('a', 1);
borrowed.dispose();
const found: PoolFinding | undefined = pool.findings()[0];
console.log(bytes.length, written, ids, entries, found?.site?.[0], pool.stats().tiers.small.current, pool.config.leakCheck);
new MemoryPool({ pool: { leak_check: 'paranoid' } }).close();

async function bus(pool: MemoryPool): Promise<void> {
  const serializer: Serializer = new serializers.MessagePackSerializer(pool, { copyBuffers: false });
  const transport = new transports.RedisTransport('redis://127.0.0.1', pool, { timeout: 2 });
  const subscription = await transport.subscribe('orders', (message, topic) => {
    const order = serializer.deserialize<{ id: number }>(message);
    message.return();
    return order.id + topic.length;
  });
  const rental = serializer.serializePooled({ id: 1 });
  const count: number = await transport.publishBatch('orders', [rental, rental.buffer, new Uint8Array(3)]);
  const room: number | null = serializer.trySerialize({ id: 1 }, new Uint8Array(10));
  // @ts-expect-error a message is bytes
  await transport.publish('orders', 'text');
  const outbox = new transports.RedisOutbox('redis://127.0.0.1', 'orders');
  const ids: number[] = await outbox.putBatch([['orders', rental]]);
  await outbox.relay((topic, view) => transport.publish(topic, view));
  const text: string = encoding.utf8Decode(encoding.base64Decode('Zm9v', pool, true));
  try {
    await new transports.NatsTransport('nats://127.0.0.1').close();
  } catch (error) {
    console.log((error as BrokenConnectionError<number[]>).unknown.length);
  }
  console.log(subscription.gaps, count, room, ids.length, text, encoding.tryUtf8EncodeInto('a', rental));
}
void bus;

async function leaks(manager: ResourceManager): Promise<void> {
  const detector: LeakDetector = manager.leakDetector;
  detector.on('leak:warning', (finding) => {
    const name: string | undefined = finding.culprits[0]?.name;
    console.log(finding.signal, finding.tier, finding.growthPerMinute.toFixed(), name, finding.advice.join());
  });
  using own = new LeakDetector({ leak: { timeScale: 60 } }, { censusHeapMb: 16 });
  own.start();
  const [first] = own.check();
  const seconds: number | null | undefined = first?.timeToLimitSeconds;
  const watch = new FdWatch({ threshold: 500, cleanup: ({ count, targets }) => console.log(count, targets.size) });
  // @ts-expect-error no such option
  new FdWatch({ limit: 5 });
  watch.close();
  leak.assertNoLeak(() => {}, { iterations: 50, signals: ['heap', 'fds'] });
  await leak.assertNoLeak(async () => {});
  const found: number = leak.findLeaks(() => 1).length + (await leak.findLeaks(async () => 1)).length;
  const before = leak.census({ heapLimitMb: 32 });
  const grown: string[] = leak.censusDifference(before, leak.census()).types.map(({ name }) => name);
  try {
    leak.assertNoLeak(() => {});
  } catch (error) {
    if (error instanceof MemoryLeakDetected) console.log(error.code, error.findings.length);
  }
  const verdict = await stress(() => {}, { hours: 1, timeScale: 1000 });
  console.log(seconds, found, grown, verdict.verdict, Object.keys(matchers));
}
void leaks;

// --- HTTP and bridges ---
async function shows(): Promise<void> {
  const site = middleware({ prefix: '/memguard', tokenFile: '/run/secrets/memguard', allowedHosts: ['shop.example'] });
  createServer((request, response) => {
    if (request.url === '/') response.end('mine');
    else site(request, response);
  });
  await fastify().register(fastifyPlugin, { prefix: '/memguard', token: 'a-token-of-the-tests', readNeedsToken: true });
  const server: WebServer = await serve({ port: 0, manager, bodyTimeout: 5 });
  const { host, port } = server.address;
  console.log(host?.length, port?.toFixed(), server.url, server.ref().isClosed);
  await server.close();
  // @ts-expect-error a port is a number
  await serve({ port: '9478' });
  // @ts-expect-error no such option
  middleware({ tokens: [] });

  const bridge = registerPromClient(register, { prefix: 'shop_' });
  const skipped: string[] = bridge.skipped.map(({ name, reason }) => `${name}: ${reason}`);
  registerPromClient(new Registry()).unregister();
  registerOpenTelemetry(new MeterProvider()).unregister();
  const meters: boolean = registerOpenTelemetry(openTelemetry.getMeterProvider()).isRegistered;
  console.log(skipped, meters, registerOpenTelemetry().isRegistered);
}
void shows;
function guarded(service: MemoryOptimizationService, worker: { pause(): void; resume(): void }): number {
  const guard = bullmq.guardWorkers(worker, service, { pauseAt: 0.85, longestPause: 1 });
  // @ts-expect-error no such option
  bullmq.guardWorkers([worker], service, { pausedAt: 0.85 });
  const { workerForkOptions } = bullmq.workerOptions({ share: 0.5, limitBytes: 2 ** 30 });
  console.log(guard.remove(worker), guard.isPaused, workerForkOptions?.env.NODE_OPTIONS);
  return guard.getStats().pauses;
}
void guarded;
