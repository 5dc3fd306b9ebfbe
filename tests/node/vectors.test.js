'use strict';

const fs = require('fs');
const path = require('path');
const { decide, errorCodes } = require('../..');
const { thrown } = require('./helpers');
const { Simulation, Steps, numbers } = require('./policy_rows');

function rowsOf(file) {
  const text = fs.readFileSync(path.join(__dirname, '..', 'vectors', file), 'utf8');
  const { rows } = JSON.parse(text);
  if (rows.length === 0) throw new Error(`${file} has no rows`);
  return rows.map((row) => [row.name, row]);
}

function within(value, expected, tolerance) {
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(tolerance);
}

describe('config.json', () => {
  test.each(rowsOf('config.json'))('%s', (_, row) => {
    const options = { profile: row.profile ?? 'default', environment: row.environ ?? false };
    if (row.error === undefined) {
      const numbers = decide.resolveConfig(row.config, options);
      for (const [path_, number] of Object.entries(row.expect)) expect([path_, numbers[path_]]).toEqual([path_, number]);
      return;
    }
    const error = thrown(() => decide.resolveConfig(row.config, options));
    expect(error.code).toBe(errorCodes[row.error.status]);
    const texts = row.error.contains;
    expect(texts.length).toBeGreaterThan(0);
    for (const text of texts) expect(error.message).toContain(text);
  });
});

describe('usage.json', () => {
  test.each(rowsOf('usage.json'))('%s', (_, row) => {
    const { usage, domain } = decide.usage(row.reading, row.config);
    expect(domain).toBe(row.domain);
    within(usage, row.usage, 1e-12);
  });
});

describe('level.json', () => {
  test.each(rowsOf('level.json'))('%s', (_, row) => {
    const tracker = new decide.LevelTracker(row.config);
    const levels = row.steps.map(([nowMs, usage]) => [nowMs, usage, tracker.update(usage, nowMs)]);
    expect(levels).toEqual(row.steps);
  });
});

describe('alert.json', () => {
  const BASE = 1700000000000;
  const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  test.each(rowsOf('alert.json'))('%s', (_, row) => {
    const steps = row.steps.map(([at, given]) => {
      const facts = Object.fromEntries(Object.entries(given).map(([name, value]) => [camel(name), value]));
      const nowMs = at === null ? NaN : at;
      return { usage: 0.5, fdCount: 10, nowMs, unixMs: BASE + nowMs, ...facts };
    });
    const told = decide.alertReplay(steps, row.config);
    const changes = told.changes.map((change) => [
      change.kind, change.subject, change.state, change.severity, change.sinceUnixMs - BASE, change.repeats,
    ]);
    expect(changes).toEqual(row.expect.map((one) => one.slice(0, 6)));
    told.changes.forEach((change, index) => within(change.value, row.expect[index][6], 1e-12));
    expect(told.stats).toMatchObject(row.stats ?? {});
  });
});

describe('due.json', () => {
  test.each(rowsOf('due.json'))('%s', (_, row) => {
    within(decide.sampleDueMs(row.usage, row.rate_per_ms, row.longest_ms), row.expect, 1e-9);
  });
});

describe('trend.json', () => {
  test.each(rowsOf('trend.json'))('%s', (_, row) => {
    const trend = decide.trend(row.points);
    expect([trend.direction, trend.points]).toEqual([row.direction, row.points_used]);
    within(trend.mbPerMinute, row.mb_per_minute, 1e-9);
    within(trend.tau, row.tau, 1e-9);
  });
});

describe('buffer.json', () => {
  const operations = { size_next: decide.bufferSizeNext, flush_at: decide.bufferFlushAt };
  test.each(rowsOf('buffer.json'))('%s', (_, row) => {
    expect(operations[row.op](row.size, row.pressure, row.config)).toBe(row.expect);
  });
});

describe('optimize.json', () => {
  const kinds = {
    run({ config, steps, state = {} }) {
      const optimizer = new decide.Optimizer(config);
      const does = {
        due: ([view]) => optimizer.due(named(view)),
        may: (values) => optimizer.may(...values),
        done([reason, success, freedBytes, durationMs, nowMs]) {
          return optimizer.done(reason, { success, freedBytes, durationMs, nowMs });
        },
      };
      for (const [op, ...values] of steps) {
        const expected = op === 'done' ? undefined : values.pop();
        expect([op, values, does[op](values)]).toEqual([op, values, expected]);
      }
      expect(optimizer.state).toMatchObject(named(state));
    },
    strategy({ reason, aggressive, expect: expected }) {
      expect(decide.strategyFor(reason, aggressive)).toBe(expected);
    },
    plan({ strategy, progress: [round, elapsedMs, freedBytes, usedBytes], expect: expected }) {
      expect(decide.strategyPlan(strategy, { round, elapsedMs, freedBytes, usedBytes })).toEqual(expected);
    },
    freed({ before, after, expect: expected }) {
      const measure = ([rssBytes, heapBytes]) => ({ rssBytes, heapBytes });
      expect(decide.freedBytes(measure(before), measure(after))).toBe(expected);
    },
  };
  const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  const named = (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [camel(name), value]));

  test.each(rowsOf('optimize.json'))('%s', (_, row) => kinds[row.op](row));
});

