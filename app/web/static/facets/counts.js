// How often which values are there, asked of the server: of the documents that pass all of the filter but what it asks
// of the field itself, so that more of its values can be ticked.

import { searchAll } from "../api.js";
import { exactly, write, without } from "./filter.js";

const TERMS = 8; // values of a field that are shown
const FEW = 12; // numbers that are shown one by one
const RANGES = 8;
const AT_ONCE = 16; // facets of one search
const DATE = /^\d{4}-\d\d-\d\d(T.*)?$/;

// filter: as filter.js reads it. fields: as the server lists them. -> [{field, kind, counts, distinct, missing}], kind
// "terms", "numbers" or "dates"; counts of the last two have a range.
export async function countsOf(collection, fields, filter, signal) {
  const first = await asked(collection, fields.map((field) => [field, field.type === "date" ? { dates: "year" } : { terms: FEW }]), filter, signal);
  const found = new Map(fields.map((field, i) => [field.name, { field, kind: field.type === "date" ? "dates" : "terms", ...first[i] }]));
  const again = [];
  for (const one of found.values()) {
    const { field, counts, distinct } = one;
    // A range holds no list: the numbers of lists are ticked.
    const numeric = !field.shapes.includes("numbers") && (field.type ? ["number", "integer"].includes(field.type) : field.shapes.every((shape) => ["number", "null"].includes(shape)));
    const dated = field.type === "date" || (!field.type && counts.length > 0 && field.shapes.includes("string") && counts.every(({ value }) => typeof value === "string" && DATE.test(value)));
    // Few numbers that come again, such as marks from 1 to 5, are ticked; others are ranges.
    const condition = filter.conditions.get(field.name);
    const ticked = condition ? Boolean(condition.values) : distinct <= FEW && (counts.reduce((sum, { count }) => sum + count, 0) >= 2 * distinct || near(counts));
    if (numeric && !ticked && distinct) again.push([field, "numbers"]);
    else if (dated && field.type !== "date") again.push([field, { dates: "year" }]);
    else if (dated && counts.length < 2) again.push([field, { dates: "month" }]);
    else if (!numeric && !dated) one.counts = counts.slice(0, TERMS);
  }
  const ends = await endsOf(collection, again.filter(([, what]) => what === "numbers").map(([field]) => field), filter, signal);
  const second = again.map(([field, what]) => [field, what === "numbers" ? { ranges: rangesOf(...ends.get(field.name).map(Number)) } : what]);
  for (const [i, counted] of (await asked(collection, second, filter, signal)).entries()) {
    const one = found.get(second[i][0].name);
    Object.assign(one, { kind: again[i][1] === "numbers" ? "numbers" : "dates", counts: counted.counts, ends: ends.get(one.field.name) });
  }
  for (const one of found.values()) if (one.kind === "dates") one.counts = datesOf(one.counts);
  return [...found.values()];
}

// Whether values are integers that lie near each other.
function near(counts) {
  const values = counts.map(({ value }) => value);
  return values.every(Number.isSafeInteger) && Math.max(...values) - Math.min(...values) < FEW;
}

// Fields that the filter asks nothing of share a search, each other one has its own.
async function asked(collection, facets, filter, signal) {
  const free = facets.filter(([{ name }]) => !filter.conditions.has(name));
  const searches = [];
  for (let i = 0; i < free.length; i += AT_ONCE) searches.push([free.slice(i, i + AT_ONCE), filter]);
  for (const facet of facets) if (filter.conditions.has(facet[0].name)) searches.push([[facet], without(filter, facet[0].name)]);
  if (!searches.length) return [];
  const answers = await searchAll(collection, searches.map(([some, narrowed]) =>
    ({ mode: "browse", k: 1, include: [], filter: write(narrowed), facets: Object.fromEntries(some.map(([{ name }, what]) => [name, what])) })), signal);
  const found = new Map();
  searches.forEach(([some], i) => some.forEach(([{ name, shapes }]) => found.set(name, numbered(answers[i].facets[name], shapes))));
  return facets.map(([{ name }]) => found.get(name));
}

// An integer that came as text, because it is too large, is a number again when it is asked for.
const numbered = (facet, shapes) => (shapes.includes("string") || shapes.includes("list") ? facet : {
  ...facet,
  counts: facet.counts.map((one) => (typeof one.value === "string" ? { ...one, value: exactly(one.value) } : one)),
});

// The least and the greatest number of each field.
async function endsOf(collection, fields, filter, signal) {
  if (!fields.length) return new Map();
  const answers = await searchAll(collection, fields.flatMap(({ name }) => ["asc", "desc"].map((order) =>
    ({ k: 1, sort: [{ [name]: order }], facets: { [name]: { terms: 1 } }, filter: write(without(filter, name)), include: ["metadata"] }))), signal);
  return new Map(fields.map(({ name }, i) => {
    const ends = [answers[2 * i], answers[2 * i + 1]].map(({ hits }) => valueAt(hits[0]?.metadata ?? {}, name));
    return [name, ends.every((one) => Number.isFinite(Number(one))) ? ends : [0, 1]];
  }));
}

// A name is keys with dots between; quoted ones are as JSON has them.
function valueAt(metadata, name) {
  if (Object.hasOwn(metadata, name)) return metadata[name];
  const keys = name.match(/"(?:[^"\\]|\\.)*"|[^.]+/g).map((key) => (key[0] === '"' ? key.slice(1, -1).replace(/\\(.)/g, "$1") : key));
  return keys.reduce((value, key) => value?.[key], metadata);
}

// Ranges of round bounds from the least to the greatest: at most so many.
export function rangesOf(least, greatest) {
  const power = 10 ** Math.floor(Math.log10((greatest - least || 1) / RANGES));
  const step = power * [1, 2, 5, 10].find((one) => (greatest - least) / (one * power) <= RANGES);
  const ranges = [];
  const tidy = (value) => Number(value.toPrecision(12));
  for (let from = Math.floor(least / step) * step; from <= greatest && ranges.length < RANGES + 2; from += step) ranges.push({ gte: tidy(from), lt: tidy(from + step) });
  return ranges;
}

// Years, several together where there are many, or months; each as the range of its days.
function datesOf(counts) {
  if (counts[0]?.value.length === 7) return counts.slice(-FEW).map(({ value, count }) => ({ value, count, range: { gte: `${value}-01`, lt: `${monthAfter(value)}-01` } }));
  if (!counts.length) return [];
  const [first, last] = [counts[0], counts.at(-1)].map(({ value }) => Number(value));
  const step = Math.ceil((last - first + 1) / FEW);
  const year = (number) => String(number).padStart(4, "0");
  return Array.from({ length: Math.ceil((last - first + 1) / step) }, (_, i) => {
    const from = first + i * step;
    const count = counts.reduce((sum, one) => sum + (Number(one.value) >= from && Number(one.value) < from + step ? one.count : 0), 0);
    return { value: step > 1 ? `${year(from)}–${year(from + step - 1)}` : year(from), count, range: { gte: `${year(from)}-01-01`, lt: `${year(from + step)}-01-01` } };
  });
}

function monthAfter(value) {
  const [year, month] = value.split("-").map(Number);
  return month === 12 ? `${String(year + 1).padStart(4, "0")}-01` : `${value.slice(0, 5)}${String(month + 1).padStart(2, "0")}`;
}
