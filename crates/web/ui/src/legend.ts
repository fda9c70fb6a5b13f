// What stands below a plot: each series with its colour and its value where the crosshair is.

import { make } from "./elements";
import { number, type Unit } from "./format";
import { extent, type Frame } from "./frame";

interface Row {
  readonly name: string;
  readonly button: HTMLButtonElement;
  readonly value: HTMLElement;
  shown: string;
  /** The longest value so far: room is kept for it, so that entries do not move under the crosshair. */
  chars: number;
}

function widen(row: Row, chars: number): void {
  if (chars <= row.chars) return;
  row.chars = chars;
  row.value.style.minWidth = `${chars}ch`;
}

export class Legend {
  readonly element = make("div", { class: "legend", role: "group", "aria-label": "Series" });
  private rows: Row[] = [];

  /** `hidden` is changed when somebody chooses; `chosen` is called after it. */
  constructor(private readonly hidden: Set<string>, private readonly chosen: () => void) {}

  /** The entries anew, when the series are others. */
  fill(frame: Frame, unit: Unit): void {
    const same = frame.series.length === this.rows.length
      && frame.series.every(({ name, colour }, at) => (
        this.rows[at]?.name === name && this.rows[at]?.button.dataset["colour"] === colour
      ));
    if (!same) {
      this.rows = frame.series.map(({ name, colour }) => this.row(name, colour));
      this.element.replaceChildren(...this.rows.map(({ button }) => button));
    }
    frame.series.forEach(({ values }, at) => {
      const [row, found] = [this.rows[at], extent(values)];
      if (row && found) widen(row, Math.max(number(found.least, unit).length, number(found.most, unit).length));
    });
    this.press();
  }

  /** The values at a time, or the last ones. */
  show(frame: Frame, index: number | null, unit: Unit): void {
    frame.series.forEach(({ values }, at) => {
      const row = this.rows[at];
      if (!row) return;
      const text = number(index === null ? extent(values)?.last : values[index], unit);
      if (text === row.shown) return;
      row.value.textContent = row.shown = text;
      widen(row, text.length);
    });
  }

  private row(name: string, colour: string): Row {
    const mark = make("i", { "aria-hidden": "true" });
    mark.style.background = `var(${colour})`;
    const value = make("b");
    const button = make("button", {
      type: "button", "data-colour": colour, title: `${name}\nClick: only this; with Ctrl: hide or show`,
    }, mark, make("span", {}, name), value);
    button.addEventListener("click", (event) => this.choose(name, event.ctrlKey || event.metaKey || event.shiftKey));
    return { name, button, value, shown: "", chars: 0 };
  }

  private choose(name: string, single: boolean): void {
    const names = this.rows.map((row) => row.name);
    const others = names.filter((other) => other !== name);
    const alone = !this.hidden.has(name) && others.every((other) => this.hidden.has(other));
    if (single) {
      if (!this.hidden.delete(name)) this.hidden.add(name);
    } else {
      this.hidden.clear();
      if (!alone) for (const other of others) this.hidden.add(other);
    }
    if (names.every((each) => this.hidden.has(each))) this.hidden.clear();
    this.press();
    this.chosen();
  }

  private press(): void {
    for (const { name, button } of this.rows) button.setAttribute("aria-pressed", String(!this.hidden.has(name)));
  }
}
