// The numbers on the pages are those of the API, for one range of the past.

import assert from "node:assert/strict";
import { BASE, ask, go, open, past, story, until } from "./browser.mjs";

const SCALES = { "": 1, k: 1e3, M: 1e6, G: 1e9, "%": 0.01, µs: 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600, d: 86_400 };

/** Does a text such as `12.3k`, `4 min` or `99.3 %` say this number, as exactly as its digits can? */
function agrees(text, value) {
  const parts = /^(-?\d+(?:\.(\d+))?) ?(%|µs|ms|min|[kMGshd]?)(?:\/s)?$/.exec(text.trim());
  if (!parts || value == null) return false;
  const scale = SCALES[parts[3]];
  // Minutes, hours and days are cut off, other numbers rounded.
  const place = scale * 10 ** -(parts[2]?.length ?? 0) * (["min", "h", "d"].includes(parts[3]) ? 1 : 0.5);
  return Math.abs(Number(parts[1]) * scale - value) <= place * 1.001;
}

function same(text, value, what) {
  assert.ok(agrees(text, value), `${what}: the page says "${text}", the API ${value}`);
}

/** The text under a name in a card of the fleet. */
async function fact(card, name) {
  const pair = card.locator("dl.facts > div").filter({ has: card.page().locator("dt", { hasText: name }) });
  return pair.locator("dd a").textContent();
}

async function fleet(page, range) {
  // What is newest moves, whatever the range: they are asked until nothing happened between.
  await until("the fleet page agrees", async () => {
    const before = (await ask(`/fleet?${range}`)).targets;
    await page.goto(`${BASE}/?${range}`);
    const { targets } = await ask(`/fleet?${range}`);
    assert.equal(targets.length, 2);
    for (const [at, target] of targets.entries()) {
      const card = page.locator(`#target-${target.name}`);
      const compare = async (name, field) => {
        const text = await fact(card, name);
        // The page is as old as one of both answers, or its age is between them.
        if (!agrees(text, before[at][field])) same(text, target[field], `${name} of ${target.name}`);
      };
      await compare("transactions", "transactions_per_second");
      await compare("connections", "connections");
      if (target.role === "standby") await compare("behind", "lag_seconds");
    }
    const standby = targets.find(({ role }) => role === "standby");
    assert.ok(standby.lag_seconds > 30, "its replay is held back");
  });
}

/** The cells of a table's row. */
async function cells(row) {
  return (await row.locator("th, td").allTextContents()).map((text) => text.trim());
}

async function activity(page, range) {
  await go(page, `/t/primary/activity?${range}`);
  const view = await ask(`/targets/primary/activity?${range}`);
  assert.ok(view.seen > 0 && view.statements.length > 1);
  const headline = await page.locator("h1").textContent();
  same(headline.split(" ")[0], view.average, "the average");
  assert.ok((await page.locator(".chosen").textContent()).includes(`${view.seen} session`), "how many were seen");
  const rows = page.locator("section.list", { has: page.locator("h2", { hasText: "Statements" }) }).locator("tbody tr");
  assert.equal(await rows.count(), view.statements.length);
  for (const [at, one] of view.statements.slice(0, 5).entries()) {
    const [, sessions, share] = await cells(rows.nth(at));
    same(sessions, one.sessions, `sessions of statement ${one.key}`);
    same(share, one.share, `share of statement ${one.key}`);
  }
}

async function queries(page, range) {
  await go(page, `/t/primary/queries?${range}`);
  const view = await ask(`/targets/primary/queries?${range}`);
  assert.ok(view.rows.length > 5);
  const rows = page.locator("table.dense tbody tr");
  assert.equal(await rows.count(), view.rows.length);
  for (const [at, one] of view.rows.slice(0, 10).entries()) {
    const [, time, share, calls, mean] = await cells(rows.nth(at));
    same(time, one.time_ms / 1000, `time of ${one.query}`);
    same(share, one.share, `share of ${one.query}`);
    same(calls, one.calls, `calls of ${one.query}`);
    same(mean, one.mean_ms / 1000, `mean of ${one.query}`);
  }
  const first = view.rows[0];
  await go(page, `/t/primary/queries/${first.query}?${range}`);
  const calls = page.locator(".figure", { hasText: "calls" }).first().locator(".value");
  same(await calls.textContent(), first.calls, "calls on the page of the statement");
}

async function tables(page, range) {
  await until("the page of tables agrees", async () => {
    await go(page, `/t/primary/tables?${range}&sort=-live`);
    const view = await ask(`/targets/primary/tables?${range}&sort=-live`);
    assert.ok(view.rows.length > 5);
    const rows = page.locator("table.dense tbody tr");
    assert.equal(await rows.count(), view.rows.length);
    for (const [at, one] of view.rows.slice(0, 10).entries()) {
      const [name, , , , live, dead] = await cells(rows.nth(at));
      assert.ok(name.startsWith(one.name), `${name}, ${one.name}`);
      same(live, one.live_rows, `rows of ${one.name}`);
      same(dead, one.dead_rows, `dead rows of ${one.name}`);
    }
  });
}

await story(async (browser) => {
  const { page, faults } = await open(browser);
  const range = `${past(2)}&live=off`;
  await fleet(page, range);
  await activity(page, range);
  await queries(page, range);
  await tables(page, range);
  assert.deepEqual(faults, []);
});
