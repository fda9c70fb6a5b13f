// A live page refreshes by itself and leaves where one is: focus, scroll, open details. Switched off it asks nothing.

import assert from "node:assert/strict";
import { BASE, go, open, story } from "./browser.mjs";

/** The page asks for itself again. */
function refreshed(page) {
  return page.waitForResponse((answer) => answer.url() === page.url() && answer.request().resourceType() === "fetch");
}

await story(async (browser) => {
  const { page, faults } = await open(browser, { viewport: { width: 1200, height: 700 } });
  await go(page, "/t/primary/activity?from=now-15m&to=now");
  const before = await page.evaluate(() => {
    document.querySelector("#plot-load details").open = true;
    document.querySelector("nav.tabs [aria-current]").focus();
    scrollTo({ top: 150, behavior: "instant" });
    window.plot = document.querySelector("#plot-load surus-plot");
    window.canvas = window.plot.shadowRoot.querySelector("canvas");
    return { to: window.plot.getAttribute("to"), scroll: scrollY };
  });
  assert.equal(before.scroll, 150);
  await refreshed(page);
  await refreshed(page);
  await page.waitForFunction((to) => window.plot.getAttribute("to") !== to, before.to);
  assert.deepEqual(await page.evaluate(() => ({
    details: document.querySelector("#plot-load details").open,
    focus: document.activeElement.textContent,
    scroll: scrollY,
    plot: document.querySelector("#plot-load surus-plot") === window.plot,
    canvas: window.plot.shadowRoot.querySelector("canvas") === window.canvas,
  })), { details: true, focus: "Activity", scroll: 150, plot: true, canvas: true });

  await page.keyboard.press("l");
  await page.waitForURL(/live=off/);
  await page.locator("[data-live-toggle]:not([aria-current])").waitFor();
  // What was under way may still end.
  await page.waitForTimeout(1500);
  const asked = [];
  page.on("request", (request) => asked.push(request.url().replace(BASE, "")));
  await page.waitForTimeout(7000);
  assert.deepEqual(asked, []);

  await page.keyboard.press("l");
  await page.locator("[data-live-toggle][aria-current]").waitFor();
  await refreshed(page);
  assert.deepEqual(faults, []);
});
