'use strict';

// What several test files share.
const { spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const MB = 1048576;
const FIXTURES = path.join(__dirname, 'fixtures');

// A Node whose thread ends waits for V8's compilers, and a compiler that needs a
// collection waits for that thread: a Worker or a process may hang for ever when it
// ends, with or without memguard (nodejs/node#54918; seen on 24.21 with 20 Workers
// that end at once). So what is compiled is compiled on its own thread here.
const NO_DEADLOCK = ['--no-concurrent-recompilation', '--no-concurrent-sparkplug'];

/** What `body` throws; fails if it does not. */
function thrown(body) {
  try {
    body();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

/** Runs a fixture in a process of its own; ends it after `seconds`.
 *  @param options.group control group it runs in.
 *  @returns { code, signal, stdout, stderr } */
function run(fixture, values = [], { seconds = 50, env = {}, flags = [], group = null } = {}) {
  return new Promise((resolve, reject) => {
    const words = [process.execPath, ...NO_DEADLOCK, ...flags, path.join(FIXTURES, fixture), ...values];
    // A shell enters the group and becomes the program.
    if (group !== null) words.unshift('sh', '-c', `echo $$ > ${group}/cgroup.procs && exec "$0" "$@"`);
    const child = spawn(words[0], words.slice(1), { env: { ...process.env, ...env } });
    const output = { stdout: '', stderr: '' };
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        output[name] += text;
      });
    }
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, ...output });
    });
  });
}

/** The last line of what a process printed. A V8 whose Worker is ended while it is
 *  being made may print the source that it was compiling before it. */
function lastLine(text) {
  return text.trimEnd().split('\n').at(-1);
}

/** Runs a fixture that prints JSON; fails on any other end. */
async function runJson(fixture, values, options) {
  const result = await run(fixture, values, options);
  if (result.code !== 0) throw new Error(`${fixture}: ${JSON.stringify(result)}`);
  return JSON.parse(lastLine(result.stdout));
}

/** Waits until `condition()` holds, at most `seconds`. */
async function until(condition, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited ${seconds} s for: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A new directory; removed by removeTemporary(). */
const directories = [];
function temporaryDirectory() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'memguard-test-'));
  directories.push(directory);
  return directory;
}

function removeTemporary() {
  for (const directory of directories.splice(0)) fs.rmSync(directory, { recursive: true, force: true });
}

const CGROUPS = '/sys/fs/cgroup';

/** Makes a memory control group with that limit.
 *  @returns its directory; null, with the reason, where none can be made. */
function makeGroup(name, limitBytes) {
  const isV1 = fs.existsSync(`${CGROUPS}/memory/memory.limit_in_bytes`);
  const group = `${CGROUPS}/${isV1 ? 'memory/' : ''}memguard-test-${name}-${process.pid}`;
  try {
    if (!isV1) fs.writeFileSync(`${CGROUPS}/cgroup.subtree_control`, '+memory');
    fs.mkdirSync(group);
    fs.writeFileSync(`${group}/${isV1 ? 'memory.limit_in_bytes' : 'memory.max'}`, String(limitBytes));
    return { group };
  } catch (error) {
    return { group: null, reason: error.message };
  }
}

/** What `promise` is rejected with. */
async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

module.exports = { MB, NO_DEADLOCK, lastLine, makeGroup, rejection, removeTemporary, run, runJson, temporaryDirectory, thrown, until };
