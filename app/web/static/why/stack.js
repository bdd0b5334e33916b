// The parts of a score as one bar: what adds stands right of the line, what takes away left of it; together they are the score.

import { make } from "../elements.js";

export const SIDES = { words: "Words", sparse: "Sparse vectors", tokens: "Meaning, by tokens", pooled: "Meaning, as a whole" };
const RANK = 60; // of reciprocal ranks
const MOST = 12; // parts that are told apart
const sum = (values) => values.reduce((whole, one) => whole + one, 0);

// [{name, value, said}] of which the score is the sum.
export function partsOf({ sides, ranks, terms, shares, opening, opening_weight, boosts, indices }, hit) {
  const place = (side) => (side in ranks ? (ranks[side] ? `number ${ranks[side]} in its list` : "not in its list") : "");
  const boosted = boosts.map(({ boost, score }) => ({ name: `Boost ${boost + 1}`, kind: "boost", value: score, said: "" }));
  let parts;
  if (sides.length) parts = sides.map(({ side, weight, standard }) => ({ name: SIDES[side], kind: side, value: weight * standard, said: place(side) }));
  else if (Object.keys(ranks).length) parts = Object.keys(ranks).map((side) => ({ name: SIDES[side], kind: side, value: ranks[side] ? 1 / (RANK + ranks[side]) : 0, said: place(side) }));
  else if (shares.length) {
    const own = sum(shares.map(({ product }) => product)) * (1 - opening_weight);
    parts = opening.length
      ? [{ name: "The passage", kind: "tokens", value: own, said: "" }, { name: "The document’s opening", kind: "pooled", value: sum(opening.map(({ product }) => product)) * opening_weight, said: "" }]
      : shares.map(({ query, product, asked }) => ({ name: asked ?? `vector ${query + 1}`, kind: "tokens", value: product, said: "" }));
  } else if (terms.length) parts = terms.map(({ term, score }) => ({ name: term, kind: "words", value: score, said: "" }));
  else parts = indices.map(({ index, term, score }) => ({ name: term ?? `index ${index}`, kind: "sparse", value: score, said: "" }));
  parts = [...parts, ...boosted];
  if (parts.length > MOST) {
    const ordered = parts.toSorted((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const rest = ordered.slice(MOST - 1);
    parts = [...ordered.slice(0, MOST - 1), { name: `${rest.length} others`, kind: "rest", value: sum(rest.map(({ value }) => value)), said: "" }];
  }
  return { parts, whole: hit.score };
}

export function stack(explanation, hit) {
  const { parts, whole } = partsOf(explanation, hit);
  if (!parts.length) return null;
  const all = sum(parts.map(({ value }) => Math.abs(value))) || 1;
  const below = parts.filter(({ value }) => value < 0);
  const above = parts.filter(({ value }) => value >= 0);
  const piece = ({ name, kind, value }, i) => {
    const one = make("span", { className: `part ${kind} shade-${i % 4}`, title: `${name} ${value.toFixed(3)}` });
    one.style.flexGrow = (100 * Math.abs(value)) / all;
    return one;
  };
  const side = (name, own) => {
    const one = make("div", { className: name }, ...own.map((part) => piece(part, parts.indexOf(part))));
    one.style.flexGrow = (100 * sum(own.map(({ value }) => Math.abs(value)))) / all;
    return one;
  };
  const bar = make("div", { className: "stack", ariaHidden: "true" }, below.length > 0 && side("below", below), side("above", above));
  const rows = parts.map((part, i) =>
    make("li", { className: `${part.kind} shade-${i % 4}` }, make("span", { className: "name", dir: "auto" }, part.name), make("span", { className: "said" }, part.said), make("span", { className: "value" }, signed(part.value))));
  rows.push(make("li", { className: "sum" }, make("span", { className: "name" }, "Score"), make("span", { className: "said" }, ""), make("span", { className: "value" }, whole.toFixed(3))));
  return make("figure", { className: "parts", ariaLabel: "Parts of the score" }, bar, make("ul", {}, ...rows));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
