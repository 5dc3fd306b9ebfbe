export interface StressOptions {
  /** Of told time: the run takes hours / timeScale. Default 1. */
  hours?: number;
  /** All times of the leak detector are divided by it. Default 1. */
  timeScale?: number;
  /** Calls a second of real time; 0: as many as go. Default 0. */
  rate?: number;
  /** Percent by which resident memory may grow after the first 30 %. Default 5. */
  maxGrowth?: number;
}

export interface StressVerdict {
  verdict: 'ok' | 'leak' | 'growth' | 'failed';
  /** 0 ok, 1 leak or growth, 3 failed, 130 interrupted. */
  exit_code: number;
  error: string | null;
  interrupted: boolean;
  hours: number;
  time_scale: number;
  seconds: number;
  calls: number;
  /** null: too little to tell. */
  growth_percent: number | null;
  max_growth_percent: number;
  rss_start_mb: number | null;
  rss_end_mb: number | null;
  was_checked_by_calls: boolean;
  /** Rows of LeakFinding.asDict(). */
  leak_detection: Record<string, unknown>[];
  report: string;
}

/**
 * Calls `fn` again and again while a LeakDetector watches. On the command line:
 * `node memguard/node/stress.js --hours H --time-scale K FILE`.
 * @throws {MemguardError} TYPE, RANGE, UNKNOWN_KEY.
 */
export function stress(fn: () => unknown, options?: StressOptions): Promise<StressVerdict>;
