import assert from "node:assert/strict";
import { test } from "node:test";
import type { Series } from "../src/api";
import { extent, frame, given, grid, legend, queries, stacked } from "../src/frame";

const series = (metric: Series["metric"], values: Series["values"]): Series => ({ metric, values });
const on = { start: 100, end: 130, step: 10 };

test("the grid asks for the same times again while the range moves within a step", () => {
  assert.deepEqual(grid(1_000_000, 1_900_000, 0), { start: 1000, end: 1900, step: 10 });
  assert.deepEqual(grid(1_003_000, 1_903_000, 0), { start: 1000, end: 1900, step: 10 });
  assert.equal(grid(0, 86_400_000, 0).step, 290);
  assert.equal(grid(0, 900_000, 15).step, 15);
  // Never more points than the server gives.
  assert.ok(86_400 * 30 / grid(0, 86_400_000 * 30, 1).step <= 5000);
});

test("values stand on the grid; what is missing, or no number, is a gap", () => {
  const made = frame([{ expr: "a", legend: "x" }], [[series({}, [[100, "1"], [120, "NaN"], [130, "4"]])]], on, false);
  assert.deepEqual(made.times, [100, 110, 120, 130]);
  assert.deepEqual(made.series[0]?.values, [1, null, null, 4]);
});

test("wait classes have their order and colours", () => {
  const given = ["Client", "IO", "CPU"].map((name) => series({ wait_event_type: name }, [[100, "1"]]));
  const made = frame([{ expr: "a", legend: "{{wait_event_type}}" }], [given], on, true);
  assert.deepEqual(made.series.map(({ name, colour }) => [name, colour]), [
    ["CPU", "--wait-cpu"], ["IO", "--wait-io"], ["Client", "--wait-client"],
  ]);
});

test("a stack has a gap only where nothing has a value, and what is hidden does not lift", () => {
  const given = [
    series({ a: "1" }, [[100, "1"], [110, "2"], [130, "4"]]),
    series({ a: "2" }, [[100, "10"], [130, "40"]]),
  ];
  const made = frame([{ expr: "a", legend: "{{a}}" }], [given], on, false);
  assert.deepEqual(stacked(made, new Set()), [[1, 2, null, 4], [11, 2, null, 44]]);
  assert.deepEqual(stacked(made, new Set(["1"])), [[0, null, null, 0], [10, null, null, 40]]);
});

test("a legend says what tells series apart", () => {
  assert.equal(legend("{{ datname }} on {{none}}", { datname: "shop" }, new Set()), "shop on");
  assert.equal(legend(undefined, { __name__: "up", job: "a", instance: "b" }, new Set(["job"])), 'up{instance="b"}');
  assert.equal(legend(undefined, { __name__: "up" }, new Set()), "up");
});

test("many series: the greatest are drawn, and the others counted", () => {
  const given = Array.from({ length: 50 }, (_, at) => series({ a: String(at) }, [[100, String(at)]]));
  const made = frame([{ expr: "a" }], [given], on, false);
  assert.equal(made.series.length, 40);
  assert.equal(made.left, 10);
  assert.ok(made.series.every(({ values }) => (values[0] ?? 0) >= 10));
});

test("an attribute that is no list of queries is none", () => {
  for (const text of [null, "", "{", "{}", "[1, null]"]) assert.deepEqual(queries(text), []);
  assert.deepEqual(extent([null, 3, 1, null]), { least: 1, most: 3, last: 1 });
});

test("values that the page brings are drawn as they are", () => {
  const made = given('{"at":[1000,3000],"series":[{"name":"calls","values":[1,null]}]}');
  const drawn = { name: "calls", values: [1, null], colour: "--series-1" };
  assert.deepEqual(made, { times: [1, 3], series: [drawn], left: 0 });
  for (const text of ["", "{}", "[]"]) assert.equal(given(text), undefined);
});
