'use strict';

/* The dashboard of the real exporter, with a Python and a Node process. */
const { launch, open, picture, row, until } = require('./browser.js');
const { evilHost, evilName, nodeHost, Place, python } = require('./hosts.js');

let browser, page, place, site, evilPid, nodePid;

beforeAll(async () => {
  place = new Place();
  browser = await launch();
  evilPid = await place.host(python, evilName, evilHost);
  nodePid = await place.host(process.execPath, 'worker.js', nodeHost);
  site = await place.exporter();
});
afterAll(async () => {
  await browser?.close();
  await place.stop();
});
afterEach(async () => {
  await page?.context().close();
  page = null;
});

const textOf = (selector) => page.locator(selector).textContent();
const isLive = async () => (await textOf('#link')) === 'live';
const drawn = () => page.locator('.chart-memory canvas').evaluate((canvas) => canvas.toDataURL());

/** How far right the curve of RSS goes in the light colours, 0 to 1; read from a copy,
 *  as a canvas that is read back is drawn in another way from then on. */
const curveEnd = () => page.locator('.chart-memory canvas').evaluate((canvas) => {
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  const isNear = (at, value) => Math.abs(data[at] - value) < 8;
  const isCurve = (at) => isNear(at, 0x1d) && isNear(at + 1, 0x6f) && isNear(at + 2, 0xd6) && data[at + 3] > 240;
  for (let x = width - 1; x > 0; x -= 1)
    for (let y = 0; y < height; y += 1) if (isCurve(4 * (y * width + x))) return x / width;
  return 0;
});

async function begin(options) {
  page = await open(browser, site, options);
  await until(async () => (await page.locator('#processes tbody tr').count()) >= 2, 'both hosts are shown');
}

async function choose(pid) {
  await row(page, pid).click();
  await until(async () => (await textOf('#what')).includes(`pid ${pid} `), 'it is chosen');
  await until(async () => /RSS [\d.]+ MB/.test(await page.locator('.chart-memory').getAttribute('aria-label')), 'its history');
}

/** What the site itself says, to compare with what the page shows. */
async function facts(pid) {
  const answer = await (await fetch(new URL('api/v1/processes', site))).json();
  return answer.processes.find((one) => one.pid === pid);
}

const fullCollections = async () => (await facts(evilPid)).gc.generation2?.count ?? 0;

test('two live hosts are shown, and their charts move', async () => {
  await begin();
  await until(isLive, 'it is live');
  expect(await row(page, nodePid).locator('.program-name').textContent()).toBe('worker.js');
  expect(await row(page, nodePid).locator('.program-about').textContent()).toMatch(/^pid \d+ · node \d+\.\d+\.\d+$/);
  expect(await row(page, evilPid).locator('.program-about').textContent()).toMatch(/^pid \d+ · python 3\.\d+\.\d+/);
  for (const pid of [nodePid, evilPid]) {
    await choose(pid);
    expect(await row(page, pid).locator('.cell-rss').textContent()).toMatch(/^[\d.]+ MB$/);
    const before = await drawn();
    await until(async () => (await drawn()) !== before, 'the chart moves');
  }
  expect(page.seen).toEqual([]);
});

test('a process named with HTML is inert', async () => {
  await begin();
  await choose(evilPid);
  expect((await facts(evilPid)).program).toBe(evilName);
  expect(await textOf('#who')).toBe(evilName);
  expect(await row(page, evilPid).locator('.program-name').textContent()).toBe(evilName);
  expect(await page.locator('main img').count()).toBe(0);
  expect(await page.evaluate(() => window.hurt)).toBeUndefined();
  expect(page.seen).toEqual([]);
});

test('the GC button works with the token, and only with it', async () => {
  await begin();
  await choose(evilPid);
  const before = await fullCollections();
  await page.locator('#collect').click();
  expect(await page.locator('#token').getAttribute('open')).not.toBeNull();
  await page.keyboard.press('Escape');
  await page.locator('#collect').click();
  await page.locator('#token-value').fill('not-the-token-of-these-tests');
  await page.keyboard.press('Enter');
  await until(async () => (await page.locator('#token-error').textContent()) === 'That is not the token.', 'it is refused');
  expect(await fullCollections()).toBe(before);
  // The browser itself notes the refusal; nothing else may have been noted.
  expect(page.seen.filter((line) => !line.includes('401'))).toEqual([]);
  page.seen.length = 0;
  await page.locator('#token-value').fill(place.token);
  await page.keyboard.press('Enter');
  await until(async () => /^Collected in [\d.]+ m?s/.test(await textOf('#outcome')), 'it says what it did');
  await until(async () => (await fullCollections()) === before + 1, 'one collection was counted');
  await page.locator('#collect').click(); // asked for once
  await until(async () => (await fullCollections()) === before + 2, 'and one more');
  await page.locator('#optimize').click();
  await until(async () => /^Optimized/.test(await textOf('#outcome')), 'so does the other button');
  await until(async () => (await fullCollections()) > before + 2, 'which collects as well');
  expect(page.seen).toEqual([]);
});

test('light and dark follow the system, charts included', async () => {
  await begin({ colorScheme: 'dark' });
  await choose(nodePid);
  const shade = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  expect(await shade()).toBe('rgb(13, 19, 25)');
  await picture(page, 'dark');
  await page.emulateMedia({ colorScheme: 'light' });
  expect(await shade()).toBe('rgb(243, 245, 247)');
  const hasInk = async () => (await curveEnd()) > 0;
  await until(hasInk, 'the curve has the light colour');
  await picture(page, 'light');
  expect(page.seen).toEqual([]);
});

