// The view of a search: what the controls say is asked as it is typed, and stands in the address.

import { addressOf, given, remember, settle } from "../address.js";
import { Problem, aborted, search } from "../api.js";
import { count, duration, make, number, problemPanel } from "../elements.js";
import { controls } from "./controls.js";
import { hitElement } from "./hit.js";
import { keysOf } from "./keys.js";
import { about, hindrance, missing, noCollections } from "./notices.js";
import { times } from "./times.js";

const PAUSE = 250; // ms without typing after which a search starts

export function show(root, page) {
  const asked = controls();
  const { form, query, collection, k, exact, filter } = asked;
  const status = make("p", { role: "status" });
  const total = make("p", { id: "total", title: "In the engine, the network not counted" });
  const stages = make("div", { id: "times" });
  const problem = make("div", { id: "problem", role: "alert" });
  const notice = make("div", { id: "notice" });
  const hits = make("ol", { id: "hits", role: "list", ariaLabel: "Hits", ariaBusy: "true" });
  root.append(form, make("div", { className: "summary" }, make("div", { className: "counts" }, status, total), stages), problem, notice, hits);

  let running = null; // the AbortController of the search under way
  let pause = 0;

  function stateOfAddress() {
    const said = given();
    const searchable = page.collections.find((one) => one.state === "ready" && one.documents && one.encoder.model !== null);
    return {
      c: said.get("c") ?? (searchable ?? page.collections[0])?.name ?? "",
      q: said.get("q") ?? "",
      k: said.get("k") ?? "10",
      exact: said.get("exact") === "1",
      filter: said.get("filter") ?? "",
    };
  }

  const stateOfControls = () =>
    ({ c: collection.value, q: query.value.trim(), k: k.value.trim(), exact: exact.checked, filter: filter.value.trim() });

  // The status stays a live region: only its text changes.
  function clear() {
    for (const one of [status, total, stages, problem, notice, hits]) one.replaceChildren();
    asked.filterFault("");
  }

  const busy = (on) => hits.setAttribute("aria-busy", String(on));

  function say(...content) {
    clear();
    notice.replaceChildren(...content);
  }

  // The chosen one is shown even where it is not there, so that a stale link says what it asked for.
  function choices(chosen) {
    const options = page.collections.map(({ name, documents, state }) =>
      make("option", { value: name }, `${name} — ${state === "quarantined" ? "quarantined" : count(documents, "document")}`));
    if (chosen && !page.collections.some(({ name }) => name === chosen)) options.unshift(make("option", { value: chosen }, chosen));
    if (!options.length) options.push(make("option", { value: "" }, "none"));
    collection.replaceChildren(...options);
    collection.disabled = options.length < 2 && !page.collections.length;
    collection.value = chosen;
  }

  // What was typed while the collections were on their way is asked when they are there.
  function restore(listed) {
    clearTimeout(pause);
    const typed = query.value;
    const state = stateOfAddress();
    choices(state.c);
    query.value = state.q;
    k.value = state.k;
    exact.checked = state.exact;
    filter.value = state.filter;
    if (state.filter) asked.openFilter(true);
    run();
    if (!listed || !typed.trim() || typed === query.value) return;
    query.value = typed;
    changed(true);
  }

  function changed(draft = false) {
    clearTimeout(pause);
    if (!page.listed) return;
    remember(addressOf("search", { ...stateOfControls(), k: k.value.trim() === "10" ? "" : k.value.trim() }), draft);
    page.named();
    run();
  }

  // Shows what the controls ask for. The answer to an older question is never shown.
  async function run() {
    running?.abort();
    const mine = (running = new AbortController());
    const state = stateOfControls();
    document.title = state.q ? `${state.q} · ${state.c} · Sheaf` : "Sheaf";
    busy(false);
    const chosen = page.collections.find(({ name }) => name === state.c);
    if (!page.collections.length) return say(noCollections());
    if (!chosen) return say(missing(state.c));
    const hindered = hindrance(chosen);
    if (hindered) return say(hindered);
    if (!state.q) return say(about(chosen));
    const fault = faultOf(state);
    if (fault) return failed(fault);
    busy(true);
    try {
      const body = { collection: state.c, query: state.q, k: Number(state.k), exact: state.exact, filter: state.filter };
      const answer = await search({ ...body, highlights: { length: 320 } }, mine.signal);
      // The same search again, by the same weights, when somebody asks why.
      let again;
      const why = () => (again ??= search({ ...body, weights: answer.weights, include: [], explain: true }, mine.signal));
      if (running === mine) answered(answer, chosen, Boolean(state.filter), why);
    } catch (error) {
      if (aborted(error)) return;
      if (!(error instanceof Problem)) throw error;
      if (running === mine) page.failed(error.details);
    } finally {
      if (running === mine) busy(false);
    }
  }

  function answered(answer, chosen, filtered, why) {
    clear();
    const all = filtered ? "" : ` of ${number(chosen.documents)}`;
    status.textContent = answer.hits.length
      ? `${count(answer.hits.length, "hit")}${all}, ${answer.exact ? "exact" : "approximate"}`
      : filtered ? "No document passes the filter" : "Nothing found";
    total.textContent = `total ${duration(answer.took_ms)}`;
    stages.replaceChildren(...times(answer.stages, answer.took_ms, answer.round_trip_ms));
    hits.replaceChildren(...answer.hits.map((hit, i) => hitElement(hit, i, chosen.name, why)));
  }

  // Faults of the filter stand beside it, all others in the page.
  function failed(details) {
    clear();
    busy(false);
    const faults = details.errors ?? [];
    const inFilter = faults.filter(({ pointer }) => /^\/filter(\/|$)/.test(pointer));
    if (inFilter.length) {
      asked.filterFault(inFilter.map(({ pointer, message }) => `${pointer.slice("/filter".length) || "filter"}: ${message}`).join("\n"));
      if (inFilter.length === faults.length) return;
    }
    problem.replaceChildren(problemPanel(details));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (page.listed) changed();
    else page.load();
  });
  const typed = (event) => {
    clearTimeout(pause);
    if (!event.isComposing) pause = setTimeout(changed, PAUSE, true);
  };
  query.addEventListener("input", typed);
  query.addEventListener("compositionend", () => typed({}));
  query.addEventListener("change", settle);
  for (const control of [collection, k, exact, filter]) control.addEventListener("change", () => changed());
  filter.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    changed();
  });
  const keys = keysOf(asked);
  document.addEventListener("keydown", keys);
  if (matchMedia("(hover: hover)").matches && !given().has("q")) query.focus();

  return {
    restore,
    refreshed: () => choices(collection.value),
    failed,
    leave() {
      clearTimeout(pause);
      running?.abort();
      document.removeEventListener("keydown", keys);
    },
  };
}

// What cannot even be sent, as problem details; all else the server judges.
function faultOf({ k, filter }) {
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
