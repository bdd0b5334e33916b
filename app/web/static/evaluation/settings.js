// Ways to search as people choose them: by a name, or as the JSON of the API.

import { refused } from "./calls.js";
import { make } from "../elements.js";

export const PRESETS = [
  ["As any search", {}],
  ["Words", { mode: "lexical" }],
  ["Meaning", { mode: "semantic" }],
  ["Pooled vectors", { mode: "dense" }],
  ["Reciprocal ranks", { fusion: "reciprocal_rank" }],
  ["Exact", { exact: true }],
];
export const FOUR = [
  { name: "hybrid", search: {} },
  { name: "words", search: { mode: "lexical" } },
  { name: "meaning", search: { mode: "semantic" } },
  { name: "pooled", search: { mode: "dense" } },
];

// JSON of the kind that is expected, "" as fallback. Throws a Problem that points at it.
export function parsed(text, pointer, fallback) {
  if (!text.trim()) return fallback;
  let value;
  try {
    value = JSON.parse(text);
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
  const text = make("textarea", { id, rows: 1, spellcheck: false, autocapitalize: "off" });
  const preset = make("select", { ariaLabel: `${label}: preset` },
    ...PRESETS.map(([name, way]) => make("option", { value: JSON.stringify(way) }, name)),
    make("option", { value: "" }, "JSON"));
  const show = () => {
    const known = [...preset.options].map((one) => one.value);
    preset.value = known.includes(text.value.trim() || "{}") ? text.value.trim() || "{}" : "";
  };
  preset.addEventListener("change", () => {
    if (preset.value) text.value = preset.value;
    else text.focus();
    changed();
  });
  text.addEventListener("change", () => {
    show();
    changed();
  });
  const element = make("fieldset", { className: "setting" }, make("legend", {}, label), preset,
    make("label", { htmlFor: id, className: "unseen" }, `${label}: JSON of the search`), text);
  return {
    element,
    get text() {
      return text.value.trim();
    },
    set text(value) {
      text.value = value;
      show();
    },
    value: (pointer) => parsed(text.value, pointer, {}),
  };
}

// A choice among the collections; one that is not there is shown all the same.
export function collectionField(page) {
  const select = make("select", { id: "collection" });
  const fill = (chosen) => {
    const names = page.collections.filter((one) => one.state === "ready").map((one) => one.name);
    const usable = page.collections.find((one) => one.state === "ready" && one.documents && one.encoder.model !== null);
    const wanted = chosen || usable?.name || names[0] || "";
    if (wanted && !names.includes(wanted)) names.unshift(wanted);
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.value = wanted;
  };
  return { element: make("label", { className: "collection" }, "Collection ", select), select, fill };
}

export const labelled = (label, control) => make("label", {}, `${label} `, control);
