// Asking the server: a few questions at a time, so that a page full of plots leaves connections for the page itself.

/** Questions at one time; a browser opens six connections to a server, and the server works on four. */
const AT_ONCE = 3;

export type Labels = Readonly<Record<string, string>>;
export interface Series {
  readonly metric: Labels;
  readonly values: ReadonlyArray<readonly [number, string]>;
}
export interface Sample {
  readonly metric: Labels;
  readonly value: readonly [number, string];
}

/** What the server said instead of an answer. */
export class ApiError extends Error {
  constructor(message: string, readonly status = 0) {
    super(message);
  }
}

let running = 0;
const waiting: Array<() => void> = [];

async function turn<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (running >= AT_ONCE) await new Promise<void>((go) => waiting.push(go));
  else running += 1;
  try {
    signal?.throwIfAborted();
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }
}

interface Answer<T> {
  status?: string;
  error?: string;
  data?: T;
}

async function read<T>(response: Response): Promise<T> {
  const answer = (await response.json().catch(() => ({}))) as Answer<T>;
  if (response.ok && answer.status === "success" && answer.data !== undefined) return answer.data;
  if (response.status === 401) throw new ApiError("You are no longer logged in. Load the page again.", 401);
  throw new ApiError(answer.error ?? `The server answered ${response.status} ${response.statusText}`, response.status);
}

/** Puts a question; what cannot be reached is said in words. */
async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer.");
  }
  return read<T>(response);
}

function post<T>(path: string, form: Record<string, string>, signal?: AbortSignal): Promise<T> {
  return turn(() => ask<T>(path, { method: "POST", body: new URLSearchParams(form), signal: signal ?? null }), signal);
}

/** A GET answer in the form of the Prometheus API. */
export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return turn(() => ask<T>(path, { signal: signal ?? null }), signal);
}

/** Series over a range, in seconds. */
export async function range(
  query: string, start: number, end: number, step: number, signal?: AbortSignal,
): Promise<readonly Series[]> {
  const form = { query, start: String(start), end: String(end), step: String(step) };
  const data = await post<{ resultType: string; result: Series[] }>("/api/v1/query_range", form, signal);
  return data.result;
}

/** A value at one time, in seconds. */
export async function instant(query: string, time: number, signal?: AbortSignal): Promise<readonly Sample[]> {
  const form = { query, time: String(time) };
  const data = await post<{ resultType: string; result: unknown }>("/api/v1/query", form, signal);
  switch (data.resultType) {
    case "vector": return data.result as Sample[];
    case "scalar":
    case "string": return [{ metric: {}, value: data.result as [number, string] }];
    default: throw new ApiError(`A ${data.resultType} has no single value; put a function such as rate(…) around it.`);
  }
}
