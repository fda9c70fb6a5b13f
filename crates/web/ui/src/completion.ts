// What could stand where somebody writes PromQL.

import { get } from "./api";
import { AGGREGATIONS, FUNCTIONS, KEYWORDS, WINDOWS } from "./promql-words";

export interface Option {
  /** What is shown. */
  readonly name: string;
  /** What is put in. */
  readonly text: string;
  readonly kind: string;
  readonly help: string;
}

/** Options, and from where to the caret they replace what is written. */
export interface Offer {
  readonly from: number;
  readonly options: readonly Option[];
}

/** Where the caret is. */
export type Place =
  | { readonly what: "word" | "window"; readonly from: number }
  | { readonly what: "label"; readonly from: number; readonly metric: string | undefined }
  | { readonly what: "value"; readonly from: number; readonly metric: string | undefined; readonly label: string }
  | { readonly what: "nothing" };

const MOST = 60;
const WORD = /[A-Za-z_:][\w:]*$/;

/** The start of the string that is open at the end of the text, if one is. */
function openString(text: string): number {
  let open = -1;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (open >= 0) {
      if (char === "\\" && text[open] !== "`") at += 1;
      else if (char === text[open]) open = -1;
    } else if (char === "\"" || char === "'" || char === "`") open = at;
  }
  return open;
}

/** The bracket that is open at the end of the text: its place, or -1. Strings count for nothing. */
function openBracket(text: string): number {
  const bare = text.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`/g, (string) => " ".repeat(string.length));
  const open: number[] = [];
  for (let at = 0; at < bare.length; at += 1) {
    if ("({[".includes(bare[at] ?? "")) open.push(at);
    else if (")}]".includes(bare[at] ?? "")) open.pop();
  }
  return open.at(-1) ?? -1;
}

/** What kind of word stands at the caret. */
export function place(text: string, caret: number): Place {
  const before = text.slice(0, caret);
  const string = openString(before);
  const code = string >= 0 ? before.slice(0, string) : before;
  const bracket = openBracket(code);
  const inside = code.slice(bracket + 1);
  const ahead = code.slice(0, Math.max(0, bracket));
  const metric = WORD.exec(ahead.trimEnd())?.[0];
  if (string >= 0) {
    const label = code[bracket] === "{" ? /([A-Za-z_]\w*)\s*(?:=~|!~|!=|=)\s*$/.exec(inside)?.[1] : undefined;
    return label ? { what: "value", from: string + 1, metric, label } : { what: "nothing" };
  }
  const from = caret - (WORD.exec(before)?.[0].length ?? 0);
  if (code[bracket] === "{") {
    return /(^|,)\s*\w*$/.test(inside) ? { what: "label", from, metric } : { what: "nothing" };
  }
  if (code[bracket] === "[") return { what: "window", from: bracket + 1 };
  if (code[bracket] === "(" && /\b(by|without|on|ignoring|group_left|group_right)\s*$/.test(ahead)) {
    const named = /([A-Za-z_:][\w:]*)\s*[{[]/.exec(text)?.[1];
    return { what: "label", from, metric: named };
  }
  // A number or a duration is no word.
  if (/\d\w*$/.test(before) && from === caret) return { what: "nothing" };
  return { what: "word", from };
}

const answers = new Map<string, Promise<readonly string[]>>();

/** A list of the server, asked once; an empty one where there is none. */
function known(path: string): Promise<readonly string[]> {
  let answer = answers.get(path);
  if (!answer) {
    answer = get<string[]>(path).catch(() => {
      answers.delete(path);
      return [];
    });
    answers.set(path, answer);
  }
  return answer;
}

type Metadata = Readonly<Record<string, ReadonlyArray<{ readonly type?: string; readonly help?: string }>>>;
let metadata: Promise<Metadata> | undefined;

async function metrics(): Promise<Option[]> {
  metadata ??= get<Metadata>("/api/v1/metadata").catch(() => ({}));
  const [names, about] = await Promise.all([known("/api/v1/label/__name__/values"), metadata]);
  return names.map((name) => {
    const { type, help } = about[name]?.[0] ?? {};
    return { name, text: name, kind: type ?? "metric", help: help ?? "" };
  });
}

function words(all: Readonly<Record<string, string>>, kind: string, after: string): Option[] {
  return Object.entries(all).map(([name, help]) => ({ name, text: name + after, kind, help }));
}

function matching(metric: string | undefined): string {
  return metric && !(metric in FUNCTIONS) ? `?${new URLSearchParams({ "match[]": metric })}` : "";
}

async function candidates(where: Place): Promise<Option[]> {
  switch (where.what) {
    case "nothing": return [];
    case "window": return WINDOWS.map((name) => ({ name, text: name, kind: "window", help: "" }));
    case "label": {
      const names = await known(`/api/v1/labels${matching(where.metric)}`);
      return names.filter((name) => name !== "__name__").map((name) => ({ name, text: name, kind: "label", help: "" }));
    }
    case "value": {
      const path = `/api/v1/label/${encodeURIComponent(where.label)}/values${matching(where.metric)}`;
      const values = await known(path);
      return values.map((name) => ({ name, text: name.replace(/["\\]/g, "\\$&"), kind: "value", help: "" }));
    }
    case "word": {
      const own = [...words(AGGREGATIONS, "aggregation", ""), ...words(FUNCTIONS, "function", "(")];
      return [...(await metrics()), ...own, ...words(KEYWORDS, "keyword", " ")];
    }
  }
}

/** How well a name fits what is written: the smaller the better; nothing when not at all. */
export function fit(name: string, written: string): number | undefined {
  const text = name.toLowerCase();
  const asked = written.toLowerCase();
  if (text.startsWith(asked)) return 0;
  if (text.includes(`_${asked}`)) return 1;
  if (text.includes(asked)) return 2;
  const parts = asked.split("_").filter(Boolean);
  return parts.length > 1 && parts.every((part) => text.includes(part)) ? 3 : undefined;
}

/** What fits at the caret, best first. `forced`: also where nothing is written yet. */
export async function offer(text: string, caret: number, forced: boolean): Promise<Offer | undefined> {
  const where = place(text, caret);
  if (where.what === "nothing") return undefined;
  const written = text.slice(where.from, caret);
  if (where.what === "word" && written === "" && !forced) return undefined;
  const fitting = (await candidates(where)).flatMap((option) => {
    const rank = fit(option.name, written);
    return rank === undefined ? [] : [{ option, rank }];
  });
  fitting.sort(({ rank: a, option: { name: one } }, { rank: b, option: { name: other } }) => (
    a - b || one.length - other.length || one.localeCompare(other)
  ));
  const options = fitting.slice(0, MOST).map(({ option }) => option);
  // What is written in full needs no offer.
  if (options.length === 1 && options[0]?.name === written) return undefined;
  return options.length > 0 ? { from: where.from, options } : undefined;
}
