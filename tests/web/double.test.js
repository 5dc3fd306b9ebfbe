'use strict';

/* The dashboard on made-up processes: what no real host does in time. */
const { launch, open, picture, row, until } = require('./browser.js');
const { Double, mebibyte } = require('./double.js');

const token = 'a token of the tests';
const stepS = 3;
const hourOfLooks = 3600 / stepS;
const looksToFillRings = 250;
const growthAllowed = 400 * 1024;
let browser, site, page;

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());
beforeEach(() => {
  site = new Double({ token });
});
afterEach(async () => {
  await page?.context().close();
  page = null;
  await site.stop();
});

async function begin(options) {
  await site.start();
  page = await open(browser, site.url, options);
}

/** The length of the track that the charts draw, read off the label of a chart. */
const told = () => page.locator('.chart-memory').getAttribute('aria-label');

test('history is there at once, gaps and a beginning anew included', async () => {
  const host = site.add(10, { program: 'steady' }, 300);
  host.points.splice(100, 60); // the recorder was silent for a minute
  const [, , , , , gcNs, gcCount] = host.points[180];
  for (const point of host.points.slice(180)) {
    point[5] -= gcNs; // and counts from 0 from here on
    point[6] -= gcCount;
  }
  await begin();
  await until(async () => /RSS \d+ MB/.test(await told()), 'the chart tells values');
  const drawn = await page.evaluate(async () => {
    const { Track } = await import('/assets/track.js');
    const track = new Track(660);
    const url = '/api/v1/memory/history?pid=10&ring=second&max=600';
    const { fields, points } = await (await fetch(url)).json();
    track.add(fields, points, 1);
    return {
      length: track.length, gaps: track.rss.filter((value) => value === null).length,
      least: Math.min(...track.gc.filter((value) => value !== null)), collections: track.collections,
    };
  });
  expect(drawn.length).toBe(242); // 241 points and the place of the gap
  expect(drawn.gaps).toBe(1);
  expect(drawn.least).toBeGreaterThanOrEqual(0);
  expect(drawn.collections).toBeGreaterThan(200);
  expect(drawn.collections).toBeLessThan(500);
  expect(page.seen).toEqual([]);
});

test('names and texts are shown, never run', async () => {
  const evil = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>';
  const host = site.add(11, { program: evil, runtime: evil });
  host.types.push({ name: evil, count: 3, bytes: 10, grown_count: 1, grown_bytes: 5 });
  host.alerts.push({
    kind: evil, severity: evil, state: 'firing', since_unix_ms: 1, last_unix_ms: 1, resolved_unix_ms: 0,
    value: 1, threshold: 2, unit: evil, summary: evil, culprit: evil,
  });
  host.rounds.push({
    unix_ms: 1, round: 1, reason: evil, actions: [evil], took_ms: 1, gc_ms: 1,
    usage_before: 0.5, usage_after: 0.4, freed_bytes: 0, rss_bytes: 1,
  });
  await begin();
  await until(async () => (await page.locator('#who').textContent()) === evil, 'the name is shown as it is');
  await until(async () => (await page.locator('#types .type-name').textContent()) === evil, 'so is the type');
  expect(await page.locator('#alerts strong').textContent()).toBe(evil);
  expect(await page.locator('main img, main script').count()).toBe(0);
  expect(await page.evaluate(() => window.hurt)).toBeUndefined();
  expect(page.seen).toEqual([]);
});

test('an alert, a leak with its culprit and a round are shown', async () => {
  const host = site.add(12, { program: 'leaky' });
  host.types.push({ name: 'app.Session', count: 8000, bytes: 4 * mebibyte, grown_count: 800, grown_bytes: mebibyte });
  host.alerts.push({
    kind: 'memory_leak', severity: 'warning', state: 'firing', since_unix_ms: site.nowMs, last_unix_ms: site.nowMs,
    resolved_unix_ms: 0, value: 9 * mebibyte, threshold: mebibyte, unit: 'bytes_per_minute', summary: 'the heap grows', subject: 'heap', culprit: 'app.Session',
  });
  host.rounds.push({
    unix_ms: site.nowMs, round: 4, reason: 'water_mark', actions: ['caches', 'trim'], took_ms: 42, gc_ms: 0,
    usage_before: 0.83, usage_after: 0.61, freed_bytes: 88 * mebibyte, rss_bytes: 1,
  });
  await begin();
  await until(async () => (await page.locator('#leaks').textContent()).includes('Culprit: app.Session'), 'the culprit');
  expect(await page.locator('#leaks').textContent()).toContain('heap · 9.0 MB/min (from 1.0 MB/min)');
  expect(await page.locator('#types tbody tr').textContent()).toBe('app.Session8,0004.0 MB+8001.0 MB');
  expect(await page.locator('#optimizations').textContent()).toContain('88.0 MB freed');
  expect(await page.locator('#optimizations').textContent()).toContain('caches, trim · 83 % → 61 % · took 42 ms · water mark');
  expect(await page.locator('#summary').textContent()).toContain('1 firing');
  expect(await row(page, 12).locator('.cell-alerts').textContent()).toBe('1');
});

