// Making elements.

type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** An element with attributes and children; an attribute that is `false` or undefined is left out. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name, attributes: Attributes = {}, ...children: ReadonlyArray<Node | string>
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** A sheet for shadow roots. */
export function sheet(...texts: readonly string[]): CSSStyleSheet {
  const made = new CSSStyleSheet();
  made.replaceSync(texts.join("\n"));
  return made;
}
