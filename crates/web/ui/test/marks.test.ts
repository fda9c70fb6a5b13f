import assert from "node:assert/strict";
import { test } from "node:test";
import { grouped, markColour, type Mark } from "../src/marks";

test("events that would stand on each other are one mark", () => {
  const mark = (at: number): Mark => ({ at, kind: "restart", title: "", detail: "" });
  const groups = grouped([mark(105), mark(100), mark(109), mark(200)], 10);
  assert.deepEqual(groups.map((group) => group.map(({ at }) => at)), [[100, 105, 109], [200]]);
  assert.equal(markColour("restart"), "--event-restart");
  assert.equal(markColour("ddl"), "--event-schema");
  assert.equal(markColour("something"), "--event");
});