test('Chinese, by the browser or by the switch', async () => {
  await begin({ locale: 'zh-CN' });
  expect(await page.evaluate(() => document.documentElement.lang)).toBe('zh-CN');
  expect(await textOf('#processes-title')).toBe('进程');
  await row(page, nodePid).click();
  await until(async () => (await textOf('#collect')) === '回收垃圾', 'the buttons are Chinese');
  await picture(page, 'chinese');
  await page.locator('#language').click();
  expect(await textOf('#processes-title')).toBe('Processes');
  expect(await textOf('#collect')).toBe('Collect garbage');
  await page.reload();
  await until(async () => (await textOf('#processes-title')) === 'Processes', 'the choice is remembered');
  const untranslated = await page.evaluate(async () => {
    const [en, zh] = (await Promise.all(['en', 'zh'].map((name) => import(`/assets/${name}.js`)))).map((one) => one.default);
    const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort().join();
    return [...Object.keys(en), ...Object.keys(zh)].filter((key) => holes(en[key] ?? '?') !== holes(zh[key] ?? '!'));
  });
  expect(untranslated).toEqual([]);
  expect(page.seen).toEqual([]);
});

test('360 pixels are enough', async () => {
  await begin({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  await choose(nodePid);
  const wide = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    table: document.querySelector('.table-wrap').scrollWidth - document.querySelector('.table-wrap').clientWidth,
    name: document.querySelector('.program').clientWidth,
  }));
  expect(wide.page).toBeLessThanOrEqual(360);
  expect(wide.table).toBeLessThanOrEqual(0);
  expect(wide.name).toBeGreaterThan(60);
  for (const id of ['#collect', '#optimize', '#unlock', '#language']) expect(await page.locator(id).isVisible()).toBe(true);
  await picture(page, 'phone');
  expect(page.seen).toEqual([]);
});

test('everything is reached by keyboard and has a name', async () => {
  await begin();
  await choose(nodePid);
  await page.locator('#filter').focus();
  const focused = () => page.evaluate(() => {
    const { id, className, dataset, ariaLabel, textContent, labels } = document.activeElement;
    return { place: id || dataset.range || String(className).split(' ').at(-1), name: ariaLabel || labels?.[0]?.textContent || textContent };
  });
  const places = new Set();
  for (let i = 0; i < 45; i += 1) {
    const { place: where, name } = await focused();
    expect(name.trim()).not.toBe('');
    places.add(where);
    await page.keyboard.press('Tab');
  }
  for (const where of ['filter', 'sort', 'program', 'collect', 'optimize', '2m', '10m', '6h', 'chart-memory', 'key', 'chart-usage', 'chart-gc'])
    expect([...places]).toContain(where);
  await page.locator('#processes button[tabindex="0"].program').focus();
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('g');
  expect(await page.locator('#token').getAttribute('open')).not.toBeNull();
  expect(await page.evaluate(() => document.activeElement.id)).toBe('token-value');
  await page.keyboard.press('Escape');
  await page.locator('.chart-memory').focus();
  await until(async () => {
    await page.keyboard.press('ArrowLeft');
    return /^\d\d:\d\d:\d\d$/.test(await textOf('.chart-memory .at'));
  }, 'the arrow shows a moment');
  expect(page.seen).toEqual([]);
});

test('a process serves the dashboard of itself', async () => {
  const { pid, url } = await place.serving();
  page = await open(browser, url);
  await until(async () => (await row(page, pid).count()) === 1, 'it is shown');
  await choose(pid);
  const before = await drawn();
  await until(async () => (await drawn()) !== before, 'the chart moves');
  await page.locator('#unlock').click();
  await page.locator('#token-value').fill(place.token);
  await page.keyboard.press('Enter');
  await page.locator('#optimize').click();
  await until(async () => /^Optimized/.test(await textOf('#outcome')), 'its buttons work');
  expect(page.seen).toEqual([]);
});

test('a process that is killed leaves a gap and a post-mortem', async () => {
  const pid = await place.host(process.execPath, 'doomed.js', nodeHost);
  await begin();
  await until(async () => (await row(page, pid).count()) === 1, 'it is shown');
  await choose(pid);
  await page.locator('[data-range="2m"]').click();
  await until(async () => (await facts(pid)).heartbeat_unix_ms > 0 && !(await page.locator('#collect').isDisabled()), 'it lives');
  await page.emulateMedia({ colorScheme: 'light' });
  await until(async () => (await curveEnd()) > 0, 'its curve has begun');
  process.kill(pid, 'SIGKILL');
  await until(async () => (await row(page, pid).locator('.badge').textContent()) === 'killed', 'its row says so');
  expect(await textOf('#verdict strong')).toBe('Post-mortem: killed');
  expect(await textOf('#verdict span')).toContain('It ended without notice, with memory to spare: not memory.');
  expect(await textOf('.chart-memory .note')).toMatch(/^ended \d\d:\d\d:\d\d$/);
  expect(await page.locator('#collect').isDisabled()).toBe(true);
  // Its curve ends; time goes on beside it.
  await until(async () => (await curveEnd()) > 0 && (await curveEnd()) < 0.92, 'the curve ends before the chart does');
  await picture(page, 'killed');
  await page.reload();
  await until(async () => (await row(page, pid).locator('.badge').textContent()) === 'killed', 'it is there after a reload');
  await choose(pid);
  expect(page.seen).toEqual([]);
});
