// Keys: `/` to the filter, `g` and a letter to a page (links with data-key), `l` live or not, `[` and `]` the range
// back and forward, `-` zooms out, `?` or [data-keys] says all of this. Never while somebody writes.

import { make } from "./elements";
import { OURS } from "./swap";

/** How long after `g` the letter may come. */
const LETTER_MS = 1500;

const LINKS: Readonly<Record<string, readonly [selector: string, what: string]>> = {
  "l": ["[data-live-toggle]", "live updates on or off"],
  "[": ["[data-range=back]", "the range before this"],
  "]": ["[data-range=forward]", "the range after this"],
  "-": ["[data-range=out]", "zoom out"],
};
const FILTER = "input[type=search][name=filter], [data-filter], textarea[name=query]";

const PLOT: ReadonlyArray<readonly [string, string]> = [
  ["← →", "on a plot: move the crosshair (with Shift: further)"],
  ["Enter", "on a plot: begin a range, and again: go to it"],
  ["Esc", "on a plot: leave"],
];

let letterUntil = 0;

function isWriting(event: KeyboardEvent): boolean {
  const target = event.composedPath()[0];
  return target instanceof HTMLElement
    && (target.isContentEditable || target.matches("input:not([type=checkbox], [type=radio]), textarea, select"));
}

/** Clicks the first such link or button that is there. */
function click(selector: string): boolean {
  const found = document.querySelector<HTMLElement>(selector);
  found?.click();
  return found !== null;
}

function toFilter(): boolean {
  const field = document.querySelector<HTMLInputElement | HTMLTextAreaElement>(FILTER);
  field?.focus();
  field?.select();
  return field !== null;
}

function list(): void {
  document.querySelector(`surus-keys[${OURS}]`)?.remove();
  const lines: Array<readonly [string, string]> = [];
  if (document.querySelector(FILTER)) lines.push(["/", "to the filter"]);
  for (const link of document.querySelectorAll<HTMLElement>("[data-key]")) {
    lines.push([`g ${link.dataset["key"] ?? ""}`, link.getAttribute("aria-label") ?? link.textContent?.trim() ?? ""]);
  }
  for (const [key, [selector, what]] of Object.entries(LINKS)) {
    if (document.querySelector(selector)) lines.push([key, what]);
  }
  if (document.querySelector("surus-plot")) lines.push(...PLOT);
  lines.push(["?", "this list"]);
  const told = lines.flatMap(([keys, what]) => [
    make("dt", {}, ...keys.split(" ").flatMap((key) => [" ", make("kbd", {}, key)])), make("dd", {}, what),
  ]);
  const close = make("button", { type: "submit", autofocus: true }, "Close");
  const dialog = make("dialog", { "aria-labelledby": "keys-title" },
    make("h2", { id: "keys-title" }, "Keys"), make("dl", {}, ...told),
    make("form", { method: "dialog", "hx-boost": "false" }, make("p", {}, close)));
  const place = document.createElement("surus-keys");
  place.setAttribute(OURS, "keys");
  place.append(dialog);
  document.body.append(place);
  dialog.addEventListener("close", () => place.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
}

function pressed(event: KeyboardEvent): boolean {
  if (performance.now() < letterUntil) {
    letterUntil = 0;
    return click(`[data-key="${CSS.escape(event.key)}"]`);
  }
  const link = LINKS[event.key];
  if (link) return click(link[0]);
  switch (event.key) {
    case "/": return toFilter();
    case "?": return list(), true;
    case "g": return (letterUntil = performance.now() + LETTER_MS), true;
    default: return false;
  }
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isWriting(event)) return;
  if (document.querySelector("dialog[open]")) return;
  if (pressed(event)) event.preventDefault();
});

document.addEventListener("click", (event) => {
  if (event.target instanceof Element && event.target.closest("button[data-keys]")) list();
});
