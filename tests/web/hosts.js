'use strict';

/* Real processes under memguard and the site that shows them. */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.resolve(__dirname, '../..');
const tool = path.join(root, 'build/bin/memguard');
const python = path.join(root, '.venv/bin/python');
const startMs = 60000;
const lifeS = 600; // a host that a test forgot ends by itself

/** The program's name is what the dashboard shows. It never collects on its own, so
 *  that collections counted are those that were asked for. */
const evilName = '<img src=x onerror=window.hurt=1>.py';
const evilHost = `
import gc, time
gc.disable()
gc.freeze()
held = []
print("ready", flush=True)
end = time.monotonic() + ${lifeS}
while time.monotonic() < end:
    held.append(bytearray(b"1") * (1 << 20))
    if len(held) > 60:
        held.clear()
    time.sleep(0.1)
`;
const nodeHost = `
const held = [];
console.log('ready');
const end = Date.now() + ${lifeS * 1000};
const timer = setInterval(() => {
  for (let i = 0; i < 3000; i += 1) held.push({ i, text: 'x'.repeat(40) + i });
  if (held.length > 240000) held.length = 0;
  if (Date.now() > end) clearInterval(timer);
}, 100);
`;

/** It serves itself, in Python, with a token from its environment. */
const servingHost = `
import time, memguard
manager = memguard.ResourceManager({"max_memory_mb": 400, "sample_interval": 0.2})
manager.__enter__()
server = memguard.serve(port=0)
print("ready", server.url, flush=True)
held = []
end = time.monotonic() + ${lifeS}
while time.monotonic() < end:
    held.append(bytearray(b"1") * (1 << 20))
    if len(held) > 40:
        held.clear()
    time.sleep(0.1)
`;

/** A folder of segments of its own, in memory; everything started in it ends with it. */
class Place {
  constructor() {
    this.folder = fs.mkdtempSync('/dev/shm/memguard-test-');
    this.files = fs.mkdtempSync(path.join(os.tmpdir(), 'memguard-web-'));
    this.running = [];
    this.token = 'the-token-of-these-tests';
    this.tokenFile = path.join(this.files, 'token');
    fs.writeFileSync(this.tokenFile, `${this.token}\n`, { mode: 0o600 });
  }

  #environment() {
    const kept = Object.entries(process.env).filter(
      ([name]) => !/^(MEMGUARD_|NODE_OPTIONS|PYTHONPATH|JEST_)/.test(name),
    );
    // On a busy machine any collection may take long: that is not told.
    return { ...Object.fromEntries(kept), MEMGUARD_DIR: this.folder, MEMGUARD_LONG_PAUSE: '60s' };
  }

  /** Starts a program; resolves with it and what it prints that matches. */
  start(words, pattern) {
    const [program, ...rest] = words;
    const child = spawn(program, rest, { cwd: this.files, env: this.#environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    this.running.push(child);
    return new Promise((resolve, reject) => {
      let text = '';
      const fail = (why) => reject(new Error(`${words.join(' ')} ${why}: ${text}`));
      const timer = setTimeout(() => fail('said nothing'), startMs);
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk) => {
          text = `${text}${chunk}`.slice(-4000);
          const found = pattern.exec(text);
          if (!found) return;
          clearTimeout(timer);
          resolve({ child, found });
        });
      child.on('error', reject);
      child.on('exit', (code) => fail(`ended with ${code}`));
    });
  }

  /** @returns the pid of a host whose program is in a file of this name. */
  async host(program, name, code) {
    fs.writeFileSync(path.join(this.files, name), code);
    const settings = ['sample_interval=200ms', 'enable_auto_gc=false', 'leak_detection=false', 'max_memory_mb=400'];
    const set = settings.flatMap((one) => ['--set', one]);
    const { child } = await this.start([tool, 'run', ...set, '--', program, name], /ready/);
    return child.pid;
  }

  /** @returns the address of `memguard exporter`. */
  async exporter() {
    const words = [tool, 'exporter', '--listen', '127.0.0.1:0', '--token-file', this.tokenFile];
    const { found } = await this.start(words, /http:\S+/);
    return found[0];
  }

  /** @returns the address at which a host shows itself. */
  async serving() {
    const variables = ['env', `MEMGUARD_WEB_TOKEN_FILE=${this.tokenFile}`];
    const { child, found } = await this.start([...variables, python, '-c', servingHost], /ready (\S+)/);
    return { pid: child.pid, url: found[1] };
  }

  async stop() {
    for (const child of this.running) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    for (const folder of [this.folder, this.files]) fs.rmSync(folder, { recursive: true, force: true });
  }
}

module.exports = { evilHost, evilName, nodeHost, Place, python };
