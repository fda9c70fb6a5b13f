// The drawing itself: uPlot with the axes, stacks, bars, limit line and crosshair of surus.

import uPlot from "uplot";
import { resolve } from "./colours";
import { number, ticks, timeLabels, timeTicks, type Unit } from "./format";
import { stacked, type Frame } from "./frame";

export type Kind = "line" | "stack" | "bars";

/** How a plot is drawn, besides its values. */
export interface Look {
  readonly kind: Kind;
  readonly unit: Unit;
  readonly height: number;
  /** Seconds. */
  readonly from: number;
  readonly to: number;
  readonly step: number;
  readonly limit: number | undefined;
  readonly limitLabel: string;
  /** Ends of the value axis where they are given; `auto` lets it begin at the least value. */
  readonly min: number | "auto" | undefined;
  readonly max: number | undefined;
}

/** What the drawing tells. */
export interface Heard {
  cursor(index: number | null): void;
  brushed(from: number, to: number): void;
  out(): void;
  drawn(): void;
}

const FONT = "11px system-ui, sans-serif";
const AXIS_PX = 58;
/** A range that was drawn narrower than this was a click. */
const BRUSH_PX = 5;
/** The limit is drawn when the values come this near to it; otherwise they would be flattened. */
const LIMIT_NEAR = 6;

/** The colour with a share of what is below it. */
function thin(colour: string, share: number): string {
  return colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);
}

/** Values as uPlot takes them: times, then each series, on top of each other where they are stacked. */
export function columns(frame: Frame, look: Look, hidden: ReadonlySet<string>): uPlot.AlignedData {
  const values = look.kind === "line" ? frame.series.map((series) => series.values) : stacked(frame, hidden);
  return [frame.times, ...values] as uPlot.AlignedData;
}

/** Is the limit within sight of the values? */
export function showsLimit(most: number, limit: number | undefined): limit is number {
  return limit !== undefined && (most * LIMIT_NEAR >= limit || most <= 0);
}

function valueRange(look: Look, least: number, most: number): [number, number] {
  let low = look.min === "auto" ? least : look.min ?? Math.min(0, least);
  let high = look.max ?? most;
  if (showsLimit(most, look.limit) && look.max === undefined) high = Math.max(high, look.limit * 1.05);
  if (look.max === undefined) high += (high - low) * 0.06;
  if (look.min === "auto") low = least >= 0 ? Math.max(0, low - (high - low) * 0.06) : low - (high - low) * 0.06;
  if (!(high > low)) high = low + (look.unit === "percent" ? 0.01 : 1);
  return [low, high];
}

/** Runs of times at which there is a value. */
function runs(values: ArrayLike<number | null | undefined>, from: number, to: number): Array<[number, number]> {
  const found: Array<[number, number]> = [];
  let begin = -1;
  for (let at = from; at <= to + 1; at += 1) {
    const there = at <= to && values[at] != null;
    if (there && begin < 0) begin = at;
    if (!there && begin >= 0) {
      found.push([begin, at - 1]);
      begin = -1;
    }
  }
  return found;
}

/** Areas between a series and the one below it. */
function areas(look: () => Look): uPlot.Series.PathBuilder {
  return (plot, index, from, to) => {
    const fill = new Path2D();
    const top = plot.data[index] ?? [];
    const below = index > 1 ? plot.data[index - 1] : undefined;
    const x = (at: number) => plot.valToPos(plot.data[0][at] ?? 0, "x", true);
    const y = (value: number | null | undefined) => plot.valToPos(value ?? 0, "y", true);
    const step = Math.abs(x(1) - x(0)) || (look().step / (look().to - look().from)) * plot.bbox.width;
    for (const [begin, end] of runs(top, from, to)) {
      if (look().kind === "bars" || begin === end) {
        const width = Math.max(1, step * (look().kind === "bars" ? 0.8 : 1));
        for (let at = begin; at <= end; at += 1) {
          if (top[at] === (below?.[at] ?? 0)) continue;
          fill.rect(x(at) - width / 2, y(top[at]), width, y(below?.[at]) - y(top[at]));
        }
        continue;
      }
      fill.moveTo(x(begin), y(top[begin]));
      for (let at = begin + 1; at <= end; at += 1) fill.lineTo(x(at), y(top[at]));
      for (let at = end; at >= begin; at -= 1) fill.lineTo(x(at), y(below?.[at]));
      fill.closePath();
    }
    return { stroke: null, fill, clip: null, flags: 0 };
  };
}

