// What the approximate path missed: its hits beside those of the exact search.

import { count, duration, make } from "../elements.js";

// first: places before this page. took: ms of each.
export function missed(approximate, exact, first, took) {
  const place = new Map(approximate.map(({ id }, i) => [id, i]));
  const there = new Set(exact.map(({ id }) => id));
  const added = exact.filter(({ id }) => !place.has(id));
  const gone = approximate.filter(({ id }) => !there.has(id));
  const moved = exact.filter(({ id }, i) => place.has(id) && place.get(id) !== i);
  const time = `exact took ${duration(took.exact)}, approximate ${duration(took.approximate)}`;
  if (!added.length && !moved.length && !gone.length) return make("p", {}, `Nothing missed: exact search finds the same hits in the same order (${time}).`);
  const at = (list, id) => list.findIndex((one) => one.id === id) + first + 1;
  const name = (id) => make("span", { className: "name", dir: "auto" }, [...approximate, ...exact].find((one) => one.id === id && one.title)?.title || id);
  const line = (kind, said, { id }) => make("li", { className: kind }, make("span", { className: "kind" }, said), " ", name(id));
  return make("div", {},
    make("p", {}, `Of exact search’s ${count(exact.length, "hit")} it missed ${added.length}, and has ${moved.length} at another place (${time}).`),
    make("ul", {},
      ...added.map((hit) => line("added", `+ ${at(exact, hit.id)}`, hit)),
      ...moved.map((hit) => line("moved", `${at(approximate, hit.id)} → ${at(exact, hit.id)}`, hit)),
      ...gone.map((hit) => line("gone", `− ${at(approximate, hit.id)}`, hit))));
}
