// Live pages: `<main data-refresh="5">` is asked for again every five seconds and morphed in. Not while somebody reads
// closely: a selection, a field that is being filled, an open dialog, a range that is being drawn, a hidden tab.

import htmx from "htmx.org";
import { clock } from "./format";
import { banner, busy } from "./navigate";
import { morph } from "./swap";

/** How long an answer may take. */
const PATIENCE_MS = 30_000;

let refreshed = performance.now();
let updated = Date.now();
let asking: AbortController | undefined;

function isRead(main: Element): boolean {
  if (document.hidden || busy.size > 0 || document.querySelector("dialog[open]")) return true;
  const focused = document.activeElement;
  if (focused && main.contains(focused) && focused.matches("input, textarea, select")) return true;
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && selection.anchorNode && main.contains(selection.anchorNode));
}

async function again(): Promise<void> {
  asking = new AbortController();
  const signal = AbortSignal.any([asking.signal, AbortSignal.timeout(PATIENCE_MS)]);
  const address = location.href;
  const response = await fetch(address, { headers: { accept: "text/html" }, credentials: "same-origin", signal });
  if (response.redirected && new URL(response.url).pathname !== location.pathname) return location.assign(response.url);
  if (!response.ok) throw new Error(`${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const main = document.querySelector("main");
  if (signal.aborted || location.href !== address || !main || isRead(main)) return;
  if (page.title) document.title = page.title;
  morph(document.body, Array.from(page.body.childNodes), "refresh");
  htmx.process(document.body);
}

/** Says since when the page is not up to date. */
function stale(): void {
  const since = `not updated since ${clock(updated / 1000, true)}`;
  const places = document.querySelectorAll<HTMLElement>("[data-stale]");
  for (const place of places) {
    place.hidden = false;
    place.textContent = since;
  }
  if (places.length === 0) banner(`${since} UTC: surus does not answer`);
}

function tick(): void {
  const main = document.querySelector<HTMLElement>("main[data-refresh]");
  const every = Number(main?.dataset["refresh"]);
  if (!main || !(every > 0) || asking || isRead(main)) return;
  if (performance.now() - refreshed < every * 1000 - 50) return;
  refreshed = performance.now();
  again()
    .then(() => {
      updated = Date.now();
      banner(undefined);
    })
    .catch((error: unknown) => {
      if (!(error instanceof DOMException && error.name === "AbortError")) stale();
    })
    .finally(() => (asking = undefined));
}

setInterval(tick, 250);
document.body.addEventListener("htmx:beforeRequest", () => asking?.abort());
document.body.addEventListener("htmx:afterSettle", () => {
  refreshed = performance.now();
  updated = Date.now();
});