/** Values without neighbours: a line does not show them. */
function alone(plot: uPlot, index: number): number[] {
  const values = plot.data[index] ?? [];
  const found: number[] = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  }
  return found;
}

function lines(frame: Frame, look: () => Look, hidden: ReadonlySet<string>): uPlot.Series[] {
  const filled = look().kind !== "line";
  // An area under a line says that it stands on nought.
  const only = frame.series.length === 1 && look().min === undefined;
  return frame.series.map(({ name, colour }) => {
    const stroke = () => resolve(colour);
    const shared = { label: name, scale: "y", show: !hidden.has(name), spanGaps: false };
    if (filled) {
      return { ...shared, fill: stroke, stroke, width: 0, paths: areas(look), points: { show: false } };
    }
    const points = { show: true, size: 4, width: 0, fill: stroke, stroke, filter: alone };
    return { ...shared, stroke, width: 1.5, points, ...(only ? { fill: () => thin(resolve(colour), 0.12) } : {}) };
  });
}

function limitLine(plot: uPlot, look: Look, most: number): void {
  const { limit } = look;
  if (limit === undefined) return;
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = FONT.replace("11px", `${11 * ratio}px`);
  ctx.textAlign = "right";
  const right = bbox.left + bbox.width - 4 * ratio;
  const words = (text: string, y: number): void => {
    // On a ground of its own, so that it can be read over areas too.
    const width = ctx.measureText(text).width + 6 * ratio;
    ctx.fillStyle = thin(resolve("--card"), 0.8);
    ctx.fillRect(right - width + 3 * ratio, y, width, 14 * ratio);
    ctx.fillStyle = resolve("--ink");
    ctx.textBaseline = "top";
    ctx.fillText(text, right, y + 2 * ratio);
  };
  if (showsLimit(most, limit)) {
    const y = Math.round(plot.valToPos(limit, "y", true));
    ctx.strokeStyle = resolve("--ink");
    ctx.lineWidth = ratio;
    ctx.setLineDash([5 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    words(look.limitLabel, y - 16 * ratio);
  } else {
    words(`${look.limitLabel} ↑`, bbox.top + 2 * ratio);
  }
  ctx.restore();
}

/** A plot in the element. `look` is asked whenever it is drawn, so that it may change. */
export function draw(
  place: HTMLElement, width: number, frame: Frame, look: () => Look, hidden: ReadonlySet<string>, heard: Heard,
): uPlot {
  let most = 0;
  const faint = () => resolve("--faint");
  const grid = { stroke: () => resolve("--plot-grid"), width: 1 };
  const options: uPlot.Options = {
    width,
    height: look().height,
    padding: [8, 14, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: false, range: () => [look().from, look().to] },
      y: {
        range: (_, least, highest) => {
          most = highest ?? 0;
          return valueRange(look(), least ?? 0, most);
        },
      },
    },
    axes: [
      {
        stroke: faint, grid, ticks: { show: false }, font: FONT, size: 34, gap: 6,
        splits: (plot) => timeTicks(look().from, look().to, plot.bbox.width / devicePixelRatio),
        values: (_, marks) => timeLabels(marks),
      },
      {
        stroke: faint, grid, ticks: { show: false }, font: FONT, size: AXIS_PX, gap: 6,
        splits: (plot, _, low, high) => ticks(low, high, plot.bbox.height / devicePixelRatio / 34, look().unit),
        values: (_, marks) => marks.map((mark) => number(mark, look().unit)),
      },
    ],
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      points: { size: 6, width: 0 },
      sync: {
        key: "surus",
        scales: ["x", null],
        filters: { pub: (type) => type === "mousemove" || type === "mouseleave", sub: () => true },
      },
      bind: { dblclick: () => () => (heard.out(), null) },
    },
    series: [{}, ...lines(frame, look, hidden)],
    hooks: {
      draw: [(plot) => (limitLine(plot, look(), most), heard.drawn())],
      setCursor: [(plot) => heard.cursor(plot.cursor.idx ?? null)],
      setSelect: [(plot) => {
        const { left, width } = plot.select;
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        if (width >= BRUSH_PX) heard.brushed(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
      }],
    },
  };
  return new uPlot(options, columns(frame, look(), hidden), place);
}
