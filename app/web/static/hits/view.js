// The view of a search: what the controls say is asked as it is typed, and stands in the address.

import { addressOf, given, remember, settle } from "../address.js";
import { Problem, aborted, search } from "../api.js";
import { count, make, problemPanel } from "../elements.js";
import { answerOf } from "./answer.js";
import { chooseFields, chooseMode, controls, modeOf } from "./controls.js";
import { fieldsFor } from "./fields.js";
import { keysOf } from "./keys.js";
import { about, hindrance, missing, noCollections } from "./notices.js";
import { asks, carriedBy, faultOf, parametersOf, requestOf, stateOfAddress } from "./state.js";

const PAUSE = 250; // ms without typing after which a search starts

export function show(root, page) {
  const asked = controls();
  const { form, query, collection, mode, sort, group, k, exact, filter } = asked;
  const status = make("p", { role: "status" });
  const total = make("p", { id: "total", title: "In the engine, the network not counted" });
  const stages = make("div", { id: "times" });
  const beside = make("div", { id: "beside" }); // what an answer says beside its hits
  const problem = make("div", { id: "problem", role: "alert" });
  const notice = make("div", { id: "notice" });
  const hits = make("ol", { id: "hits", role: "list", ariaLabel: "Hits", ariaBusy: "true" });
  const pages = make("nav", { id: "pages", ariaLabel: "Pages" });
  root.append(form, make("div", { className: "summary" }, make("div", { className: "counts" }, status, total), stages, beside), problem, notice, hits, pages);

  let running = null; // the AbortController of the search under way
  let pause = 0;
  let place = { from: 0, like: "" }; // what of the state no control holds
  const titles = new Map(); // of examples, by their ids
  const cursors = new Map(); // of pages, by their addresses: a page after another goes on with its list

  const stateOfControls = () => ({
    c: collection.value, q: query.value.trim(), mode: modeOf(mode), exact: exact.checked, filter: filter.value.trim(), sort: sort.value,
    group: group.value, k: k.value.trim(), ...place,
  });
  const fields = fieldsFor(asked, (text) => {
    filter.value = text;
    changed();
  });
  const addressOfState = (state) => addressOf("search", parametersOf(state));
  const chosenOne = () => page.collections.find(({ name }) => name === collection.value);

  // The status stays a live region: only its text changes.
  function clear() {
    for (const one of [status, total, stages, beside, problem, notice, hits, pages]) one.replaceChildren();
    asked.filterFault("");
  }

  const busy = (on) => hits.setAttribute("aria-busy", String(on));

  function say(content) {
    clear();
    notice.replaceChildren(content);
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

  function fill(state) {
    choices(state.c);
    query.value = state.q;
    chooseMode(mode, chosenOne(), state.mode);
    chooseFields(asked, fields.listed(state.c), state);
    k.value = state.k;
    exact.checked = state.exact;
    filter.value = state.filter;
    place = { from: state.from, like: state.like };
  }

  // What was typed while the collections were on their way is asked when they are there.
  function restore(listed) {
    clearTimeout(pause);
    const typed = query.value;
    const state = stateOfAddress(page.collections);
    fill(state);
    if (state.filter && asked.filterPanel.hidden) asked.openFilter(true);
    if (state.sort || state.group) asked.openOrder(true);
    run();
    if (!listed || !typed.trim() || typed === query.value) return;
    query.value = typed;
    changed(true);
  }

  // Another choice begins with the first page; a text that is typed takes the place of an example.
  function changed(draft = false) {
    clearTimeout(pause);
    if (!page.listed) return;
    go({ ...stateOfControls(), from: 0, ...(query.value.trim() && { like: "" }) }, draft);
  }

  function go(state, draft = false) {
    place = { from: state.from, like: state.like };
    remember(addressOfState(state), draft);
    page.named();
    run();
  }

  // To a state that no control made, such as another page.
  function leap(state) {
    fill(state);
    go(state);
  }

  // Shows what the controls ask for. The answer to an older question is never shown.
  async function run() {
    running?.abort();
    const mine = (running = new AbortController());
    const state = stateOfControls();
    document.title = state.q ? `${state.q} · ${state.c} · Sheaf` : "Sheaf";
    busy(false);
    const chosen = chosenOne();
    if (!page.collections.length) return say(noCollections());
    if (!chosen) return say(missing(state.c));
    const hindered = hindrance(chosen, state);
    if (hindered) return say(hindered);
    if (!asks(state)) {
      know(chosen, mine);
      return say(about(chosen));
    }
    const fault = faultOf(state);
    if (fault) return failed(fault);
    busy(true);
    try {
      const body = { ...requestOf(state), ...carriedBy(state, chosen) };
      const cursor = cursors.get(location.search);
      const answer = await search(cursor ? { ...body, offset: undefined, cursor } : body, mine.signal);
      if (running === mine) answered(answer, state, chosen, mine.signal);
    } catch (error) {
      if (aborted(error)) return;
      if (!(error instanceof Problem)) throw error;
      if (running !== mine) return;
      // The collection has changed since: the page as it is now.
      if (cursors.delete(location.search) && error.details.code === "cursor_expired") return run();
      return page.failed(error.details);
    } finally {
      if (running === mine) busy(false);
    }
    if (running === mine) know(chosen, mine);
  }

  // The fields of the collection, once there is nothing more urgent.
  async function know({ name }, mine) {
    await fields.know(name);
    if (running !== mine) return;
    chooseFields(asked, fields.listed(name), stateOfControls());
    fields.count();
  }

  function answered(answer, state, chosen, signal) {
    clear();
    const shown = answerOf(answer, state, chosen, { go: leap, signal, addressOf: addressOfState, cursors, titles });
    status.textContent = shown.status;
    total.textContent = shown.total;
    stages.replaceChildren(...shown.times);
    beside.replaceChildren(...shown.beside);
    hits.replaceChildren(...shown.hits);
    hits.style.counterReset = `rank ${state.from}`;
    pages.replaceChildren(...shown.pages);
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
  // Fields and modes are a collection's own.
  collection.addEventListener("change", () => {
    sort.value = group.value = "";
    chooseMode(mode, chosenOne(), "");
    place.like = "";
    changed();
  });
  for (const control of [mode, sort, group, k, exact, filter]) control.addEventListener("change", () => changed());
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
