import assert from "node:assert/strict";
import { test } from "node:test";
import { moment, number, ticks, timeLabels, timeTicks, type Unit } from "../src/format";

const plain = (value: number | null, unit: Unit): string => number(value, unit).replace(/\u00a0|\u202f/g, " ");

test("values with their unit", () => {
  const told: ReadonlyArray<readonly [number | null, Unit, string]> = [
    [0, "count", "0"], [0.01234, "count", "0.0123"], [1234, "count", "1 234"], [12_345, "count", "12.3 k"],
    [2_500_000, "count", "2.5 M"], [100, "count", "100"], [-3.5, "count", "-3.5"], [9_999.6, "count", "10 000"],
    [0, "bytes", "0 bytes"], [1023, "bytes", "1 023 bytes"], [1536, "bytes", "1.5 kB"], [1024 ** 3, "bytes", "1 GB"],
    [64 * 1024 ** 2, "bytes_per_second", "64 MB/s"], [12.5, "per_second", "12.5/s"],
    [0.0000042, "seconds", "4.2 µs"], [0.25, "seconds", "250 ms"], [90, "seconds", "90 s"],
    [3 * 86_400, "seconds", "3 d"],
    [12, "milliseconds", "12 ms"], [4500, "milliseconds", "4.5 s"],
    [0.5, "percent", "50 %"], [0.99968, "percent", "99.968 %"], [1, "percent", "100 %"],
    [0.001, "sessions", "<0.01"], [2.345, "sessions", "2.35"], [0, "sessions", "0"],
    [null, "count", "–"], [Number.NaN, "bytes", "–"],
  ];
  for (const [value, unit, text] of told) assert.equal(plain(value, unit), text, `${value} ${unit}`);
});

test("nearly all is never said to be all", () => {
  for (const value of [0.9999, 0.99999, 0.999999]) assert.ok(plain(value, "percent") !== "100 %", String(value));
});

test("marks of a value axis are round in their own base", () => {
  assert.deepEqual(ticks(0, 4.2, 5, "count"), [0, 1, 2, 3, 4]);
  assert.deepEqual(ticks(0, 3 * 1024 ** 2, 3, "bytes"), [0, 1024 ** 2, 2 * 1024 ** 2, 3 * 1024 ** 2]);
  assert.deepEqual(ticks(0, 3600, 4, "seconds"), [0, 900, 1800, 2700, 3600]);
  assert.deepEqual(ticks(5, 5, 4, "count"), [5]);
});

test("times are UTC, with the date where it changes", () => {
  const midnight = Date.UTC(2026, 10, 22) / 1000;
  assert.equal(moment(midnight - 1), "21 Nov 23:59:59");
  const marks = timeTicks(midnight - 3700, midnight + 3700, 400);
  assert.ok(marks.length >= 3 && marks.every((mark) => mark % 1800 === 0), String(marks));
  const hours = [midnight - 3600, midnight - 1800, midnight];
  assert.deepEqual(timeLabels(hours), ["23:00\n21 Nov", "23:30", "00:00\n22 Nov"]);
  assert.deepEqual(timeLabels([midnight, midnight + 86_400]), ["22 Nov", "23 Nov"]);
  assert.deepEqual(timeLabels([midnight, midnight + 30]), ["00:00:00\n22 Nov", "00:00:30"]);
});
