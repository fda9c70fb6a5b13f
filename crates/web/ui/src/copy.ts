// <surus-copy>: a button that copies its attribute `text`, or else the text of the <code> beside it.

import { make, sheet } from "./elements";

const STYLE = sheet(`
  :host { display: inline-block; }
  button { font: 12px/1.4 system-ui, sans-serif; color: var(--faint); background: var(--card);
    border: 1px solid var(--line); border-radius: 3px; padding: .05rem .5rem; cursor: pointer; }
  button:hover { color: var(--ink); }
  button:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
  span { color: var(--faint); font-size: 12px; padding-left: .4rem; }`);
const SAID_MS = 2000;

/** Without the clipboard of a safe context (plain HTTP from another machine): the old way, through a field. */
function copyByField(text: string): boolean {
  const field = make("textarea", { readonly: true });
  field.value = text;
  field.style.position = "fixed";
  field.style.opacity = "0";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByField(text);
  }
}

class Copy extends HTMLElement {
  private readonly said = make("span", { role: "status", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLE];
    const button = make("button", { type: "button" }, "Copy");
    button.addEventListener("click", () => void this.copy());
    root.append(button, this.said);
  }

  private async copy(): Promise<void> {
    const code = this.parentElement?.querySelector("code, pre");
    const done = await copy(this.getAttribute("text") ?? code?.textContent?.trim() ?? "");
    this.said.textContent = done ? "copied" : "not copied: select the text instead";
    setTimeout(() => (this.said.textContent = ""), SAID_MS);
  }
}

customElements.define("surus-copy", Copy);
