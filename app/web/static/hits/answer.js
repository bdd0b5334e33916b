// An answer, in the parts that the page shows of it.

import { search } from "../api.js";
import { button, count, duration, make, number } from "../elements.js";
import { hitElement } from "./hit.js";
import { carriedBy, requestOf } from "./state.js";

const REACH = 10_000; // documents of one list

// chosen: the collection. view: go(state) asks another search, addressOf(state) is its address; cursors of pages by it.
export function answerOf(answer, state, chosen, view) {
  const { signal } = view;
  // The same search again, by the same weights, when somebody asks why, or what an exact one finds.
  const again = (more) => search({ ...requestOf(state), ...(answer.weights && { weights: answer.weights }), ...more }, signal);
  let explained;
  const context = {
    collection: chosen.name,
    query: state.q,
    answer,
    why: () => (explained ??= again({ include: [], explain: true })),
    like: ({ id, title }) => {
      view.titles.set(id, title || id);
      view.go({ ...state, q: "", like: id, from: 0 });
    },
  };
  let place = 0;
  const element = (hit) => hitElement(hit, place++, context);
  return {
    status: statusOf(answer, state, chosen),
    total: `total ${duration(answer.took_ms)}`,
    times: times(answer.stages, answer.took_ms, answer.round_trip_ms),
    beside: [exampleOf(state, view), warningsOf(answer), missedBy(answer, state, chosen, again)].filter(Boolean),
    hits: answer.groups ? answer.groups.map((group) => groupElement(group, state, element)) : answer.hits.map(element),
    pages: pagesOf(answer, state, view),
  };
}

const shownBy = ({ hits, groups }) => (groups ? groups.length : hits.length);

function statusOf(answer, { filter, mode, q, like, group, from }, { documents }) {
  const shown = shownBy(answer);
  const filtered = Boolean(filter);
  if (!shown) return from ? "Nothing on this page" : filtered ? "No document passes the filter" : "Nothing found";
  const matched = group ? answer.total_groups : filtered || ["lexical", "sparse", "browse"].includes(answer.mode) ? answer.total?.count : documents;
  const noun = group ? "group" : q || like ? "hit" : "document";
  const more = matched > shown || (!filtered && !group);
  const of = more && matched ? ` of ${answer.total?.exact === false && filtered ? "at least " : ""}${number(matched)}` : "";
  const range = from ? `${noun[0].toUpperCase()}${noun.slice(1)}s ${number(from + 1)} to ${number(from + shown)}` : count(shown, noun);
  const way = answer.mode === "browse" ? "" : `, ${answer.exact ? "exact" : "approximate"}`;
  return `${range}${of}${way}${answer.partial ? ", as far as the time allowed" : ""}`;
}

// What hits are to be like, and the way back from it.
function exampleOf(state, { go, titles }) {
  if (!state.like) return null;
  const back = button("×", () => go({ ...state, like: "", from: 0 }), { ariaLabel: "No more like it", title: "No more like it" });
  return make("p", { className: "chip" }, make("span", {}, "More like ", make("b", { dir: "auto" }, titles.get(state.like) ?? state.like)), back);
}

const warningsOf = ({ warnings = [] }) =>
  warnings.length > 0 && make("ul", { className: "warnings", ariaLabel: "Warnings" }, ...warnings.map(({ message }) => make("li", {}, message)));

// What the approximate path missed: one click compares with the exact search.
function missedBy(answer, { q, like, sort, group, from }, chosen, again) {
  if (answer.exact || answer.mode === "browse" || !(q || like) || sort || group || !answer.hits.length) return null;
  const said = make("div", { className: "missed" });
  const compare = button("Compare with exact search", async () => {
    compare.disabled = true;
    const [{ missed }, exact] = await Promise.allSettled([import("../why/missed.js"), again({ exact: true, include: [] })])
      .then(([module, found]) => [module.value, found]);
    if (exact.status === "rejected") {
      compare.disabled = false;
      return said.replaceChildren(make("p", {}, exact.reason.message));
    }
    said.replaceChildren(missed(answer.hits, exact.value.hits, from, { approximate: answer.took_ms, exact: exact.value.took_ms }));
    compare.remove();
  });
  return make("div", { className: "comparing" }, compare, said);
}

function groupElement({ value, hits }, { group }, element) {
  const said = value === undefined || value === null ? `without ${group}` : `${group} ${value}`;
  return make("li", { className: "grouped" }, make("p", { className: "value", dir: "auto" }, said), make("ol", { role: "list", ariaLabel: said }, ...hits.map(element)));
}

// Links to the pages before and after.
function pagesOf(answer, state, { go, addressOf, cursors }) {
  const shown = shownBy(answer);
  const { from } = state;
  const k = Number(state.k);
  const after = { ...state, from: from + k };
  const before = { ...state, from: Math.max(0, from - k) };
  const there = (answer.groups ? answer.total_groups : answer.total?.count) ?? 0;
  const follows = answer.next || (shown === k && from + k < Math.min(there, REACH) && !answer.partial);
  if (!from && !follows) return [];
  if (answer.next) cursors.set(addressOf(after), answer.next);
  const link = (text, to, rel) => {
    const one = make("a", { href: addressOf(to), rel }, text);
    one.addEventListener("click", (event) => {
      if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      go(to);
      scrollTo(0, 0);
      document.getElementById("query").focus({ preventScroll: true });
    });
    return one;
  };
  return [
    from > 0 ? link("← Previous", before, "prev") : make("span"),
    make("span", {}, `${number(from + 1)} to ${number(from + shown)}`),
    follows ? link("Next →", after, "next") : make("span"),
  ];
}

// Where the time of a search went: a bar and its legend: the stages, the rest of the server's time, and the network.
function times(stages, took, roundTrip) {
  const parts = Object.entries(stages).map(([name, ms]) => [name.replace(/_ms$/, "").replaceAll("_", " "), ms]);
  const rest = Math.max(0, took - parts.reduce((sum, [, ms]) => sum + ms, 0));
  const network = ["network", Math.max(0, roundTrip - took)];
  const bar = make("div", { className: "bar", ariaHidden: "true" });
  const legend = make("dl", { className: "legend" });
  for (const [name, ms] of [...parts, ["rest", rest], network]) {
    const segment = make("span", { className: `stage ${name.replaceAll(" ", "-")}` });
    segment.style.flexGrow = ms;
    bar.append(segment);
  }
  for (const [name, ms] of [...parts, network]) {
    const explained = name === "network" ? "Round trip outside the engine: HTTP, JSON and the network" : "";
    legend.append(
      make("div", { className: name.replaceAll(" ", "-"), title: explained }, make("dt", {}, name), make("dd", {}, duration(ms))),
    );
  }
  return [bar, legend];
}
