/**
 * memguard for Node: one ResourceManager over a native core.
 *
 * Units: names ending in `Bytes`, `MB`/`Mb` (1 MB = 1 048 576 bytes), `Ms`;
 * times are milliseconds since 1970, as of `Date.now()`. Percentages run from 0
 * to 100, ratios and pressures from 0 to 1.
 *
 * Errors carry a `code` of {@link errorCodes}; see {@link MemguardError}. Code of
 * the host that fails (sinks, callbacks, listeners) is reported once each as a
 * process warning of the name `MemguardWarning`, and everything else goes on.
 *
 * Each Worker that loads memguard has managers of its own. Nothing of memguard
 * keeps a process alive.
 *
 * @packageDocumentation
 */

import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** Version of the native library, e.g. "0.1.0". */
export const version: string;

// --- Errors -------------------------------------------------------------------

/** The `code` of an error. */
export type MemguardErrorCode =
  | 'ERR_MEMGUARD_INVALID'
  | 'ERR_MEMGUARD_NO_MEMORY'
  | 'ERR_MEMGUARD_SYSTEM'
  | 'ERR_MEMGUARD_UNKNOWN_KEY'
  | 'ERR_MEMGUARD_TYPE'
  | 'ERR_MEMGUARD_RANGE'
  | 'ERR_MEMGUARD_CONFLICT'
  | 'ERR_MEMGUARD_CLOSED'
  | 'ERR_MEMGUARD_ABSENT'
  | 'ERR_MEMGUARD_EXISTS'
  | 'ERR_MEMGUARD_NOT_FOUND'
  | 'ERR_MEMGUARD_HOST'
  | 'ERR_MEMGUARD_TIMEOUT'
  | 'ERR_MEMGUARD_RETURNED'
  | 'ERR_MEMGUARD_FOREIGN'
  | 'ERR_MEMGUARD_ENCODING'
  | 'ERR_MEMGUARD_BROKEN'
  | 'ERR_MEMGUARD_LEAK';

/**
 * What memguard throws: a `TypeError` for INVALID and TYPE, a `RangeError` for
 * RANGE, an `Error` for the rest. The message names the key or argument, the
 * value, and what is allowed.
 */
export interface MemguardError extends Error {
  code: MemguardErrorCode;
  /** `errno` of the failed system call, where one failed. */
  errno?: number;
}

/** Codes by the name of their status: `errorCodes.ECLOSED`. */
export const errorCodes: Readonly<
  Record<
    | 'EINVAL'
    | 'ENOMEM'
    | 'ESYS'
    | 'EKEY'
    | 'ETYPE'
    | 'ERANGE'
    | 'ECONFLICT'
    | 'ECLOSED'
    | 'EABSENT'
    | 'EEXISTS'
    | 'ENOTFOUND'
    | 'EHOST'
    | 'ETIMEOUT'
    | 'ERETURNED'
    | 'EFOREIGN'
    | 'EENCODING'
    | 'EBROKEN'
    | 'ELEAK',
    MemguardErrorCode
  >
>;

// --- Configuration ------------------------------------------------------------

/** A value of a setting; text may carry a unit: "512MB", "85%", "30s". */
export type ConfigValue = number | boolean | string | undefined;

/**
 * Settings by section and name, or by name alone where only one section has it.
 * Case, `_` and `-` do not matter: `maxMemoryMb` is `max_memory_mb`. A duration
 * given as a bare number is in seconds, unless the name used ends in `Ms`.
 */
export interface ConfigMapping {
  [key: string]: ConfigValue | { [key: string]: ConfigValue };
}

/** Named profiles. */
export type ProfileName =
  | 'default'
  | 'development'
  | 'production'
  | 'high-load'
  | 'queue-development'
  | 'queue-production';

/**
 * Where settings come from besides the mapping of the program. Precedence,
 * lowest first: defaults, profile, file, environment, mapping.
 */
export interface ConfigOptions {
  /** Default: the variable MEMGUARD_PROFILE, else "default". */
  profile?: ProfileName | (string & {}) | undefined;
  /** A .json, .yaml, .yml or .toml file. Default: the variable MEMGUARD_CONFIG. */
  file?: string | undefined;
  /** Variables MEMGUARD_*. Default: `process.env`; `false` for none. */
  environment?: Record<string, string | undefined> | false | null | undefined;
}

/** The settings in force, as updateConfig() would take them. Durations are in
 * seconds. */
export interface Settings {
  readonly profile: ProfileName;
  readonly memory: {
    /** false: nothing is sampled in the background and no event is raised. */
    readonly enabled: boolean;
    /** Resident memory to stay under, MB. Default 2048, which counts, too. */
    readonly maxMemoryMb: number;
    /** Heap meant to be enough, MB; 0: only V8's own limit counts. Default 0. */
    readonly maxHeapMb: number;
    /** Time between entries of the history, seconds. Default 30. */
    readonly monitorInterval: number;
    /** Longest time between two samples, seconds. Default 1. */
    readonly sampleInterval: number;
    readonly lowWaterMarkPercent: number;
    readonly highWaterMarkPercent: number;
    readonly alertThreshold: number;
    readonly forceGcThreshold: number;
    /**
     * Whether memguard may reclaim memory by itself: collect, shrink caches, give memory
     * back, call shed callbacks. Buffers and pools follow the pressure in any case.
     */
    readonly enableAutoGc: boolean;
    /**
     * Least time between two rounds of reclaiming at the same level, seconds; a higher
     * level and a forced step at `forceGcThreshold` do not wait for it.
     */
    readonly gcInterval: number;
    /** Samples kept. Default 1000. */
    readonly historySize: number;
    readonly rapidGrowthMbPerMinute: number;
    /**
     * A pause of the garbage collector that takes longer, in seconds, is reported
     * once as a process warning with the code MEMGUARD_LONG_PAUSE, when a monitor
     * next comes by. With several monitors in one isolate the shortest time
     * counts. Default 0.02.
     */
    readonly longPause: number;
    /** Share of time that collections started by memguard may take. Default 5. */
    readonly gcBudgetPercent: number;
    /** The same while the level is critical. Default 20. */
    readonly gcBudgetCriticalPercent: number;
    /** CPython only. */
    readonly byteAwareGc: boolean;
    /** Whether the heapTuner runs by itself. Default false. */
    readonly autoTune: boolean;
    /** Reported load below which idle moments are used to collect; 0: never. Default 0.3. */
    readonly idleLoad: number;
    /** Longest time one strategy of an optimization may take, seconds. Default 2. */
    readonly strategyTimeout: number;
    readonly backgroundCallbacks: boolean;
  };
  readonly memoryMonitor: {
    /**
     * Pressure from which callbacks run and buffers are halved. Above 0.9 callbacks run and
     * buffers are flushed and shrink to `minBufferSize`, whatever it says. Default 0.8.
     */
    readonly pressureThreshold: number;
    /** Operations between two checks. Default 100. */
    readonly monitoringInterval: number;
  };
  readonly bufferManager: {
    readonly defaultBufferSize: number;
    readonly maxBufferSize: number;
    readonly minBufferSize: number;
    readonly autoResize: boolean;
  };
  readonly thresholds: Thresholds;
  readonly pool: PoolSettings;
  readonly leak: LeakSettings;
  readonly alert: AlertSettings;
  readonly segment: {
    /** Whether a running monitor shows the process to the `memguard` tool. Default true. */
    readonly segmentEnabled: boolean;
  };
}

/** When a running monitor raises alerts. */
export interface AlertSettings {
  /** Whether it raises any. Default true. */
  readonly alertsEnabled: boolean;
  /** Least time between the end of an alert and its return, seconds. Default 300. */
  readonly alertCooldown: number;
  /** Time without its condition after which an alert is over, seconds. Default 60. */
  readonly alertResolveAfter: number;
  /** Changes of alerts kept. Default 200. */
  readonly alertHistorySize: number;
  /** Time at or above `alertThreshold` before `high_usage` is raised, seconds. Default 10. */
  readonly highUsageFor: number;
  /** Time at or above `forceGcThreshold` before `critical` is raised, seconds. Default 0. */
  readonly criticalFor: number;
  /** Share of the process's CPU time in collections that is too much. Default 10. */
  readonly gcHighPercent: number;
  /** Time above it before `gc_high` is raised, seconds. Default 180. */
  readonly gcHighFor: number;
}

/** How leaks are looked for. */
export interface LeakSettings {
  /** Whether a ResourceManager looks for leaks while it runs. Default true. */
  readonly leakDetection: boolean;
  /** What the detector divides each of its times by; for tests. 1 to 1e6, default 1. */
  readonly timeScale: number;
  /** The shortest time in which growth is judged, seconds. Default 240. */
  readonly leakWindow: number;
  /** Time after the start in which growth is no leak, seconds; 0: as long as the data show. Default 0. */
  readonly leakWarmup: number;
  /** A leak that reaches its limit within this time is critical, seconds. Default 21600. */
  readonly criticalWithin: number;
  /** Growth below which nothing is said, MB. Default 4. */
  readonly leakMinGrowthMb: number;
  /** Whether a suspicion may be followed by a census and a window of the heap profiler. Default true. */
  readonly leakCensus: boolean;
  /**
   * A full collection that last took no longer than this, in seconds, may be forced while
   * memory rises, in 25 % of the time at most; a longer one while a leak is suspected, in 1 %
   * (under a `timeScale` as a short one). 0: none. Default 0.1.
   */
  readonly leakCollect: number;
  /** Finer sampling by the heap profiler in its window (64 KB instead of 512). Default false. */
  readonly leakTrace: boolean;
  /** Open descriptors that raise `fd:warning`. Default 800. */
  readonly fdWarningCount: number;
  /** New descriptors in a minute that raise it. Default 50. */
  readonly fdGrowthPerMinute: number;
}

/** Thresholds of warnings. */
export interface Thresholds {
  /** Percent of V8's heap limit. Default 70. */
  readonly heapUsedWarning: number;
  /** Percent of V8's heap limit. Default 85. */
  readonly heapUsedCritical: number;
  /** MB. Default 512. */
  readonly rssWarning: number;
  /** MB. Default 1024. */
  readonly rssCritical: number;
  /** Value of an object counter. Default 100. */
  readonly leakWarningCount: number;
  /** Value of an object counter. Default 500. */
  readonly leakCriticalCount: number;
}

/**
 * Reads a configuration file: .json, .yaml and .yml (with the package `yaml`),
 * .toml (with the package `smol-toml`).
 * @returns the mapping in it; keys are checked when it is used.
 * @throws {MemguardError} SYSTEM (cannot be read), INVALID (cannot be parsed,
 * unknown kind), TYPE (no mapping), ABSENT (the parser is not installed).
 */
export function loadConfig(path: string): ConfigMapping;

// --- What is measured -----------------------------------------------------------

/** Levels in rising order. */
export type LevelName = 'normal' | 'elevated' | 'high' | 'critical';

/** What usage is measured against; the highest ratio wins. */
export type DomainName =
  | 'none'
  | 'cgroup'
  | 'machine'
  | 'address'
  | 'data'
  | 'heap'
  | 'max_heap'
  | 'max_memory';

/** What is known about the process at one moment; null: not known here. */
export interface Sample {
  /** 1 for a monitor's first sample. */
  readonly number: number;
  readonly unixMs: number;
  /** Highest ratio over the domains; may exceed 1. */
  readonly usage: number;
  /** `usage`, at most 1. */
  readonly pressure: number;
  /** The domain `usage` comes from. */
  readonly domain: DomainName;
  readonly level: LevelName;
  readonly peakRssBytes: number;
  readonly rssBytes: number | null;
  readonly sharedBytes: number | null;
  readonly virtualBytes: number | null;
  readonly dataBytes: number | null;
  readonly machineAvailableBytes: number | null;
  readonly machineTotalBytes: number | null;
  readonly cgroupUsedBytes: number | null;
  readonly cgroupLimitBytes: number | null;
  readonly addressLimitBytes: number | null;
  readonly dataLimitBytes: number | null;
  readonly stallTotalUs: number | null;
  readonly fdCount: number | null;
  readonly threadCount: number | null;
  readonly heapUsedBytes: number | null;
  readonly heapTotalBytes: number | null;
  readonly heapLimitBytes: number | null;
  readonly externalBytes: number | null;
  readonly arrayBufferBytes: number | null;
  /** Bytes in use on V8's heap, when last looked at. */
  readonly blockBytes: number | null;
  /** Bytes reserved for it, at the same moment. */
  readonly blockTotalBytes: number | null;
  /** Part of them without physical memory behind it. */
  readonly blockIdleBytes: number | null;
  /** CPython only. */
  readonly heapObjects: number | null;
  /** Bytes V8 has from the C allocator. */
  readonly mallocUsedBytes: number | null;
  readonly mallocTotalBytes: number | null;
  /** Bytes allocated on V8's heap so far, freed ones too. */
  readonly totalAllocBytes: number | null;
  /** CPU time of the process, microseconds. */
  readonly cpuUs: number | null;
  /** Connections in use of the program's pools. */
  readonly activeConnections: number | null;
}

/** Memory at one moment. A number the kernel does not tell is NaN. */
export interface MemoryStats {
  /** Bytes. */
  heapUsed: number;
  /** Bytes. */
  heapTotal: number;
  /** Bytes. */
  external: number;
  /** Bytes. */
  rss: number;
  /** Bytes; part of `external`. */
  arrayBuffers: number;
  /** ms since 1970. */
  timestamp: number;
  /** Of the real limit, V8's heap_size_limit. */
  heapUsedPercentage: number;
  heapUsedMB: number;
  heapTotalMB: number;
  rssMB: number;
}

/** Which way a series goes: a Theil-Sen slope, a direction if it is clear. */
export interface Trend {
  direction: 'increasing' | 'decreasing' | 'stable';
  mbPerMinute: number;
  /** Kendall's tau, -1 to 1. */
  tau: number;
  /** Samples used; below 3 there is no trend. */
  points: number;
}

/** Trends of the resident set and the heap; at the top level the steeper one. */
export interface MemoryTrends {
  trend: Trend['direction'];
  mbPerMinute: number;
  rss: Trend;
  heap: Trend;
}

/**
 * Pauses of one kind, or collections of all kinds. Times are ms. Quantiles come
 * from a histogram: never below the truth and at most 6.25 % above it (1 us, for
 * pauses below 16 us). 0 where nothing was recorded.
 */
export interface GCKindStats {
  /** Exact: none is lost. */
  count: number;
  totalMs: number;
  /**
   * CPU time of the JS thread in them; null: not measured. Of minor collections
   * (scavenge, minorMarkSweep), and so of the total, it is not: reading that clock
   * costs more than all the rest of recording them. null also if source is not
   * "native".
   */
  cpuMs: number | null;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  maxMs: number;
  /** The latest one. */
  lastMs: number;
}

/**
 * What V8's collector did since memguard was loaded in this isolate. The totals
 * and quantiles are those of collections: scavenges, minor mark-sweeps and full
 * ones. What V8 reports as phases (incrementalMarking, processWeakCallbacks) is
 * found in `kinds` alone: many short ones would hide the pauses that matter.
 */
export interface GCStats extends GCKindStats {
  /** V8's own hooks, a PerformanceObserver, or nothing. */
  source: 'native' | 'observer' | 'none';
  /**
   * P95 over the last 60 seconds of the longest pause in each, phases included,
   * ms; a second without one counts as 0.
   */
  longestPerSecondP95Ms: number;
  kinds: {
    scavenge: GCKindStats;
    minorMarkSweep: GCKindStats;
    markSweepCompact: GCKindStats;
    incrementalMarking: GCKindStats;
    processWeakCallbacks: GCKindStats;
  };
  /** Collections asked for through this monitor. */
  triggered: number;
}

