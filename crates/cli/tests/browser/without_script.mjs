// Without JavaScript every page still has its headings and tables, links sort, and forms choose range and filter.

import assert from "node:assert/strict";
import { go, open, pages, story } from "./browser.mjs";

/** Pages that always have a table over the demo. */
const WITH_TABLE = [
  "activity", "queries", "tables", "indexes", "replication", "vacuum", "query", "explored", "collectors",
];

await story(async (browser) => {
  const { page, faults } = await open(browser, { javaScriptEnabled: false });
  const wrong = [];
  for (const [name, path] of await pages()) {
    await go(page, path);
    const heading = await page.locator("h1").first().innerText();
    if (heading === "") wrong.push(`${name}: no heading`);
    if (WITH_TABLE.includes(name) && await page.locator("table tbody tr:visible").count() === 0) {
      wrong.push(`${name}: no table`);
    }
  }
  assert.deepEqual(wrong, []);

  await go(page, "/t/primary/queries");
  await page.screenshot({ path: `${process.env.SURUS_SHOTS}/without-script.png` });
  await page.locator(".range input[name=from]").fill("now-2m");
  await page.locator(".range input[name=to]").fill("now-5s");
  await page.getByRole("button", { name: "Go" }).click();
  await page.waitForURL(/from=now-2m&to=now-5s/);
  assert.equal(await page.locator(".range input[name=from]").inputValue(), "now-2m");
  await page.locator("thead").getByRole("link", { name: "Calls" }).click();
  await page.waitForURL(/sort=-calls/);
  assert.equal(await page.locator("th[aria-sort]").innerText(), "Calls ↓");
  await page.locator("input[name=filter]").fill("assigned_to");
  await page.locator("input[name=filter]").press("Enter");
  await page.waitForURL(/filter=assigned_to/);
  const rows = await page.locator("table tbody tr .sql").allInnerTexts();
  assert.ok(rows.length > 0 && rows.every((text) => text.includes("assigned_to")), rows.join("\n"));
  assert.ok(page.url().includes("from=now-2m") && page.url().includes("sort=-calls"), page.url());
  assert.deepEqual(faults, []);
});
