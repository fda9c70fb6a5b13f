// The range of a page stands in its address: from and to in epoch milliseconds, or a live range.

import { visit } from "./navigate";

const SHORTEST_MS = 30_000;

/** Goes to the same page with another range, given in seconds. */
export function goTo(from: number, to: number): void {
  const middle = ((from + to) / 2) * 1000;
  const half = Math.max(SHORTEST_MS, (to - from) * 1000) / 2;
  const address = new URL(location.href);
  for (const name of ["range", "live"]) address.searchParams.delete(name);
  address.searchParams.set("from", String(Math.round(middle - half)));
  address.searchParams.set("to", String(Math.round(middle + half)));
  visit(address.href);
}

/** Twice as long around the same middle, but not into the future. */
export function zoomOut(from: number, to: number): void {
  const span = (to - from) * 2;
  const end = Math.min(Date.now() / 1000, (from + to) / 2 + span / 2);
  goTo(end - span, end);
}
