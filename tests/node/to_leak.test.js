'use strict';

// What calls of a function leave behind: leak.findLeaks(), assertNoLeak(), the
// matcher toLeak() and the environment of jest.
const { execFile } = require('child_process');
const fs = require('fs');
const path = require('path');
const { leak, MemoryLeakDetected } = require('../..');
require('../../node/jest');
const { rejection, removeTemporary, run, runJson, temporaryDirectory, thrown } = require('./helpers');

afterAll(removeTemporary);

const find = (name, options = {}) => runJson('leak_calls.js', [name, JSON.stringify(options)]);
const signalsOf = (findings) => findings.map(({ signal }) => signal);
const namesOf = ({ culprits }, kind) => culprits.filter((one) => one.kind === kind).map(({ name }) => name);

const PATIENCE_MS = 300_000; // a census of the heap of jest may take seconds

describe('leaks', () => {
  test.each([
    ['object', 'Order'],
    ['asynchronous object', 'Order'],
    ['one call in six', 'Order'],
    ['closure', 'Function'],
    ['map of strings', 'entries of Map'],
    ['listener', "listeners of process 'exit'"],
    ['large table', 'entries of Map'],
  ])('%s', async (name, type) => {
    const findings = await find(name);
    expect(signalsOf(findings)).toContain('heap');
    const [heap] = findings;
    expect(heap).toMatchObject({ signal: 'heap', tier: 'confirmed', unit: 'bytes', absent: {} });
    expect(namesOf(heap, 'type')).toContain(type);
  });

  test('the place that allocates is named', async () => {
    const [heap] = await find('closure', { iterations: 1000 });
    expect(namesOf(heap, 'site').join()).toMatch(/closure (itself|.*leak_calls\.js:\d+)/);
  });

  test('memory outside the heap', async () => {
    const findings = await find('buffer');
    const external = findings.find(({ signal }) => signal === 'external');
    expect(external.growth / external.calls).toBeGreaterThan(8000);
    expect(external.severity).toBe('medium');
  });

  test('timers', async () => {
    const findings = await find('timer', { signals: ['handles'] });
    expect(signalsOf(findings)).toEqual(['handles']);
    expect(findings[0].severity).toBe('high');
    expect(namesOf(findings[0], 'type')).toEqual(['active Timeout']);
  });

  test('open files, by target', async () => {
    const findings = await find('file', { signals: ['fds'] });
    expect(signalsOf(findings)).toEqual(['fds']);
    expect(findings[0].growth).toBe(findings[0].calls);
    expect(namesOf(findings[0], 'fd').join()).toMatch(/^file .*leak_calls\.js$/);
  });

  test('no data of the program is told', async () => {
    expect(JSON.stringify(await find('map of strings'))).not.toMatch(/customer|secret/);
  });
});

test.each([
  'nothing', 'garbage', 'lazy table', 'lru', 'ring of logs', 'json', 'promise', 'connection', 'file closed',
])('no leak: %s', async (name) => {
  expect(await find(name)).toEqual([]);
});

test('a table that is full after the warm-up is no leak', async () => {
  expect(await find('large table', { warmup: 100_000 })).toEqual([]);
});

test('code of the host is not run while objects are counted', async () => {
  const [heap] = await find('hostile');
  expect(namesOf(heap, 'type')).toContain('Order');
});

test('without the inspector bytes decide', async () => {
  const { stdout } = await run('leak_calls.js', ['buffer', '{}'], { flags: ['--inspect=0'] });
  const external = JSON.parse(stdout).find(({ signal }) => signal === 'external');
  expect(external.growth / external.calls).toBeGreaterThan(8000);
  // With one thread Node 20 counts a page in one look and not in the next, always.
  for (const more of [[], ['--single-threaded-gc']]) {
    const { stdout: text } = await run('leak_calls.js', ['object', '{"iterations":4000}'], { flags: ['--inspect=0', ...more] });
    const [heap] = JSON.parse(text);
    expect(heap.absent).toEqual({ types: 'a debugger has this process', sites: 'a debugger has this process' });
  }
});