/** One thing that is wrong. */
export interface Alert {
  type:
    | 'heap_warning'
    | 'heap_critical'
    | 'rss_warning'
    | 'rss_critical'
    | 'usage_high'
    | 'usage_critical'
    | 'rapid_growth'
    | 'object_counter';
  level: 'warning' | 'critical';
  /** Advice, one sentence. */
  message: string;
  /** In the unit of the threshold; not for growth and counters. */
  value?: number;
  threshold?: number;
}

export interface HealthReport {
  status: 'healthy' | 'warning' | 'critical';
  healthy: boolean;
  issues: Alert[];
  recommendations: string[];
  stats: MemoryStats;
  timestamp: number;
}

export interface MemoryReport {
  timestamp: number;
  current: MemoryStats;
  trends: MemoryTrends;
  gc: GCStats;
  thresholds: Thresholds;
  /** Object counters by key. */
  counters: Record<string, number>;
  history: { count: number; capacity: number };
  peakMemoryMB: number;
  /** Events that were dropped because nobody took them for long. */
  eventsLost: number;
  health: HealthReport;
  recommendations: string[];
}

/** Why an optimization runs. */
export type OptimizationReason = 'manual' | 'scheduled' | 'emergency' | 'preventive';
export type StrategyName = 'standard' | 'aggressive' | 'preventive' | 'gc';

/** One thing that an optimization did. */
export interface OptimizationStep {
  /** Of an action of the core, or as it was registered. */
  name: string;
  kind: 'action' | 'strategy' | 'cleanup' | 'pool';
  /** skipped: it could not be done now. timeout: it did not end in time. */
  outcome: 'done' | 'skipped' | 'failed' | 'timeout';
  durationMs: number;
  /** Measured; null: not measured. */
  freedMemoryMB: number | null;
  /** Name or code of the error; "busy": it was still at work. Never its text. */
  error?: string;
}

/** What an optimization was, and what it brought. No data of the host is in it. */
export interface OptimizationReport {
  /** When it ended. */
  timestamp: number;
  reason: OptimizationReason;
  method: StrategyName;
  /** Something was done, and nothing failed. */
  success: boolean;
  durationMs: number;
  /** What the resident set or the heap with what it owns outside fell by, the
   * larger; measured, 0 if neither fell. */
  freedMemoryMB: number;
  /** null: the monitor failed. */
  beforeStats: MemoryStats | null;
  afterStats: MemoryStats | null;
  optimizations: OptimizationStep[];
  /** It was not run: see {@link MemoryOptimizationService}. */
  refused?: 'degraded';
  /** Code of the error that ended it. */
  error?: string;
}

// --- MemoryMonitor ----------------------------------------------------------------

export interface ThresholdEvent {
  level: 'warning' | 'critical';
  alerts: Alert[];
  stats: MemoryStats;
}

export interface GrowthEvent {
  type: 'heap' | 'rss';
  mbPerMinute: number;
  stats: MemoryStats;
}

/** An object counter passed a threshold, or a leak detector found something. */
export interface LeakEvent {
  /** Key of the object counter; "" with a finding. */
  key: string;
  count: number;
  threshold: number;
  /** undefined: it is a counter. null: the detector has forgotten it. */
  finding?: LeakFinding | null;
  /** Of the finding, in its unit. */
  growthPerMinute?: number;
  stats: MemoryStats;
}

/** A leak detector found something. */
export interface FindingEvent {
  /** null: the detector has forgotten it. */
  finding: LeakFinding | null;
  /** In the unit of the finding. */
  growthPerMinute: number;
  stats: MemoryStats;
}

/** Many descriptors are open, or many are new. */
export interface DescriptorEvent {
  count: number;
  threshold: number;
  /** null: not known yet. */
  growthPerMinute: number | null;
  stats: MemoryStats;
}

export interface LevelEvent {
  level: LevelName;
  previous: LevelName;
  usage: number;
  domain: DomainName;
  stats: MemoryStats;
}

export interface PressureEvent {
  pressure: number;
  domain: DomainName;
  stats: MemoryStats;
}

/** One action of a {@link ReclaimRound}. */
export interface ReclaimStep {
  action: ActionName;
  /** False: it could not be done, for one that the event loop was busy. */
  wasDone: boolean;
  tookMs: number;
  /** Part of it spent collecting. */
  gcMs: number;
  /** Measured: for a collection what heap and external memory, or the resident set,
   *  fell by; for the others the resident set. */
  freedBytes: number;
}

/** What reclaiming memory once did; null stands for what is not known. */
export interface ReclaimRound {
  /** 1 for the first of an isolate. */
  number: number;
  /** When it began, ms since 1970. */
  unixMs: number;
  reason: ReasonName;
  level: LevelName;
  tookMs: number;
  gcMs: number;
  usageBefore: number;
  usageAfter: number;
  rssBeforeBytes: number | null;
  rssAfterBytes: number | null;
  /** Heap and external memory, as V8 told last. */
  heapBeforeBytes: number | null;
  heapAfterBytes: number | null;
  /** What the resident set or the heap fell by, the larger. */
  freedBytes: number;
  /** With this round memguard gave up collecting. */
  isUnreclaimable: boolean;
  steps: ReclaimStep[];
}

/** What was reclaimed in this isolate since memguard was loaded. */
export interface ReclaimStats {
  rounds: number;
  /** Rounds that freed at least 1 % of what was in use. */
  usefulRounds: number;
  /** Actions that could not be done. */
  failed: number;
  freedBytes: number;
  tookMs: number;
  gcMs: number;
  /** Collecting frees nothing any more: shed load or restart. */
  isUnreclaimable: boolean;
  /** Time to the limit by the present growth, ms; null if usage does not grow. */
  timeToLimitMs: number | null;
  /** How often each action was done. */
  actions: Record<ActionName, number>;
}

/** What a shed callback is told. */
export interface ShedReport {
  reason: ReasonName;
  /** The latest sample of the monitor it is registered with. */
  sample: Sample | null;
}

/** Gives up memory of the host: drops sessions, refuses work, asks for a restart. */
export type ShedCallback = (report: ShedReport) => unknown;

/** Events of a {@link MemoryMonitor} and the arguments of their listeners. */
export interface MemoryMonitorEvents {
  'monitoring:started': [{ intervalMs: number }];
  'monitoring:stopped': [];
  'stats:collected': [MemoryStats];
  'threshold:exceeded': [ThresholdEvent];
  'trend:rapid-growth': [GrowthEvent];
  /** A leak is suspected: no alarm yet. */
  'leak:suspected': [FindingEvent];
  /** A leak is likely or confirmed; or an object counter passed its threshold. */
  'leak:warning': [LeakEvent];
  /** The same, with a limit near or a confirmed leak of high severity. */
  'leak:critical': [LeakEvent];
  /** The growth stopped, or was less than it seemed. */
  'leak:withdrawn': [FindingEvent];
  'fd:warning': [DescriptorEvent];
  'level:changed': [LevelEvent];
  /** On each sample whose pressure is at or above pressureThreshold. */
  pressure: [PressureEvent];
  /** Memory was reclaimed in this isolate, automatically or because it was asked for. */
  'optimization:automatic': [ReclaimRound];
  /** memguard gave up collecting: nothing that is dead is left. */
  'memory:unreclaimable': [ReclaimRound];
  /** An alert fires, grew more severe or is over. */
  alert: [MemoryAlert];
}

export type AlertKind =
  | 'high_usage'
  | 'critical'
  | 'gc_high'
  | 'memory_leak'
  | 'out_of_memory'
  | 'rapid_growth'
  | 'fd_leak'
  | 'long_pause'
  | 'unreclaimable'
  | 'previous_oom';

/** An alert as it is, or as it was at a change. */
export interface MemoryAlert {
  kind: AlertKind;
  severity: 'info' | 'warning' | 'critical';
  state: 'firing' | 'resolved';
  /** When its condition began to hold, and when it held last. */
  sinceUnixMs: number;
  lastUnixMs: number;
  /** null while it fires. */
  resolvedUnixMs: number | null;
  /** The worst so far, and what it is compared with; null if unknown. */
  value: number | null;
  threshold: number | null;
  unit: string;
  /** One line that says it all. */
  summary: string;
  /** Who it is; '' if unknown. */
  culprit: string;
  /** Which signal leaks, which memory grows; else ''. */
  subject: string;
  /** Times the condition came back before it was over. */
  repeats: number;
  /** Of the change. */
  number: number;
}

export interface AlertChannelStats {
  /** Alerts whose latest state was not delivered yet. */
  waiting: number;
  /** Requests that were accepted, and the alerts in them. */
  sent: number;
  delivered: number;
  failures: number;
  failuresInARow: number;
  /** Alerts given up because of 64 newer ones. */
  overflow: number;
}

/** Where alerts go: belongs to one {@link Alerts}. Programs may derive their own, with `deliver`. */
export declare class AlertChannel {
  /** @param name for warnings. */
  constructor(name: string);
  readonly name: string;
  readonly stats: AlertChannelStats;
  /** Carries one change out. What it throws or rejects with is reported once and counted. */
  deliver(alert: MemoryAlert): unknown;
}

/** Times in seconds. */
export interface WebhookOptions {
  headers?: Record<string, string>;
  /** Of a request; 5. */
  timeout?: number;
  /** Back-off after a failure: 1, doubled up to 60. */
  retryFirst?: number;
  retryMost?: number;
  /** The program's name. */
  service?: string;
  /** The host's name. */
  instance?: string;
  name?: string;
}

export interface AlertmanagerOptions extends WebhookOptions {
  /** What fires is sent again this often, and ends by itself 4 times that after the last; 60. */
  resend?: number;
  /** What is over is told so when it has been known as firing for so long: more than group_wait; 60. */
  least?: number;
  /** URL of the annotation runbook_url; '#' and the kind are added. */
  runbook?: string;
}

/** The alerts of a monitor, and the channels that carry them out: `monitor.alerts`. */
export declare class Alerts {
  private constructor();
  /** What fires now, in order of its beginning. */
  readonly active: MemoryAlert[];
  readonly stats: {
    /** Number of the newest change. */
    changes: number;
    /** Of them, no longer in the history. */
    evicted: number;
    fired: number;
    resolved: number;
    repeats: number;
    /** Times a condition came back within alertCooldown. */
    held: number;
    /** Times a subject found no room to be followed. */
    overflow: number;
  };
  readonly channels: AlertChannel[];
  /** The changes after number `after` that are still kept (alertHistorySize), oldest first. */
  history(after?: number): MemoryAlert[];
  /**
   * Has a channel, or a function, told of what fires now and of all that changes.
   * Until it is removed, or the monitor closed, an undelivered alert gets one last try
   * of 2 s at the end of the process.
   * @throws {MemguardError} TYPE, INVALID (it was added before), CLOSED.
   */
  add(channel: AlertChannel | ((alert: MemoryAlert) => unknown)): AlertChannel;
  /** Ends a channel, after one last try of 2 s at most. */
  remove(channel: AlertChannel): Promise<void>;
  /** Waits until every channel has delivered what there is. @param timeout seconds. @returns whether it has. */
  flush(timeout?: number): Promise<boolean>;
  /** Ends all channels, after one last try; what shutdown() begins. */
  close(): Promise<void>;
}

/** Channels of alerts. What a receiver does not accept is tried again with back-off; nothing here keeps a process alive. */
export const alerts: {
  readonly KINDS: readonly AlertKind[];
  Alerts: typeof Alerts;
  Channel: typeof AlertChannel;
  /** Calls a function for each change. */
  Callback: new (callback: (alert: MemoryAlert) => unknown) => AlertChannel;
  /** Calls error, warn or info of a logger with a line and the alert; process warnings without one. */
  Logging: new (logger?: {
    error(text: string, alert: MemoryAlert): unknown;
    warn(text: string, alert: MemoryAlert): unknown;
    info(text: string, alert: MemoryAlert): unknown;
  }) => AlertChannel;
  /** POSTs JSON: version, service, program, runtime, pid, instance, alerts (with snake_case keys). Any 2xx accepts. */
  Webhook: new (url: string, options?: WebhookOptions) => AlertChannel;
  /** POSTs to /api/v2/alerts of a Prometheus Alertmanager at `url`. */
  Alertmanager: new (url: string, options?: AlertmanagerOptions) => AlertChannel;
};

type Listener<Name extends keyof MemoryMonitorEvents> = (...values: MemoryMonitorEvents[Name]) => unknown;

/** Called with the pressure, 0 to 1. */
export type PressureCallback = (pressure: number) => unknown;

/**
 * Watches this process. A thread of its own samples once it is started, also
 * while the event loop is blocked; listeners and callbacks run on the event loop
 * or inside a call to the monitor. One that throws or rejects is reported once
 * as a process warning; the others still run. `error` is never emitted.
 *
 * After `shutdown()` methods throw ERR_MEMGUARD_CLOSED.
 */
export class MemoryMonitor extends EventEmitter {
  /** @throws {MemguardError} of a bad configuration. */
  constructor(config?: ConfigMapping, options?: ConfigOptions);

  on<Name extends keyof MemoryMonitorEvents>(name: Name, listener: Listener<Name>): this;
  on(name: string | symbol, listener: (...values: any[]) => void): this;
  once<Name extends keyof MemoryMonitorEvents>(name: Name, listener: Listener<Name>): this;
  once(name: string | symbol, listener: (...values: any[]) => void): this;
  off<Name extends keyof MemoryMonitorEvents>(name: Name, listener: Listener<Name>): this;
  off(name: string | symbol, listener: (...values: any[]) => void): this;
  addListener<Name extends keyof MemoryMonitorEvents>(name: Name, listener: Listener<Name>): this;
  addListener(name: string | symbol, listener: (...values: any[]) => void): this;
  removeListener<Name extends keyof MemoryMonitorEvents>(name: Name, listener: Listener<Name>): this;
  removeListener(name: string | symbol, listener: (...values: any[]) => void): this;

  /** MB the process is meant to stay under. Setting it is checked. */
  maxMemoryMb: number;
  /** 0.01 to 1. */
  pressureThreshold: number;
  /** Operations between two checks, 1 to 1e9. */
  monitoringInterval: number;
  /** Operations counted: `shouldFlushBuffer()` and `checkMemoryPressure()`. */
  readonly operationCount: number;
  /** Highest resident set seen by a sample, MB; 0 before the first. */
  readonly peakMemory: number;
  /** Collections asked for through this monitor. */
  readonly gcCount: number;
  /** Time of the latest sample, ms since 1970; 0 before the first. */
  readonly lastCheckTime: number;
  /** Callbacks of the host; it may change the array itself. */
  pressureCallbacks: PressureCallback[];

  /** Its alerts and the channels that carry them out. */
  readonly alerts: Alerts;
  /** Path of the file in which this process, with all its monitors, shows itself to
   *  the `memguard` tool; null while none of them runs, or with `segmentEnabled`
   *  false. */
  readonly segmentPath: string | null;

  /** The latest sample, without a call into the kernel; null before the first. */
  readonly latest: Sample | null;
  readonly isMonitoring: boolean;
  /** Looks for leaks once it is started; made when first asked for, closed with the monitor. */
  readonly leakDetector: LeakDetector;
  /** The mapping given to the constructor. */
  readonly config: ConfigMapping;
  readonly settings: Settings;
  readonly thresholds: Thresholds;

