'use strict';

// The programs of tests/leaks that run in Node: all are there, and the launcher puts
// one under a detector without a trace in it. Whether leaks are found is measured by
// `dev bench leaks`, which installs what they need.
const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const LEAKS = path.join(__dirname, '..', 'leaks');
const ROWS = JSON.parse(fs.readFileSync(path.join(LEAKS, 'corpus_node.json'), 'utf8'));

// Small generations and full collections only: there are some in two seconds.
const FLAGS = ['--gc-global', '--max-semi-space-size=1'];

function run(program, verdict) {
  const args = [...FLAGS, '--require', path.join(LEAKS, 'launch.js'), path.join(LEAKS, 'node', program)];
  const env = { ...process.env, LEAK_SECONDS: '2', LEAK_TIME_SCALE: '60', LEAK_VERDICT: verdict };
  const output = execFileSync(process.execPath, args, { env, encoding: 'utf8', timeout: 60_000 });
  return output.trim().split('\n').map(Number);
}

function linesOf(file) {
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  return lines.filter(Boolean).map((line) => JSON.parse(line));
}

describe('corpus of leaks', () => {
  let folder;

  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memguard-corpus-'));
  });

  afterEach(() => {
    fs.rmSync(folder, { recursive: true });
  });

  test('has enough programs, each in one row', () => {
    const files = fs.readdirSync(path.join(LEAKS, 'node')).filter((name) => name !== 'service.js');
    expect(ROWS.map(({ file }) => path.basename(file)).sort()).toEqual(files.sort());
    expect(ROWS.filter(({ leaky }) => leaky).length).toBeGreaterThanOrEqual(14);
    expect(ROWS.filter(({ leaky }) => !leaky).length).toBeGreaterThanOrEqual(7);
  });

  test.each(ROWS.filter(({ leaky }) => leaky))('$name: two versions, a source, a culprit', (row) => {
    const [leaky, fixed] = [row.leaky, row.fixed].map((spec) => spec.split(/@(?=\d)/));
    expect(leaky[0]).toBe(fixed[0]);
    expect(row.leaky).not.toBe(row.fixed);
    expect(row.source).toMatch(/^https:\/\/(github\.com|nvd\.nist\.gov)\//);
    expect('').not.toMatch(new RegExp(row.culprit));
  });

  test('a program runs under the launcher as it does alone, and is judged', () => {
    const verdict = path.join(folder, 'verdict');
    const counts = run('like_sawtooth.js', verdict);
    expect(counts.at(-1)).toBeGreaterThan(0);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    const lines = linesOf(verdict);
    expect(lines.some(({ live }) => live > 0)).toBe(true);
    for (const line of lines) {
      expect(line).toEqual({ at: expect.any(Number), [line.live ? 'live' : 'findings']: expect.anything() });
    }
  });
});
