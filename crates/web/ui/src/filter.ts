// `<input type="search" name="filter">` in a GET form filters while it is written in; the address follows, the way back
// does not grow with each letter.

import { visit } from "./navigate";

const REST_MS = 250;
let waiting: ReturnType<typeof setTimeout> | undefined;

function apply(form: HTMLFormElement): void {
  const address = new URL(form.action, location.href);
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string" && value !== "") fields.append(name, value);
  }
  address.search = fields.toString();
  if (address.href !== location.href) visit(address.href, "replace");
}

document.addEventListener("input", (event) => {
  const field = event.target;
  if (!(field instanceof HTMLInputElement) || field.name !== "filter" || field.type !== "search") return;
  const { form } = field;
  // A field that asks by itself is left alone.
  if (!form || form.method !== "get" || field.hasAttribute("hx-get")) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => apply(form), REST_MS);
});