  /**
   * Pressure now, 0 to 1, from a sample at most 20 ms old. Counts an operation;
   * raises events.
   */
  checkMemoryPressure(): number;
  /**
   * Has `callback` called with the pressure on each sample at or above
   * pressureThreshold.
   * @throws {MemguardError} TYPE.
   */
  registerPressureCallback(callback: PressureCallback): void;
  /**
   * A full collection, without start flags. Its time counts against
   * gcBudgetPercent.
   * @returns bytes of heap and external memory it freed, measured.
   */
  triggerGc(): number;
  /**
   * Collects all there is, compacts the heap and gives what is free back to the
   * system, here and now: 15 ms with little alive, 150 ms and more with 200 MB. Its
   * time counts against gcBudgetPercent.
   * @throws {MemguardError} CONFLICT from inside a shed callback or a cache that is
   * being shrunk.
   */
  releaseMemory(): ReclaimRound;
  /**
   * Has `callback` called when memory is unreclaimable: at once, then at each
   * further 1 % of the limit or every 30 s.
   * @throws {MemguardError} TYPE.
   */
  registerShedCallback(callback: ShedCallback): void;
  /** Callbacks of the host; it may change the array itself. */
  readonly shedCallbacks: ShedCallback[];
  /** Of this isolate, all monitors together. */
  getReclaimStats(): ReclaimStats;
  /** Rounds of this isolate, oldest first. @param count newest ones; default and at
   * most 64. @throws {MemguardError} TYPE, RANGE. */
  getReclaimHistory(count?: number): ReclaimRound[];

  /**
   * Starts sampling in the background; does nothing if it runs.
   * @param intervalMs time between entries of the history, 10 to 86 400 000 ms;
   * default: the setting monitorInterval, 30 s. Samples are taken at least each
   * sampleInterval, whatever is recorded.
   * @throws {MemguardError} RANGE, TYPE, SYSTEM (no thread could be started).
   */
  startMonitoring(intervalMs?: number): void;
  stopMonitoring(): void;

  /** Takes and records a sample now; raises `stats:collected` and what it finds. */
  collectMemoryStats(): MemoryStats;
  /** The latest sample; takes one if there is none. */
  getCurrentStats(): MemoryStats;
  /**
   * Recorded samples, oldest first.
   * @param minutes how far back; default: all, at most historySize.
   */
  getMemoryHistory(minutes?: number): MemoryStats[];
  /** @param count newest recorded samples to judge, at most 64; default 10. */
  getMemoryTrends(count?: number): MemoryTrends;
  /** Collections of this isolate, recorded since memguard was loaded. */
  getGCStats(): GCStats;
  getMemoryReport(): MemoryReport;
  healthCheck(): HealthReport;

  /**
   * Collects garbage. "aggressive" also flushes every buffer that has a sink
   * (with a ResourceManager), shrinks caches and pools and releases memory, in
   * rounds until one frees less than 1 %.
   * @throws {MemguardError} INVALID for another method.
   */
  optimizeMemory(method?: 'gc' | 'aggressive'): OptimizationReport;

  /**
   * Object counters: the host counts what it opens and closes. A value at or
   * above leakWarningCount or leakCriticalCount raises an event, once until it
   * falls below again.
   * @param key 1 to 63 bytes; at most 256 keys.
   * @throws {MemguardError} TYPE, INVALID, RANGE.
   */
  registerObjectCounter(key: string): void;
  /**
   * @param delta a whole number; negative when objects are released. Default 1.
   * @returns the value, never below 0.
   * @throws {MemguardError} NOT_FOUND for a key that is not registered.
   */
  incrementObjectCounter(key: string, delta?: number): number;
  /** @throws {MemguardError} NOT_FOUND. */
  resetObjectCounter(key: string): void;
  getObjectCounters(): Record<string, number>;

  /** Changes thresholds, all or none. @throws {MemguardError} */
  updateThresholds(changes: { [Key in keyof Thresholds]?: number | string }): void;
  /** Changes settings, all or none. @throws {MemguardError} */
  updateConfig(changes: ConfigMapping): void;
  /** Forgets history, peak, operations, values of counters and waiting events. */
  reset(): void;
  /** Ends it for good; of a ResourceManager: only stops sampling. */
  shutdown(): void;
  /** The same. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

// --- Buffers ------------------------------------------------------------------------

/**
 * Takes the items of a flush. What it leaves in the array when it throws or
 * rejects goes back to the front of the buffer.
 */
export type Sink<Item> = (items: Item[]) => unknown;

export interface BufferStats {
  /** ms since 1970. */
  createdTime: number;
  /** Longest length seen. */
  maxSizeReached: number;
  /** Flushes that took at least one item. */
  flushCount: number;
  flushedItems: number;
  /** Items it is meant to hold now. */
  currentSize: number;
  /** Length from which it should be flushed now. */
  flushAt: number;
}

/**
 * Buffers: arrays that the host appends to, with sizes that follow the memory
 * pressure. Works alone, with a pressure that the host names.
 */
export class BufferManager {
  /** @throws {MemguardError} of a bad configuration. */
  constructor(config?: ConfigMapping, options?: ConfigOptions);

  readonly config: ConfigMapping;
  readonly settings: Settings;
  defaultBufferSize: number;
  maxBufferSize: number;
  minBufferSize: number;
  autoResize: boolean;
  /** Arrays by name. */
  readonly activeBuffers: Record<string, unknown[]>;
  /** Statistics by name. */
  readonly bufferStats: Record<string, BufferStats>;

  /** As {@link ResourceManager.createBuffer}. */
  createBuffer<Item = any>(name: string, sink?: Sink<Item> | null): Item[];
  /**
   * @param memoryPressure 0 to 1; default: the present one.
   * @throws {MemguardError} TYPE, RANGE, NOT_FOUND, CLOSED.
   */
  shouldFlushBuffer(name: string, memoryPressure?: number): boolean;
  /** As {@link ResourceManager.flushBuffer}. */
  flushBuffer<Item = any>(name: string): Item[] | Promise<Item[]>;
  /**
   * Flushes a buffer to its sink and forgets it. Without a sink the items stay in
   * the array, which is the program's, and a warning says so.
   * @returns whether it is gone: false if there is no such buffer, or a flush
   * under way still needs it; a promise of that with an asynchronous sink.
   * @throws what the sink throws; then the buffer stays.
   */
  cleanupBuffer(name: string): boolean | Promise<boolean>;
  /** The same for all; failures of sinks are reported. Never rejects. */
  cleanupAllBuffers(): Promise<void>;
  /**
   * cleanupAllBuffers(), and the end of buffers that stand alone: later use
   * throws ERR_MEMGUARD_CLOSED. What has a sink is also flushed at exit.
   */
  close(): Promise<void>;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
  /** Changes settings, all or none. @throws {MemguardError} */
  updateConfig(changes: ConfigMapping): void;
}

// --- ResourceManager -------------------------------------------------------------------

/** Kinds of resources. */
export const ResourceType: Readonly<{
  MEMORY: 'memory';
  FILE_HANDLE: 'file_handle';
  TEMP_FILE: 'temp_file';
  BUFFER: 'buffer';
  NETWORK: 'network';
}>;
export type ResourceType = (typeof ResourceType)[keyof typeof ResourceType];

/** What {@link ResourceManager.getResourceStats} answers. */
export class ResourceStats {
  private constructor();
  /** Resident set now; null where the kernel does not tell. */
  readonly memoryUsageMb: number | null;
  readonly bufferCount: number;
  /** Open descriptors of the process; null where the kernel does not tell. */
  readonly fileHandles: number | null;
  /** Registered temporary files. */
  readonly tempFiles: number;
  readonly peakMemoryMb: number | null;
  /** Collections asked for. */
  readonly gcCollections: number;
  /** ms since 1970; 0: never. */
  readonly lastCleanupTime: number;
}

/** An object and the function that ends it, which runs exactly once. */
export class ManagedResource<Value> {
  private constructor();
  readonly value: Value;
  /**
   * Ends it, unless that has been done. A failure is reported, not thrown.
   * @returns a promise if the clean-up is asynchronous.
   */
  dispose(): void | Promise<void>;
  /** Where the runtime has Symbol.dispose: for `using`. */
  [Symbol.dispose](): void;
  /** Where the runtime has Symbol.asyncDispose: for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * A monitor, buffers and clean-up for one program. It samples in the background
 * from the start. It is kept alive until `cleanup()` or `close()`, and cleaned
 * up when the process exits (what is asynchronous is only begun then).
 */
export class ResourceManager {
  /** @throws {MemguardError} of a bad configuration. */
  constructor(config?: ConfigMapping, options?: ConfigOptions);

  readonly memoryMonitor: MemoryMonitor;
  readonly bufferManager: BufferManager;
  /** Collects at idle. Follows the setting memory.auto_tune, also when it is changed;
   *  stops with cleanup(). */
  readonly heapTuner: HeapTuner;
  /** Looks for leaks while the manager runs, unless leak.leak_detection is off. */
  readonly leakDetector: LeakDetector;
  /** A pool with the manager's settings, closed with it; made when first asked for.
   *  @throws {MemguardError} CLOSED. */
  readonly pool: MemoryPool;
  /** As memoryMonitor.segmentPath. */
  readonly segmentPath: string | null;
  /** The mapping given to the constructor. */
  readonly config: ConfigMapping;
  readonly settings: Settings;
  /** Paths of registered temporary files, oldest first. */
  readonly tempFiles: string[];
  /** Values of managed resources not ended yet, oldest first. */
  readonly managedResources: unknown[];
  readonly cleanupCallbacks: (() => unknown)[];
  readonly isClosed: boolean;

  /**
   * The array of buffer `name`, made if there is none. Append to it; it stays
   * the same array.
   * @param name 1 to 255 bytes.
   * @param sink gets the items of each flush; may return a promise. Above a
   * pressure of 0.9 every buffer that has one is flushed.
   * @throws {MemguardError} TYPE, INVALID, CONFLICT (it exists with another
   * sink), CLOSED.
   */
  createBuffer<Item = any>(name: string, sink?: Sink<Item> | null): Item[];
  /**
   * Whether the buffer is long enough to be flushed at the present pressure.
   * Below 80 ns; opens no file. Each monitoringInterval calls it checks the
   * memory and delivers waiting events.
   * @throws {MemguardError} TYPE, NOT_FOUND, CLOSED.
   */
  shouldFlushBuffer(name: string): boolean;
  /**
   * Takes all items out of the buffer.
   * @returns the items, without a sink; [] once a sink has them; a promise of []
   * while an asynchronous one works. It rejects with the sink's error, and may
   * be ignored. A flush during another one of the same buffer comes after it.
   * @throws what the sink throws; the items it left are back in the buffer.
   */
  flushBuffer<Item = any>(name: string): Item[] | Promise<Item[]>;

  /**
   * Has a file removed by clean-up. One already gone is no failure.
   * @throws {MemguardError} TYPE, INVALID (empty, too long), CLOSED.
   */
  registerTempFile(path: string | URL | Buffer): void;
  /**
   * Has `callback` run by clean-up: newest first, once. @throws {MemguardError} TYPE,
   * CLOSED.
   */
  registerCleanupCallback(callback: () => unknown): void;
  /**
   * Ties `cleanup(value)` to `value`: run by `dispose()` or by clean-up,
   * whichever comes first, once.
   * @throws {MemguardError} TYPE, CLOSED.
   */
  managedResource<Value>(value: Value, cleanup: (value: Value) => unknown): ManagedResource<Value>;
  /**
   * The same around `body`, which gets the value; disposed of when it returns,
   * throws or settles.
   * @returns what `body` returns; a promise if anything of it is asynchronous.
   */
  managedResource<Value, Result>(
    value: Value,
    cleanup: (value: Value) => unknown,
    body: (value: Value) => Result,
  ): Result;

  /** {@link registerCache} until clean-up, which unregisters it. @throws {MemguardError} */
  registerCache<Cache extends object>(cache: Cache, options?: CacheOptions<Cache>): Registration;

  /** As {@link MemoryMonitor.checkMemoryPressure}. */
  getMemoryPressure(): number;
  /** @throws {MemguardError} CLOSED. */
  getResourceStats(): ResourceStats;
  /** Changes settings, all or none. @throws {MemguardError} */
  updateConfig(changes: ConfigMapping): void;

  /**
   * Flushes buffers to their sinks, runs every clean-up newest first, forgets
   * both, stops sampling. Nothing runs twice. Items of a buffer without a sink
   * stay in the array and are warned of; a buffer whose sink fails stays. The
   * manager remains usable: its next use is warned of and starts sampling again.
   * All that is synchronous is done on return; with asynchronous sinks at work
   * the clean-ups wait for them.
   * @returns settles when all is done; never rejects.
   */
  cleanup(): Promise<void>;
  /** cleanup(), and every later use throws ERR_MEMGUARD_CLOSED. Idempotent. */
  close(): Promise<void>;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

// --- MemoryOptimizationService -----------------------------------------------------------------

/** What a strategy or a clean-up is called with. */
export interface OptimizationContext {
  readonly reason: OptimizationReason;
  readonly aggressive: boolean;
  /** Aborted when the time is up. */
  readonly signal: AbortSignal;
}
/** Gives memory back; may return a promise. What it returns does not matter. */
export type Strategy = (context: OptimizationContext) => unknown;

/**
 * A pool of connections. The first of the methods `trim`, `releaseIdle`, `closeIdle`
 * and `prune` that it has is called to give up what is idle.
 */
export interface ConnectionPool {
  /** Numbers by name: active, idle, ... What is no number is not looked at. */
  getStats(): object;
}

/** Memory at one moment, in numbers. */
export interface UsageSnapshot {
  timestamp: number;
  stats: MemoryStats;
  /** Of the nearest limit. */
  usage: number;
  domain: DomainName;
  level: LevelName;
  gc: { count: number; totalMs: number; maxMs: number };
  counters: Record<string, number>;
  connectionPool: Record<string, number> | null;
}

export interface ServiceStats {
  /** Between start() and stop(). */
  isRunning: boolean;
  isOptimizing: boolean;
  total: number;
  succeeded: number;
  failed: number;
  /** Not run, because of the degraded mode. */
  refused: number;
  /** 0 to 1; null before the first. So are the averages. */
  successRate: number | null;
  byReason: Record<OptimizationReason, number>;
  freedMemoryMB: number;
  averageFreedMemoryMB: number | null;
  averageDurationMs: number | null;
  maxDurationMs: number;
  failuresInRow: number;
  degraded: boolean;
  /** Until the next automatic one is tried; null unless degraded. */
  resumesInMs: number | null;
  /** `timestamp` of the last report. */
  lastOptimization: number | null;
  /** Names of registered strategies. */
  strategies: string[];
  cleanups: number;
  connectionPool: Record<string, number> | null;
  snapshots: number;
}

/** Settings by the names that queue services use. */
export interface OptimizationConfig {
  enabled: boolean;
  autoOptimization: boolean;
  /** Percent. */
  threshold: number;
  intervalMs: number;
  maxHeapSizeMB: number;
  maxRSSSizeMB: number;
}

export interface OptimizationHealth extends HealthReport {
  /** Optimizations failed repeatedly; `status` is a warning at least. */
  degraded: boolean;
}

export interface MemoryOptimizationEvents {
  'service:started': [{ config: OptimizationConfig }];
  'service:stopped': [];
  'optimization:started': [{ timestamp: number; reason: OptimizationReason; method: StrategyName }];
  'optimization:completed': [OptimizationReport];
  'optimization:failed': [OptimizationReport];
  'alert:memory-threshold': [ThresholdEvent];
  'alert:rapid-growth': [GrowthEvent];
  'alert:memory-leak': [LeakEvent & { level: 'warning' | 'critical' }];
}
type ServiceListener<Name extends keyof MemoryOptimizationEvents> = (...values: MemoryOptimizationEvents[Name]) => unknown;

/**
 * Optimizes when asked and, between start() and stop(), by itself: emergency at
 * critical, scheduled at `threshold` each gcInterval, preventive on rapid growth or
 * when the limit is near; not while memguard's own engine has just acted.
 *
 * What the host adds is isolated: a strategy that throws, rejects or does not end
 * within strategyTimeout stops nothing, the report and one process warning name it.
 * One still at work is not begun again. Synchronous code that never returns cannot
 * be interrupted in JavaScript. From inside a strategy do not await another
 * optimization: it would be this one.
 *
 * After three failures in a row nothing runs by itself for a minute, and what is
 * asked for as scheduled or preventive is refused, emergency too unless forced. Then
 * one is tried: a success ends that, a failure doubles the pause, up to an hour.
 */
export class MemoryOptimizationService extends EventEmitter {
  /**
   * @param options.monitor an existing monitor, which `config` then changes;
   * default: one of its own, from `config` and the other options.
   * @throws {MemguardError} of a bad configuration, TYPE.
   */
  constructor(config?: ConfigMapping, options?: ConfigOptions & { monitor?: MemoryMonitor });

