// Which series has which colour: wait classes have their own, others take turns. The colours are in elements.css.

/** Wait classes in the order in which they are stacked, with their variables. */
const WAITS: ReadonlyArray<readonly [string, string]> = [
  ["cpu", "--wait-cpu"], ["io", "--wait-io"], ["lock", "--wait-lock"], ["lwlock", "--wait-lwlock"],
  ["ipc", "--wait-ipc"], ["bufferpin", "--wait-bufferpin"], ["timeout", "--wait-timeout"],
  ["extension", "--wait-extension"], ["client", "--wait-client"], ["activity", "--wait-client"],
];
const SERIES = 12;

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
