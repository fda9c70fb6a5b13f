// Events that happened: asked once for a page and range, drawn on every plot.

import { ApiError, get } from "./api";

export interface Mark {
  /** Seconds since 1970. */
  readonly at: number;
  readonly kind: string;
  readonly title: string;
  readonly detail: string;
}

interface Told {
  readonly at_ms: number;
  readonly kind: string;
  readonly title: string;
  readonly detail?: string | null;
}

const KEPT = 8;
/** The server has no such address: it is not asked again until the page is loaded anew. */
let isAbsent = false;
const asked = new Map<string, Promise<readonly Mark[]>>();

/** The events of a target in a range of seconds; none where the server has no such address. */
export function marks(target: string, from: number, to: number): Promise<readonly Mark[]> {
  const path = `/api/surus/v1/events?${new URLSearchParams({ target, from: String(from), to: String(to) })}`;
  const kept = asked.get(path);
  if (kept) return kept;
  if (isAbsent) return Promise.resolve([]);
  const answer = get<{ events: readonly Told[] }>(path).then(
    ({ events }) => events.map((event) => (
      { at: event.at_ms / 1000, kind: event.kind, title: event.title, detail: event.detail ?? "" }
    )),
    (error: unknown) => {
      isAbsent ||= error instanceof ApiError && error.status === 404;
      return [];
    },
  );
  asked.set(path, answer);
  const oldest = asked.keys().next();
  if (asked.size > KEPT && !oldest.done) asked.delete(oldest.value);
  return answer;
}

const COLOURS: Readonly<Record<string, readonly string[]>> = {
  "--event-restart": ["restart", "role", "timeline", "identity", "failover", "down"],
  "--event-setting": ["setting", "settings", "setting_changed", "reload", "privileges"],
  "--event-deploy": ["deploy", "migration"],
  "--event-schema": ["ddl", "schema", "extension", "database"],
  "--event-vacuum": ["vacuum", "analyze", "backup"],
  "--wait-lock": ["blocking", "finding", "cancel", "terminate"],
};

/** The variable of the colour of a kind of event. */
export function markColour(kind: string): string {
  return Object.entries(COLOURS).find(([, kinds]) => kinds.includes(kind))?.[0] ?? "--event";
}

/** Marks that would stand on each other, as one. */
export function grouped(all: readonly Mark[], apart: number): ReadonlyArray<readonly Mark[]> {
  const groups: Mark[][] = [];
  for (const mark of [...all].sort((a, b) => a.at - b.at)) {
    const last = groups.at(-1);
    if (last?.[0] && mark.at - last[0].at < apart) last.push(mark);
    else groups.push([mark]);
  }
  return groups;
}
