// A drill is started from the page of backups, after a login and a question, and what came of it is on the page and in the
// ledger: "sound" proves a restore, "holed" finds a hole in the WAL, drawn where it is, and a drill that fails for it.

import assert from "node:assert/strict";
import { go, inaccessible, open, quiet, shoot, story, until } from "./browser.mjs";

const way = process.argv[2];
const BACKUPS = "/t/shop/backups";

/** To the page of backups, by way of the login; as soon as the repository was looked at. */
async function arrive(page, headline) {
  await go(page, BACKUPS);
  await page.getByLabel("Password or token").fill(process.env.SURUS_PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL((url) => url.pathname === BACKUPS);
  await quiet(page);
  await until(`the page says ${headline}`, async () => {
    await go(page, BACKUPS);
    assert.match(await page.locator("h1").first().textContent(), headline);
  }, 90_000);
}

/** Starts a drill, and waits for its end; what the page says of it. */
async function drill(page) {
  await page.getByRole("link", { name: "Prove a restore …" }).click();
  const question = page.getByRole("alertdialog");
  await question.waitFor();
  assert.match(await question.textContent(), /The repository is only read[\s\S]*prove restore shop/);
  await shoot(page, `drill-${way}-question`);
  const isStart = (answer) => answer.request().method() === "POST" && answer.url().endsWith("/t/shop/drill");
  const started = page.waitForResponse(isStart, { timeout: 90_000 });
  await question.getByRole("button", { name: "Start the drill" }).click();
  assert.equal((await started).status(), 303, "it leads back to the page");
  await until("the drill has ended", async () => {
    await go(page, BACKUPS);
    // Of one moment: it may end between two looks.
    const { told, offered } = await page.evaluate(() => ({
      told: document.querySelector("#drill article h3").textContent,
      offered: document.querySelectorAll("#drill a.chip").length,
    }));
    assert.equal(offered, told.includes("A drill runs") ? 0 : 1, "one at a time");
    assert.doesNotMatch(told, /A drill runs/);
  }, 200_000);
  return page.locator("#drill article");
}

/** The newest entry of a drill in the ledger. */
async function newest(page) {
  await page.locator("#drill").getByRole("link", { name: "the ledger" }).click();
  await page.waitForURL(/\/proofs\?kind=restore/);
  await quiet(page);
  return page.locator("article.finding").first();
}

const STORIES = {
  sound: async (page) => {
    await arrive(page, /no WAL is missing/);
    assert.ok(await page.locator("svg.band rect.reached").count() > 0, "the window is drawn");
    assert.equal(await page.locator("svg.band rect.hole").count(), 0);
    const told = await (await drill(page)).textContent();
    assert.match(told, /^\s*Proven in/);
    assert.match(told, /page checksums[\s\S]*PROVEN backup/, "with what it said");
    const entry = await newest(page);
    assert.match(await entry.locator("h3").textContent(), /restore: surus at .*passed/);
    assert.match(await entry.locator("dl.facts").first().textContent(), /rto/);
  },
  holed: async (page, faults) => {
    const gone = process.env.SURUS_GONE;
    await arrive(page, /^WAL is missing: some moments cannot be restored$/);
    const hole = page.locator("svg.band rect.hole");
    assert.equal(await hole.count(), 1, "the hole is drawn");
    assert.ok((await hole.boundingBox()).width > 0, "and can be seen");
    assert.match(await page.locator("svg.band").getAttribute("aria-label"), /can be restored; .* cannot be: /);
    assert.match(await page.locator("ul.worries li").first().textContent(), new RegExp(`^hole .*${gone}`));
    await page.getByText("cannot: see why below").waitFor();
    faults.push(...await inaccessible(page));
    const told = await drill(page);
    assert.match(await told.locator("h3").textContent(), /The drill failed after/);
    assert.match(await told.getAttribute("class"), /crit/);
    assert.ok((await told.textContent()).includes(gone), "the missing segment is named");
    await shoot(page, "drill-holed-told");

    // In the ledger it stands first and open, before those that passed, with the step, its evidence and what to do.
    const entry = await newest(page);
    assert.match(await entry.locator("h3").textContent(), /restore: surus at .*failed$/);
    const step = entry.locator("table.steps tr").filter({ hasText: "failed: " });
    assert.equal(await step.locator("th").textContent(), "restore");
    assert.ok(await step.isVisible(), "what failed is not behind a click");
    const said = await step.textContent();
    assert.ok(said.includes(gone) && said.includes("what to do: "), said);
    const others = page.locator("article.finding h3").filter({ hasText: "passed" });
    assert.equal(await others.count(), 1, "the drill before it is still there");
    faults.push(...await inaccessible(page));
    await shoot(page, "drill-holed-proof");
  },
};

await story(async (browser) => {
  const { page, faults } = await open(browser);
  await STORIES[way](page, faults);
  assert.deepEqual(faults, []);
});
