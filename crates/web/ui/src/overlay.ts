// What lies over a plot: the box at the crosshair and the marks of events.

import type uPlot from "uplot";
import { resolve } from "./colours";
import { make } from "./elements";
import { moment, number, type Unit } from "./format";
import type { Frame } from "./frame";
import { grouped, markColour, type Mark } from "./marks";

const ROWS = 12;
const APART_PX = 12;
const TITLES = 6;

/** The box at the crosshair. */
export class Box {
  readonly element = make("div", { class: "box", hidden: true, "aria-hidden": "true" });

  hide(): void {
    this.element.hidden = true;
  }

  /** The values at a time; where they are stacked, as they lie, with their sum. */
  values(plot: uPlot, frame: Frame, index: number, unit: Unit, isStack: boolean, hidden: ReadonlySet<string>): void {
    const rows = frame.series
      .map(({ name, colour, values }) => ({ name, colour, value: values[index] ?? null }))
      .filter(({ name, value }) => value !== null && !hidden.has(name));
    if (isStack) rows.reverse();
    else rows.sort((a, b) => (b.value ?? 0) - (a.value ?? 0));
    const told = isStack ? rows.filter(({ value }) => value !== 0) : rows;
    const lines = told.slice(0, ROWS).map(({ name, colour, value }) => line(name, number(value, unit), colour));
    if (told.length > ROWS) lines.push(line(`${told.length - ROWS} more`, ""));
    if (rows.length === 0) lines.push(line("no values", ""));
    if (isStack && rows.length > 1) {
      lines.unshift(line("all", number(rows.reduce((sum, { value }) => sum + (value ?? 0), 0), unit)));
    }
    const time = frame.times[index] ?? 0;
    this.at(plot, plot.valToPos(time, "x"), make("p", {}, moment(time)), ...lines);
  }

  /** What happened. */
  events(plot: uPlot, left: number, marks: readonly Mark[]): void {
    const lines = marks.slice(0, TITLES).map((mark) => {
      const told = make("div", { class: "told" }, make("b", {}, mark.title), make("time", {}, moment(mark.at)));
      if (mark.detail) told.append(make("span", {}, mark.detail));
      return told;
    });
    if (marks.length > TITLES) lines.push(make("div", { class: "told" }, `and ${marks.length - TITLES} more`));
    this.at(plot, left, ...lines);
  }

  private at(plot: uPlot, left: number, ...children: readonly Node[]): void {
    this.element.replaceChildren(...children);
    this.element.hidden = false;
    const edge = plot.over.offsetLeft;
    const all = plot.over.clientWidth;
    const own = this.element.offsetWidth;
    const right = left + 12 + own <= all;
    const place = right ? left + 12 : left - 12 - own;
    this.element.style.left = `${edge + Math.max(-edge + 4, Math.min(place, all - own))}px`;
    this.element.style.top = `${plot.over.offsetTop + 4}px`;
  }
}

function line(name: string, value: string, colour?: string): HTMLElement {
  const mark = make("i", {});
  if (colour) mark.style.background = `var(${colour})`;
  return make("div", { class: "row" }, mark, make("span", {}, name), make("b", {}, value));
}

/** The marks of events over a plot. */
export class Marks {
  readonly element = make("div", { class: "marks" });
  private groups: ReadonlyArray<readonly Mark[]> = [];
  private placed = "";

  constructor(private readonly box: Box) {}

  /** Places them anew: after each drawing. */
  place(plot: uPlot, all: readonly Mark[], from: number, to: number): void {
    const perPx = (to - from) / Math.max(1, plot.over.clientWidth);
    this.groups = grouped(all.filter(({ at }) => at >= from && at <= to), APART_PX * perPx);
    this.element.style.left = `${plot.over.offsetLeft}px`;
    this.element.style.top = `${plot.over.offsetTop}px`;
    const key = JSON.stringify(this.groups.map((group) => [group.length, group[0]?.title, group[0]?.at]));
    if (key !== this.placed) {
      this.placed = key;
      this.element.replaceChildren(...this.groups.map((group) => this.button(plot, group)));
    }
    this.groups.forEach((group, at) => {
      const button = this.element.children[at];
      const left = Math.round(plot.valToPos(group[0]?.at ?? 0, "x"));
      if (button instanceof HTMLElement) button.style.left = `${left}px`;
    });
    this.strokes(plot);
  }

  private strokes(plot: uPlot): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.globalAlpha = 0.7;
    for (const group of this.groups) {
      const x = Math.round(plot.valToPos(group[0]?.at ?? 0, "x", true)) + 0.5;
      ctx.strokeStyle = resolve(colour(group));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  private button(plot: uPlot, group: readonly Mark[]): HTMLButtonElement {
    const first = group[0];
    const several = group.length > 1;
    const name = several ? `${group.length} events from ` : `${first?.title ?? "event"}, `;
    const button = make("button", { type: "button", "aria-label": `${name}${moment(first?.at ?? 0)} UTC` },
      several ? String(group.length) : "");
    button.style.background = `var(${colour(group)})`;
    const show = (): void => this.box.events(plot, plot.valToPos(first?.at ?? 0, "x"), group);
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, show);
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => this.box.hide());
    return button;
  }
}

/** One kind: its colour; several: that of events. */
function colour(group: readonly Mark[]): string {
  const first = markColour(group[0]?.kind ?? "");
  return group.every(({ kind }) => markColour(kind) === first) ? first : "--event";
}
