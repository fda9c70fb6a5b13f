// Every page in one of three ways: loads without a fault, has no serious fault of accessibility, fits a phone.

import assert from "node:assert/strict";
import { go, inaccessible, open, pages, shoot, story } from "./browser.mjs";

const way = process.argv[2];
const OPTIONS = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  phone: { colorScheme: "light", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
}[way];

await story(async (browser) => {
  const wrong = [];
  const { page, faults } = await open(browser, OPTIONS);
  for (const [name, path] of await pages()) {
    try {
      await go(page, path);
      await shoot(page, `${name}-${way}`);
      assert.notEqual(await page.locator("h1").first().textContent(), "", "a heading");
      assert.equal(await page.locator("surus-plot").evaluateAll((plots) =>
        plots.filter((plot) => plot.shadowRoot.querySelector(".said b")).length), 0, "plots with an error");
      if (way === "phone") {
        // Not innerWidth: a phone zooms out until all of a page that is too wide fits.
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= OPTIONS.viewport.width, `it is ${wide} px wide`);
      } else {
        faults.push(...await inaccessible(page));
      }
    } catch (error) {
      faults.push(error.stack ?? String(error));
    }
    wrong.push(...faults.splice(0).map((fault) => `${name}: ${fault}`));
  }
  assert.deepEqual(wrong, []);
});
