'use strict';

/* What the tests of the dashboard share: one browser, and a page that is watched. */
const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');

const pictures = path.resolve(__dirname, '../../build/report/web');
const waitMs = 60000;

/** Debian's browser. As root it has no sandbox; it meets our own pages alone. */
function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--js-flags=--expose-gc'],
    timeout: waitMs,
  });
}

/** Opens a page; `page.seen` collects what must not be: messages of the console,
 *  errors, requests that leave `origin`. */
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB', ...options });
  const page = await context.newPage();
  const { origin } = new URL(url);
  page.setDefaultTimeout(waitMs);
  page.seen = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.seen.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => page.seen.push(String(error)));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) page.seen.push(`request to ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

/** Waits for something that a page must come to. */
async function until(condition, what) {
  const end = Date.now() + waitMs;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Kept in build/report/web. */
function picture(page, name) {
  fs.mkdirSync(pictures, { recursive: true });
  return page.screenshot({ path: path.join(pictures, `${name}.png`) });
}

const row = (page, pid) => page.locator(`#processes tr[data-pid="${pid}"]`);

module.exports = { launch, open, picture, row, until };
