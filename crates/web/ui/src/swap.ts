// Morphing: the new page becomes the old one where it stands, so that plots, focus, scroll, open details and what is
// being typed stay.

import { Idiomorph } from "idiomorph";

/** Marks elements that the script put into the page: the server does not know them, so it does not take them away. Such
 * an element has a name of its own (`surus-…`), so that morphing never takes it for one of the server's. */
export const OURS = "data-script";

/** Attributes of the server's elements that the script keeps. */
const kept = new WeakMap<Element, readonly string[]>();

/** From now on morphing leaves these attributes of the element alone. */
export function keepAttributes(element: Element, names: readonly string[]): void {
  kept.set(element, names);
}

/** Does the element hold what somebody wrote and the server has not seen? */
function isWritten(element: Element, isRefresh: boolean): boolean {
  if (!element.matches("input, textarea, select")) return false;
  if (element === document.activeElement) return true;
  const isText = element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement;
  return isRefresh && isText && element.value !== element.defaultValue;
}

function isOurs(node: Node): boolean {
  return node instanceof Element && node.hasAttribute(OURS);
}

/** Why the page changes: nobody asked (refresh), somebody asked for the same page otherwise, or for another page. */
export type Reason = "refresh" | "same" | "other";

/** Makes the children of the element what the nodes are. */
export function morph(element: Element, nodes: Node[], reason: Reason): Node[] {
  const stays = reason !== "other";
  const mayChange = (name: string, changed: Element): boolean => {
    if (stays && name === "open" && changed.matches("details, dialog")) return false;
    if (stays && (name === "value" || name === "checked") && isWritten(changed, reason === "refresh")) return false;
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
  document.dispatchEvent(new CustomEvent("surus:morphed", { detail: { reason } }));
  return morphed ?? [];
}
