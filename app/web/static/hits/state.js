// What a search is: its form in the address, in the request, and what it cannot be.

import { given } from "../address.js";

const HITS = "10";
const GROUP = 3; // hits of a group
const PASSAGES = 3; // of a hit of several

// A text can be searched for where there is a document, and an encoder or words.
export const searchable = (one) => one.state === "ready" && one.documents && one.encoder.model !== null;

// The modes that a collection has for a text, the default one first.
export function modesOf({ encoder, lexical, sparse }) {
  const meant = encoder?.model !== null;
  const sparsely = sparse?.model;
  return [
    meant && (lexical || sparsely) && "hybrid",
    meant && "semantic",
    meant && encoder?.kind === "multi_vector" && "dense",
    lexical && "lexical",
    sparsely && "sparse",
  ].filter(Boolean);
}

export function stateOfAddress(collections) {
  const said = given();
  const text = (name) => said.get(name) ?? "";
  return {
    c: said.get("c") ?? (collections.find(searchable) ?? collections[0])?.name ?? "",
    q: text("q"),
    like: text("like"),
    mode: text("mode"),
    exact: said.get("exact") === "1",
    filter: text("filter"),
    sort: text("sort"),
    group: text("group"),
    k: said.get("k") ?? HITS,
    from: /^\d{1,5}$/.test(text("from")) ? Number(text("from")) : 0,
  };
}

// Without what is so by default.
export const parametersOf = (state) => ({ ...state, k: state.k === HITS ? "" : state.k, from: state.from || "" });

// Whether there is anything to ask.
export const asks = ({ q, like, filter, sort }) => Boolean(q || like || filter || sort);

// "year:desc,name:asc" as the keys of an order; in names , : and % are escaped.
export const keysOfSort = (sort) => sort.split(",").filter(Boolean).map((key) => {
  const [, name, order] = /^(.*?)(?::(asc|desc))?$/.exec(key);
  return { [name.replace(/%(?:25|2C|3A)/g, decodeURIComponent)]: order ?? "asc" };
});
export const sortOf = (name, order) => `${name.replace(/[%,:]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)}:${order}`;

// The request, but for what a hit is to carry.
export function requestOf({ c, q, like, mode, exact, filter, sort, group, k, from }) {
  const asked = { collection: c, k: Number(k) };
  if (like) asked.like = { positive: [like] };
  else if (q) asked.query = q;
  if (mode && (q || like)) asked.mode = mode;
  if (exact) asked.exact = true;
  if (filter) asked.filter = filter;
  if (sort) asked.sort = keysOfSort(sort);
  if (group) asked.group_by = { field: group, size: GROUP };
  if (from) asked.offset = from;
  return asked;
}

// What hits carry. Of a collection whose texts are split each has its best passages.
export function carriedBy({ q, like }, { documents, passages }) {
  const carried = {};
  if (q || like) carried.highlights = { length: 320 };
  if ((q || like) && passages > documents) carried.passages = PASSAGES;
  return carried;
}

// What cannot even be sent, as problem details; all else the server judges.
export function faultOf({ k, filter }) {
  const refused = (pointer, message) => ({ title: "Invalid", detail: `${pointer}: ${message}`, errors: [{ pointer, message }] });
  if (!k || !Number.isFinite(Number(k))) return refused("/k", "expected a number of hits, 1 to 1,000");
  if (!filter) return null;
  try {
    JSON.parse(filter);
  } catch (error) {
    return refused("/filter", `not JSON. ${error.message}`);
  }
  return null;
}
