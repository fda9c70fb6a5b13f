// What every script here uses: a Chromium that goes nowhere but to surus, and watches what goes wrong on a page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** The address of surus, without a path. */
export const BASE = process.env.SURUS_URL;
export const API = `${BASE}/api/surus/v1`;

/** How long a whole script may take. */
const WITHIN_MS = 300_000;
/** How long a page may take on a busy machine. */
const PAGE_MS = 30_000;

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** What each page has asked for and not got yet. */
const loading = new WeakMap();

/** Runs a story in a new browser with an empty profile; what it throws ends the process with 1. */
export async function story(run) {
  const late = setTimeout(() => {
    console.error(`not done after ${WITHIN_MS / 1000} s`);
    process.exit(1);
  }, WITHIN_MS);
  const browser = await chromium.launch({ executablePath: process.env.SURUS_CHROMIUM, args: FLAGS });
  try {
    await run(browser);
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    clearTimeout(late);
    await browser.close();
  }
}

/** A page, and what went wrong on it so far. */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, ...options });
  context.setDefaultTimeout(PAGE_MS);
  const page = await context.newPage();
  const faults = [];
  const asked = new Set();
  loading.set(page, asked);
  page.on("request", (request) => asked.add(request));
  for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => asked.delete(request));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`page error: ${error.stack}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== BASE && url.protocol !== "data:") faults.push(`a request to ${url.origin}`);
  });
  page.on("response", (answer) => {
    if (answer.status() >= 400) faults.push(`${answer.status()} for ${answer.url()}`);
  });
  if (options.javaScriptEnabled !== false) {
    await page.exposeFunction("surusForbidden", (what) => faults.push(`forbidden by the policy: ${what}`));
    await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) => {
      window.surusForbidden(`${event.violatedDirective}: ${event.blockedURI}`);
    }));
  }
  return { page, faults, context };
}

/** Goes to a path and waits until nothing is loaded any more. */
export async function go(page, path) {
  const answer = await page.goto(BASE + path, { waitUntil: "load" });
  assert.equal(answer.status(), 200, path);
  await quiet(page);
}

/** No request for a fifth of a second. */
export async function quiet(page) {
  const end = Date.now() + PAGE_MS;
  let since = Date.now();
  while (Date.now() - since < 200) {
    assert.ok(Date.now() < end, "the page never comes to rest");
    await page.waitForTimeout(40);
    if (loading.get(page).size > 0) since = Date.now();
  }
}

/** The `data` of surus's own API. */
export async function ask(path) {
  const answer = await fetch(API + path);
  assert.equal(answer.status, 200, path);
  const { status, data } = await answer.json();
  assert.equal(status, "success", path);
  return data;
}

/** What axe calls serious or critical on a page. */
export async function inaccessible(page) {
  await page.evaluate(readFileSync("node_modules/axe-core/axe.min.js", "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return bad.flatMap(({ id, nodes }) => nodes.slice(0, 5).map(({ target, failureSummary }) =>
    `axe ${id}: ${target.join(" ")}: ${failureSummary.replace(/\s+/g, " ")}`));
}

/** Tries until it does not throw. */
export async function until(what, check, withinMs = 30_000) {
  const end = Date.now() + withinMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw new Error(`not within ${withinMs / 1000} s: ${what}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** The whole page as a picture; what is drawn only when it is seen is drawn first. */
export async function shoot(page, name) {
  const { width, height } = page.viewportSize();
  const all = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height: Math.min(Math.max(all, height), 8000) });
  await page.waitForFunction(() => [...document.querySelectorAll("surus-plot")].every((plot) => {
    const said = plot.shadowRoot.querySelector(".said:not([hidden])")?.textContent ?? "";
    return !plot.checkVisibility() || !said.startsWith("Waiting");
  }));
  await page.screenshot({ path: join(process.env.SURUS_SHOTS, `${name}.png`), fullPage: true });
  await page.setViewportSize({ width, height });
}

/** A range of the past, so that nothing on a page moves: the last minutes before ten seconds ago. */
export function past(minutes = 3) {
  const to = Math.floor(Date.now() / 1000) * 1000 - 10_000;
  return `from=${to - minutes * 60_000}&to=${to}`;
}

/** A session of the newest look; a look between two statements sees none. */
async function busySession() {
  const until = Date.now() + PAGE_MS;
  while (Date.now() < until) {
    const { sessions } = await ask("/targets/primary/activity");
    if (sessions.length > 0) return sessions[0];
    await new Promise((done) => setTimeout(done, 500));
  }
  throw new Error(`no session was active for ${PAGE_MS / 1000} s`);
}

/** Every page there is now: name and path with a range. */
export async function pages() {
  const range = past();
  const of = (path, more = "") => `${path}?${range}${more}`;
  const { rows } = await ask(`/targets/primary/queries?${range}`);
  const session = await busySession();
  const tabs = [
    "activity", "blocking", "queries", "tables", "indexes", "replication", "backups", "vacuum", "host", "findings", "events",
  ];
  return [
    // First, because sessions end.
    ["session", `/t/primary/sessions/${session.pid}`],
    ["fleet", of("/")],
    ["instance", of("/t/primary")],
    ...tabs.map((tab) => [tab, of(`/t/primary/${tab}`)]),
    ["standby", of("/t/standby")],
    ["standby-replication", of("/t/standby/replication")],
    ["query", of(`/t/primary/queries/${rows[0].query}`)],
    ["timeline", of("/timeline")],
    ["moment", of("/t/primary/backups", "&at=now-1d")],
    ["runbook", "/t/primary/runbook"],
    ["proofs", "/proofs"],
    ["explore", of("/explore")],
    ["explored", of("/explore", "&query=sum+by+(wait_event_type)+(surus_active_sessions)")],
    ["collectors", "/collectors"],
    ["login", "/login"],
  ];
}
