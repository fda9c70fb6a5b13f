// Numbers and times as people read them. All times are UTC.

export type Unit =
  | "count" | "bytes" | "bytes_per_second" | "per_second" | "seconds" | "milliseconds" | "percent" | "sessions";

const UNITS: readonly Unit[] =
  ["count", "bytes", "bytes_per_second", "per_second", "seconds", "milliseconds", "percent", "sessions"];

export function unit(name: string | null): Unit {
  return UNITS.find((known) => known === name) ?? "count";
}

/** At most so many places, without noughts at the end. */
function short(value: number, places: number): string {
  return value.toFixed(places).replace(/\.?0+$/, "");
}

/** Nearly all is not all: 99.97 does not become 100. */
function percent(value: number): string {
  if (value > 99 && value < 100) return short(Math.floor(value * 1000) / 1000, 3);
  return digits(value);
}

/** Three digits that count, without noughts at the end. */
function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return grouped(Math.round(value));
  const places = size >= 10 ? 1 : size >= 1 ? 2 : Math.min(8, 2 - Math.floor(Math.log10(size)));
  return places > 0 ? short(value, places) : String(value);
}

/** Thousands apart by a thin space that does not break. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

function scaled(value: number, base: number, names: readonly string[]): string {
  let step = 0;
  let rest = value;
  while (Math.abs(rest) >= (base === 1000 && step === 0 ? 10_000 : base) && step < names.length - 1) {
    rest /= base;
    step += 1;
  }
  return digits(rest) + (names[step] ?? "");
}

const SI = ["", "\u00a0k", "\u00a0M", "\u00a0G", "\u00a0T"];
/** 1024 of each make the next, named as PostgreSQL names them. */
const SIZES = ["\u00a0bytes", "\u00a0kB", "\u00a0MB", "\u00a0GB", "\u00a0TB", "\u00a0PB"];

function duration(seconds: number): string {
  const size = Math.abs(seconds);
  if (size === 0) return "0\u00a0s";
  if (size < 1e-3) return `${digits(seconds * 1e6)}\u00a0µs`;
  if (size < 1) return `${digits(seconds * 1e3)}\u00a0ms`;
  if (size < 120) return `${digits(seconds)}\u00a0s`;
  if (size < 2 * 3600) return `${digits(seconds / 60)}\u00a0min`;
  if (size < 2 * 86400) return `${digits(seconds / 3600)}\u00a0h`;
  return `${digits(seconds / 86400)}\u00a0d`;
}

/** The value with its unit. */
export function number(value: number | null | undefined, unit: Unit): string {
  if (value == null || !Number.isFinite(value)) return "–";
  switch (unit) {
    case "bytes": return scaled(value, 1024, SIZES);
    case "bytes_per_second": return `${scaled(value, 1024, SIZES)}/s`;
    case "per_second": return `${scaled(value, 1000, SI)}/s`;
    case "seconds": return duration(value);
    case "milliseconds": return duration(value / 1000);
    case "percent": return `${percent(value * 100)}\u00a0%`;
    case "count": return scaled(value, 1000, SI);
    case "sessions":
      if (value > 0 && value < 0.005) return "<0.01";
      return value < 100 ? short(value, 2) : scaled(value, 1000, SI);
  }
}

/** Marks of a value axis: rounded in the unit's own base. */
export function ticks(low: number, high: number, about: number, unit: Unit): number[] {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const step = tickStep(span / Math.max(1, about), unit);
  const marks: number[] = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9 && marks.length < 50; at += 1) {
    marks.push(Number((at * step).toPrecision(12)));
  }
  return marks;
}

function tickStep(rough: number, unit: Unit): number {
  const binary = unit === "bytes" || unit === "bytes_per_second";
  if (binary && rough >= 1) {
    const power = 1024 ** Math.floor(Math.log(rough) / Math.log(1024));
    const mark = [1, 2, 5, 10, 20, 50, 100, 200, 256, 512, 1024].find((mark) => mark * power >= rough) ?? 1024;
    return mark * power;
  }
  if ((unit === "seconds" && rough >= 30) || (unit === "milliseconds" && rough >= 30_000)) {
    const scale = unit === "seconds" ? 1 : 1000;
    const steps = [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
    const step = steps.find((step) => step * scale >= rough);
    if (step) return step * scale;
  }
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5, 10].find((mark) => mark * power >= rough * 0.999) ?? 10) * power;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** `14:05` or, where asked for, `14:05:30`. */
export function clock(seconds: number, withSeconds: boolean): string {
  const date = new Date(seconds * 1000);
  const short = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
  return withSeconds ? `${short}:${two(date.getUTCSeconds())}` : short;
}

/** `21 Nov` */
export function day(seconds: number): string {
  const date = new Date(seconds * 1000);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()] ?? ""}`;
}

/** `21 Nov 14:05:30` */
export function moment(seconds: number): string {
  return `${day(seconds)} ${clock(seconds, true)}`;
}

const TIME_STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
  86400, 2 * 86400, 7 * 86400, 14 * 86400, 28 * 86400, 91 * 86400, 364 * 86400,
];

/** Marks of the time axis, so far apart that a label of 4.5 em fits. */
export function timeTicks(from: number, to: number, widthPx: number): number[] {
  const rough = (to - from) / Math.max(1, widthPx / 72);
  const step = TIME_STEPS.find((step) => step >= rough) ?? 364 * 86400;
  const marks: number[] = [];
  for (let at = Math.ceil(from / step) * step; at <= to && marks.length < 100; at += step) marks.push(at);
  return marks;
}

/** Their labels: the time, with the date below where it changes. */
export function timeLabels(marks: readonly number[]): string[] {
  const step = (marks[1] ?? 0) - (marks[0] ?? 0);
  let before = "";
  return marks.map((at) => {
    const date = day(at);
    if (step >= 86400) return date;
    const changed = date !== before;
    before = date;
    const time = clock(at, step > 0 && step < 60);
    return changed ? `${time}\n${date}` : time;
  });
}