  on<Name extends keyof MemoryOptimizationEvents>(name: Name, listener: ServiceListener<Name>): this;
  on(name: string | symbol, listener: (...values: any[]) => void): this;
  once<Name extends keyof MemoryOptimizationEvents>(name: Name, listener: ServiceListener<Name>): this;
  once(name: string | symbol, listener: (...values: any[]) => void): this;
  off<Name extends keyof MemoryOptimizationEvents>(name: Name, listener: ServiceListener<Name>): this;
  off(name: string | symbol, listener: (...values: any[]) => void): this;

  /** Starts monitoring, if it does not run, and automatic optimizations. @throws {MemguardError} CLOSED. */
  start(): void;
  /** Ends what start() began. @returns settles when none is under way. */
  stop(): Promise<void>;
  /** stop(), and the end; a monitor of its own is closed. Idempotent. */
  close(): Promise<void>;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;

  /**
   * Optimizes now: aggressive if asked for and in an emergency, preventive for that
   * reason, else standard. While one runs it is joined; with `force` the next one
   * begins when it has ended, shared by all who force meanwhile, also in the degraded
   * mode.
   * @returns the report. Never rejects for what goes wrong in it; only with INVALID
   * (reason), TYPE, UNKNOWN_KEY, CLOSED.
   */
  performOptimization(
    reason?: OptimizationReason,
    options?: { aggressive?: boolean; force?: boolean },
  ): Promise<OptimizationReport>;

  /**
   * Has `strategy` run in each optimization: before the built-in actions if
   * `priority` is above 0, the highest first, else after them. Default 0.
   * @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY, EXISTS.
   */
  registerStrategy(name: string, strategy: Strategy, options?: { priority?: number }): void;
  /** @returns whether there was one. */
  unregisterStrategy(name: string): boolean;
  /**
   * Has `callback` run to drop data that the host can do without, by standard and
   * aggressive optimizations, before garbage is collected. @throws {MemguardError} TYPE.
   */
  registerCleanup(callback: Strategy): void;
  /** @returns whether it was registered. */
  unregisterCleanup(callback: Strategy): boolean;
  /** The pool to trim with the clean-ups; null: none. @throws {MemguardError} TYPE. */
  setConnectionPool(pool: ConnectionPool | null | undefined): void;

