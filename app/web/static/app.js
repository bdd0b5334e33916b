// The page's state and keys. The URL holds the state, to be shared and gone back to.

import { Problem, aborted, hasKey, listCollections, search, useKey } from "./api.js";
import * as view from "./view.js";

const PAUSE = 250; // ms without typing after which a search starts
const at = (id) => document.getElementById(id);
const [form, query, collection, k, exact, filter] = ["form", "query", "collection", "k", "exact", "filter"].map(at);

let listed = []; // the collections that the server has
let running = null; // the AbortController of the search under way
let pause = 0;
let loading = false;

function stateOfUrl() {
  const given = new URLSearchParams(location.search);
  const searchable = listed.find((one) => one.state === "ready" && one.documents && one.encoder.model !== null);
  return {
    collection: given.get("c") ?? (searchable ?? listed[0])?.name ?? "",
    query: given.get("q") ?? "",
    k: given.get("k") ?? "10",
    exact: given.get("exact") === "1",
    filter: given.get("filter") ?? "",
  };
}

function stateOfControls() {
  return { collection: collection.value, query: query.value.trim(), k: k.value.trim(), exact: exact.checked, filter: filter.value.trim() };
}

function urlOf(state) {
  const kept = new URLSearchParams();
  if (state.collection) kept.set("c", state.collection);
  if (state.query) kept.set("q", state.query);
  if (state.k !== "10") kept.set("k", state.k);
  if (state.exact) kept.set("exact", "1");
  if (state.filter) kept.set("filter", state.filter);
  return `?${kept}`;
}

// A query that is being typed is one entry of the history, until Enter, leaving the box or another choice settles it.
function remember(draft) {
  const url = urlOf(stateOfControls());
  const same = url === location.search || (url === "?" && !location.search);
  if (same || history.state?.draft) history.replaceState({ draft: draft && (!same || Boolean(history.state?.draft)) }, "", url);
  else history.pushState({ draft }, "", url);
}

function settle() {
  if (history.state?.draft) history.replaceState({ draft: false }, "");
}

function restore() {
  const state = stateOfUrl();
  view.collections(listed, state.collection);
  query.value = state.query;
  k.value = state.k;
  exact.checked = state.exact;
  filter.value = state.filter;
  if (state.filter) view.openFilter(true);
  run();
}

function changed(draft = false) {
  clearTimeout(pause);
  if (loading) return;
  remember(draft);
  run();
}

// Shows what the controls ask for. The answer to an older question is never shown.
async function run() {
  running?.abort();
  const mine = (running = new AbortController());
  const state = stateOfControls();
  document.title = state.query ? `${state.query} · ${state.collection} · Sheaf` : "Sheaf";
  view.busy(false);
  const chosen = listed.find(({ name }) => name === state.collection);
  if (!listed.length) return view.noCollections();
  if (!chosen) return view.missing(state.collection);
  if (view.hindered(chosen)) return;
  if (!state.query) return view.ready(chosen);
  const fault = faultOf(state);
  if (fault) return view.problem(fault);
  view.busy(true);
  try {
    const asked = { ...state, k: Number(state.k) };
    const answer = await search({ ...asked, highlights: { length: 320 } }, mine.signal);
    // The same search again, by the same weights, when somebody asks why.
    let again;
    const why = () => (again ??= search({ ...asked, weights: answer.weights, include: [], explain: true }, mine.signal));
    if (running === mine) view.answer(answer, chosen, Boolean(state.filter), why);
  } catch (error) {
    if (aborted(error)) return;
    if (!(error instanceof Problem)) throw error;
    if (running === mine) failed(error.details);
  } finally {
    if (running === mine) view.busy(false);
  }
}

// What cannot even be sent, as problem details; all else the server judges.
function faultOf(state) {
  const refused = (pointer, message) => ({ title: "Invalid", detail: `${pointer}: ${message}`, errors: [{ pointer, message }] });
  if (!state.k || !Number.isFinite(Number(state.k))) return refused("/k", "expected a number of hits, 1 to 1,000");
  if (!state.filter) return null;
  try {
    JSON.parse(state.filter);
  } catch (error) {
    return refused("/filter", `not JSON. ${error.message}`);
  }
  return null;
}

async function load() {
  if (loading) return;
  loading = true;
  try {
    listed = await listCollections();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    view.busy(false);
    return failed(error.details);
  } finally {
    loading = false;
  }
  view.askForKey(false, hasKey());
  const typed = query.value; // meanwhile
  restore();
  if (!typed.trim() || typed === query.value) return;
  query.value = typed;
  changed(true);
}

// Where a key is asked for: what is wrong with the kept one is said.
function failed(details) {
  if (details.status !== 401) return view.problem(details);
  const refused = hasKey();
  useKey(null);
  listed = [];
  view.problem(details);
  view.askForKey(true, false, refused ? "The server does not know this key." : "");
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const box = at("key");
  const key = box.value.trim();
  box.value = "";
  // What no header can carry is no key.
  if (!/^[\x21-\x7e]+$/.test(key)) return view.askForKey(true, false, "This is no key.");
  useKey(key);
  load();
});
at("forget").addEventListener("click", () => {
  useKey(null);
  load();
});

// Counts and collections of meanwhile, when one comes back.
async function refresh() {
  if (document.hidden) return;
  try {
    const before = listed.length;
    listed = await listCollections();
    view.collections(listed, collection.value);
    if (!before) restore();
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // the next search tells that the server is gone
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (listed.length) changed();
  else load();
});
query.addEventListener("input", (event) => {
  clearTimeout(pause);
  if (!event.isComposing) pause = setTimeout(changed, PAUSE, true);
});
query.addEventListener("compositionend", () => {
  clearTimeout(pause);
  pause = setTimeout(changed, PAUSE, true);
});
query.addEventListener("change", settle);
for (const control of [collection, k, exact, filter]) control.addEventListener("change", () => changed());
filter.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  changed();
});
at("filter-toggle").addEventListener("click", () => {
  const open = at("filter-panel").hidden;
  view.openFilter(open);
  if (open) filter.focus();
});
addEventListener("popstate", () => {
  clearTimeout(pause);
  restore();
});
document.addEventListener("visibilitychange", refresh);

// Keys: / to the box, arrows or j and k between hits (a hit's button takes Enter by itself), Esc closes and goes back.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const { key, target } = event;
  const typing = target.matches("input, textarea, select");
  const hits = [...document.querySelectorAll(".hit")];
  const here = hits.findIndex((hit) => hit.contains(document.activeElement));
  const go = (i) => {
    event.preventDefault();
    const goal = hits[i]?.querySelector("h2 button") ?? query;
    goal.focus({ preventScroll: true });
    (hits[i] ?? form).scrollIntoView({ block: "nearest" });
  };
  if (key === "/" && !typing) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (hits.length && ((key === "ArrowDown" && (!typing || target === query)) || (key === "j" && !typing))) {
    go(Math.min(here + 1, hits.length - 1));
  } else if (here >= 0 && (key === "ArrowUp" || key === "k")) {
    go(here - 1);
  } else if (key === "Escape" && here >= 0) {
    if (!hits[here].classList.contains("open")) return go(-1);
    hits[here].dispatchEvent(new Event("close"));
    go(here);
  }
});

if (matchMedia("(hover: hover)").matches && !location.search.includes("q=")) query.focus();
load();
