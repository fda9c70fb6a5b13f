// Colours are variables of the page; a canvas needs them as values.

/** Wait classes in the order in which they are stacked, with their variables. */
const WAITS: ReadonlyArray<readonly [string, string]> = [
  ["cpu", "--wait-cpu"], ["io", "--wait-io"], ["lock", "--wait-lock"], ["lwlock", "--wait-lwlock"],
  ["ipc", "--wait-ipc"], ["bufferpin", "--wait-bufferpin"], ["timeout", "--wait-timeout"],
  ["extension", "--wait-extension"], ["client", "--wait-client"], ["activity", "--wait-client"],
];
const SERIES = 8;

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

/** The place of a wait class in a stack; classes that are not known come last. */
export function waitOrder(name: string): number {
  const place = WAITS.findIndex(([wait]) => wait === name.toLowerCase());
  return place < 0 ? WAITS.length : place;
}

/** The variable of a wait class. */
export function waitColour(name: string): string | undefined {
  return WAITS.find(([wait]) => wait === name.toLowerCase())?.[1];
}

/** The variable of the n-th series that has no colour of its own. */
export function seriesColour(index: number): string {
  return `--series-${(index % SERIES) + 1}`;
}

/** `name` or `--name`, as an attribute may say it. */
export function variable(name: string): string {
  return name.startsWith("--") ? name : `--${name}`;
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
