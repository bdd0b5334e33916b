// The REST calls of evaluation; each gives the answer, or throws a Problem.

import { Problem, call } from "../api.js";

const at = (collection) => `v1/collections/${encodeURIComponent(collection)}`;
const post = (path, body, signal) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

// A search by a setting: all of a search but its question; `collection` in it is asked in the place of the page's.
export const searchBy = (collection, { collection: other, ...way }, query, k, signal) =>
  post(`${at(other ?? collection)}/search`, { ...way, query, k, include: ["text"] }, signal);

export const sets = async (collection) => (await call(`${at(collection)}/judgements`)).judgements;
export const pool = (collection, set, body, signal) => post(`${at(collection)}/judgements/${encodeURIComponent(set)}/pool`, body, signal);
export const grade = (collection, set, one) => post(`${at(collection)}/judgements/${encodeURIComponent(set)}/grades`, { grades: [one] });
export const evaluate = (collection, body, signal) => post(`${at(collection)}/evaluate`, body, signal);
export const task = (id, signal) => call(`v1/tasks/${encodeURIComponent(id)}`, { signal });

export function refused(pointer, message) {
  return new Problem({ title: "Invalid", detail: `${pointer}: ${message}`, errors: [{ pointer, message }] });
}
