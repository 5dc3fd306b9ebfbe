'use strict';

// In a real memory control group: what dies without memguard lives with it.
const fs = require('fs');
const { MB, makeGroup, run } = require('./helpers');

const { group, reason } = makeGroup('survive', 256 * MB);
afterAll(() => group && fs.rmdirSync(group));

if (group === null) {
  test.skip(`no memory control group can be made here: ${reason}`, () => {});
} else {
  describe.each([
    ['dead Buffers', ['buffers']],
    ['a dead heap', ['heap']],
    ['dead Buffers behind a blocked event loop', ['buffers', 'blocked']],
    ['a dead heap behind a blocked event loop', ['heap', 'blocked']],
  ])('%s', (name, [phase, blocked = 'free']) => {
    test('without memguard it is killed', async () => {
      const { signal, stdout } = await run('survive.js', [phase, 'alone', blocked], { group });
      expect([signal, stdout]).toEqual(['SIGKILL', '']);
    });

    test('with memguard it has what it needs', async () => {
      const { code, signal, stdout, stderr } = await run('survive.js', [phase, 'guarded', blocked], { group });
      expect([code, signal, stderr.includes('Error')]).toEqual([0, null, false]);
      const { kept, actions } = JSON.parse(stdout);
      expect(kept).toBe(150);
      expect(actions.full + actions.release).toBeGreaterThan(0);
    });
  });
}
