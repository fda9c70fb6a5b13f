// A plot in words and as a table, for those who do not look at it or want the figures.

import { make } from "./elements";
import { moment, number, type Unit } from "./format";
import { extent, type Frame } from "./frame";

const SUMMED_UP = 10;
const ROWS = 200;

/** Least, most and last of each series, in one sentence each. */
export function summary(frame: Frame, unit: Unit): string {
  const told = frame.series.slice(0, SUMMED_UP).map(({ name, values }) => {
    const found = extent(values);
    if (!found) return `${name}: no values.`;
    const [least, most, last] = [found.least, found.most, found.last].map((value) => number(value, unit));
    return `${name}: least ${least}, most ${most}, last ${last}.`;
  });
  const more = frame.series.length - told.length;
  return told.join(" ") + (more > 0 ? ` And ${more} more.` : "");
}

/** The values, newest first; every n-th where there are many. */
export function table(frame: Frame, unit: Unit): HTMLElement {
  const every = Math.ceil(frame.times.length / ROWS);
  const head = make("tr", {}, make("th", { scope: "col" }, "UTC"),
    ...frame.series.map(({ name }) => make("th", { scope: "col" }, name)));
  const body = make("tbody");
  for (let at = frame.times.length - 1; at >= 0; at -= every) {
    if (frame.series.every(({ values }) => values[at] == null)) continue;
    body.append(make("tr", {}, make("th", { scope: "row" }, moment(frame.times[at] ?? 0)),
      ...frame.series.map(({ values }) => make("td", {}, number(values[at], unit)))));
  }
  return make("table", {}, make("thead", {}, head), body);
}