describe('policy.json', () => {
  test.each(rowsOf('policy.json'))('%s', (_, row) => {
    if (row.simulate === undefined) new Steps(row);
    else expect(new Simulation(row).found).toEqual(row.expect);
  });
});

describe('budget_bytes.json', () => {
  test.each(rowsOf('budget_bytes.json'))('%s', (_, row) => {
    expect(decide.budgetBytes(row.limit_bytes, numbers(row).usage)).toBe(row.expect);
  });
});

describe('pool.json', () => {
  const operations = {
    capacity: decide.poolCapacity,
    tier: decide.poolTier,
    trim: decide.poolTrim,
    cache_limit: decide.poolCacheLimit,
    cache_next: decide.poolCacheNext,
  };
  test.each(rowsOf('pool.json'))('%s', (_, row) => {
    expect(operations[row.op](...row.of)).toBe(row.expect);
  });
});

describe('advice.json', () => {
  const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  const named = (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [camel(name), value]));

  test.each(rowsOf('advice.json'))('%s', (_, row) => {
    const { limitBytes, nodeMajor, headroom, share } = named(row);
    const advise = () => decide.v8Advice({ limitBytes, nodeMajor, headroom, share });
    if (row.error === undefined) {
      expect(advise()).toEqual(named(row.expect));
      return;
    }
    const error = thrown(advise);
    expect([error.code, error.message]).toEqual(['ERR_MEMGUARD_RANGE', row.error]);
  });
});

describe('leak.json', () => {
  const recorded = (series) => {
    const points = series.flatMap(({ name, every_ms, start, pieces, noise = 0, tooth: [period, rise] = [1, 0] }) => {
      const made = [];
      let value = start;
      let i = 0;
      for (const [count, step] of pieces) {
        for (const end = i + count; i < end; i++) {
          if (step === null) continue;
          if (step !== 'nan') value += step;
          const ripple = ((i * 7919) % 1009) * noise + (i % period) * rise;
          made.push([name, i * every_ms, step === 'nan' ? NaN : value + ripple]);
        }
      }
      return made;
    });
    return points.sort(([, a], [, b]) => a - b);
  };
  const limitNames = { memory_bytes: 'memoryBytes', fds: 'fds' };

  test.each(rowsOf('leak.json'))('%s', (_, row) => {
    const limits = Object.fromEntries(Object.entries(row.limits).map(([name, value]) => [limitNames[name], value]));
    const changes = decide.leakReplay(recorded(row.series), row.config, limits);
    const seen = changes.map((change) => [change.nowMs, change.name, change.tier, change.isCritical, change.severity]);
    expect(seen).toEqual(row.expect);
  });
});

describe('tune.json, at idle', () => {
  test.each(rowsOf('tune.json').filter(([, row]) => row.op === 'idle'))('%s', (_, row) => {
    const idle = new decide.Idle(row.config);
    for (const [nowMs, load, expectedMs, isWorth, due] of row.steps) {
      expect([nowMs, idle.due({ nowMs, load, expectedMs, isWorth })]).toEqual([nowMs, due]);
    }
  });
});

describe('census.json', () => {
  test.each(rowsOf('census.json'))('%s', (_, row) => {
    const { by, limit, max_names: maxNames = 0 } = row;
    const found = decide.censusDifference(row.before, row.after, { by, limit, maxNames });
    expect(found.map((figures) => figures.slice(0, 4))).toEqual(row.expect.map((figures) => figures.slice(0, 4)));
    found.forEach((figures, index) => within(figures[4], row.expect[index][4], 1e-12));
  });
});

describe('recycle.json', () => {
  const optionsOf = ({ limit_bytes: limitBytes, sustain_ms: sustainMs, jitter_ms: jitterMs, min_age_ms: minAgeMs, spread }) =>
    ({ limitBytes, sustainMs, jitterMs, minAgeMs, spread });

  test.each(rowsOf('recycle.json'))('%s', (_, row) => {
    if (row.error !== undefined) {
      const error = thrown(() => new decide.Recycle(optionsOf(row.options)));
      expect([error.code, error.message]).toEqual(['ERR_MEMGUARD_RANGE', row.error]);
      return;
    }
    const worker = new decide.Recycle({ ...optionsOf(row.options), nowMs: row.born_ms });
    const seen = row.steps.map(([nowMs, rssBytes]) => [nowMs, rssBytes, worker.offer(rssBytes, nowMs)]);
    expect(seen).toEqual(row.steps);
  });
});
