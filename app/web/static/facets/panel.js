// The fields of a collection with their values, counted: ticks and ranges that change the filter, which stays JSON beside them.

import { Problem, aborted } from "../api.js";
import { button, cut, make, number } from "../elements.js";
import { countsOf } from "./counts.js";
import { exactly, keyOf, read, without, write } from "./filter.js";

const MOST = 24; // fields that are shown
const VALUE = 40; // characters of a value

// current(): the filter as it is, a text. apply(text): takes another one.
export function panel(root, current, apply) {
  let running = null;
  let shown = "";

  // Shows the fields of a collection under a filter, a text.
  async function show(collection, fields, text) {
    const key = JSON.stringify([collection, text, fields.length]);
    if (key === shown) return;
    shown = key;
    running?.abort();
    const mine = (running = new AbortController());
    const filter = read(text);
    const counted = fields.filter(({ shapes, type }) => type !== "geo" && shapes.some((shape) => !keyed(shapes).includes(shape)));
    if (!counted.length) return root.replaceChildren(make("p", { className: "note" }, "No document has metadata to filter by."));
    if (!filter) return root.replaceChildren(make("p", { className: "note" }, "What the filter says cannot be shown as ticks."));
    root.setAttribute("aria-busy", "true");
    try {
      const counts = await countsOf(collection, counted.slice(0, MOST), filter, mine.signal);
      if (running !== mine) return;
      draw(counts, filter, counted.length - MOST);
    } catch (error) {
      if (aborted(error)) return;
      shown = "";
      if (!(error instanceof Problem)) throw error;
      // What is wrong with the filter itself is said beside it.
      root.replaceChildren(make("p", { className: "note" }, error.details.errors?.length ? "There are no counts until the filter is right." : error.message));
    } finally {
      if (running === mine) root.removeAttribute("aria-busy");
    }
  }

  function draw(counts, filter, left) {
    const here = document.activeElement;
    // What is being typed is not taken away: leaving it applies it, and then there are other counts.
    if (root.contains(here) && here.inputMode === "decimal" && here.value !== here.dataset.value) {
      return here.addEventListener("blur", () => here.value === here.dataset.value && draw(counts, filter, left), { once: true });
    }
    const focused = here?.dataset?.key;
    // Nor is what was refused, which is in no filter.
    const refused = [...root.querySelectorAll('[aria-invalid="true"]')].map((one) => [one.dataset.key, one.value]);
    // Of the filter as it is then: what is shown may be of the one before. changed(condition): what takes its place.
    const change = (name, changed) => {
      const now = read(current()) ?? filter;
      apply(write(without(now, name, changed(now.conditions.get(name)))));
    };
    const notes = [];
    if (filter.others.length) notes.push(`The filter asks more than ticks can show: ${filter.others.length === 1 ? "one part" : `${filter.others.length} parts`} of it ${filter.others.length === 1 ? "stands" : "stand"} in the JSON alone.`);
    if (left > 0) notes.push(`${number(left)} more fields can be filtered in JSON.`);
    root.replaceChildren(
      make("div", { className: "fields" }, ...counts.map((one) => fieldset(one, filter.conditions.get(one.field.name), change))),
      ...notes.map((note) => make("p", { className: "note" }, note)),
    );
    const drawn = (key) => [...root.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    for (const [key, value] of refused) {
      const box = drawn(key);
      if (box) [box.value, box.ariaInvalid] = [value, "true"];
    }
    // The focus stays where it was, though its element is another one.
    if (focused) drawn(focused)?.focus();
  }

  return { show };
}

// Shapes without a value of their own: of objects, and of lists that hold objects.
const keyed = (shapes) => (shapes.includes("object") ? ["object", "list", "null"] : ["null"]);

function fieldset(one, condition, change) {
  const { field, kind, counts, distinct } = one;
  const { name } = field;
  const empty = kind !== "terms" && !counts.length && !condition;
  const content = empty ? [make("p", { className: "note" }, "none")] : kind === "terms" ? ticks(one, condition, change) : range(one, condition, change);
  const more = kind === "terms" && distinct > counts.length ? make("p", { className: "note" }, `${number(distinct - counts.length)} more, in JSON`) : null;
  const clear = condition && button("clear", () => change(name, () => null), { className: "quiet", ariaLabel: `Anything of ${name}` });
  return make("fieldset", {}, make("legend", {}, make("span", { dir: "auto" }, name), clear), ...content, more);
}

function ticks({ field: { name }, counts, missing }, condition, change) {
  const chosen = condition?.values ?? [];
  const keys = chosen.map(keyOf);
  const listed = counts.map(({ value, count }) => ({ value, count }));
  // What is ticked is shown though nothing has it.
  chosen.forEach((value, i) => {
    if (!listed.some((one) => keyOf(one.value) === keys[i])) listed.push({ value, count: 0 });
  });
  const lines = listed.map(({ value, count }) => {
    const key = keyOf(value);
    const box = make("input", { type: "checkbox", checked: keys.includes(key), "data-key": `${name} ${key}` });
    box.addEventListener("change", () => {
      change(name, (now) => {
        const others = (now?.values ?? []).filter((one) => keyOf(one) !== key);
        const values = box.checked ? [...others, value] : others;
        return values.length ? { values } : null;
      });
    });
    const text = typeof value === "string" ? value : key;
    return make("label", { title: text }, box, make("span", { className: "value", dir: "auto" }, cut(text, VALUE) || "(empty)"), make("span", { className: "count" }, number(count)));
  });
  if (!lines.length) lines.push(make("p", { className: "note" }, missing ? "in none of these documents" : "none"));
  // A range that somebody wrote, of what is shown by ticks.
  return [...(condition && !condition.values ? [make("p", { className: "note" }, Object.entries(condition).map(([bound, value]) => `${SIGNS[bound]} ${value}`).join(", "))] : []), ...lines];
}

// Years are not parted by commas.
const plain = new Intl.NumberFormat("en", { useGrouping: "min2" });
const SIGNS = { gt: ">", gte: "≥", lt: "<", lte: "≤" };

function range({ field: { name }, kind, counts, ends }, condition, change) {
  const dates = kind === "dates";
  const plainly = (value) => (value === "" ? "" : keyOf(value).replace(/^"|"$/g, ""));
  const from = condition?.gte ?? condition?.gt ?? "";
  const to = dates ? dayBefore(condition?.lt) ?? condition?.lte ?? "" : condition?.lte ?? condition?.lt ?? "";
  const box = (label, value, hint, key) => {
    const input = make("input", { type: dates ? "date" : "text", inputMode: dates ? "" : "decimal", value: plainly(value).slice(0, dates ? 10 : undefined), placeholder: String(hint ?? ""), ariaLabel: `${name} ${label}`, "data-key": `${name} ${key}` });
    input.dataset.value = input.value;
    input.addEventListener("change", apply);
    return input;
  };
  const low = box("from", from, ends?.[0], "from");
  const high = box("to", to, ends?.[1], "to");
  function apply() {
    const bounds = {};
    if (dates) {
      if (low.value) bounds.gte = low.value;
      // Strings compare by their signs: a time of the last day comes after the day itself.
      if (high.value) bounds.lt = dayAfter(high.value);
    } else {
      const [least, most] = [low, high].map(numberIn);
      for (const [input, value] of [[low, least], [high, most]]) input.ariaInvalid = String(value === null);
      if (least === null || most === null) return;
      if (least !== undefined) bounds.gte = least;
      if (most !== undefined) bounds.lte = most;
    }
    change(name, () => (Object.keys(bounds).length ? bounds : null));
  }
  const most = Math.max(1, ...counts.map(({ count }) => count));
  const same = (bounds) => condition && JSON.stringify([condition.gte, condition.lt]) === JSON.stringify([bounds.gte, bounds.lt]);
  const bars = counts.map(({ value, count, range: bounds }) => {
    const said = value ?? `${plain.format(bounds.gte)} to below ${plain.format(bounds.lt)}`;
    const bar = make("button", { type: "button", title: `${said}: ${number(count)}`, ariaLabel: `${name} ${said}, ${number(count)}`, ariaPressed: String(Boolean(same(bounds))), "data-key": `${name} ${said}` }, make("span"));
    // What the range holds whole is lit.
    if (condition && !condition.values && within(bounds, condition)) bar.classList.add("within");
    bar.firstChild.style.height = `${Math.max(count ? 6 : 1, (100 * count) / most)}%`;
    bar.addEventListener("click", () => change(name, () => (same(bounds) ? null : bounds)));
    return bar;
  });
  const [first, last] = [counts[0], counts.at(-1)];
  const scale = first && make("p", { className: "scale", ariaHidden: "true" }, make("span", {}, first.value?.slice(0, first.value.length > 7 ? 4 : 7) ?? plain.format(first.range.gte)), make("span", {}, last.value?.slice(last.value.length > 7 ? 5 : 0) ?? plain.format(last.range.lt)));
  const listed = condition?.values && make("p", { className: "note" }, `one of ${condition.values.map(keyOf).join(", ")}`);
  return [listed, make("div", { className: "bars" }, ...bars), scale, make("div", { className: `bounds ${kind}` }, low, make("span", {}, "to"), high)].filter(Boolean);
}

// undefined where there is none, null where it is no number.
function numberIn({ value }) {
  const said = value.trim().replace("−", "-");
  if (!said) return undefined;
  if (/^-?\d+$/.test(said)) return exactly(said);
  return Number.isFinite(Number(said)) ? Number(said) : null;
}

const within = (bounds, { gte, gt, lt, lte }) =>
  (gte === undefined || bounds.gte >= gte) && (gt === undefined || bounds.gte > gt) && (lt === undefined || bounds.lt <= lt) && (lte === undefined || bounds.lt <= lte);

const shifted = (date, days) => {
  const time = Date.parse(`${String(date).slice(0, 10)}T00:00:00Z`);
  return Number.isNaN(time) ? null : new Date(time + 86_400_000 * days).toISOString().slice(0, 10);
};
const dayAfter = (date) => shifted(date, 1);
const dayBefore = (date) => (date === undefined ? null : shifted(date, -1));
