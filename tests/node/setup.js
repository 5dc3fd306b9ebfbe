'use strict';

// Every test file starts its processes with a folder of segments of their own: in a
// shared one a process is told that the run before it was killed, by whatever test.
const fs = require('fs');

process.env.MEMGUARD_DIR = fs.mkdtempSync('/dev/shm/memguard-test-');
afterAll(() => fs.rmSync(process.env.MEMGUARD_DIR, { recursive: true, force: true }));
