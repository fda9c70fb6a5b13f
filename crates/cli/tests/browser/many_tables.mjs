// A server with 1,000 tables: sorting by a header, filtering while one writes, and how soon the first page is painted.

import assert from "node:assert/strict";
import { go, open, quiet, shoot, story, until } from "./browser.mjs";

/** Generous, because machines are noisy; what was measured is printed. */
const FIRST_PAINT_MS = 3000;

function paint(page) {
  return page.evaluate(() => new Promise((resolve) => {
    const seen = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
    if (seen() !== undefined) return resolve(seen());
    new PerformanceObserver(() => seen() !== undefined && resolve(seen())).observe({ type: "paint", buffered: true });
  }));
}

async function names(page) {
  return page.locator("table.dense tbody th").evaluateAll((cells) => cells.map((cell) => cell.firstChild.textContent));
}

await story(async (browser) => {
  const { page, faults } = await open(browser);
  const paints = [];
  for (let round = 0; round < 5; round += 1) {
    await page.goto("about:blank");
    await go(page, "/");
    paints.push(await paint(page));
  }
  paints.sort((a, b) => a - b);
  console.log(`first contentful paint of the fleet page: ${paints.map((ms) => ms.toFixed(0)).join(", ")} ms`);
  assert.ok(paints[2] < FIRST_PAINT_MS, `${paints} ms`);

  const began = Date.now();
  await go(page, "/t/many/tables?live=off");
  console.log(`the page of tables is at rest after ${Date.now() - began} ms`);
  assert.match(await page.locator("h1").textContent(), /^1000 tables/);
  assert.equal((await names(page))[0], "table_0777", "the largest comes first");
  const sorted = (how) => page.locator(`th[aria-sort=${how}]`, { hasText: "Size" }).waitFor();
  await page.locator("thead").getByRole("link", { name: /^Size/ }).click();
  await sorted("ascending");
  assert.notEqual((await names(page))[0], "table_0777");
  await page.locator("thead").getByRole("link", { name: /^Size/ }).click();
  await sorted("descending");
  await until("the largest comes first again", async () => assert.equal((await names(page))[0], "table_0777"));
  await page.locator("thead").getByRole("link", { name: /^Table/ }).click();
  await until("sorted by name, one way", async () => {
    const now = await names(page);
    assert.ok(now.length > 50 && now[0] === "table_1000", now.slice(0, 3).join());
  });
  await page.locator("thead").getByRole("link", { name: /^Table/ }).click();
  await until("and the other", async () => {
    const now = await names(page);
    assert.deepEqual(now, now.toSorted());
    assert.equal(now[0], "table_0001");
  });
  await quiet(page);
  await shoot(page, "many-tables");

  await page.keyboard.press("/");
  await page.keyboard.type("table_077", { delay: 30 });
  await until("the filter narrows", async () => assert.equal((await names(page)).length, 10));
  assert.equal(await page.evaluate(() => document.activeElement.name), "filter", "one can go on writing");
  await page.keyboard.type("7");
  await until("and narrows on", async () => assert.deepEqual(await names(page), ["table_0777"]));
  assert.ok(page.url().includes("filter=table_0777"));
  assert.deepEqual(faults, []);
});
