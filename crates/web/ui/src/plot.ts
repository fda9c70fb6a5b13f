// <surus-plot>: a plot of PromQL queries over the range of the page.
//
// Attributes: queries (JSON list of {expr, legend?, color?}; `$window` in an expression is a window that fits the
// step) or data ({"at": [ms], "series": [{name, values, color?}]}), kind (line, stack, bars), unit, from, to (epoch
// ms), step (s), limit, limit-label, min (a number, or auto), max, palette (waits), height (px), label (accessible
// name), empty (why it may be empty), events (a target's name). All that is drawn lives in a shadow root, so the page
// may be morphed around it; other attributes bring other data into the same drawing.

import type uPlot from "uplot";
import uplotStyle from "uplot/dist/uPlot.min.css";
import { ApiError, range, type Series } from "./api";
import { columns, draw, type Kind, type Look } from "./canvas";
import { onColours } from "./colours";
import { make, sheet } from "./elements";
import { moment, number, unit } from "./format";
import { frame, given, grid, queries, type Frame, type Grid, type Query } from "./frame";
import { Legend } from "./legend";
import { marks, type Mark } from "./marks";
import { busy } from "./navigate";
import { Box, Marks } from "./overlay";
import plotStyle from "./plot.shadow.css";
import { goTo, zoomOut } from "./ranges";
import { summary, table } from "./values";

const STYLE = sheet(uplotStyle, plotStyle);
const HEIGHT_PX = 170;
const LEAST_WINDOW_S = 60;
/** A drawing that is replaced sooner than this does not say that it waits. */
const PATIENCE_MS = 400;

let numbered = 0;

class Plot extends HTMLElement {
  static readonly observedAttributes = [
    "queries", "data", "kind", "unit", "from", "to", "step", "limit", "limit-label", "empty", "palette", "height",
    "label", "min", "max", "events",
  ];

  private readonly id_ = `plot${numbered++}`;
  private readonly place = make("div", {
    class: "place", tabindex: 0, role: "slider", "aria-describedby": this.id_, "aria-valuenow": 0,
    "aria-keyshortcuts": "ArrowLeft ArrowRight Enter Escape",
  });
  private readonly stage = make("div", { class: "stage" }, this.place);
  private readonly said = make("div", { class: "said", role: "status" });
  private readonly note = make("p", { class: "note", role: "status", hidden: true });
  private readonly words = make("p", { class: "unseen", id: this.id_ });
  private readonly asTable = make("button", { type: "button", class: "as-table", "aria-expanded": "false" }, "Table");
  private readonly heap = make("div", { class: "heap", tabindex: 0, role: "region", hidden: true });
  private readonly foot = make("div", { class: "foot" });
  private readonly figure = make("figure", { role: "figure" });
  private readonly hidden_ = new Set<string>();
  private readonly legend = new Legend(this.hidden_, () => this.rearrange());
  private readonly box = new Box();
  private readonly marks = new Marks(this.box);

