// Ending a session: not without the password, not without a look at its statement, and it stays in the ledger.

import assert from "node:assert/strict";
import { API, BASE, ask, go, open, quiet, shoot, story, until } from "./browser.mjs";

/** A session that others wait for, and will for another minute. */
async function blocker() {
  return until("somebody holds others up", async () => {
    const { roots } = await ask("/targets/primary/blocking");
    const root = roots.find(({ session }) =>
      session?.application === "billing-batch" && session.transaction_age_ms < 50_000);
    assert.ok(root);
    return root.pid;
  }, 90_000);
}

/** What the ledger has about a process; checks write into it too, all the time. */
async function entries(pid) {
  const { rows } = await ask("/proofs");
  return rows.filter((row) => new RegExp(`\\b${pid}\\b`).test(JSON.stringify([row.subject, row.steps]))).length;
}

/** Whoever only reads gets no further than to the login, whatever they send. */
async function refused(pid) {
  const path = `/t/primary/sessions/${pid}/terminate`;
  for (const to of [path, `/api/surus/v1${path.replace("/t/", "/targets/")}`]) {
    assert.equal((await fetch(BASE + to, { method: "POST", redirect: "manual" })).status, 401, to);
  }
  // The form of a page whose login has run out leads to the login, and from there back.
  const headers = { accept: "text/html", referer: `${BASE}/t/primary/sessions/${pid}?do=terminate` };
  const answer = await fetch(BASE + path, { method: "POST", redirect: "manual", headers });
  assert.equal(answer.status, 303);
  const next = encodeURIComponent(`/t/primary/sessions/${pid}?do=terminate`);
  assert.equal(new URL(answer.headers.get("location"), BASE).search, `?next=${next}`);
}

async function isThere(pid) {
  return (await fetch(`${API}/targets/primary/sessions/${pid}`)).status === 200;
}

await story(async (browser) => {
  const { page, faults } = await open(browser);
  const pid = await blocker();
  await refused(pid);

  await go(page, `/t/primary/sessions/${pid}`);
  assert.equal(await page.getByRole("link", { name: /Terminate/ }).count(), 0, "who only reads is not offered it");
  await page.getByRole("link", { name: "Log in to cancel or terminate it" }).click();
  const password = page.getByLabel("Password or token");
  await password.waitFor();
  assert.ok(await isThere(pid), "without a login the session goes on");
  assert.equal(await entries(pid), 0, "and what was refused is not in the ledger");
  await password.fill("not this");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("That was not the password.").waitFor();
  // The browser tells of the 401.
  assert.ok(faults.length > 0);
  faults.length = 0;
  await password.fill(process.env.SURUS_PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();

  // Back on the session's page; before anything is done its statement is shown.
  await page.getByRole("link", { name: "Terminate the session …" }).click();
  const confirm = page.getByRole("alertdialog");
  await confirm.waitFor();
  const shown = await confirm.textContent();
  assert.match(shown, /UPDATE public\.(invoices|credit_notes) SET amount = amount/);
  assert.match(shown, /transaction is rolled back/);
  await shoot(page, "ending-confirm");
  await confirm.getByLabel("Why").fill("it forgot its transaction");
  await confirm.getByRole("button", { name: "Terminate the session" }).click();
  await page.getByRole("heading", { name: "Done" }).waitFor();
  await shoot(page, "ending-done");
  const entry = page.getByRole("link", { name: /^entry \d+$/ }).last();
  const number = /\d+/.exec(await entry.textContent())[0];
  await entry.click();
  await page.waitForURL(/\/proofs/);
  await quiet(page);
  const written = page.locator(`#entry-${number}`);
  assert.match(await written.textContent(), /terminate|session/i);
  assert.ok(await entries(pid) > 0);

  assert.ok(!await isThere(pid));
  await go(page, `/t/primary/sessions/${pid}`);
  await page.getByText(`Process ${pid} has ended`).waitFor();
  assert.deepEqual(faults, []);
});
