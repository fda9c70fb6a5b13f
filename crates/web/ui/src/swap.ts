// Morphing: the new page becomes the old one where it stands, so that plots, focus, scroll, open details and what is
// being typed stay.

import { Idiomorph } from "idiomorph";

/** Marks elements that the script put into the page: the server does not know them, so it does not take them away. */
export const OURS = "data-script";

/** Attributes of the server's elements that the script keeps. */
const kept = new WeakMap<Element, readonly string[]>();

/** From now on morphing leaves these attributes of the element alone. */
export function keepAttributes(element: Element, names: readonly string[]): void {
  kept.set(element, names);
}

/** Does the element hold what somebody wrote and the server has not seen? */
function isWritten(element: Element): boolean {
  if (!(element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement)) {
    return element instanceof HTMLSelectElement && element === document.activeElement;
  }
  if (element === document.activeElement) return true;
  return element.value !== element.defaultValue;
}

function isOurs(node: Node): boolean {
  return node instanceof Element && node.hasAttribute(OURS);
}

/** Makes the children of the element what the nodes are. `staying`: it is the same page again. */
export function morph(element: Element, nodes: Node[], staying: boolean): Node[] {
  const mayChange = (name: string, changed: Element): boolean => {
    if (staying && name === "open" && changed.matches("details, dialog")) return false;
    if (staying && (name === "value" || name === "checked") && isWritten(changed)) return false;
    return !kept.get(changed)?.includes(name);
  };
  const morphed = Idiomorph.morph(element, nodes, {
    morphStyle: "innerHTML",
    restoreFocus: true,
    callbacks: {
      beforeNodeRemoved: (node) => !isOurs(node),
      beforeNodeMorphed: (old) => !isOurs(old),
      beforeAttributeUpdated: mayChange,
    },
  });
  document.dispatchEvent(new CustomEvent("surus:morphed", { detail: { staying } }));
  return morphed ?? [];
}