  private plot: uPlot | undefined;
  private frame: Frame | undefined;
  private events: readonly Mark[] = [];
  private errors: readonly string[] = [];
  private asked = "";
  private drawn = "";
  private asking: AbortController | undefined;
  private due = false;
  private seen = false;
  private hovered = false;
  /** Where a range began that is chosen with keys. */
  private begun: number | undefined;
  private undo: Array<() => void> = [];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLE];
    this.figure.style.margin = "0";
    this.foot.append(this.legend.element, this.asTable);
    this.figure.append(this.said, this.stage, this.foot, this.note, this.words, this.heap);
    root.append(this.figure);
    this.stage.append(this.marks.element, this.box.element);
    this.place.addEventListener("keydown", (event) => this.key(event));
    this.place.addEventListener("blur", () => this.leave());
    this.place.addEventListener("pointerdown", () => this.brushing());
    this.asTable.addEventListener("click", () => this.toggleTable());
    this.hide("Waiting for the server …");
  }

  connectedCallback(): void {
    const sight = new IntersectionObserver((entries) => {
      this.seen = entries.some((entry) => entry.isIntersecting);
      if (this.seen) this.later();
    }, { rootMargin: "300px" });
    sight.observe(this);
    const size = new ResizeObserver(() => this.resize());
    size.observe(this);
    const print = (): void => {
      this.seen = true;
      this.later();
    };
    addEventListener("beforeprint", print);
    this.undo = [
      () => sight.disconnect(), () => size.disconnect(), onColours(() => this.plot?.redraw(false)),
      () => removeEventListener("beforeprint", print),
    ];
    this.later();
  }

  disconnectedCallback(): void {
    for (const undo of this.undo) undo();
    this.asking?.abort();
    this.plot?.destroy();
    this.plot = undefined;
    this.asked = this.drawn = "";
    busy.delete(this);
  }

  attributeChangedCallback(): void {
    this.later();
  }

  /** Attributes come one after the other; they are looked at together. */
  private later(): void {
    if (this.due) return;
    this.due = true;
    queueMicrotask(() => {
      this.due = false;
      if (this.isConnected && this.seen) this.look_();
    });
  }

  private number(name: string): number | undefined {
    const text = this.getAttribute(name);
    const value = Number(text);
    return text === null || text === "" || !Number.isFinite(value) ? undefined : value;
  }

  private get kind(): Kind {
    const kind = this.getAttribute("kind");
    return kind === "stack" || kind === "bars" ? kind : "line";
  }

  private get fromMs(): number {
    return this.number("from") ?? this.toMs - 3_600_000;
  }

  private get toMs(): number {
    return this.number("to") ?? Date.now();
  }

  private readonly look = (): Look => ({
    kind: this.kind,
    unit: unit(this.getAttribute("unit")),
    height: this.number("height") ?? HEIGHT_PX,
    from: this.fromMs / 1000,
    to: this.toMs / 1000,
    step: grid(this.fromMs, this.toMs, this.number("step") ?? 0).step,
    limit: this.number("limit"),
    limitLabel: this.getAttribute("limit-label") ?? String(this.number("limit") ?? ""),
    min: this.getAttribute("min") === "auto" ? "auto" : this.number("min"),
    max: this.number("max"),
  });

  /** Asks when the questions are others than last time, and draws what there is. */
  private look_(): void {
    const label = this.getAttribute("label") ?? "Plot";
    this.figure.setAttribute("aria-label", label);
    this.place.setAttribute("aria-label", `${label}: crosshair`);
    this.heap.setAttribute("aria-label", `${label}: values`);
    const all = queries(this.getAttribute("queries"));
    const on = grid(this.fromMs, this.toMs, this.number("step") ?? 0);
    const data = this.getAttribute("data");
    const asks = JSON.stringify([data, all, on]);
    if (asks === this.asked) return this.show();
    this.asked = asks;
    if (data !== null) return void this.give(data, on);
    this.show();
    void this.ask(all, on);
  }

  /** The page brings the values with it. */
  private async give(data: string, on: Grid): Promise<void> {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.frame = given(data);
    if (!this.frame) return this.hide("The page's own values cannot be read.");
    this.show();
    await this.hear(on, asking.signal);
  }

  /** The events of the range, drawn when they are known. */
  private async hear(on: Grid, signal: AbortSignal): Promise<void> {
    const target = this.getAttribute("events");
    const happened = target ? await marks(target, on.start, on.end) : [];
    if (signal.aborted) return;
    this.events = happened;
    this.plot?.redraw(false);
  }

  private async ask(all: readonly Query[], on: Grid): Promise<void> {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const wait = setTimeout(() => this.figure.classList.add("waits"), PATIENCE_MS);
    const window = `${Math.max(on.step, LEAST_WINDOW_S)}s`;
    const settled = await Promise.allSettled(all.map(({ expr }) => (
      range(expr.replaceAll("$window", window), on.start, on.end, on.step, asking.signal)
    )));
    clearTimeout(wait);
    if (asking.signal.aborted) return;
    this.figure.classList.remove("waits");
    const errors = settled.flatMap((one) => (one.status === "rejected" ? [said(one.reason)] : []));
    const answers = settled.map((one): readonly Series[] => (one.status === "fulfilled" ? one.value : []));
    if (errors.length === settled.length && errors.length > 0) return this.failed(errors);
    this.errors = [...new Set(errors)];
    this.frame = frame(all, answers, on, this.getAttribute("palette") === "waits");
    this.show();
    await this.hear(on, asking.signal);
  }

  /** Nothing could be had: what is drawn already stays, with the reason below it. */
  private failed(errors: readonly string[]): void {
    this.asked = "";
    this.errors = [...new Set(errors)];
    if (this.frame && this.plot) return this.tell();
    const again = make("button", { type: "button", class: "again" }, "Try again");
    again.addEventListener("click", () => this.later());
    this.hide(this.getAttribute("empty") ?? "", ...this.errors.map((error) => make("b", {}, error)), again);
  }

  private tell(): void {
    const left = this.frame?.left ? [`${this.frame.left} more series are not drawn.`] : [];
    const text = [...this.errors, ...left].join(" · ");
    if (this.note.textContent !== text) this.note.textContent = text;
    this.note.hidden = text === "";
  }

  /** No drawing, but words. */
  private hide(...words: ReadonlyArray<Node | string>): void {
    this.plot?.destroy();
    this.plot = undefined;
    this.drawn = "";
    this.said.replaceChildren(...words.filter((word) => word !== "").map((word) => (
      typeof word === "string" ? make("span", {}, word) : word
    )));
    this.said.style.minHeight = `${this.number("height") ?? HEIGHT_PX}px`;
    this.said.hidden = false;
    for (const part of [this.stage, this.foot, this.heap, this.note]) part.hidden = true;
    this.words.textContent = "";
  }

  private show(): void {
    const { frame } = this;
    if (!frame) return;
    const some = frame.series.some(({ values }) => values.some((value) => value !== null));
    if (!some) return this.hide(this.getAttribute("empty") ?? "There are no values in this range.");
    this.said.hidden = true;
    this.stage.hidden = this.foot.hidden = false;
    this.heap.hidden = this.asTable.getAttribute("aria-expanded") !== "true";
    const { unit } = this.look();
    this.legend.fill(frame, unit);
    this.render(frame);
    this.tell();
    this.legend.show(frame, this.plot?.cursor.idx ?? null, unit);
    const words = summary(frame, unit);
    if (this.words.textContent !== words) this.words.textContent = words;
    this.place.setAttribute("aria-valuemin", "0");
    this.place.setAttribute("aria-valuemax", String(frame.times.length - 1));
    if (!this.place.hasAttribute("aria-valuetext")) this.place.setAttribute("aria-valuetext", "no time chosen");
    if (!this.heap.hidden) this.heap.replaceChildren(table(frame, unit));
  }

  /** Draws anew only when the series are others; otherwise the values change in the same drawing. */
  private render(frame: Frame): void {
    const look = this.look();
    const drawn = JSON.stringify([look.kind, look.unit, frame.series.map(({ name, colour }) => [name, colour])]);
    const width = this.figure.clientWidth;
    if (width === 0) return;
    if (this.plot && drawn === this.drawn) {
      if (this.plot.height !== look.height) this.plot.setSize({ width, height: look.height });
      this.plot.setData(columns(frame, look, this.hidden_), true);
      return;
    }
    this.plot?.destroy();
    this.drawn = drawn;
    this.plot = draw(this.place, width, frame, this.look, this.hidden_, {
      cursor: (index) => this.cursor(index),
      brushed: (from, to) => goTo(from, to),
      out: () => zoomOut(this.fromMs / 1000, this.toMs / 1000),
      drawn: () => this.plot && this.marks.place(this.plot, this.events, this.fromMs / 1000, this.toMs / 1000),
    });
    this.plot.over.addEventListener("pointerenter", () => (this.hovered = true));
    this.plot.over.addEventListener("pointerleave", () => {
      this.hovered = false;
      this.box.hide();
    });
    if (this.events.length > 0) this.plot.redraw(false);
  }

  private resize(): void {
    const width = this.figure.clientWidth;
    if (!this.plot) return this.later();
    if (width > 0 && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.look().height });
  }

  /** Series were hidden or shown. */
  private rearrange(): void {
    const { plot, frame } = this;
    if (!plot || !frame) return;
    plot.batch(() => {
      frame.series.forEach(({ name }, at) => plot.setSeries(at + 1, { show: !this.hidden_.has(name) }, false));
      plot.setData(columns(frame, this.look(), this.hidden_), true);
    });
  }

  private cursor(index: number | null): void {
    const { plot, frame } = this;
    if (!plot || !frame) return;
    const { unit, kind } = this.look();
    this.legend.show(frame, index, unit);
    const own = this.hovered || this.shadowRoot?.activeElement === this.place;
    if (!own || index === null) return this.box.hide();
    this.box.values(plot, frame, index, unit, kind !== "line", this.hidden_);
  }

  private brushing(): void {
    busy.add(this);
    const end = (): void => {
      busy.delete(this);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
    };
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }

  private toggleTable(): void {
    const open = this.asTable.getAttribute("aria-expanded") !== "true";
    this.asTable.setAttribute("aria-expanded", String(open));
    this.heap.hidden = !open;
    if (open && this.frame) this.heap.replaceChildren(table(this.frame, this.look().unit));
    else this.heap.replaceChildren();
  }

  /** Arrows move the crosshair, Enter begins and ends a range, Escape leaves. */
  private key(event: KeyboardEvent): void {
    const { plot, frame } = this;
    if (!plot || !frame || event.target !== this.place || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = frame.times.length - 1;
    const at = plot.cursor.idx ?? last;
    const far = event.shiftKey ? 10 : 1;
    const moves: Record<string, number> = {
      ArrowLeft: at - far, ArrowRight: at + far, PageDown: at - 10, PageUp: at + 10, Home: 0, End: last,
    };
    const to = moves[event.key];
    if (to !== undefined) this.move(Math.max(0, Math.min(last, plot.cursor.idx == null ? last : to)));
    else if (event.key === "Enter") this.enter(at);
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private move(index: number): void {
    const { plot, frame } = this;
    if (!plot || !frame) return;
    const time = frame.times[index] ?? 0;
    plot.setCursor({ left: plot.valToPos(time, "x"), top: plot.over.clientHeight / 2 });
    const { unit } = this.look();
    const told = frame.series.filter(({ name }) => !this.hidden_.has(name)).slice(0, 8)
      .map(({ name, values }) => `${name} ${number(values[index], unit)}`);
    this.place.setAttribute("aria-valuenow", String(index));
    this.place.setAttribute("aria-valuetext", `${moment(time)}: ${told.join(", ")}`);
    if (this.begun === undefined) return;
    const [from, to] = [this.begun, time].sort((a, b) => a - b).map((time) => plot.valToPos(time, "x"));
    const left = from ?? 0;
    plot.setSelect({ left, top: 0, width: (to ?? left) - left, height: plot.over.clientHeight }, false);
  }

  private enter(index: number): void {
    const time = this.frame?.times[index];
    if (time === undefined) return;
    if (this.begun === undefined) {
      this.begun = time;
      busy.add(this);
      return;
    }
    const [from, to] = [Math.min(this.begun, time), Math.max(this.begun, time)];
    this.leave();
    if (to > from) goTo(from, to);
  }

  private leave(): void {
    busy.delete(this);
    this.begun = undefined;
    this.box.hide();
    this.plot?.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (!this.hovered) this.plot?.setCursor({ left: -10, top: -10 });
  }
}

function said(error: unknown): string {
  return error instanceof ApiError ? error.message : String(error);
}

customElements.define("surus-plot", Plot);
