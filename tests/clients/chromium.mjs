// Chromium with several visitors, each with cookies of its own, driven by JSON lines.
//
// node chromium.mjs '{"limit"}', in milliseconds. Then on standard input one object a line; each is answered by one on standard
// output: {"yes":true} or {"no":text}; one says that Chromium is there.
//   {"do":"comes","who"}                      a new visitor
//   {"do":"opens","who","url"}
//   {"do":"clicks","who","on"}                `on`: a CSS selector
//   {"do":"types","who","on","text"}          key by key
//   {"do":"sees","who","on","texts"}          waits until the elements have these texts, and there are no others
//   {"do":"counts","who","on","count"}        waits until there are so many elements
//   {"do":"takes","who","file"}               a picture
//   {"do":"goes","who"}                       with all pages
// A page's uncaught errors are told in the answer to the next line of its visitor.

import readline from 'node:readline';
import { chromium } from 'playwright-core';

const { limit } = JSON.parse(process.argv[2]);
const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
const still = ['--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  chromiumSandbox: false,
  args: [...quiet, ...still],
});
const visitors = new Map();

function textsAre([selector, expected]) {
  const texts = [...document.querySelectorAll(selector)].map((element) => element.innerText.trim());
  return JSON.stringify(texts) === JSON.stringify(expected);
}

function countIs([selector, expected]) {
  return document.querySelectorAll(selector).length === expected;
}

// Waits for a condition in the page.
async function waits(page, on, condition, expected) {
  try {
    await page.waitForFunction(condition, [on, expected], { polling: 50 });
  } catch (error) {
    throw new Error(`${on} has ${JSON.stringify(await page.locator(on).allInnerTexts())}: ${error.message}`);
  }
}

const verbs = {
  comes: async ({ who }) => {
    const context = await browser.newContext({ viewport: { width: 1120, height: 700 }, deviceScaleFactor: 2 });
    const page = await context.newPage();
    page.setDefaultTimeout(limit);
    const errors = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    visitors.set(who, { context, page, errors });
  },
  opens: ({ page, url }) => page.goto(url),
  clicks: ({ page, on }) => page.click(on),
  types: ({ page, on, text }) => page.locator(on).pressSequentially(text),
  sees: ({ page, on, texts }) => waits(page, on, textsAre, texts),
  counts: ({ page, on, count }) => waits(page, on, countIs, count),
  takes: ({ page, file }) => page.screenshot({ path: file }),
  goes: async ({ context }) => context.close(),
};

async function answer(told) {
  const visitor = visitors.get(told.who);
  try {
    await verbs[told.do]({ ...told, ...visitor });
    const errors = visitor?.errors.splice(0) ?? [];
    return errors.length ? { no: errors.join('\n') } : { yes: true };
  } catch (error) {
    return { no: error.message };
  }
}

console.log(JSON.stringify({ yes: true }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
await browser.close();
