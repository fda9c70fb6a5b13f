import assert from "node:assert/strict";
import { test } from "node:test";
import { fit, place } from "../src/completion";

/** The place of the caret, which is written as |. */
function at(text: string): ReturnType<typeof place> {
  return place(text.replace("|", ""), text.indexOf("|"));
}

test("what stands at the caret", () => {
  assert.deepEqual(at("sum(pg_up|)"), { what: "word", from: 4 });
  assert.deepEqual(at("|"), { what: "word", from: 0 });
  assert.deepEqual(at("pg_up{dat|}"), { what: "label", from: 6, metric: "pg_up" });
  assert.deepEqual(at('pg_up{job="a", ins|'), { what: "label", from: 15, metric: "pg_up" });
  assert.deepEqual(at('pg_up{job="sh|'), { what: "value", from: 11, metric: "pg_up", label: "job" });
  assert.deepEqual(at('pg_up{job=~"sh|"}'), { what: "value", from: 12, metric: "pg_up", label: "job" });
  assert.deepEqual(at("sum by (dat|) (pg_x{})"), { what: "label", from: 8, metric: "pg_x" });
  assert.deepEqual(at("rate(pg_x[5|"), { what: "window", from: 10 });
  assert.deepEqual(at('label_replace(x, "a|'), { what: "nothing" });
  assert.deepEqual(at('pg_up{job="a"|'), { what: "nothing" });
  // A bracket in a string opens nothing.
  assert.deepEqual(at('pg_up{job="{"} + ra|'), { what: "word", from: 17 });
});

test("the nearer the better", () => {
  const ranks = ["pg_stat_database_blks_hit", "a_pg_stat", "xpg_stat", "pg_other"].map((name) => fit(name, "pg_stat"));
  assert.deepEqual(ranks, [0, 1, 2, undefined]);
  assert.equal(fit("pg_stat_database_blks_hit", "blks_pg"), 3);
});
