// From answers of the server to what is drawn: all series on one grid of times.

import type { Labels, Series } from "./api";
import { seriesColour, variable, waitColour, waitOrder } from "./palette";

/** One question of a plot. */
export interface Query {
  readonly expr: string;
  readonly legend?: string;
  readonly color?: string;
}

/** One series as it is drawn. */
export interface Drawn {
  readonly name: string;
  /** The variable of its colour. */
  readonly colour: string;
  readonly values: ReadonlyArray<number | null>;
}

export interface Frame {
  /** Seconds since 1970, a step apart. */
  readonly times: readonly number[];
  readonly series: readonly Drawn[];
  /** Series that there were beyond what can be told apart. */
  readonly left: number;
}

/** The grid of a plot in seconds: its ends are multiples of the step, so that the same times are asked for again. */
export interface Grid {
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

const POINTS = 300;
const STEP_MULTIPLE = 10;
const MOST_POINTS = 5000;
const MOST_SERIES = 40;

/** The grid for a range in milliseconds. */
export function grid(fromMs: number, toMs: number, wanted: number): Grid {
  const seconds = Math.max(1, (toMs - fromMs) / 1000);
  const own = Math.max(STEP_MULTIPLE, Math.ceil(seconds / POINTS / STEP_MULTIPLE) * STEP_MULTIPLE);
  const step = Math.max(wanted > 0 ? wanted : own, Math.ceil(seconds / MOST_POINTS));
  return { start: Math.floor(fromMs / 1000 / step) * step, end: Math.floor(toMs / 1000 / step) * step, step };
}

/** The queries of the attribute; nothing when it is not what it should be. */
export function queries(text: string | null): readonly Query[] {
  try {
    const list: unknown = JSON.parse(text ?? "[]");
    if (!Array.isArray(list)) return [];
    return list.filter((query): query is Query => typeof (query as Query | null)?.expr === "string");
  } catch {
    return [];
  }
}

/** The text of the legend with labels put in; without one, what tells the series apart. */
export function legend(template: string | undefined, labels: Labels, shared: ReadonlySet<string>): string {
  if (template) {
    const text = template.replace(/\{\{\s*([A-Za-z_]\w*)\s*\}\}/g, (_, name: string) => labels[name] ?? "");
    return text.trim() || "–";
  }
  const parts = Object.entries(labels).filter(([name]) => name !== "__name__" && !shared.has(name));
  if (parts.length === 0) return labels["__name__"] ?? "value";
  return `${labels["__name__"] ?? ""}{${parts.map(([name, value]) => `${name}="${value}"`).join(", ")}}`;
}

/** Labels that have the same value in all series, and so tell nothing apart. */
function sharedLabels(all: readonly Series[]): ReadonlySet<string> {
  const first = all[0]?.metric ?? {};
  if (all.length < 2) return new Set();
  return new Set(Object.keys(first).filter((name) => all.every(({ metric }) => metric[name] === first[name])));
}

function onGrid(series: Series, { start, step }: Grid, length: number): Array<number | null> {
  const values = new Array<number | null>(length).fill(null);
  for (const [time, text] of series.values) {
    const index = Math.round((time - start) / step);
    const value = Number(text);
    if (index >= 0 && index < length && Number.isFinite(value)) values[index] = value;
  }
  return values;
}

function most(values: ReadonlyArray<number | null>): number {
  return values.reduce<number>((most, value) => (value !== null && Math.abs(value) > most ? Math.abs(value) : most), 0);
}

interface Given {
  readonly at: readonly number[];
  readonly series: ReadonlyArray<{ name: string; values: ReadonlyArray<number | null>; color?: string }>;
}

/** What the page itself gives instead of queries: `{"at": [ms…], "series": [{"name", "values", "color"?}…]}`. */
export function given(text: string): Frame | undefined {
  try {
    const data = JSON.parse(text) as Given;
    const series = data.series.map(({ name, values, color }, at) => (
      { name, values, colour: color ? variable(color) : seriesColour(at) }
    ));
    return { times: data.at.map((ms) => ms / 1000), series, left: 0 };
  } catch {
    return undefined;
  }
}

/** Everything on one grid, in the order in which it is drawn. `waits`: colours and order of wait classes. */
export function frame(
  all: readonly Query[], answers: ReadonlyArray<readonly Series[]>, on: Grid, waits: boolean,
): Frame {
  const length = Math.round((on.end - on.start) / on.step) + 1;
  const times = Array.from({ length }, (_, index) => on.start + index * on.step);
  let found = all.flatMap((query, index) => {
    const given = answers[index] ?? [];
    const shared = sharedLabels(given);
    return given.map((series, place) => ({
      name: legend(query.legend, series.metric, shared),
      own: query.color && place === 0 ? variable(query.color) : undefined,
      values: onGrid(series, on, length),
    }));
  });
  const left = Math.max(0, found.length - MOST_SERIES);
  if (left > 0) found = found.sort((a, b) => most(b.values) - most(a.values)).slice(0, MOST_SERIES);
  if (waits) found.sort((a, b) => waitOrder(a.name) - waitOrder(b.name) || a.name.localeCompare(b.name));
  let next = 0;
  const series = found.map(({ name, own, values }) => {
    const colour = own ?? (waits ? waitColour(name) : undefined) ?? seriesColour(next++);
    return { name, colour, values };
  });
  return { times, series, left };
}

/** Series on top of each other. Where none has a value there is a gap; one alone without a value counts as nought. */
export function stacked(frame: Frame, hidden: ReadonlySet<string>): Array<Array<number | null>> {
  const some = frame.times.map((_, at) => (
    frame.series.some(({ name, values }) => !hidden.has(name) && values[at] != null)
  ));
  const below = frame.times.map(() => 0);
  return frame.series.map(({ name, values }) => values.map((value, at) => {
    if (!some[at]) return null;
    if (!hidden.has(name)) below[at] = (below[at] ?? 0) + (value ?? 0);
    return below[at] ?? 0;
  }));
}

export interface Extent {
  least: number;
  most: number;
  last: number;
}

/** Least, most and last value of a series. */
export function extent(values: ReadonlyArray<number | null>): Extent | undefined {
  let found: Extent | undefined;
  for (const value of values) {
    if (value === null) continue;
    found ??= { least: value, most: value, last: value };
    found.least = Math.min(found.least, value);
    found.most = Math.max(found.most, value);
    found.last = value;
  }
  return found;
}
