// Everything that keys do.

import assert from "node:assert/strict";
import { go, open, quiet, story } from "./browser.mjs";

await story(async (browser) => {
  const { page, faults } = await open(browser);
  await go(page, "/t/primary?from=now-15m&to=now&live=off");
  await page.evaluate(() => { window.sameDocument = true; });

  await page.keyboard.press("g");
  await page.keyboard.press("q");
  await page.waitForURL(/\/t\/primary\/queries/);
  await page.locator("nav.tabs [aria-current]", { hasText: "Queries" }).waitFor();
  assert.ok(await page.evaluate(() => window.sameDocument), "the page was not loaded anew");

  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.name), "filter");
  await page.keyboard.type("select g?", { delay: 20 });
  await page.waitForURL(/filter=select\+g/);
  assert.equal(await page.locator("dialog").count(), 0, "what is written is no key");
  await quiet(page);
  await page.evaluate(() => document.activeElement.blur());

  await page.keyboard.press("?");
  const dialog = page.locator("surus-keys dialog[open]");
  await dialog.waitFor();
  const told = await dialog.textContent();
  for (const what of ["to the filter", "Queries", "Timeline", "zoom out"]) assert.ok(told.includes(what), what);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });

  await page.keyboard.press("[");
  await page.waitForURL(/from=\d{13}/);
  const moved = new URL(page.url()).searchParams;
  assert.ok(Math.abs(moved.get("to") - moved.get("from") - 900_000) < 2000, "as long as before");
  assert.ok(Math.abs(Date.now() - moved.get("to")) > 300_000, "and before it");
  assert.equal(moved.get("filter"), "select g?", "nothing else changes");
  await page.locator(".range input[name=to]:not([value=now])").waitFor();
  await page.keyboard.press("-");
  await page.waitForURL((url) => url.searchParams.get("from") !== moved.get("from"));

  await page.keyboard.press("g");
  await page.keyboard.press("f");
  await page.waitForURL((url) => url.pathname === "/");
  assert.deepEqual(faults, []);
});
