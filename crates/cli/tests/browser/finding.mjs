// What the demo does wrong is found from the first page by clicking links that can be seen, three at most.

import assert from "node:assert/strict";
import { go, open, quiet, shoot, story, until } from "./browser.mjs";

const MOST = 3;

/** Somebody who only clicks. */
class Walk {
  clicks = 0;

  constructor(page) {
    this.page = page;
  }

  /** Waits for a link with this text, in a part of the page if given, and follows it. */
  async follow(text, part = "main") {
    const link = this.page.locator(part).getByRole("link", { name: text }).first();
    await link.waitFor().catch(async (error) => {
      const there = await this.page.locator(part).allInnerTexts();
      throw new Error(`no link ${text} in: ${there.join("\n").slice(0, 4000)}`, { cause: error });
    });
    const before = this.page.url();
    await link.click();
    this.clicks += 1;
    await this.page.waitForURL((url) => url.href !== before);
    await quiet(this.page);
  }

  /** Is this link there, and not only the other one? */
  async shows(text, other, part) {
    const [wanted, instead] = [text, other].map((name) => this.page.locator(part).getByRole("link", { name }));
    await wanted.or(instead).first().waitFor();
    return (await wanted.count()) > 0;
  }

  /** What can be seen of a part. */
  async reads(pattern, part = "main") {
    await until(`${pattern} is to be read`, async () => {
      const texts = await this.page.locator(part).locator("visible=true").allInnerTexts();
      assert.ok(texts.some((text) => pattern.test(text)), `${pattern} is not in: ${texts.join("\n").slice(0, 4000)}`);
    }, 15_000);
  }
}

const FINDING = {
  blocker: async (walk) => {
    await walk.follow(/sessions? waits? for process \d+ \(billing-batch\)/);
    await walk.reads(/sessions? waits? for \d other/, "h1");
    await walk.reads(/billing-batch[\s\S]*holds up \d+ session/, ".tree > li > .node");
    await walk.follow(/^\d+$/, ".tree > li > .node");
    await walk.reads(/Process \d+: billing-batch/, "h1");
    await walk.reads(/UPDATE public\.(invoices|credit_notes)/);
  },
  query: async (walk) => {
    await walk.follow(/\d+ crit, \d+ warn/, "#target-primary");
    await walk.reads(/tasks\.assigned_to/, "article.finding");
    await walk.reads(/CREATE INDEX CONCURRENTLY[^;]* ON public\.tasks \(assigned_to\)/, "article.finding");
    // The statement itself, with what it costs.
    await walk.follow("Queries", "nav.tabs");
    await walk.follow(/FROM public\.tasks WHERE assigned_to = \$1/);
    await walk.reads(/FROM public\.tasks WHERE assigned_to = \$1/, "pre");
    await walk.reads(/calls/, ".numbers");
  },
  vacuum: async (walk) => {
    await walk.follow("primary", "#target-primary h2");
    await walk.follow("Vacuum", "nav.tabs");
    await walk.reads(/public\.login_sessions needs? vacuum|need vacuum, public\.login_sessions most/, "h1");
    await walk.reads(/login_sessions[\s\S]*\d+(\.\d)? %/, "tr");
  },
  replica: async (walk) => {
    const [lag, more] = [/It is \d+ s behind its primary/, /^and \d+ more$/];
    // A card shows the worst only: another story may have made worse trouble meanwhile.
    if (!(await walk.shows(lag, more, "#target-standby"))) await walk.follow(more, "#target-standby");
    await walk.follow(lag);
    await walk.reads(/This standby is .+ behind its primary/, "h1");
  },
  setting: async (walk) => {
    await walk.follow("Timeline", "header");
    await walk.follow(/^settings \d+/);
    await walk.reads(/work_mem/, "ol.timeline");
    await walk.reads(/64kB/, "ol.timeline");
  },
};

await story(async (browser) => {
  const { page, faults } = await open(browser);
  const name = process.argv[2];
  await go(page, "/");
  const walk = new Walk(page);
  await FINDING[name](walk);
  console.log(`${name}: ${walk.clicks} clicks, to ${new URL(page.url()).pathname}`);
  assert.ok(walk.clicks <= MOST, `${walk.clicks} clicks`);
  await shoot(page, `finding-${name}`);
  assert.deepEqual(faults, []);
});