  /** The newest 100 are kept. @throws {MemguardError} CLOSED. */
  createUsageSnapshot(): UsageSnapshot;
  /** The newest `count`, oldest first; default: all kept. */
  getUsageSnapshots(count?: number): UsageSnapshot[];
  /** The newest `count` of at most 100 reports, oldest first. */
  getOptimizationHistory(count?: number): OptimizationReport[];
  getServiceStats(): ServiceStats;
  healthCheck(): OptimizationHealth;
  getMemoryMonitor(): MemoryMonitor;
  getConfig(): OptimizationConfig;
  /**
   * Changes settings, all or none, by the names of {@link OptimizationConfig}, nested
   * in `memoryOptimization` or flat, or by any other. @throws {MemguardError}
   */
  updateConfig(changes: ConfigMapping): void;
}

/** What {@link QueueMemory} gives a queue manager. */
export interface QueueMemoryMethods {
  optimizeMemory(options?: {
    aggressive?: boolean;
    reason?: OptimizationReason;
    force?: boolean;
  }): Promise<OptimizationReport>;
  getMemoryStatus(): {
    enabled: boolean;
    current: MemoryStats;
    optimization: ServiceStats;
    health: OptimizationHealth;
    recommendations: string[];
  };
  getMemoryOptimizationHistory(count?: number): OptimizationReport[];
  createMemorySnapshot(): UsageSnapshot;
  updateMemoryOptimizationConfig(changes: ConfigMapping): void;
}

/**
 * The memory side of a queue manager over a service, which stays the host's to start
 * and close. Usable as it is, or given to an existing object.
 */
export class QueueMemory implements QueueMemoryMethods {
  /** @throws {MemguardError} TYPE. */
  constructor(service: MemoryOptimizationService);
  /**
   * Gives an object these methods and, if it has `emit`, the events `memory:alert`,
   * `memory:rapid-growth`, `memory:leak`, `memory:optimization:completed` and
   * `memory:optimization:failed`, with the payloads of the service's.
   * @throws {MemguardError} TYPE, CONFLICT (attached already), EXISTS (it has such a
   * method).
   */
  attach<Manager extends object>(manager: Manager): Manager & QueueMemoryMethods;
  /** Takes them back. */
  detach(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
  optimizeMemory: QueueMemoryMethods['optimizeMemory'];
  getMemoryStatus: QueueMemoryMethods['getMemoryStatus'];
  getMemoryOptimizationHistory: QueueMemoryMethods['getMemoryOptimizationHistory'];
  createMemorySnapshot: QueueMemoryMethods['createMemorySnapshot'];
  updateMemoryOptimizationConfig: QueueMemoryMethods['updateMemoryOptimizationConfig'];
}

// --- StageBase ------------------------------------------------------------------------------

/** Settings of a stage; those of its manager in one section. */
export interface StageConfig {
  resourceManager?: ConfigMapping | undefined;
  resource_manager?: ConfigMapping | undefined;
  [key: string]: unknown;
}

/** Base class of a stage that owns a ResourceManager. */
export class StageBase {
  /** @throws {MemguardError} of a bad configuration. */
  constructor(config?: StageConfig, options?: ConfigOptions);
  readonly config: StageConfig;
  readonly resourceManager: ResourceManager;
  /** Set by subclasses when they are ready. */
  _initialized: boolean;
  /** Makes the stage ready, also again after cleanup(). @returns true. */
  initialize(): boolean;
  /** For subclasses: ends what the stage itself opened; may return a promise. */
  _cleanupStageSpecific(): unknown;
  /**
   * Runs `_cleanupStageSpecific()` (a failure is reported), then the manager's
   * clean-up, then resets `_initialized`.
   */
  cleanup(): Promise<void>;
  /** cleanup(), and the end of the manager. Idempotent. */
  close(): Promise<void>;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

// --- Pools of buffers and objects -------------------------------------------------------------

/** The settings of section `pool`. */
export interface PoolSettings {
  /** false: each buffer is allocated plainly, with the same checks. Default true. */
  readonly poolEnabled: boolean;
  /** What a pool keeps, rented or idle, MB; beyond it buffers are allocated plainly. Default 1024. */
  readonly maxPoolMb: number;
  /** Idle buffers of one size kept at most while memory is short, MB: half of it at level high. Default 0.25. */
  readonly threadCacheMb: number;
  /** Idle buffers above 1 MB kept at most, MB. Default 64. */
  readonly hugeCacheMb: number;
  /** 0 disabled, 1 simple, 2 advanced, 3 paranoid; may be set by name. Default 1. */
  readonly leakCheck: number;
  /** Seconds after which a rental is suspected to be forgotten. Default 300. */
  readonly suspectAfter: number;
}

/**
 * A rented buffer. It ends with return(), by hand or by `using`; what it showed
 * belongs to the next one then. Never reused: a returned one stays returned.
 *
 * If it is collected without that, the pool tells of a certain leak. Its memory is
 * not used again while a view of it may be about, and freed with the last one.
 */
export class PooledBuffer {
  private constructor();
  /**
   * An ordinary Buffer of `length` bytes, writable, its contents not cleared. It
   * shares its ArrayBuffer with other rentals: never transfer that.
   * @throws {MemguardError} RETURNED; CONFLICT (the ArrayBuffer was transferred).
   */
  readonly buffer: Buffer;
  /** What was asked for, in bytes; 0 once returned. */
  readonly length: number;
  /** Bytes there are, at least `length`; 0 once returned. */
  readonly capacity: number;
  readonly returned: boolean;
  /** @throws {MemguardError} RETURNED: it was returned before, which is a finding, too. */
  return(): void;
  /** The same as return(). */
  release(): void;
  /** return(), unless that was done. */
  dispose(): void;
  /** Where the runtime has Symbol.dispose: for `using`. */
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Bytes written one after the other into memory of a pool, twice as much each time
 * it is full. Once disposed of, all but dispose() throws CLOSED.
 */
export class PooledBufferWriter {
  /** As pool.rentWriter(sizeHint, maxBytes). */
  constructor(pool: MemoryPool, sizeHint: number, maxBytes?: number);
  /** What was written: a view, good until the next getSpan(), write() or the end. */
  readonly written: Buffer;
  /** Bytes. */
  readonly writtenCount: number;
  /** Bytes there are before it grows. */
  readonly capacity: number;
  /**
   * The free space, to be filled from its start and told with advance(): at least
   * `sizeHint` bytes, at least one. A view, good until the next getSpan(), write() or the end.
   * @throws {MemguardError} RANGE: past `maxBytes`; TYPE; NO_MEMORY.
   */
  getSpan(sizeHint?: number): Buffer;
  /** So many bytes of the span were filled. @throws {MemguardError} RANGE: more than there are; TYPE. */
  advance(count: number): void;
  /** @returns the bytes written. @throws {MemguardError} RANGE: past `maxBytes`, nothing is written; TYPE; NO_MEMORY. */
  write(data: ArrayBufferView | ArrayBufferLike): number;
  /** Starts over in the same memory. */
  clear(): void;
  /** What was written, as a rental, without copying it; the writer is disposed of. */
  detach(): PooledBuffer;
  /** Returns the memory. Idempotent. */
  dispose(): void;
  /** The same as dispose(). */
  return(): void;
  /** The same as dispose(). */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An array for a batch of objects; return() empties it. Each rental is an array of its own. */
export class PooledArray<Item = any> extends Array<Item> {
  readonly returned: boolean;
  /** Empties it. @throws {MemguardError} RETURNED. */
  return(): void;
  /** The same as return(). */
  release(): void;
  /** return(), unless that was done. */
  dispose(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export type PoolTier = 'small' | 'medium' | 'large' | 'huge';

/** Rentals since the pool was opened. */
export interface PoolTierStats {
  rented: number;
  returned: number;
  /** Neither returned nor lost. */
  current: number;
  /** Their capacity. */
  currentBytes: number;
}

/** Statistics of a {@link MemoryPool}. */
export interface MemoryPoolStats extends PoolTierStats {
  /** Forgotten, as the collector found. */
  lost: number;
  /** The pool's own memory, rented or idle. */
  heldBytes: number;
  peakHeldBytes: number;
  /** Of it, cut into buffers that are idle. */
  idleBytes: number;
  /** Rentals that found an idle buffer. */
  cacheHits: number;
  /** Rentals that were allocated plainly. */
  plain: number;
  /** Freed so far. */
  givenBackBytes: number;
  /** Rentals that are watched, now. */
  sitesKept: number;
  /** As of the last suspects(), without those returned since. */
  suspected: number;
  /** Suspected, then returned after all. */
  withdrawn: number;
  doubleReturns: number;
  foreignReturns: number;
  writesAfterReturn: number;
  /** Findings that were not taken in time. */
  findingsLost: number;
  tiers: Record<PoolTier, PoolTierStats>;
}

/** Something wrong about rentals. The same at the same place with the same size is one. */
export interface PoolFinding {
  kind: 'lost' | 'suspected' | 'double_return' | 'foreign_return' | 'write_after_return';
  /** How often. */
  count: number;
  /** Where it was rented, "function (file:line:column)", innermost first; null: not noted, see leakCheck. */
  site: string[] | null;
  /** Bytes; null: not known. */
  capacity: number | null;
  /** Lost, suspected: since the rental, to one second. */
  ageMs: number;
}

/**
 * Buffers that are rented and returned instead of allocated, in the size classes of
 * {@link decide}.poolCapacity: 64 bytes to 1 MiB, larger ones in a cache capped by
 * bytes. A pool belongs to one thread (main or Worker); what it has ends with that.
 *
 * Idle memory goes back by itself: each second half of what nobody needed since the
 * last, 64 MB at most. While a monitor runs (a ResourceManager has one), pools keep
 * less at levels elevated and high and nothing at critical, when they allocate
 * plainly; normal ends that. No timer keeps the process alive.
 *
 * Mistakes: a return that is wrong throws. `leakCheck` simple watches one rental of
 * 128, and each from 512 KiB on: writing to it after its return is found, and where
 * it was rented is noted, once a millisecond at most. advanced also takes the memory
 * of one of 4000 away when it is returned: who kept its Buffer finds it empty.
 * paranoid watches and notes each. A forgotten rental is found at any level, when it
 * is collected, and logged once for each place.
 */
export class MemoryPool {
  /** @throws {MemguardError} of a bad configuration. */
  constructor(config?: ConfigMapping, options?: ConfigOptions);
  /**
   * A buffer of `bytes`, 1 to 2^40.
   * @throws {MemguardError} RANGE, TYPE (no whole number), NO_MEMORY, CLOSED.
   */
  rent(bytes: number): PooledBuffer;
  /** The same as rent(). */
  rentMemory(bytes: number): PooledBuffer;
  /** `count` buffers, or none if one cannot be had. @throws {MemguardError} as rent(). */
  rentMany(count: number, bytes: number): PooledBuffer[];
  /**
   * A writer with room for `sizeHint` bytes (default 256) that grows up to `maxBytes` (default 2^40).
   * @throws {MemguardError} as rent().
   */
  rentWriter(sizeHint?: number, maxBytes?: number): PooledBufferWriter;
  /** An empty array. @param capacity items expected, up to 2^30; V8 makes room as it grows. */
  rentArray<Item = any>(capacity?: number): PooledArray<Item>;
  /** buffer.return(), for a buffer of this pool. @throws {MemguardError} RETURNED, FOREIGN, TYPE. */
  return(buffer: PooledBuffer): void;
  /** @throws {MemguardError} CLOSED. */
  stats(): MemoryPoolStats;
  /** What was found wrong since the last call, oldest first; 64 are kept. @throws {MemguardError} CLOSED. */
  findings(): PoolFinding[];
  /** Rentals older than `suspectAfter`; none with leakCheck disabled. @throws {MemguardError} CLOSED. */
  suspects(): PoolFinding[];
  /**
   * Gives that share of the idle buffers up, longest idle first, as far as they fill
   * whole blocks. @param share 0 to 1; default 1. @returns bytes freed.
   * @throws {MemguardError} RANGE, TYPE, CLOSED.
   */
  trim(share?: number): number;
  /** Settings in force from now on, all or none. @throws {MemguardError} also CLOSED. */
  updateConfig(changes: ConfigMapping): void;
  readonly config: PoolSettings;
  /** Whether it pools; else it allocates plainly. */
  readonly enabled: boolean;
  readonly closed: boolean;
  /** Gives idle memory up. Rentals stay valid and may be returned. Idempotent. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The pool that a thread shares, with settings of the environment alone; opened anew after a close(). */
export function sharedPool(): MemoryPool;

// --- Text, messages and transports over pooled memory -----------------------------

/** Bytes that are only read: a rental counts as its `buffer`. */
export type ByteView = NodeJS.ArrayBufferView | ArrayBuffer | PooledBuffer;

/**
 * Text and base64 in rented memory; the caller returns what it gets. An empty
 * result is a rental of length 0. `pool` defaults to {@link sharedPool}.
 *
 * @throws ERR_MEMGUARD_ENCODING naming the position: what cannot be encoded, or is
 * not valid; ERR_MEMGUARD_TYPE for values of other types.
 */
export const encoding: Readonly<{
  /** UTF-8 of `text`; a lone surrogate is refused. */
  utf8Encode(text: string, pool?: MemoryPool): PooledBuffer;
  /** Strict: what is no UTF-8 is refused (Unicode standard, table 3-7). A BOM stays. */
  utf8Decode(view: ByteView): string;
  /** @returns bytes written. @throws ERR_MEMGUARD_RANGE if they do not fit: then
   *  nothing was written. */
  utf8EncodeInto(text: string, destination: ByteView): number;
  /** @returns bytes written; null if they do not fit: then nothing was written. */
  tryUtf8EncodeInto(text: string, destination: ByteView): number | null;
  /** RFC 4648, section 4, or 5 with `urlSafe`; padded. */
  base64Encode(data: ByteView, pool?: MemoryPool, urlSafe?: boolean): PooledBuffer;
  /** Strict: no white space, complete padding, no bits left over. `data` is text or
   *  its bytes. */
  base64Decode(data: string | ByteView, pool?: MemoryPool, urlSafe?: boolean): PooledBuffer;
}>;

/**
 * Values to bytes and back. Errors name types and positions, never values.
 *
 * @throws ERR_MEMGUARD_ENCODING for a value that cannot be serialized, and for bytes
 * that are not the format.
 */
export interface Serializer {
  readonly pool: MemoryPool;
  /** The caller's own Buffer. */
  serialize(value: unknown): Buffer;
  /** A rental of exactly the bytes; the caller returns it. */
  serializePooled(value: unknown): PooledBuffer;
  /** The same as serializePooled(). */
  serializeToMemory(value: unknown): PooledBuffer;
  /** Appends to `writer`. @returns bytes written. */
  serializeInto(value: unknown, writer: PooledBufferWriter): number;
  /** @returns bytes written to the start of `destination`; null if they do not fit:
   *  then nothing was written. */
  trySerialize(value: unknown, destination: ByteView): number | null;
  /** The bytes are not needed any more when it returns; for an exception see
   *  {@link serializers}. */
  deserialize<Value = unknown>(view: ByteView): Value;
  getPooledWriter(sizeHint?: number): PooledBufferWriter;
}

export const serializers: Readonly<{
  /** As JSON.stringify() and JSON.parse() have it, in UTF-8. */
  JsonSerializer: new (pool?: MemoryPool) => Serializer;
  /**
   * Plain MessagePack, by the package msgpackr, which the program installs.
   * `undefined` becomes nil, a Date a timestamp, a whole number beyond 32 bits a
   * float (exact to 2^53), a bigint an integer of 64 bits. With `copyBuffers` false
   * (default true) bytes inside a value are views of what was deserialized, to be
   * used only until that is returned.
   *
   * @throws ERR_MEMGUARD_ABSENT if msgpackr is not installed.
   */
  MessagePackSerializer: new (pool?: MemoryPool, options?: { copyBuffers?: boolean }) => Serializer;
}>;

/** Gets each message as a rental, which it returns; if it throws or rejects, that is
 *  done for it. While its promise is pending, later messages wait. */
export type MessageHandler = (message: PooledBuffer, topic: string) => unknown;

export interface TransportOptions {
  /** Seconds after which a connection counts as broken that does not answer, or
   *  cannot be made; above 0, default 5. */
  timeout?: number;
}

/** ERR_MEMGUARD_BROKEN: a connection broke, cannot be made or does not answer. What
 *  is neither confirmed nor unknown was not sent. The next call connects anew. */
export interface BrokenConnectionError<Sent = number> extends Error {
  readonly code: 'ERR_MEMGUARD_BROKEN';
  /** Acknowledged by the server: how many messages, in order, or ids of an outbox. */
  readonly confirmed: Sent;
  /** Sent and never answered. */
  readonly unknown: Sent;
}

/** A subscription, until close(). */
export interface Subscription {
  readonly topic: string;
  /** Messages handled so far. */
  readonly messages: number;
  /** Calls of the handler that failed; the first is reported as a process warning. */
  readonly failures: number;
  /** Redis: times the connection was lost and made anew; what was published in
   *  between is missed. */
  readonly gaps: number;
  /** NATS: messages that came while more than 128 waited for the handler. Redis is
   *  not read meanwhile. */
  readonly dropped: number;
  readonly closed: boolean;
  /** The handler is not called any more; waiting messages are returned. */
  close(): Promise<void>;
}

/**
 * Publishes bytes from where they are, and hands out what comes as rentals. What is
 * published must not change until the promise is settled. Open connections keep the
 * process alive until close().
 *
 * @throws {@link BrokenConnectionError}; ERR_MEMGUARD_RANGE for a topic that has no
 * or more than 16 384 bytes, for more than 10 000 messages, and for a message the
 * server does not take; ERR_MEMGUARD_INVALID for what the server refuses;
 * ERR_MEMGUARD_TYPE; ERR_MEMGUARD_CLOSED after close().
 */
export interface Transport {
  readonly pool: MemoryPool;
  publish(topic: string, view: ByteView): Promise<void>;
  /** With one wait. @returns how many. */
  publishBatch(topic: string, views: readonly ByteView[]): Promise<number>;
  /** From when the promise is fulfilled. */
  subscribe(topic: string, handler: MessageHandler): Promise<Subscription>;
  /** Ends subscriptions and connections, not the client that was given. */
  close(): Promise<void>;
}

/** What a client of ioredis says about its connection; nothing is sent over it. */
export interface RedisClient {
  readonly options: object;
  duplicate(): unknown;
}

/**
 * Messages kept in Redis until they are passed on: at least once, in order. Python's
 * outbox of the same name is the same outbox.
 *
 * @throws as {@link Transport}; `confirmed` and `unknown` are lists of ids.
 */
export interface RedisOutbox {
  readonly name: string;
  /** @returns its id. */
  put(topic: string, view: ByteView): Promise<number>;
  /** All or none; up to 10 000. @returns their ids, rising. */
  putBatch(messages: ReadonlyArray<readonly [topic: string, view: ByteView]>): Promise<number[]>;
  /** Calls `publish` for the oldest messages, up to `limit` (1 to 10 000, default
   *  100), one after the other, and removes those it did not fail for; the view ends
   *  with the call. @returns how many. @throws what `publish` does, too. */
  relay(publish: (topic: string, view: Buffer) => unknown, limit?: number): Promise<number>;
  /** How many wait. */
  pending(): Promise<number>;
  close(): Promise<void>;
}

export const transports: Readonly<{
  /** Redis 5 or later, publish/subscribe. `target` is redis[s]://[[user]:password@]
   *  host[:port][/db], unix:/path, or a client of ioredis of one server, whose
   *  settings are used for two connections. Subscriptions survive a broken one. */
  RedisTransport: new (target: string | RedisClient, pool?: MemoryPool, options?: TransportOptions) => Transport;
  /** `name` has 1 to 200 characters. */
  RedisOutbox: new (
    target: string | RedisClient,
    name: string,
    pool?: MemoryPool,
    options?: TransportOptions,
  ) => RedisOutbox;
  /** NATS, by the package @nats-io/transport-node, which the program installs, or with
   *  a connection of it. Topics are subjects, without white space; subscriptions
   *  may have wildcards. NATS acknowledges a batch as a whole. */
  NatsTransport: new (target: string | object, pool?: MemoryPool, options?: TransportOptions) => Transport;
}>;

/**
 * Objects that are costly to make, rented and returned. Gives up idle ones under
 * memory pressure. What comes back twice or was never rented is refused.
 */
export class ObjectPool<Item extends object = any> {
  /**
   * `reset(item)` is called when one comes back; if it fails that is reported and the
   * item let go. `maxSize` idle ones at most are kept; default 64.
   * @throws {MemguardError} TYPE, RANGE.
   */
  constructor(
    factory: () => Item,
    options?: {
      reset?: ((item: Item) => unknown) | null | undefined;
      maxSize?: number | undefined;
      name?: string | undefined;
    },
  );
  /** An idle object, or a new one. @throws {MemguardError} CLOSED, TYPE (no new object); what `factory` throws. */
  rent(): Item;
  /** @throws {MemguardError} RETURNED, FOREIGN. */
  return(item: Item): void;
  /** rent(), to be returned by dispose() or `using`; value throws RETURNED then. */
  borrow(): { readonly value: Item; dispose(): void; [Symbol.dispose](): void; [Symbol.asyncDispose](): Promise<void> };
  /** rent(), `body(item)`, return() when it returns, throws or settles. */
  borrow<Result>(body: (item: Item) => Result): Result;
  /** Lets go of that share of the idle objects. @param share 0 to 1; default 1. @returns how many. */
  trim(share?: number): number;
  stats(): {
    rented: number;
    returned: number;
    /** Collected without a return. */
    lost: number;
    /** Out now. */
    current: number;
    idle: number;
    max: number;
    created: number;
    dropped: number;
    doubleReturns: number;
    foreignReturns: number;
  };
  /** For poolStats(). */
  getStats(): { active: number; idle: number };
  readonly closed: boolean;
  /** Lets go of the idle objects; rent() throws from now on. Idempotent. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

// --- Caches and pools ------------------------------------------------------------------------

/** What a cache holds, by its kind. */
export type CacheKey<Cache> = Cache extends ReadonlyMap<infer Key, unknown>
  ? Key
  : Cache extends ReadonlySet<infer Member>
    ? Member
    : any;
export type CacheValue<Cache> = Cache extends ReadonlyMap<unknown, infer Value>
  ? Value
  : Cache extends ReadonlySet<infer Member>
    ? Member
    : any;

export interface CacheOptions<Cache> {
  /** For statistics and warnings. Default: the name of its class or function. */
  name?: string | null | undefined;
  /** Entries that stay whatever the pressure. Default 0. What shrinks itself is left
   * alone while it holds no more. */
  minEntries?: number | undefined;
  /** Entries of an object with `shrink(share)`, where `size` does not tell. */
  sizeOf?: ((cache: Cache) => number) | null | undefined;
  /** Called for each entry taken out. Not for what shrinks itself. */
  onEvict?: ((key: CacheKey<Cache>, value: CacheValue<Cache>) => unknown) | null | undefined;
}

/** Statistics of a registered cache. */
export interface CacheStats {
  name: string;
  /** Now; null if unknown. */
  entries: number | null;
  /** Calls that took something out. */
  shrinks: number;
  /** Entries taken out. */
  dropped: number;
  failures: number;
}

/** Statistics of a registered pool. */
export interface PoolStats {
  name: string;
  /** Null if the pool has no `getStats()` that tells. */
  active: number | null;
  idle: number | null;
  shrinks: number;
  /** Members given up. */
  dropped: number;
  failures: number;
}

/** What {@link registerCache} and {@link registerPool} return. The registration lasts without it, too. */
export interface Registration {
  readonly name: string;
  readonly isPool: boolean;
  /** Ends it, and lets the cache go. Idempotent. */
  unregister(): void;
  getStats(): CacheStats | PoolStats;
  [Symbol.dispose](): void;
}

/**
 * Has a cache give up entries under memory pressure: a quarter of them at level
 * elevated, half at high, all at critical, down to `minEntries`.
 *
 * What goes first: of a `Map`, a `Set` and a plain object the oldest insertion; of
 * an `lru-cache` what its `pop()` evicts, or with `onEvict` the same entry by
 * `delete()`; an object with `shrink(share)`, or a function, is called with the
 * share, 0 to 1, and returns how many entries it dropped, or a promise of that, or
 * nothing. One call works for 50 ms at most, the next goes on. A plain object is
 * listed at once: some 500 ms for a million keys, so make it a `Map`.
 *
 * The cache is held weakly and leaves by itself when it is collected. A function is
 * held until unregister(). `onEvict` holds what it closes over.
 * @throws {MemguardError} TYPE, RANGE, INVALID (an option that cannot work), EXISTS.
 */
export function registerCache<Cache extends object>(cache: Cache, options?: CacheOptions<Cache>): Registration;

/**
 * Has a pool give up idle members under memory pressure, after the caches.
 * `trim(share)`, called on the pool, or else its method of that name gives up that
 * share of what is idle, 0 to 1, and returns how many, or a promise of that, or
 * nothing. If the pool has a `getStats()` with `active` and `idle`, statistics show
 * them. {@link ManagedConnectionPool} and {@link ReusePool} register themselves.
 * Held weakly.
 * @throws {MemguardError} TYPE, EXISTS.
 */
export function registerPool<Pool extends object>(
  pool: Pool,
  options?: { trim?: ((this: Pool, share: number) => unknown) | null | undefined; name?: string | null | undefined },
): Registration;

/** Statistics of each registered cache, oldest registration first. */
export function cacheStats(): CacheStats[];
/** Statistics of each registered pool, oldest registration first. */
export function poolStats(): PoolStats[];

export interface ConnectionPoolOptions<Connection> {
  /** Idle, in use and being made together. Default 10. */
  maxConnections?: number | undefined;
  /** Default: `close()`, `end()` or `destroy()` of the connection, whichever it has. */
  close?: ((connection: Connection) => unknown) | undefined;
  /** Default: whether `destroyed` or `closed` is true. Answers at once. */
  isClosed?: ((connection: Connection) => boolean) | undefined;
  /** Seconds after which an idle connection is closed. Default 300. */
  idleTimeout?: number | undefined;
  /** For statistics and warnings. */
  name?: string | undefined;
}

/**
 * At most `maxConnections`, made by `factory()`, which may return a promise, when
 * none is idle. Has no timer: stale connections are removed when it is used, by
 * `prune()` and under memory pressure, when idle ones are closed as well. A `close`
 * or `isClosed` that fails is reported, and the connection is gone.
 */
export class ManagedConnectionPool<Connection extends object = any> {
  /** @throws {MemguardError} TYPE, RANGE. */
  constructor(factory: () => Connection | Promise<Connection>, options?: ConnectionPoolOptions<Connection>);
  /**
   * A connection, the one used last if some are idle. Waits, first come first
   * served, for `timeout` seconds; without one for as long as it takes.
   * @throws {MemguardError} TIMEOUT, CLOSED (also if closed meanwhile), TYPE, RANGE;
   * and what `factory` throws: others that wait go on.
   */
  acquire(options?: { timeout?: number | null | undefined }): Promise<Connection>;
  /**
   * Takes a connection back: for whoever waits longest, else it is idle. One that is
   * closed, or to be discarded, is removed.
   * @throws {MemguardError} CONFLICT (released twice), NOT_FOUND (not of this pool).
   */
  release(connection: Connection, options?: { discard?: boolean | undefined }): void;
  /** acquire(), `body(connection)`, release(), whatever happens. */
  connection<Result>(
    body: (connection: Connection) => Result | Promise<Result>,
    options?: { timeout?: number | null | undefined },
  ): Promise<Result>;
  /** Removes idle connections that are closed or idle for too long. @returns how many. */
  prune(): number;
  /**
   * prune(), and closes that share of the other idle ones, longest idle first; what
   * is asynchronous of it goes on. @param share 0 to 1; default 1. @returns how many are gone.
   */
  trim(share?: number): number;
  getStats(): {
    /** Also those being made. */
    active: number;
    idle: number;
    waiting: number;
    max: number;
    created: number;
    /** By the pool or found closed. */
    closed: number;
    timedOut: number;
    /** Of factory, close and isClosed. */
    failures: number;
  };
  readonly isClosed: boolean;
  /**
   * Closes idle connections, ends all waiting with CLOSED; those in use are closed
   * when they come back. Idempotent.
   * @returns settles when what is being closed is; never rejects.
   */
  close(): Promise<void>;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Objects that are costly to make, used again. Gives up idle ones under memory
 * pressure. What acquire() hands out is the program's: one that does not come back
 * is no leak of the pool.
 */
export class ReusePool<Item = any> {
  /**
   * `reset(item)` is called when one comes back; if it fails that is reported and the
   * item let go. `maxSize` idle ones at most are kept; default 64.
   * @throws {MemguardError} TYPE, RANGE.
   */
  constructor(
    factory: () => Item,
    options?: {
      reset?: ((item: Item) => unknown) | null | undefined;
      maxSize?: number | undefined;
      name?: string | undefined;
    },
  );
  /** An idle object, or a new one. @throws {MemguardError} CLOSED; what `factory` throws. */
  acquire(): Item;
  /** @throws {MemguardError} CONFLICT: it is idle already. */
  release(item: Item): void;
  /** acquire(), `body(item)`, release() when it returns, throws or settles. */
  using<Result>(body: (item: Item) => Result): Result;
  /** Lets go of that share of the idle objects. @param share 0 to 1; default 1. @returns how many. */
  trim(share?: number): number;
  getStats(): {
    /** Out, also those that will not come back. */
    active: number;
    idle: number;
    max: number;
    created: number;
    acquired: number;
    released: number;
    dropped: number;
  };
  /** Lets go of the idle objects; acquire() throws from now on. Idempotent. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A part of a key: text, a number, a date, or a short list or mapping of those. */
export type KeyPart =
  | string
  | number
  | bigint
  | boolean
  | Date
  | null
  | undefined
  | readonly KeyPart[]
  | { readonly [name: string]: KeyPart };

/**
 * Computed values by keys of stable metadata, least recently used out first. A key
 * says what was computed and never holds the data it was computed from: the time of
 * the last candle stands for that. Gives up entries under memory pressure.
 */
export class IndicatorCache<Value = any> {
  /** `maxEntries`: default 1000. @throws {MemguardError} TYPE, RANGE. */
  constructor(options?: { maxEntries?: number | undefined; name?: string | undefined });
  /**
   * A key; the order of named parameters does not count.
   * @throws {MemguardError} TYPE for anything that is data (an array of more than 64
   * values, a typed array, an object of a class), INVALID for NaN; both name the part.
   */
  static makeKey(
    symbol: KeyPart,
    timeframe: KeyPart,
    indicator: KeyPart,
    params?: KeyPart,
    candleTime?: KeyPart,
  ): string;
  /**
   * The value of `key`, or else what `compute()` returns, which is kept. A promise is
   * kept as it is, so that calls meanwhile share it, and forgotten if it rejects.
   * @throws {MemguardError} TYPE; what `compute` throws.
   */
  getOrCompute<Computed extends Value>(key: string, compute: () => Computed): Computed;
  has(key: string): boolean;
  readonly size: number;
  /** Forgets all entries. */
  clear(): void;
  getStats(): {
    entries: number;
    maxEntries: number;
    hits: number;
    misses: number;
    /** 0 to 1. */
    hitRatio: number;
    /** Because it was full. */
    evicted: number;
    /** Under pressure. */
    dropped: number;
  };
}

/** The newest `maxCandles` rows of numbers, by column, in memory taken once. */
export class RingBuffer<Column extends string = 'time' | 'open' | 'high' | 'low' | 'close' | 'volume'> {
  /**
   * `maxCandles`: default 200. `columns`: default time, open, high, low, close, volume.
   * @throws {MemguardError} TYPE, RANGE, INVALID.
   */
  constructor(options?: { maxCandles?: number | undefined; columns?: readonly Column[] | undefined });
  readonly columns: Column[];
  readonly maxCandles: number;
  /** Rows there are. */
  readonly length: number;
  /**
   * Adds a row, a number for each column; drops the oldest if it is full. Allocates
   * nothing. @throws {MemguardError} INVALID (too few, too many), TYPE; then nothing
   * has changed.
   */
  append(...values: number[]): void;
  /**
   * The newest `n` numbers of a column, oldest of them first; all there are without
   * `n`. A view without a copy: the next append() leaves it as it is, later ones
   * overwrite it from its old end. Not to be written to.
   * @throws {MemguardError} INVALID (no such column), TYPE, RANGE.
   */
  column(name: Column, n?: number | null): Float64Array;
  /** column() of each column, by name. */
  latest(n?: number | null): Record<Column, Float64Array>;
  /** Forgets all rows. */
  clear(): void;
}

// --- Metrics -------------------------------------------------------------------------------------

/** One time series at this moment. */
export interface MetricSample {
  /** pid, program and runtime of the process come first. */
  labels: Record<string, string>;
  /** In the metric's unit; of a histogram the sum of what was observed. */
  value: number;
  /** Of a histogram: upper bound in the metric's unit, Infinity at last, and how many
   *  observations were not above it; the last count is that of all. Else null. */
  buckets: { le: number; count: number }[] | null;
}

/** Samples of one name. */
export interface Metric {
  name: string;
  type: 'gauge' | 'counter' | 'histogram';
  /** "bytes", "seconds", "ratio", "ns" or "". */
  unit: string;
  help: string;
  samples: MetricSample[];
}

export interface MetricsOptions {
  /** Also the names that do not start with `memguard_`: true. */
  compatible?: boolean;
}

/** Metrics of this process in Prometheus' text format 0.0.4, or OpenMetrics 1.0.0. The
 *  numbers are those of the latest sample, collections those of this moment; what is
 *  not known is left out. While no monitor runs there is what the last one showed, or
 *  what the system tells of the process. Some 50 µs. Throws ERR_MEMGUARD_TYPE. */
export function metricsText(options?: MetricsOptions & { openMetrics?: boolean }): string;

/** The same as objects, in the order of the text: for bridges to other libraries. */
export function collectMetrics(options?: MetricsOptions): Metric[];

// --- The process ---------------------------------------------------------------------------------

/** Resident set of this process now, in bytes; NaN without /proc. About 1 µs. */
export function rssBytes(): number;

/** A wide reading of the process and the machine; null: not known here. */
export interface ProcessInfo {
  rssPeakBytes: number | null;
  rssAnonymousBytes: number | null;
  rssFileBytes: number | null;
  rssSharedBytes: number | null;
  swapBytes: number | null;
  lockedBytes: number | null;
  majorFaults: number | null;
  minorFaults: number | null;
  threads: number | null;
  cpuMs: number | null;
  machineTotalBytes: number | null;
  machineAvailableBytes: number | null;
  machineCachedBytes: number | null;
  machineSwapTotalBytes: number | null;
  machineSwapFreeBytes: number | null;
}

/** Some 100 µs. @throws {MemguardError} ABSENT (no usable libproc2), SYSTEM. */
export function processInfo(): ProcessInfo;

/** What this runtime has of what memguard can use. */
export interface Capabilities {
  /** Version of Node. */
  readonly node: string;
  /** Node 20 or later. On 16 and 18 it loads and works without guarantee. */
  readonly supported: boolean;
  readonly gcHooks: 'native' | 'observer' | 'none';
  readonly symbolDispose: boolean;
  readonly symbolAsyncDispose: boolean;
  readonly queryObjects: boolean;
  readonly arrayBufferTransfer: boolean;
}
export const capabilities: Capabilities;

// --- Decisions --------------------------------------------------------------------------------------

/** A reading: fields of {@link Sample} from `rssBytes` on; missing: absent. */
export type Reading = { [field: string]: number | null | undefined };

/** The core's decisions as plain functions, for tests and simulations. */
export type ActionName = 'caches' | 'pools' | 'trim' | 'young' | 'full' | 'release' | 'shed';

export type ReasonName =
  | 'none'
  | 'bytes'
  | 'water_mark'
  | 'forecast'
  | 'forced'
  | 'unreclaimable'
  | 'manual'
  | 'idle';

/** What is known when a policy is asked. */
export interface PolicyView {
  /** Of any clock that does not jump. */
  nowMs: number;
  /** Ratio of use to the nearest limit. */
  usage: number;
  level: LevelName;
  limitBytes?: number | null;
  /** Large blocks: growth since the last full collection, where it is counted. */
  grownBytes?: number | null;
  /** What can be done; all if missing. */
  available?: Iterable<ActionName>;
}

export interface PolicyDecision {
  /** "none": nothing now. */
  action: ActionName | 'none';
  reason: ReasonName;
  /** The level that is acted at, forecast included. */
  level: LevelName;
  /** Which share of caches and pools to give up, 0 to 1. */
  share: number;
  beginsRound: boolean;
  endedRound: boolean;
}

/** How an action went, as measured. What is missing is not known. */
export interface PolicyOutcome {
  /** false: it could not be done now. */
  wasDone?: boolean;
  tookMs?: number | null;
  /** Part of it spent collecting. */
  gcMs?: number | null;
  freedBytes?: number | null;
  /** In use before, in the same measure. */
  usedBytes?: number | null;
  usageAfter?: number | null;
}

/** What is known when an optimizer is asked. */
export interface OptimizerView {
  /** Of any clock that does not jump. */
  nowMs: number;
  usage: number;
  level: LevelName;
  /** Rapidly, as `trend:rapid-growth` says. */
  isGrowing?: boolean;
  /** Below 0: not growing, or unknown. */
  timeToLimitMs?: number;
  /** How long ago the engine acted; below 0: never. */
  engineActedMs?: number;
}

/** Memory in use; null: not known. */
export interface Measure {
  rssBytes: number | null;
  heapBytes: number | null;
}

/** Where a limit comes from, and how much of it is V8's. */
export interface AdviceOptions {
  /** The memory limit, at least 1. Unless given: the nearest of the control group's
   *  limit, the machine's memory and, with a monitor, its max_memory_mb. */
  limitBytes?: number | null;
  /** Part of it for what is not V8's heap (buffers, code, stacks, libraries): 0 to
   *  0.9, by default 0.25. */
  headroom?: number;
  /** Whose readings and max_memory_mb count. */
  monitor?: MemoryMonitor;
}

/** What to start a program with; sizes in MB (1048576 bytes). */
export interface NodeOptionsAdvice {
  /** null: unknown. */
  limitBytes: number | null;
  /** null: to be left to V8, since the limit is unknown. */
  maxOldSpaceSizeMb: number | null;
  maxSemiSpaceSizeMb: number;
  /** For the environment variable NODE_OPTIONS. */
  nodeOptions: string;
  /** Why, in words. */
  reasons: string[];
}

/**
 * How large V8's spaces should be under the memory limit: V8 takes these sizes only
 * when it starts. V8's part is the limit without the headroom; the semi space is a
 * twelfth of it as a power of two, 1 to 16 MB (so 16 MB from a limit of 256 MiB on);
 * the old space is the rest without three semi spaces, 16 to 4096 MB. Source: V8's
 * division of its heap, and measured pauses and throughput on Node 20.
 * @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY, CLOSED (the monitor).
 */
export function adviseNodeOptions(options?: AdviceOptions): NodeOptionsAdvice;

/**
 * The same for `new Worker(file, { resourceLimits })`.
 * @param options.share of V8's part that the Worker may use: above 0, to 1, by
 * default 0.25. The sum over all Workers and the main thread should not exceed 1.
 * @returns sizes in MB; no old generation if the limit is unknown.
 * @throws {MemguardError} as adviseNodeOptions().
 */
export function adviseWorker(
  options?: AdviceOptions & { share?: number },
): { maxYoungGenerationSizeMb: number; maxOldGenerationSizeMb?: number };

/* ---- BullMQ -------------------------------------------------------------------- */

/** What can be guarded: a Worker of BullMQ, a queue of fastq. */
export interface PausableWorker {
  /** `true`: jobs at work are not waited for. */
  pause(doNotWaitActive?: boolean): unknown;
  resume(): unknown;
}

export interface WorkerGuardOptions {
  /** Pressure, 0 to 1, from which workers pause; default: pressureThreshold of the
   *  service's monitor, below which nothing is heard of. */
  pauseAt?: number;
  /** Pressure at which they resume; default 0.9 of pauseAt. */
  resumeAt?: number;
  /** Seconds; default 2. */
  longestPause?: number;
}

/**
 * Has workers pause while memory is tight: no new jobs, those at work go on; the
 * service optimizes (reason "scheduled"), and they resume when pressure is at resumeAt
 * or does not fall any more. Below a pressure of 0.95 pauses take 1 % of the time at
 * most, so that few jobs are delayed. After a pause that brought less than 0.04 of pressure the
 * next comes when it has grown by as much, or ten longest pauses later. The service and
 * the workers stay the program's to close.
 * @event paused { pressure }
 * @event resumed { pressure, durationMs }
 */
export class WorkerGuard extends EventEmitter {
  private constructor();
  /** @throws {MemguardError} TYPE, CLOSED. */
  add(worker: PausableWorker): void;
  /** It is resumed if it was paused. @returns whether it was guarded. */
  remove(worker: PausableWorker): boolean;
  readonly isPaused: boolean;
  /** Counts since the start, times in ms. */
  getStats(): {
    pauses: number;
    /** Of them, those that brought less than 0.04. */
    inVain: number;
    pausedMs: number;
    longestPauseMs: number;
    workers: number;
    isPaused: boolean;
  };
  /** Resumes what is paused. Idempotent. */
  close(): Promise<void>;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** BullMQ is not loaded by it. */
export const bullmq: {
  WorkerGuard: typeof WorkerGuard;
  /** @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY. */
  guardWorkers(
    workers: PausableWorker | PausableWorker[],
    service: MemoryOptimizationService,
    options?: WorkerGuardOptions,
  ): WorkerGuard;
  /**
   * Options of a BullMQ Worker whose processor is a file. A child process runs under
   * memguard from its start, with `share` (above 0, to 1; default 0.25) of the memory
   * limit as its max_memory_mb, and V8's options for that; a worker thread is watched
   * as a part of this process and gets resourceLimits.
   * @param options.env environment of the child; default process.env.
   * @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY.
   */
  workerOptions(options?: {
    env?: Record<string, string | undefined>;
    limitBytes?: number | null;
    monitor?: MemoryMonitor;
    share?: number;
    useWorkerThreads?: boolean;
  }): {
    useWorkerThreads: boolean;
    workerForkOptions?: { env: Record<string, string | undefined> };
    workerThreadsOptions?: {
      resourceLimits: { maxYoungGenerationSizeMb: number; maxOldGenerationSizeMb?: number };
      env: Record<string, string | undefined>;
      /** Present, so that a Worker takes over what it may of this process's flags. */
      execArgv: undefined;
    };
  };
};

/* ---- leaks --------------------------------------------------------------------- */

export type LeakTier = 'none' | 'suspect' | 'likely' | 'confirmed' | 'critical';
export type LeakSeverity = 'low' | 'medium' | 'high';
export type CulpritKind = 'type' | 'site' | 'fd' | 'mapping' | 'rental' | 'counter';

/**
 * Who grew. Names only: of a type ("Order", "entries of Map", "listeners of Socket
 * 'data'", "active Timeout"), of a place ("function file:line"), of what a descriptor
 * is open on ("socket tcp 127.0.0.1:6379"). Names of events that are not Node's own
 * are told as "(other)".
 */
export class LeakCulprit {
  private constructor();
  readonly kind: CulpritKind;
  readonly name: string;
  /** By how many it grew while it was watched; of a site: by how many bytes. */
  readonly growth: number;
  /** null: only the number is known. V8 does not tell the size of its objects. */
  readonly growthBytes: number | null;
  /** Part of all that grew, 0 to 1. */
  readonly share: number;
  /** How many there are now; null: not known. */
  readonly count: number | null;
}

/** One signal that grows without end. Frozen. */
export class LeakFinding {
  private constructor();
  /** heap, native, rss, fds, fd_sockets, fd_pipes, fd_files, fd_others, threads, mappings, connections, rentals,
   *  handles, code (of the heap, what is compiled code: that is not in heap), counter:KEY; of findLeaks() also external. */
  readonly signal: string;
  readonly tier: LeakTier;
  readonly severity: LeakSeverity;
  /** Since it began, in `unit`; with `calls` in one batch of them. */
  readonly growth: number;
  /** In `unit`. */
  readonly growthPerMinute: number;
  readonly unit: 'bytes' | 'count';
  /** Until the limit is reached at this rate; null: no limit is known. */
  readonly timeToLimitSeconds: number | null;
  /** When it was first suspected, ms since 1970. */
  readonly since: number;
  /** The likeliest first; empty until somebody was found. */
  readonly culprits: readonly LeakCulprit[];
  /** Commands to run next, as they are. */
  readonly advice: readonly string[];
  /** Calls that made it grow, where they were counted; null otherwise. */
  readonly calls: number | null;
  /** What could not be told of it, and why: types, sites, handles, fds. */
  readonly absent: Readonly<Record<string, string>>;
  /** A row for a report in JSON: type, growth_rate, and all fields. */
  asDict(): Record<string, unknown>;
  toString(): string;
}

/** Calls of a function leak. `code` is ERR_MEMGUARD_LEAK. */
export class MemoryLeakDetected extends Error {
  constructor(text: string, findings?: readonly LeakFinding[]);
  readonly code: 'ERR_MEMGUARD_LEAK';
  readonly findings: readonly LeakFinding[];
}

export interface LeakDetectorEvents {
  /** Worth a look; no alarm yet. */
  'leak:suspected': [LeakFinding];
  /** Likely or confirmed; again each time the tier changes. */
  'leak:warning': [LeakFinding];
  /** The limit is near in time, or it is confirmed and grows fast. */
  'leak:critical': [LeakFinding];
  /** The growth stopped. */
  'leak:withdrawn': [LeakFinding];
  'fd:warning': [DescriptorEvent];
}

/** What a {@link LeakDetector} did; null: not known. */
export interface LeakDetectorStats {
  samples: number | null;
  /** Full collections told. */
  collections: number;
  /** Wide readings, each with a judgement. */
  wide: number | null;
  findings: number | null;
  withdrawn: number | null;
  alarms: number | null;
  privateBytes: number | null;
  nativeBytes: number | null;
  sockets: number | null;
  pipes: number | null;
  files: number | null;
  others: number | null;
  mappings: number | null;
  /** What the last wide reading took. */
  wideMs: number | null;
  wideEveryMs: number | null;
  fdGrowthPerMinute: number | null;
  censuses: number;
  /** Of them those that counted objects. */
  objectCensuses: number;
  /** Time that the program stood still for censuses. */
  censusMs: number;
  /** Windows of the heap profiler. */
  windows: number;
  /** Time that the program stood still for them. */
  windowMs: number;
  /** Full collections asked for by it, and the time they took. */
  forcedCollections: number;
  collectMs: number;
  /** The longest that the program stood still for any of the three. */
  longestPauseMs: number;
}

/**
 * Looks for leaks while a program runs: in the live heap after full collections, native
 * memory, descriptors, threads, handles, object counters and rentals. One detector per
 * monitor. A ResourceManager has one that runs with it.
 *
 * While something is suspected, and only then, it has V8's sampling heap profiler on for
 * some seconds or minutes, which costs 0 to 7 %, with two full collections each time, and
 * counts all objects by type: a stop of 10 to 30 ms per MB of live heap, during which V8
 * takes up to 150 bytes more for each object. So:
 * - while a leak is no more than suspected, neither is done that would take longer than
 *   leak.leak_collect (0.1 s), going by the last time: in a heap of up to some 5 MB;
 * - once it is likely, objects are counted twice, however long it takes, the base and
 *   some time later; and never again until it is over;
 * - never in a heap above `censusHeapMb`, nor where less than four times the heap is left
 *   of the limit.
 * Both need the inspector: not while a debugger has the process, nor under Node's
 * permission model. What is missing is told in `absent` of a finding; what it all took,
 * in stats(). Objects without a prototype are not seen.
 *
 * Culprits are told with the places that allocate and the types of the program first,
 * what every program is made of (Object, Array, entries of Map) last, and only those
 * with at least 5 % of what grew.
 *
 * Events come on the event loop; nothing of it keeps the process alive.
 */
export class LeakDetector extends EventEmitter {
  /**
   * @param config as for MemoryMonitor; settings for `options.monitor` if that is given.
   * @param options.monitor which monitor to join; none: one of its own.
   * @param options.censusHeapMb 0: objects are never counted. Default 64.
   * @throws {MemguardError} EXISTS (the monitor has one), TYPE, RANGE, of a bad configuration.
   */
  constructor(config?: ConfigMapping, options?: ConfigOptions & { monitor?: MemoryMonitor; censusHeapMb?: number });
  on<Name extends keyof LeakDetectorEvents>(name: Name, listener: (...values: LeakDetectorEvents[Name]) => unknown): this;
  on(name: string | symbol, listener: (...values: any[]) => void): this;
  once<Name extends keyof LeakDetectorEvents>(name: Name, listener: (...values: LeakDetectorEvents[Name]) => unknown): this;
  once(name: string | symbol, listener: (...values: any[]) => void): this;
  /** Begins anew, and starts the monitor if it does not run. @throws {MemguardError} CLOSED. */
  start(): void;
  /** What was found stays readable. */
  stop(): void;
  /** Idempotent. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
  readonly isRunning: boolean;
  readonly isClosed: boolean;
  readonly monitor: MemoryMonitor;
  /** What grows now, oldest first. @throws {MemguardError} CLOSED. */
  readonly findings: LeakFinding[];
  /** Reads and judges now, instead of when it is due (some ms). @throws {MemguardError} CLOSED. */
  check(): LeakFinding[];
  /** For people. @throws {MemguardError} CLOSED. */
  report(): string;
  /** The rows of asDict() of all findings. @throws {MemguardError} CLOSED. */
  asDict(): Record<string, unknown>[];
  /** @throws {MemguardError} CLOSED. */
  stats(): LeakDetectorStats;
}

export interface FdReport {
  count: number;
  threshold: number;
  growthPerMinute: number | null;
  /** What most descriptors are open on, and how many. */
  targets: Map<string, number>;
}

/**
 * Warns, and has the program clean up, when `threshold` descriptors are open or more
 * than `growthPerMinute` come in a minute; again only after that was over. Starts at
 * once; keeps no process alive.
 */
export class FdWatch {
  /**
   * @param options.threshold default 800. @param options.growthPerMinute default 50.
   * @param options.cleanup the emergency hook; one that fails is reported and counted.
   * @param options.monitor whose settings are set; none: one of its own.
   * @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY.
   */
  constructor(options?: {
    threshold?: number;
    growthPerMinute?: number;
    cleanup?: (report: FdReport) => unknown;
    monitor?: MemoryMonitor;
  });
  /** Open now; null where the kernel does not tell. */
  readonly count: number | null;
  readonly warnings: number;
  /** Times that the clean-up failed. */
  readonly failures: number;
  /** null: not known yet, or closed. */
  readonly growthPerMinute: number | null;
  /** What descriptors are open on, and how many, most first. */
  targets(): Map<string, number>;
  /** A given monitor goes on. Idempotent. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export type LeakSignal = 'heap' | 'external' | 'handles' | 'fds' | 'threads';

export interface FindLeaksOptions {
  /** Calls of the largest of the first three batches, 4 to 10 000 000. Default 100. */
  iterations?: number;
  /** Calls before the first. Default a quarter of `iterations`. */
  warmup?: number;
  /** What is looked at. Default all. */
  signals?: LeakSignal[];
}

/** Counts by name at one moment; null: see `absent`. */
export interface LeakCensus {
  types: Map<string, number> | null;
  /** Of all maps, sets and arrays. */
  entries: Map<string, number> | null;
  listeners: Map<string, number> | null;
  /** Bytes in use by space of the heap. */
  spaces: Map<string, number>;
  handles: Map<string, number> | null;
  fds: Map<string, number> | null;
  absent: Record<string, string>;
  tookMs: number;
}

export interface GrownRow {
  name: string;
  growth: number;
  count: number;
  share: number;
}

export const leak: {
  /**
   * What calls of `fn` leave behind, each time, for ever: empty if nothing. It is called
   * in batches of a quarter, half and all of `iterations`, with full collections
   * between them; while something grows, batches double up to 8 times `iterations`.
   * What looks like a leak then is confirmed by two batches more of up to 16 times
   * `iterations` each, with a census around them. What fills and then stays (a cache)
   * is no leak if it is full by then. At 100, what leaks one object in six calls is
   * found; bytes alone, without objects or entries, count from 256 KB a batch on.
   * Native memory is not looked at.
   *
   * A function that returns promises is awaited, and so is the result. One that does
   * not runs at once: what it leaves to later turns of the event loop, like closing
   * sockets, has none; make such a function async.
   * @throws {MemguardError} TYPE, RANGE, INVALID, UNKNOWN_KEY, ABSENT (no collections on demand); what `fn` throws.
   */
  findLeaks<Result>(fn: () => Result, options?: FindLeaksOptions): Result extends PromiseLike<unknown> ? Promise<LeakFinding[]> : LeakFinding[];
  /** As findLeaks(). @throws {MemoryLeakDetected} or rejects with it. */
  assertNoLeak<Result>(fn: () => Result, options?: FindLeaksOptions): Result extends PromiseLike<unknown> ? Promise<void> : void;
  /**
   * What this isolate holds now; stops it for up to 10 ms per MB of live heap.
   * @param options.heapLimitMb of a larger heap the objects are not counted. Default 64.
   * @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY.
   */
  census(options?: { heapLimitMb?: number }): LeakCensus;
  /** What grew, most first; 8 of each kind at most. */
  censusDifference(
    before: LeakCensus,
    after: LeakCensus,
  ): Record<'types' | 'entries' | 'listeners' | 'handles' | 'fds' | 'spaces', GrownRow[]>;
};

/* ---- tuning -------------------------------------------------------------------- */

/** What a {@link HeapTuner} sees and did. */
export interface HeapTunerReport {
  isRunning: boolean;
  /** The load is below idle_load. */
  isIdle: boolean;
  /** 0 to 1; null before the first tick and after stop(). */
  load: number | null;
  /** Asked for; failed: not done, mostly since another action was under way. */
  collections: { young: number; full: number; failed: number };
  /** In these collections. */
  gcMs: number;
  /** Of heap and external memory, measured. */
  freedBytes: number;
}

/**
 * Collects while nobody waits, so that fewer collections fall into busy times. Load
 * is the event loop's utilization, read each half second. After one second of load
 * below idle_load (it ends 0.1 above) it collects, at most each 5 s, for at most
 * gc_budget_percent of the time, and only what has grown by 8 MB since the last
 * collection: everything if that is expected to take at most 50 ms and the heap has
 * grown by a tenth, else the young generation. It changes no flags of V8: none that
 * takes effect after the start helps clearly; see {@link adviseNodeOptions}.
 */
export class HeapTuner {
  /** @throws {MemguardError} TYPE. */
  constructor(monitor: MemoryMonitor);
  readonly isRunning: boolean;
  /** Keeps no process alive. @throws {MemguardError} CLOSED (the monitor). */
  start(): void;
  /** Leaves no timer behind; it may start again. */
  stop(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
  /**
   * The host's own measure of load, 0 to 1. For 5 s it counts in place of the event
   * loop's utilization.
   * @throws {MemguardError} TYPE, RANGE.
   */
  reportLoad(load: number): void;
  report(): HeapTunerReport;
}

export const decide: {
  /** When to collect because nobody waits. */
  Idle: new (config?: ConfigMapping) => {
    /** @param view.load null: unknown. @returns whether to collect now, which is then taken as done. */
    due(view: { nowMs: number; load: number | null; expectedMs: number; isWorth: boolean }): boolean;
  };
  /**
   * When a worker of a service should make room for a new one: once its resident set was
   * over the limit in every reading of the last sustainMs (30 000) and spread (0 to 1,
   * each worker's own; 0) of jitterMs (30 000) more, and it is minAgeMs (60 000) old.
   * Times are 0 to one day. @throws {MemguardError} TYPE, RANGE.
   */
  Recycle: new (options: {
    limitBytes: number;
    sustainMs?: number;
    jitterMs?: number;
    minAgeMs?: number;
    spread?: number;
    nowMs?: number;
  }) => {
    /** Takes in a reading. @param rssBytes null: unknown. */
    offer(rssBytes: number | null, nowMs: number): 'keep' | 'over' | 'due';
  };
  /**
   * How large V8's spaces should be.
   * @throws {MemguardError} TYPE, RANGE.
   */
  v8Advice(view: { limitBytes: number | null; nodeMajor: number; headroom?: number; share?: number }): {
    oldSpaceMb: number | null;
    semiSpaceMb: number;
    youngMb: number;
    isCapped: boolean;
    isTight: boolean;
    takesSemiOption: boolean;
  };
  /** When an optimization is due, whether one may run, and the statistics. */
  Optimizer: new (config?: ConfigMapping) => {
    due(view: OptimizerView): OptimizationReason | 'none';
    may(reason: OptimizationReason, isForced: boolean, nowMs: number): boolean;
    done(
      reason: OptimizationReason,
      how: { success: boolean; freedBytes?: number; durationMs?: number; nowMs: number },
    ): void;
    readonly state: Readonly<Record<string, number>>;
  };
  strategyFor(reason: OptimizationReason, isAggressive: boolean): StrategyName;
  /** What the next round of a strategy does; no actions: it is through. */
  strategyPlan(
    strategy: StrategyName,
    progress?: { round?: number; elapsedMs?: number; freedBytes?: number | null; usedBytes?: number | null },
  ): { actions: ActionName[]; share: number; cleans: boolean; flushes: boolean };
  /** What either fell by, the larger. */
  freedBytes(before: Measure, after: Measure): number;
  /** Stored numbers by path ("memory.max_memory_mb"); durations in ms. */
  resolveConfig(config: ConfigMapping, options?: ConfigOptions): Record<string, number>;
  /** The highest ratio of a reading over the domains. */
  usage(reading: Reading, config?: ConfigMapping): { usage: number; domain: DomainName };
  /** From usage to a level, with hysteresis. */
  LevelTracker: new (config?: ConfigMapping) => {
    readonly level: LevelName;
    /** @param nowMs of any clock that does not jump. @returns the level from now on. */
    update(usage: number, nowMs: number): LevelName;
  };
  /** Which reclaim action now, if any: rounds, budget, back-off and forecast. */
  Policy: new (config?: ConfigMapping) => {
    /** What to do now. Ask again after done() until the action is "none", then at the next sample. */
    next(view: PolicyView): PolicyDecision;
    /** Tells how the action went that ended at `nowMs`. */
    done(action: ActionName, outcome: PolicyOutcome, nowMs: number): void;
    /** Counts collection time that was spent without asking. */
    spent(gcMs: number): void;
    /** Whether a collection that takes `gcMs` fits into the budget now. */
    mayCollect(level: LevelName, gcMs: number, nowMs: number): boolean;
    /** 0 once the limit is reached; null if usage does not grow or too little is known. */
    readonly timeToLimitMs: number | null;
    /** Whether it has given up collecting. */
    readonly isUnreclaimable: boolean;
  };
  /** Growth of large blocks that makes a collection due; null without a limit. */
  budgetBytes(limitBytes: number | null, usage: number): number | null;
  /**
   * What alerts recorded facts would have raised. Missing facts are not known; `leak` is a
   * signal, with severity 0 to 2, growth per minute and over (1: withdrawn).
   */
  alertReplay(
    steps: readonly {
      nowMs: number;
      unixMs: number;
      usage?: number;
      level?: number;
      gcMs?: number;
      cpuMs?: number;
      pauseMs?: number;
      unreclaimable?: number;
      rssGrowth?: number;
      heapGrowth?: number;
      fdCount?: number;
      fdWarned?: number;
      previousOom?: number;
      leak?: string;
      severity?: number;
      growth?: number;
      over?: number;
    }[],
    config?: ConfigMapping,
  ): { active: MemoryAlert[]; changes: MemoryAlert[]; lost: number; stats: Alerts['stats'] };
  /** Trend of points [ms, bytes], in order of time. */
  trend(points: readonly (readonly [number, number | null])[]): Trend;
  /**
   * What the leak detector would have said of recorded values [name, nowMs, value]:
   * one row for each change of a finding, 64 at most. Names of signals ("heap",
   * "blocks", "native", "rss", "fds", "threads", ...) or any other.
   */
  leakReplay(
    points: readonly (readonly [name: string, nowMs: number, value: number])[],
    config?: ConfigMapping,
    limits?: {
      memoryBytes?: number;
      memoryUsedBytes?: number;
      heapBytes?: number;
      fds?: number;
      threads?: number;
      mappings?: number;
    },
  ): {
    nowMs: number;
    name: string;
    /** "none": withdrawn. */
    tier: 'none' | 'suspect' | 'likely' | 'confirmed';
    previous: 'none' | 'suspect' | 'likely' | 'confirmed';
    isCritical: boolean;
    severity: 'low' | 'medium' | 'high';
    growth: number;
    growthPerMinute: number;
    base: number;
    latest: number;
    sinceMs: number;
    /** Infinity: no limit in sight. */
    toLimitMs: number;
    windowMs: number;
    octaves: number;
  }[];
  /** The size of a buffer after one resize step at `pressure`. */
  bufferSizeNext(size: number, pressure: number, config?: ConfigMapping): number;
  /** The length from which a buffer of `size` should be flushed at `pressure`. */
  bufferFlushAt(size: number, pressure: number, config?: ConfigMapping): number;
  /** What grew between two tables of [name, count, bytes], the one that grew most
   * first: [name, growth, growth in bytes, count, share of all growth]. A table keeps
   * `maxNames` names, 0 for 100 000; others are "(other)". At most `limit` (8). */
  censusDifference(
    before: readonly (readonly [name: string, count: number, bytes: number])[],
    after: readonly (readonly [name: string, count: number, bytes: number])[],
    options?: { by?: 'count' | 'bytes'; limit?: number; maxNames?: number },
  ): [name: string, growth: number, growthBytes: number, count: number, share: number][];
  /** Bytes a pool gives for a request of `size` (at least 1). */
  poolCapacity(size: number): number;
  /** The tier of a buffer. */
  poolTier(capacity: number): 'small' | 'medium' | 'large' | 'huge';
  /** Idle buffers to give up when the fewest since the last tick were `lowWater`. */
  poolTrim(lowWater: number): number;
  /** Buffers of `classBytes` that one thread may keep at `level`. */
  poolCacheLimit(classBytes: number, cacheBytes: number, level: LevelName): number;
  /** Buffers that one thread may keep from now on, after the demand it saw. */
  poolCacheNext(capacity: number, limit: number, misses: number, lowWater: number): number;
  /** ms until the next sample is due. */
  sampleDueMs(usage: number, ratePerMs: number, longestMs: number): number;
};

// --- HTTP -----------------------------------------------------------------------

/**
 * Who may use the site of this process, and how long. The site shows this process and
 * no other:
 *
 * | Path | |
 * |---|---|
 * | `GET /` | dashboard |
 * | `GET /metrics` | Prometheus text, or OpenMetrics by `Accept` |
 * | `GET /livez`, `/readyz`, `/health` | health |
 * | `GET /api/v1/processes` | this process |
 * | `GET /api/v1/memory/stats`, `history`, `alerts`, `optimizations`, `leaks`, `config` | JSON |
 * | `PUT /api/v1/memory/config` | changes settings, all or none |
 * | `POST /api/v1/memory/gc` | collects: `{}` or `{"kind": "young" \| "full" \| "release"}` |
 * | `POST /api/v1/memory/optimize` | optimizes, answers the report |
 *
 * `GET` is free for whoever reaches the site with a `Host` of loopback or of
 * `allowedHosts`. That is the client's word: in an application that others reach, set
 * `readNeedsToken`.
 *
 * Errors are `{"error": "..."}` with the right status. `POST` and `PUT` need a token:
 * `Authorization: Bearer TOKEN` and `X-Memguard: 1`; without a token they are refused.
 * A body has at most 64 KiB. What is asked of a request that is broken off may still
 * be done; nothing of a refused one is.
 */
export interface WebOptions {
  /**
   * 16 to 256 visible ASCII characters; "": none, whatever the environment says.
   * Default, and `null`: the first line of `tokenFile`, else the variable `MEMGUARD_WEB_TOKEN`,
   * else the first line of the file that `MEMGUARD_WEB_TOKEN_FILE` names, else none.
   */
  token?: string | null;
  /** A file with the token. Not together with `token`. */
  tokenFile?: string;
  /** Whether `GET` needs the token as well. Default false. */
  readNeedsToken?: boolean;
  /**
   * Names that the header `Host` may have besides `localhost`, `127.0.0.1` and `[::1]`,
   * without port, at most 16; `"*"`: any, for a program that checks `Host` itself.
   */
  allowedHosts?: readonly string[];
  /** `POST` and `PUT` a minute, of all clients together, 1 to 1 000 000. Default 60. */
  writesPerMinute?: number;
  /** `/readyz` fails from this usage of the limit on, 0 to 100 percent. Default 0: never. */
  readyBelowPercent?: number;
  /** Seconds in which a body has to come, 0 to 3600. Default 10. */
  bodyTimeout?: number;
  /** Seconds in which a client has to take a response, 0 to 3600. Default 30. */
  responseTimeout?: number;
}

/** What {@link middleware} and {@link fastifyPlugin} take. */
export interface MiddlewareOptions extends WebOptions {
  /**
   * Where the site stands, e.g. "/memguard", if the framework does not cut that off:
   * plain http. Default "". For Fastify it is the prefix of the plugin.
   */
  prefix?: string;
}

/** As of plain http, HTTP/2, Connect and Express. `next` is called for paths that are not the site's. */
export type WebMiddleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next?: (error?: unknown) => void,
) => void;

/**
 * The site of this process for a server that the program has:
 * `http.createServer(middleware())`, `app.use('/memguard', middleware())`. A body that
 * `express.json()` has read already is taken from `request.body`.
 *
 * Neither throws nor rejects for a request. Has no handle, no timer and no listener
 * outside of requests. In a Worker it serves that Worker's monitor and the readings of
 * its process.
 * @throws MemguardError INVALID, TYPE, RANGE, CONFLICT for a bad option; SYSTEM for a
 * `tokenFile` that cannot be read.
 */
export function middleware(options?: MiddlewareOptions): WebMiddleware;

/** The part of a Fastify instance that {@link fastifyPlugin} uses. */
export interface FastifyLike {
  readonly prefix: string;
  all(path: string, handler: (request: any, reply: any) => unknown): unknown;
  addContentTypeParser(
    type: string,
    parser: (request: any, payload: any, done: (error: Error | null, body?: any) => void) => void,
  ): unknown;
  removeAllContentTypeParsers(): unknown;
}

/**
 * The same as a plugin of Fastify 4 and 5, in a context of its own:
 * `fastify.register(fastifyPlugin, { prefix: '/memguard', token })`. Bad options make
 * `register()` fail.
 */
export function fastifyPlugin(
  fastify: FastifyLike,
  options: MiddlewareOptions,
  done: (error?: Error) => void,
): void;

/** What {@link serve} takes. */
export interface ServeOptions extends WebOptions {
  /** Default "127.0.0.1". Another than a loopback address needs `allowRemote` and a token. */
  host?: string;
  /** 0 to 65535; default 9478; 0: any that is free, see {@link WebServer.address}. */
  port?: number;
  /**
   * Whether `host` may be an address that others reach. `GET` needs the token then; add
   * the names that clients use to `allowedHosts`, `host` itself is one.
   */
  allowRemote?: boolean;
  /** The server closes when this manager is cleaned up or closed. */
  manager?: ResourceManager;
}

/** A server of {@link serve}. It keeps no process alive, unless ref() is called. */
export class WebServer {
  private constructor();
  /** Both `null` once it is closed. */
  readonly address: { host: string | null; port: number | null };
  /** Of the dashboard, e.g. "http://127.0.0.1:43211/"; `null` once it is closed. */
  readonly url: string | null;
  readonly isClosed: boolean;
  /** From now on it keeps the process alive. */
  ref(): this;
  unref(): this;
  /** Answers what is under way for up to a second, then cuts. Repeating it is fine. */
  close(): Promise<void>;
}

/**
 * Serves the site of this process by a server of its own. At most 128 connections, of
 * which idle ones give way; 20 s for a request. In a cluster each worker needs a port of
 * its own, because each shows itself.
 * @throws MemguardError as of {@link middleware}, as a rejection; INVALID for a `host`
 * without `allowRemote`, CONFLICT for one without a token; SYSTEM where it cannot listen.
 */
export function serve(options?: ServeOptions): Promise<WebServer>;

// --- Bridges ----------------------------------------------------------------------

/** The part of a Registry of prom-client or @prometheus-io/client that is used. */
export interface PromRegistryLike {
  registerMetric(metric: any): void;
  getSingleMetric(name: string): unknown;
  removeSingleMetric(name: string): void;
}

export interface PromClientOptions {
  /** Goes before each name: "node_" makes "node_memguard_...". Default "". */
  prefix?: string;
  /**
   * Whether `process_open_fds` is registered too. Default false: the default metrics of
   * the library have it, and fail where the name is taken.
   */
  processOpenFds?: boolean;
}

export interface PromClientBridge {
  /** Names that were registered. */
  readonly names: string[];
  /** Names that were not, and why. */
  readonly skipped: { name: string; reason: string }[];
  readonly isRegistered: boolean;
  /** Takes them out again. Repeating it is fine. */
  unregister(): void;
}

/**
 * Puts memguard's metrics into a registry that the program has. They are read when the
 * registry is; a monitor that does not run has none. Each sample is labelled with pid,
 * program and runtime, so that the registries of a cluster add up to one. Names that are
 * taken are left out, see {@link PromClientBridge.skipped}. A second call gives the same
 * bridge.
 * @throws MemguardError TYPE, INVALID for bad arguments; CONFLICT for a second call with
 * other options.
 */
export function registerPromClient(registry: PromRegistryLike, options?: PromClientOptions): PromClientBridge;

/** The part of a MeterProvider of OpenTelemetry that is used. */
export interface MeterProviderLike {
  getMeter(name: string, version?: string): any;
}

export interface OpenTelemetryBridge {
  readonly isRegistered: boolean;
  /** Observes no more. Repeating it is fine. */
  unregister(): void;
}

/**
 * Makes instruments of OpenTelemetry, read when a reader collects: by the semantic
 * conventions `process.memory.usage`, `process.memory.virtual`, `process.cpu.time`,
 * `process.thread.count`, `process.unix.file_descriptor.count`, `process.paging.faults`,
 * `process.context_switches`, `process.uptime`, `v8js.memory.heap.used`,
 * `v8js.memory.heap.space.size`, `.available_size`, `.physical_size` and
 * `v8js.gc.duration` (as many collections as there were since the call, with the same
 * sum; the single ones as exact as the buckets of `memguard_gc_pause_seconds`), and
 * `memguard.memory.usage`, `.limit`, `.level`, `memguard.reclaim.rounds`, `.freed`,
 * `memguard.alerts`. What needs a monitor is there while one runs. A second call gives
 * the same bridge.
 * @param source default: the global provider of `@opentelemetry/api`, which has to be
 * set before.
 * @throws MemguardError TYPE for something else, HOST for a meter that fails, ABSENT
 * without `@opentelemetry/api`.
 */
export function registerOpenTelemetry(source?: MeterProviderLike | object): OpenTelemetryBridge;

declare const memguard: {
  BufferManager: typeof BufferManager;
  FdWatch: typeof FdWatch;
  HeapTuner: typeof HeapTuner;
  IndicatorCache: typeof IndicatorCache;
  LeakCulprit: typeof LeakCulprit;
  LeakDetector: typeof LeakDetector;
  LeakFinding: typeof LeakFinding;
  ManagedConnectionPool: typeof ManagedConnectionPool;
  MemoryLeakDetected: typeof MemoryLeakDetected;
  MemoryMonitor: typeof MemoryMonitor;
  MemoryOptimizationService: typeof MemoryOptimizationService;
  MemoryPool: typeof MemoryPool;
  ObjectPool: typeof ObjectPool;
  PooledArray: typeof PooledArray;
  PooledBuffer: typeof PooledBuffer;
  PooledBufferWriter: typeof PooledBufferWriter;
  QueueMemory: typeof QueueMemory;
  ResourceManager: typeof ResourceManager;
  ResourceStats: typeof ResourceStats;
  ResourceType: typeof ResourceType;
  ReusePool: typeof ReusePool;
  RingBuffer: typeof RingBuffer;
  StageBase: typeof StageBase;
  adviseNodeOptions: typeof adviseNodeOptions;
  adviseWorker: typeof adviseWorker;
  alerts: typeof alerts;
  bullmq: typeof bullmq;
  cacheStats: typeof cacheStats;
  capabilities: Capabilities;
  collectMetrics: typeof collectMetrics;
  decide: typeof decide;
  encoding: typeof encoding;
  errorCodes: typeof errorCodes;
  fastifyPlugin: typeof fastifyPlugin;
  leak: typeof leak;
  loadConfig: typeof loadConfig;
  metricsText: typeof metricsText;
  middleware: typeof middleware;
  poolStats: typeof poolStats;
  processInfo: typeof processInfo;
  registerCache: typeof registerCache;
  registerOpenTelemetry: typeof registerOpenTelemetry;
  registerPool: typeof registerPool;
  registerPromClient: typeof registerPromClient;
  rssBytes: typeof rssBytes;
  serializers: typeof serializers;
  serve: typeof serve;
  sharedPool: typeof sharedPool;
  transports: typeof transports;
  version: string;
};
export default memguard;