test('the site goes away and comes back', async () => {
  site.add(13, { program: 'steady' });
  await begin();
  await until(async () => (await page.locator('#link').textContent()) === 'live', 'it is live');
  await site.stop();
  await until(async () => (await page.locator('#link').getAttribute('data-state')) === 'away', 'it says so');
  expect(await row(page, 13).count()).toBe(1); // what was known stays
  site.hosts = [];
  site.nowMs += 60000;
  site.add(13, { program: 'steady' }, 3); // a new one under the same pid, counters from 0
  await site.restart();
  await until(async () => (await page.locator('#link').textContent()) === 'live', 'it is live again');
  await until(async () => (await row(page, 13).locator('.cell-gcs').textContent()).length < 3, 'few collections');
  // That there was nobody is all that the browser may have complained about.
  expect(page.seen.filter((line) => !line.includes('net::ERR_'))).toEqual([]);
});

test('a site that shows nothing without its token asks for it', async () => {
  site.options.readNeedsToken = true;
  site.add(14, { program: 'secret' });
  await begin();
  await page.locator('#token-value').fill('not it');
  await page.keyboard.press('Enter');
  await until(async () => (await page.locator('#token-error').textContent()) === 'That is not the token.', 'it is refused');
  await page.locator('#token-value').fill(token);
  await page.keyboard.press('Enter');
  await until(async () => (await row(page, 14).count()) === 1, 'the process is shown');
  expect(await page.locator('#token').getAttribute('open')).toBeNull();
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  expect(kept).not.toContain(token);
});

test('two hundred processes: filtered, sorted, and walked by keyboard', async () => {
  for (let pid = 1000; pid < 1200; pid += 1)
    site.add(pid, { program: `worker-${pid}`, baseMb: 50 + (pid % 97) }, 20);
  await begin();
  await until(async () => (await page.locator('#processes tbody tr').count()) === 200, 'all are there');
  await page.locator('th.cell-rss button').click();
  expect(await page.locator('th.cell-rss').getAttribute('aria-sort')).toBe('descending');
  const sorted = await page.locator('#processes .cell-rss.number').allTextContents();
  const numbers = sorted.slice(1).map(parseFloat);
  expect(numbers).toEqual([...numbers].sort((a, b) => b - a));
  await page.locator('#filter').fill('worker-111');
  await until(async () => (await page.locator('#processes tbody tr').count()) === 10, 'ten match');
  await page.keyboard.press('Enter');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  const chosen = page.locator('#processes tr[data-chosen="true"]');
  expect(await page.evaluate(() => document.activeElement.closest('tr')?.dataset.chosen)).toBe('true');
  expect(await page.locator('#who').textContent()).toBe(await chosen.locator('.program-name').textContent());
  expect(page.seen).toEqual([]);
});

test('an hour of points, one a second, leaves the heap of the page flat', async () => {
  site.options.stepS = stepS;
  site.add(15, { program: 'api' }, 600);
  site.add(16, { program: 'worker', runtime: 'node' }, 600);
  site.add(17, { program: 'gone', alive: false, verdict: 'clean exit' }, 60);
  await site.start();
  const context = await browser.newContext();
  page = await context.newPage();
  // Time runs as fast as the page can look: the waits between looks are cut.
  await page.addInitScript(() => {
    const plain = window.setTimeout.bind(window);
    window.setTimeout = (callback, ms, ...rest) => plain(callback, ms > 40 ? 1 : ms, ...rest);
    Object.defineProperty(document, 'hidden', { get: () => false });
  });
  await page.goto(site.url);
  const inspector = await context.newCDPSession(page);
  // The least of several: a look that is under way holds what it is about to drop.
  const measure = async () => {
    const least = { usedSize: Infinity, nodes: Infinity, jsEventListeners: Infinity };
    for (let i = 0; i < 8; i += 1) {
      await inspector.send('HeapProfiler.collectGarbage');
      const { usedSize } = await inspector.send('Runtime.getHeapUsage');
      const { nodes, jsEventListeners } = await inspector.send('Memory.getDOMCounters');
      for (const [name, value] of Object.entries({ usedSize, nodes, jsEventListeners }))
        least[name] = Math.min(least[name], value);
      await page.waitForTimeout(50);
    }
    return least;
  };
  await until(() => site.looks >= looksToFillRings, 'warm: rings are full');
  const before = await measure();
  const end = Date.now() + 600000;
  while (site.looks < looksToFillRings + hourOfLooks && Date.now() < end) await page.waitForTimeout(200);
  expect(site.looks).toBeGreaterThanOrEqual(looksToFillRings + hourOfLooks);
  const after = await measure();
  console.log(`after an hour of looks: ${JSON.stringify({ before, after })}`);
  expect(after.usedSize - before.usedSize).toBeLessThan(growthAllowed);
  expect(after.nodes - before.nodes).toBeLessThan(200);
  expect(after.jsEventListeners).toBe(before.jsEventListeners);
  await picture(page, 'after-an-hour');
}, 900000);
