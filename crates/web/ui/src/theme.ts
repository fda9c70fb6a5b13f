// Light or dark, before anything is drawn: this file is loaded in the head and blocks, so that no page flashes.
// `[data-theme-toggle]` goes through auto, light and dark; the choice stays in this browser.

const KEY = "surus-theme";
const CHOICES = ["auto", "light", "dark"] as const;
type Choice = (typeof CHOICES)[number];

function chosen(): Choice {
  try {
    const kept = localStorage.getItem(KEY);
    return CHOICES.find((choice) => choice === kept) ?? "auto";
  } catch {
    // The browser keeps nothing: what the system says then.
    return "auto";
  }
}

let now = chosen();

function show(): void {
  const root = document.documentElement;
  if (now === "auto") root.removeAttribute("data-theme");
  else root.setAttribute("data-theme", now);
  for (const button of document.querySelectorAll("[data-theme-toggle]")) label(button);
}

function label(button: Element): void {
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[now];
  button.setAttribute("aria-label", `Colours: ${now}. Change`);
  button.setAttribute("title", `Colours: ${now}`);
}

show();
document.addEventListener("click", (event) => {
  if (!(event.target instanceof Element) || !event.target.closest("[data-theme-toggle]")) return;
  now = CHOICES[(CHOICES.indexOf(now) + 1) % CHOICES.length] ?? "auto";
  try {
    localStorage.setItem(KEY, now);
  } catch {
    // Then it counts for this page only.
  }
  show();
});
document.addEventListener("DOMContentLoaded", show);
document.addEventListener("surus:morphed", show);
