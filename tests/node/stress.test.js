'use strict';

// memguard/stress: hours of a function in seconds, with a verdict and an exit code.
const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');
const { stress } = require('../../node/stress');
const { removeTemporary, temporaryDirectory, thrown, until } = require('./helpers');

afterAll(removeTemporary);

const STRESS = path.join(__dirname, '../../node/stress.js');
const fixture = (name) => path.join(__dirname, 'fixtures', name);
// One hour in four seconds. What grows on a machine that does other things too is
// not for here: what each call leaves is.
const QUICK = ['--hours', '1', '--time-scale', '900', '--rate', '3000', '--max-growth', '1000'];

function run(...words) {
  const child = spawn(process.execPath, [STRESS, ...words]);
  child.said = '';
  child.stdout.on('data', (data) => (child.said += data));
  child.complaint = '';
  child.stderr.on('data', (data) => (child.complaint += data));
  const timer = setTimeout(() => child.kill('SIGKILL'), 50_000);
  child.ended = new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout: child.said, stderr: child.complaint });
    });
  });
  return child;
}

test('a function that leaks', async () => {
  const json = path.join(temporaryDirectory(), 'verdict.json');
  const { code, stdout } = await run(...QUICK, '--json', json, fixture('stress_leaks.js')).ended;
  const verdict = JSON.parse(fs.readFileSync(json, 'utf8'));
  expect([code, verdict.verdict, verdict.exit_code]).toEqual([1, 'leak', 1]);
  expect(stdout).toMatch(/^leak: \d+ calls/);
  expect(verdict).toMatchObject({ error: null, interrupted: false, time_scale: 900, max_growth_percent: 1000 });
  expect(verdict.calls).toBeGreaterThan(100);
  expect(verdict.hours).toBeGreaterThanOrEqual(1);
  const names = verdict.leak_detection.flatMap(({ culprits }) => culprits.map(({ name }) => name));
  expect(names.join()).toMatch(/Parcel|stress_leaks/);
  for (const row of verdict.leak_detection) {
    expect(Object.keys(row)).toEqual(expect.arrayContaining(['type', 'severity', 'growth_rate', 'signal', 'tier']));
  }
});

test('a function whose calls leave nothing', async () => {
  const verdict = await stress(async () => {}, { hours: 0.001, timeScale: 3, maxGrowth: 1e6 });
  expect(verdict).toMatchObject({ error: null, interrupted: false, max_growth_percent: 1e6 });
  expect(verdict.leak_detection.filter(({ signal }) => signal === 'heap')).toEqual([]);
});

test('a module, and its verdict on stdout', async () => {
  const { stdout } = await run(...QUICK, '--json', '-', fixture('stress_fine.mjs')).ended;
  const verdict = JSON.parse(stdout);
  expect(verdict.calls).toBeGreaterThan(100);
  expect(verdict.leak_detection.filter(({ signal }) => signal === 'heap' || signal === 'fds')).toEqual([]);
});

test('a function that fails', async () => {
  const { code, stdout } = await run(...QUICK, fixture('stress_fails.js')).ended;
  expect(code).toBe(3);
  expect(stdout).toContain('the function failed: out of parcels (after 10 calls)');
});

test('an interruption', async () => {
  const child = run('--hours', '1', '--json', '-', fixture('stress_tells.js'));
  await until(() => child.said.includes('begun'));
  child.kill('SIGINT');
  const { code, stdout } = await child.ended;
  expect(code).toBe(130);
  expect(JSON.parse(stdout.replace('begun\n', ''))).toMatchObject({ interrupted: true, exit_code: 130 });
});

test.each([
  [[], 'FILE is missing'],
  [['--hours', '0', 'x'], 'hours is 0'],
  [['--hours', 'many', 'x'], 'hours is NaN'],
  [['--hours', '1', '--time-scale', '1000000', 'x'], 'less than a second'],
  [['--what', 'x'], '--what is no option'],
  [['--json'], 'FILE is missing'],
  [[fixture('nothing_there.js')], 'nothing_there'],
  [[path.join(__dirname, 'servers.js')], 'exports no function'],
])('wrong usage: %j', async (words, text) => {
  const { code, stderr } = await run(...words).ended;
  expect([code, stderr.includes(text)]).toEqual([2, true]);
});

test('refuses what it does not know', () => {
  const codeOf = (...values) => thrown(() => stress(...values)).code;
  expect(codeOf('text')).toBe('ERR_MEMGUARD_TYPE');
  expect(codeOf(() => {}, { minutes: 5 })).toBe('ERR_MEMGUARD_UNKNOWN_KEY');
  expect(codeOf(() => {}, { hours: -1 })).toBe('ERR_MEMGUARD_RANGE');
  expect(codeOf(() => {}, 5)).toBe('ERR_MEMGUARD_TYPE');
});
