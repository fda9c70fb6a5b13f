// Colours are variables of the page; a canvas needs them as values.

let probe: HTMLElement | undefined;
const known = new Map<string, string>();

/** The value of a variable now, as the canvas takes it. */
export function resolve(variable: string): string {
  const kept = known.get(variable);
  if (kept !== undefined) return kept;
  if (!probe?.isConnected) {
    probe = document.createElement("span");
    probe.hidden = true;
    document.documentElement.append(probe);
  }
  probe.style.color = `var(${variable})`;
  const value = getComputedStyle(probe).color;
  known.set(variable, value);
  return value;
}

const listeners = new Set<() => void>();

/** Calls back when the colours have changed; gives what ends that. */
export function onColours(call: () => void): () => void {
  listeners.add(call);
  return () => listeners.delete(call);
}

function changed(): void {
  known.clear();
  for (const call of listeners) call();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
new MutationObserver(changed).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
