'use strict';

// A real memory control group whose limit is below maxMemoryMb is found and wins.
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { MB, makeGroup } = require('./helpers');

const LIMIT_MB = 256;

const CHILD = `
const { ResourceManager } = require(${JSON.stringify(path.join(__dirname, '../..'))})
const manager = new ResourceManager({ maxMemoryMb: 2048 })
const block = Buffer.alloc(${200 * MB}, 1)
manager.memoryMonitor.collectMemoryStats()
const { domain, usage, level, cgroupLimitBytes, cgroupUsedBytes } = manager.memoryMonitor.latest
console.log(JSON.stringify({ domain, usage, level, cgroupLimitBytes, cgroupUsedBytes, kept: block.length }))
manager.close()
`;

const { group, reason } = makeGroup('node', LIMIT_MB * MB);
afterAll(() => group && fs.rmdirSync(group));

if (group === null) {
  test.skip(`no memory control group can be made here: ${reason}`, () => {});
} else {
  test('the limit of the group wins', () => {
    const enter = `echo $$ > ${group}/cgroup.procs && exec "$0" -e "$1"`;
    const seen = JSON.parse(execFileSync('sh', ['-c', enter, process.execPath, CHILD], { timeout: 60000 }).toString());
    expect(seen.domain).toBe('cgroup');
    expect(seen.cgroupLimitBytes).toBe(268435456);
    expect(seen.cgroupUsedBytes).toBeGreaterThan(200 * MB);
    expect(seen.cgroupUsedBytes).toBeLessThanOrEqual(268435456);
    expect(seen.usage).toBeGreaterThan(200 / 256);
    expect(['elevated', 'high', 'critical']).toContain(seen.level);
    expect(seen.kept).toBe(209715200);
  });
}
