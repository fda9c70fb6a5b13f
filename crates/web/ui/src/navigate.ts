// Going from page to page without loading all of it anew: htmx follows links and forms, the answer is morphed into the
// page. The address, the title and the way back stay those of ordinary pages; without this script they are ordinary.

import htmx from "htmx.org";
import { clock } from "./format";
import { morph, OURS } from "./swap";

/** Who must not be disturbed by a refresh at the moment. */
export const busy = new Set<object>();

/** Milliseconds after which a page that does not come is given up. */
const PATIENCE_MS = 60_000;

Object.assign(htmx.config, {
  allowEval: false,
  allowScriptTags: false,
  includeIndicatorStyles: false,
  historyCacheSize: 0,
  scrollIntoViewOnBoost: false,
  timeout: PATIENCE_MS,
  // Also what goes wrong is a page that says why.
  responseHandling: [{ code: "204", swap: false }, { code: "...", swap: true }],
});

/** The page that is shown: path and question. */
let shown = location.pathname + location.search;
let shownPath = location.pathname;
/** On the way back: what is written in a field belongs to the page that is left. */
let isReturning = false;

htmx.defineExtension("morph", {
  init: () => undefined,
  getSelectors: () => null,
  onEvent: () => true,
  transformResponse: (text) => text,
  encodeParameters: () => null,
  isInlineSwap: (style) => style === "morph",
  handleSwap: (style, target, fragment) => {
    if (style !== "morph" || !(target instanceof Element)) return false;
    const isSame = location.pathname === shownPath && !isReturning;
    return morph(target, Array.from(fragment.childNodes), isSame ? "same" : "other");
  },
});

/** Goes to an address. `replace`: the way back does not lead to where we are now. */
export function visit(address: string, history: "push" | "replace" | "keep" = "push"): void {
  const to = new URL(address, location.href);
  if (to.origin !== location.origin) return location.assign(to.href);
  const context: Record<string, unknown> = { target: document.body, swap: "morph" };
  if (history !== "keep") context[history] = "true";
  htmx.ajax("get", to.pathname + to.search, context).catch(() => undefined);
}

/** Says what is wrong above the page; nothing takes it away. */
export function banner(text: string | undefined): void {
  const old = document.querySelector(`[${OURS}="banner"]`);
  if (!text) return old?.remove();
  const box = old ?? document.createElement("surus-banner");
  box.setAttribute(OURS, "banner");
  box.setAttribute("role", "alert");
  if (box.textContent !== text) box.textContent = text;
  if (!old) document.body.prepend(box);
}

/** After a swap: another page starts at its top, with the focus there; the same page stays as it is. */
function arrived(): void {
  shown = location.pathname + location.search;
  isReturning = false;
  if (location.pathname === shownPath) return;
  shownPath = location.pathname;
  const place: unknown = (history.state as { scroll?: unknown } | null)?.scroll;
  scrollTo({ top: typeof place === "number" ? place : 0, behavior: "instant" });
  const main = document.querySelector("main");
  if (!main || main.contains(document.activeElement)) return;
  main.tabIndex = -1;
  main.focus({ preventScroll: true });
}

function beforeSwap(event: Event): void {
  const { detail } = event as CustomEvent<{ xhr: XMLHttpRequest; shouldSwap: boolean }>;
  const type = detail.xhr.getResponseHeader("content-type") ?? "";
  if (!type.startsWith("text/html") && detail.xhr.status !== 204) {
    // No page: a file, or an answer for programs. The browser shows it better.
    detail.shouldSwap = false;
    if (detail.xhr.status < 400) location.assign(detail.xhr.responseURL);
    else banner(detail.xhr.responseText.trim().slice(0, 300) || `The server answered ${detail.xhr.status}.`);
    return;
  }
  banner(undefined);
  // On the way back the address is already that of the other page.
  if (location.pathname + location.search !== shown) return;
  history.replaceState({ ...(history.state as object | null), htmx: true, scroll: scrollY }, "");
}

function unanswered(): void {
  banner(`surus does not answer (${clock(Date.now() / 1000, true)} UTC). Is it running?`);
}

/** Links, forms and the way back, for the whole page. */
function start(): void {
  const settings = { "hx-boost": "true", "hx-ext": "morph", "hx-target": "body", "hx-swap": "morph" };
  for (const [name, value] of Object.entries(settings)) document.body.setAttribute(name, value);
  document.body.addEventListener("htmx:configRequest", (event) => {
    const { detail } = event as CustomEvent<{ headers: Record<string, string> }>;
    detail.headers["Accept"] = "text/html";
  });
  document.body.addEventListener("htmx:beforeSwap", beforeSwap);
  document.body.addEventListener("htmx:afterSettle", arrived);
  for (const name of ["htmx:sendError", "htmx:timeout"]) document.body.addEventListener(name, unanswered);
}

start();
document.addEventListener("DOMContentLoaded", () => {
  // After htmx's own: it would put back the page as it was remembered, with what has changed since not on it.
  window.onpopstate = () => {
    if (location.pathname + location.search === shown) return;
    isReturning = true;
    visit(location.href, "keep");
  };
});
