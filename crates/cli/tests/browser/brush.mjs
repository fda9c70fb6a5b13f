// Drawing a range on a plot: the address, the lists and the way back.

import assert from "node:assert/strict";
import { ask, go, open, past, quiet, story, until } from "./browser.mjs";

await story(async (browser) => {
  const { page, faults } = await open(browser);
  const before = `/t/primary/activity?${past(4)}`;
  await go(page, before);
  const seen = await page.locator(".chosen").textContent();

  const plot = await page.locator("#plot-load .u-over").boundingBox();
  const middle = plot.y + plot.height / 2;
  // Near the end: the demo may be younger than what is drawn.
  await page.mouse.move(plot.x + plot.width * 0.7, middle);
  await page.mouse.down();
  await page.mouse.move(plot.x + plot.width * 0.98, middle + 5, { steps: 6 });
  await page.mouse.up();
  await page.waitForURL(/from=\d{13}&to=\d{13}/);
  await until("the address follows", () => assert.ok(!page.url().endsWith(before)));
  await quiet(page);

  const range = new URL(page.url()).searchParams;
  const span = range.get("to") - range.get("from");
  assert.ok(Math.abs(span - 67_200) < 6000, `28 % of four minutes are drawn, ${span / 1000} s come`);
  const view = await ask(`/targets/primary/activity?from=${range.get("from")}&to=${range.get("to")}`);
  const now = await page.locator(".chosen").textContent();
  assert.notEqual(now, seen);
  assert.ok(now.includes(`${view.seen} session`), `the lists are of the range: ${now}, ${view.seen}`);
  const tabs = await page.locator("nav.tabs a").evaluateAll((links) => links.map((link) => link.search));
  assert.ok(tabs.every((search) => search.includes(range.get("from"))), "every tab keeps the range");

  const drawn = page.url();
  await until("a double click zooms out", async () => {
    // Not while the plot is still drawn anew.
    if (page.url() === drawn) await page.locator("#plot-load .u-over").dblclick();
    await page.waitForURL((url) => url.href !== drawn, { timeout: 5000 });
  });
  const wide = new URL(page.url()).searchParams;
  assert.ok(Math.abs((wide.get("to") - wide.get("from")) / span - 2) < 0.05, page.url());
  await quiet(page);
  await page.goBack();
  await until("back to what was drawn", () => assert.equal(new URL(page.url()).search, `?${range}`));
  await quiet(page);
  await page.goBack();
  await until("back to the beginning", async () => {
    assert.ok(page.url().endsWith(before), page.url());
    assert.equal(await page.locator(".chosen").textContent(), seen);
  });
  assert.deepEqual(faults, []);
});
