import type { FindLeaksOptions, LeakFinding } from './index.js';

interface LeakMatchers<Result> {
  /**
   * Calls of the function leave nothing behind: `expect(fn).not.toLeak()`. Await it if
   * the function is asynchronous. Options and errors as of `leak.findLeaks()`.
   */
  toLeak(options?: FindLeaksOptions): Result;
}

declare global {
  namespace jest {
    // eslint-disable-next-line @typescript-eslint/no-unused-vars
    interface Matchers<R, T = {}> extends LeakMatchers<T extends () => PromiseLike<unknown> ? Promise<R> : R> {}
  }
}

/** For `expect.extend()`; done already where `expect` is global. */
export const matchers: {
  toLeak(fn: () => unknown, options?: FindLeaksOptions): Verdict | Promise<Verdict>;
};

interface Verdict {
  pass: boolean;
  message(): string;
}

export type { LeakFinding };