describe('assertNoLeak', () => {
  const signals = ['handles', 'fds']; // the heap of jest takes seconds

  test('raises what names the culprit', () => {
    const timers = [];
    const error = thrown(() => leak.assertNoLeak(function send() {
      timers.push(setInterval(() => {}, 1e6));
    }, { signals }));
    timers.forEach(clearInterval);
    expect(error).toBeInstanceOf(MemoryLeakDetected);
    expect(error.code).toBe('ERR_MEMGUARD_LEAK');
    expect(error.message).toMatch(/^send leaks\nhandles: confirmed leak/);
    expect(error.message).toContain('active Timeout');
    expect(error.findings[0].asDict()).toMatchObject({ signal: 'handles', severity: 'high' });
  }, PATIENCE_MS);

  test('is silent about what does not', async () => {
    expect(leak.assertNoLeak(() => {}, { signals })).toBeUndefined();
    expect(await leak.assertNoLeak(async () => {}, { signals })).toBeUndefined();
  }, PATIENCE_MS);

  test('lets through what the function throws', async () => {
    expect(thrown(() => leak.assertNoLeak(() => {
      throw new Error('mine');
    })).message).toBe('mine');
    expect((await rejection(leak.assertNoLeak(async () => {
      throw new Error('mine too');
    }))).message).toBe('mine too');
  });

  test('refuses what it does not know', () => {
    const codeOf = (...values) => thrown(() => leak.assertNoLeak(...values)).code;
    expect(codeOf('text')).toBe('ERR_MEMGUARD_TYPE');
    expect(codeOf(() => {}, 5)).toBe('ERR_MEMGUARD_TYPE');
    expect(codeOf(() => {}, { rounds: 5 })).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
    expect(codeOf(() => {}, { iterations: 3 })).toBe('ERR_MEMGUARD_RANGE');
    expect(codeOf(() => {}, { iterations: 10_000_001 })).toBe('ERR_MEMGUARD_RANGE');
    expect(codeOf(() => {}, { iterations: 5.5 })).toBe('ERR_MEMGUARD_RANGE');
    expect(codeOf(() => {}, { warmup: -1 })).toBe('ERR_MEMGUARD_RANGE');
    expect(codeOf(() => {}, { signals: 'heap' })).toBe('ERR_MEMGUARD_TYPE');
    expect(codeOf(() => {}, { signals: ['rss'] })).toBe('ERR_MEMGUARD_INVALID');
  });
});

describe('toLeak', () => {
  const kept = [];

  test('passes and fails', async () => {
    expect(() => {}).not.toLeak();
    await expect(async () => {}).not.toLeak({ iterations: 20, warmup: 5 });
    expect(thrown(() => expect(() => {}).toLeak()).message).toBe('expected a leak, found none');
  }, PATIENCE_MS);

  test('tells who', () => {
    class Crate {}
    const leaky = () => kept.push(new Crate());
    expect(thrown(() => expect(leaky).not.toLeak()).message).toMatch(/^leaky leaks\nheap: [^]*Crate/);
  }, PATIENCE_MS);

  test('asynchronous functions', async () => {
    const timers = [];
    const leaky = async () => {
      timers.push(setInterval(() => {}, 1e6));
    };
    const options = { signals: ['handles'] };
    await expect(leaky).toLeak(options);
    expect((await rejection(expect(leaky).not.toLeak(options))).message).toContain('active Timeout');
    timers.forEach(clearInterval);
  }, PATIENCE_MS);
});

describe('memguard/jest-environment', () => {
  const jest = path.join(path.dirname(require.resolve('jest/package.json')), 'bin/jest.js');

  function judge(source, options = {}) {
    const rootDir = temporaryDirectory();
    fs.writeFileSync(path.join(rootDir, 'some.test.js'), source);
    const config = {
      rootDir,
      cacheDirectory: path.join(rootDir, 'cache'),
      testEnvironment: path.join(__dirname, '../../node/jest-environment.js'),
      testEnvironmentOptions: options,
    };
    const words = [jest, '--config', JSON.stringify(config), '--json', '--forceExit', '--runInBand'];
    return new Promise((resolve, reject) => {
      execFile(process.execPath, words, { timeout: 120_000 }, (error, stdout, stderr) => {
        try {
          resolve(JSON.parse(stdout));
        } catch {
          reject(new Error(stdout + stderr));
        }
      });
    });
  }

  const SERVER = "const server = require('net').createServer(); await new Promise((done) => server.listen(0, done));";

  test('tests fail that leave something open', async () => {
    const { testResults } = await judge(`
      test('timer', () => { setInterval(() => {}, 1e6); });
      test('file', () => { require('fs').openSync(__filename); });
      test('closed', async () => { ${SERVER} server.close(); });
      test('nothing', () => {});
    `);
    const results = testResults[0].assertionResults;
    expect(results.map(({ title, status }) => [title, status])).toEqual([
      ['timer', 'failed'], ['file', 'failed'], ['closed', 'passed'], ['nothing', 'passed'],
    ]);
    expect(results[0].failureMessages[0]).toContain('active Timeout');
    expect(results[1].failureMessages[0]).toMatch(/fd file .*some\.test\.js/);
  }, PATIENCE_MS);

  test('a file fails whose hooks leave something open', async () => {
    const source = `
      let kept;
      beforeAll(async () => { ${SERVER} kept = server; });
      afterAll((done) => { if (process.env.CLOSES === 'yes') kept.close(done); else done(); });
      test('nothing', () => {});
    `;
    const { success, testResults } = await judge(source);
    expect(success).toBe(false);
    expect(testResults[0].message).toContain('the test file leaves open');
    expect((await judge(source, { memguard: { perFile: false } })).success).toBe(true);
    expect((await judge(source.replace("=== 'yes'", "!== 'yes'"))).success).toBe(true);
  }, PATIENCE_MS);

  test('options that it does not know', async () => {
    const { success, testResults } = await judge("test('nothing', () => {});", { memguard: { perTset: true } });
    expect(success).toBe(false);
    expect(testResults[0].message).toContain('perTset is no option of memguard/jest-environment, allowed: perTest, perFile');
  }, PATIENCE_MS);
});
