// The REST calls of the page. Every failure is a Problem, but for a call that was aborted.

export class Problem extends Error {
  // details: problem details (RFC 9457), as the server sends them.
  constructor(details) {
    super(details.detail || details.title);
    this.details = details;
  }
}

export const aborted = (error) => error instanceof DOMException && error.name === "AbortError";

// Collections, and each alias as one more of its collection.
export async function listCollections() {
  const [{ collections }, { aliases }] = await Promise.all([call("v1/collections"), call("v1/aliases").catch(() => ({ aliases: [] }))]);
  const named = new Map(collections.map((one) => [one.name, one]));
  for (const { alias, collection } of aliases) {
    if (named.has(collection) && !named.has(alias)) named.set(alias, { ...named.get(collection), name: alias });
  }
  return [...named.values()];
}

// What the caller may do: "read", "write", "admin".
export const scopes = async () => (await call("v1/info")).caller.scopes;

// The metadata fields of a collection: name, shapes of values, declared type.
export const listFields = async (collection, signal) => (await call(`${at(collection)}/fields`, { signal })).fields;

// Gives the answer, with the time of the whole round trip in milliseconds as `round_trip_ms`.
export async function search({ collection, ...asked }, signal) {
  const started = performance.now();
  const answer = await call(`${at(collection)}/search`, post(bodyOf(asked), signal));
  return { ...answer, round_trip_ms: performance.now() - started };
}

// The answers to several searches of one collection.
export async function searchAll(collection, several, signal) {
  const body = `{"searches":[${several.map(bodyOf).join(",")}]}`;
  return (await call(`${at(collection)}/search/batch`, post(body, signal))).results;
}

export const at = (collection) => `v1/collections/${encodeURIComponent(collection)}`;
export const taskAt = (id) => `v1/tasks/${encodeURIComponent(id)}`;
export const post = (body, signal) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body, signal });

// The filter, a text, goes as it was written: parsed and written again, a 64-bit integer would be rounded.
function bodyOf({ filter, ...asked }) {
  const body = JSON.stringify(asked);
  return filter ? `${body.slice(0, -1)}${body === "{}" ? "" : ","}"filter":${filter}}` : body;
}

// The key of a server that asks for one. It lives as long as the tab, goes out as a header, and is in no URL.
const KEY = "sheaf-key";
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

export function useKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

// Gives what the answer holds: of JSON, null where there is none, or as a "blob".
export async function call(path, { as, ...options } = {}) {
  let response, text;
  const key = sessionStorage.getItem(KEY);
  if (key !== null) options = { ...options, headers: { ...options.headers, "X-API-Key": key } };
  try {
    response = await fetch(path, { ...options, credentials: "omit", referrerPolicy: "no-referrer" });
    if (as && response.ok) return await response[as]();
    text = await response.text();
  } catch (error) {
    if (aborted(error)) throw error;
    throw new Problem({ title: "The server does not answer", detail: "It may have stopped, or the network is down. Press Enter to try again." });
  }
  if (response.status === 204) return null;
  const unreadable = { title: "The answer is not readable", detail: `Status ${response.status} without JSON.`, status: response.status };
  let content;
  try {
    content = JSON.parse(text, exactly);
  } catch {
    throw new Problem(unreadable);
  }
  if (!response.ok) throw new Problem(content && content.title ? content : unreadable);
  return content;
}

// Integers beyond 2^53 stay as they were sent, as text, where the browser tells the source.
function exactly(key, value, context) {
  if (typeof value !== "number" || !Number.isInteger(value) || Number.isSafeInteger(value)) return value;
  return context?.source ?? value;
}
