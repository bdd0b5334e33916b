// What the views of evaluation share: their frame, their calls, and ways to search as people choose them.

import { Problem, aborted, at, call, post } from "../api.js";
import { make, problemPanel } from "../elements.js";
import { searchable } from "../hits/state.js";

const PRESETS = { "As any search": {}, Words: { mode: "lexical" }, Meaning: { mode: "semantic" }, "Pooled vectors": { mode: "dense" },
  "Reciprocal ranks": { fusion: "reciprocal_rank" }, Exact: { exact: true } };
export const FOUR = [["hybrid", {}], ["words", PRESETS.Words], ["meaning", PRESETS.Meaning], ["pooled", PRESETS["Pooled vectors"]]]
  .map(([name, search]) => ({ name, search }));

export const ask = (path, body, signal) => call(path, post(JSON.stringify(body), signal));
export const setAt = (collection, set) => `${at(collection)}/judgements/${encodeURIComponent(set)}`;
export const sets = async (collection) => (await call(`${at(collection)}/judgements`)).judgements;
export const labelled = (label, control, className = "") => make("label", { className }, `${label} `, control);

export function refused(pointer, message) {
  return new Problem({ title: "Invalid", detail: `${pointer}: ${message}`, errors: [{ pointer, message }] });
}

// A form above what it asks for. doing(work): work that later work ends, and whose problems are shown.
export function frame(root, page, form, submitted, ...content) {
  const status = make("p", { role: "status", className: "figures" });
  const bar = make("progress", { ariaLabel: "Progress", hidden: true });
  const problem = make("div", { id: "problem", role: "alert" });
  let running = null;
  root.append(form, status, bar, problem, ...content);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (page.listed) submitted();
    else page.load();
  });
  function clear(said = "") {
    status.textContent = said;
    bar.hidden = true;
    for (const one of [problem, ...content]) one.replaceChildren();
  }
  async function doing(work) {
    running?.abort();
    const mine = (running = new AbortController());
    try {
      await work(mine.signal);
    } catch (error) {
      if (aborted(error)) return;
      if (!(error instanceof Problem)) throw error;
      if (running === mine) page.failed(error.details);
    }
  }
  const tell = (details) => problem.replaceChildren(problemPanel(details));
  const failed = (details) => {
    clear();
    tell(details);
  };
  return { status, bar, clear, doing, tell, failed, leave: () => running?.abort() };
}

// JSON of the kind of fallback, which "" stands for. Throws a Problem that points at it.
export function parsed(text, pointer, fallback) {
  let value = fallback;
  try {
    if (text.trim()) value = JSON.parse(text);
  } catch (error) {
    throw refused(pointer, `not JSON. ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value) !== Array.isArray(fallback)) {
    throw refused(pointer, Array.isArray(fallback) ? "expected a list of settings" : "expected an object, as of a search");
  }
  return value;
}

// A preset beside its JSON. changed: called after either.
export function settingField(label, id, changed) {
  const text = make("textarea", { id, rows: 1, spellcheck: false, autocapitalize: "off", ariaLabel: `${label}: JSON of the search` });
  const preset = make("select", { ariaLabel: `${label}: preset` },
    ...Object.entries(PRESETS).map(([name, way]) => make("option", { value: JSON.stringify(way) }, name)), make("option", { value: "" }, "JSON"));
  const show = () => {
    preset.value = text.value.trim() || "{}";
    if (preset.selectedIndex < 0) preset.value = "";
  };
  preset.addEventListener("change", () => {
    if (!preset.value) return text.focus();
    text.value = preset.value;
    changed();
  });
  text.addEventListener("change", () => {
    show();
    changed();
  });
  const set = (value) => {
    text.value = value;
    show();
  };
  return { element: make("div", { className: "setting", role: "group", ariaLabel: label }, make("span", { className: "over" }, label), preset, text), text, set };
}

// A choice among the collections; one that is not there is shown all the same.
export function collectionField(page) {
  const select = make("select", { id: "collection" });
  const fill = (chosen) => {
    const names = page.collections.filter((one) => one.state === "ready").map((one) => one.name);
    const wanted = chosen || page.collections.find(searchable)?.name || names[0] || "";
    if (wanted && !names.includes(wanted)) names.unshift(wanted);
    select.replaceChildren(...names.map((name) => make("option", {}, name)));
    select.value = wanted;
  };
  return { element: labelled("Collection", select, "collection"), select, fill };
}
