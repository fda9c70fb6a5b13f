// A field with a list of what could stand at the caret (ARIA: combobox with a listbox; the focus stays in the field).

import { offer, type Offer } from "./completion";
import { make } from "./elements";
import { busy } from "./navigate";
import { keepAttributes, OURS } from "./swap";

const ATTRIBUTES = [
  "role", "aria-expanded", "aria-controls", "aria-activedescendant", "aria-autocomplete", "autocomplete", "spellcheck",
];

let numbered = 0;

export class Combobox {
  private readonly place = document.createElement("surus-list");
  private readonly id = `offers${numbered++}`;
  private readonly list = make("ul", { role: "listbox", id: this.id, "aria-label": "Completions" });
  private offered: Offer | undefined;
  private active = -1;
  private asked = 0;

  /** `run` is called when Enter is meant for the query. */
  constructor(private readonly field: HTMLTextAreaElement, private readonly run: () => void) {
    const attributes = {
      "role": "combobox", "aria-expanded": "false", "aria-controls": this.id, "aria-autocomplete": "list",
      "autocomplete": "off", "spellcheck": "false",
    };
    for (const [name, value] of Object.entries(attributes)) field.setAttribute(name, value);
    keepAttributes(field, ATTRIBUTES);
    this.place.setAttribute(OURS, "list");
    this.place.append(this.list);
    this.place.hidden = true;
    field.after(this.place);
    field.addEventListener("input", () => void this.look(false));
    field.addEventListener("keydown", (event) => this.key(event));
    field.addEventListener("blur", () => this.close());
    field.addEventListener("click", () => this.close());
    // A press on the list must not take the focus from the field.
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = event.target instanceof Element ? event.target.closest("li") : null;
      if (option) this.take(Array.from(this.list.children).indexOf(option));
    });
  }

  close(): void {
    this.asked += 1;
    this.offered = undefined;
    this.place.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
    this.field.removeAttribute("aria-activedescendant");
    busy.delete(this);
  }

  private async look(forced: boolean): Promise<void> {
    const asked = (this.asked += 1);
    const found = await offer(this.field.value, this.field.selectionStart, forced);
    if (asked !== this.asked) return;
    if (!found || document.activeElement !== this.field) return this.close();
    this.offered = found;
    this.active = -1;
    this.list.replaceChildren(...found.options.map(({ name, kind, help }, at) => (
      make("li", { role: "option", id: `${this.id}-${at}`, "aria-selected": "false" },
        make("code", {}, name), make("small", {}, kind), make("span", {}, help))
    )));
    this.place.hidden = false;
    this.list.scrollTop = 0;
    this.field.setAttribute("aria-expanded", "true");
    this.field.removeAttribute("aria-activedescendant");
    busy.add(this);
  }

  private choose(index: number): void {
    const all = this.list.children;
    all[this.active]?.setAttribute("aria-selected", "false");
    this.active = (index + all.length) % all.length;
    const option = all[this.active];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    this.field.setAttribute("aria-activedescendant", `${this.id}-${this.active}`);
  }

  private take(index: number): void {
    const option = this.offered?.options[index];
    if (!option || !this.offered) return;
    this.field.setRangeText(option.text, this.offered.from, this.field.selectionStart, "end");
    this.close();
    // Inside a function or a selector there is more to offer at once.
    if (option.text.endsWith("(")) void this.look(false);
  }

  private key(event: KeyboardEvent): void {
    const open = this.offered !== undefined;
    const down = event.key === "ArrowDown";
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.go();
    else if (event.key === "Enter" && open && this.active >= 0) this.take(this.active);
    else if (event.key === "Enter" && !event.shiftKey) this.go();
    else if (event.key === "Tab" && open && !event.shiftKey) this.take(Math.max(0, this.active));
    else if (event.key === "Escape" && open) this.close();
    else if (open && down) this.choose(this.active + 1);
    else if (open && event.key === "ArrowUp") this.choose(Math.max(-1, this.active - 1));
    else if ((event.key === " " && event.ctrlKey) || (down && event.altKey)) void this.look(true);
    else return;
    event.preventDefault();
  }

  private go(): void {
    this.close();
    this.run();
  }
}
