// Two ways to search side by side: what stays, what moves, what only one of them finds. All of it is in the address.

import { addressOf, given, remember } from "../address.js";
import { at } from "../api.js";
import { count, cut, duration, make } from "../elements.js";
import { lines, overlap } from "./plots.js";
import { ask, collectionField, frame, labelled, parsed, refused, settingField } from "./settings.js";

export function show(root, page) {
  const query = make("input", { id: "query", type: "search", placeholder: "A query", ariaLabel: "Query", autocapitalize: "off", spellcheck: false, dir: "auto" });
  const collection = collectionField(page);
  const k = make("input", { id: "k", type: "number", min: "1", max: "100", inputMode: "numeric" });
  const [left, right] = [settingField("Left", "left", changed), settingField("Right", "right", changed)];
  const form = make("form", { id: "form", role: "search", autocomplete: "off", noValidate: true },
    make("div", { className: "box" }, make("div", { className: "entry" }, query), make("button", { type: "submit" }, "Compare")),
    make("div", { className: "options" }, collection.element, labelled("Hits", k)),
    make("div", { className: "sides" }, left.element, right.element));
  const found = make("div", { className: "compared" });
  const shell = frame(root, page, form, changed, found);

  function changed() {
    const [a, b] = [left.text.value.trim(), right.text.value.trim()];
    remember(addressOf("compare", { c: collection.select.value, q: query.value.trim(), k: k.value === "10" ? "" : k.value, a, b }));
    page.named();
    run();
  }

  function restore() {
    const said = given();
    collection.fill(said.get("c"));
    query.value = said.get("q") ?? "";
    k.value = said.get("k") ?? "10";
    left.set(said.get("a") ?? "");
    right.set(said.get("b") ?? (said.has("a") ? "" : '{"mode":"lexical"}'));
    run();
  }

  const run = () => shell.doing(async (signal) => {
    const [c, q, most] = [collection.select.value, query.value.trim(), Number(k.value)];
    if (!q || !c) return shell.clear(c ? "Two settings, one query: what moves, what is gained and what is lost." : "There is no collection to search.");
    if (!found.children.length) shell.clear("Searching …");
    const ways = [parsed(left.text.value, "/a", {}), parsed(right.text.value, "/b", {})];
    if (!(most >= 1 && most <= 100)) throw refused("/k", "expected a number of hits, 1 to 100");
    const answers = await Promise.all(ways.map(({ collection: other, ...way }) =>
      ask(`${at(other ?? c)}/search`, { ...way, query: q, k: most, include: ["text"] }, signal)));
    answered(...answers);
  });

  function answered(...answers) {
    const ids = answers.map(({ hits }) => hits.map(({ id }) => id));
    const ranks = ids.map((own) => new Map(own.map((id, i) => [id, i + 1])));
    const pairs = ids[0].filter((id) => ranks[1].has(id)).map((id) => [ranks[0].get(id), ranks[1].get(id)]);
    const moved = pairs.filter(([one, other]) => one !== other).length;
    shell.clear(`Rank-biased overlap ${overlap(...ids).toFixed(3)}. ${pairs.length} in both, ${moved} of them moved; `
      + `${ids[1].length - pairs.length} gained, ${ids[0].length - pairs.length} lost.`);
    const [one, other] = answers.map(({ hits, mode, took_ms }, side) => {
      const name = side ? "Right" : "Left";
      return make("section", { ariaLabel: name }, make("h2", {}, `${name}: ${count(hits.length, "hit")}, ${mode} ${duration(took_ms)}`),
        make("ol", { role: "list" }, ...hits.map((hit, i) => item(hit, i + 1, ranks[1 - side].get(hit.id), side))));
    });
    found.replaceChildren(one, lines(pairs, Math.max(1, ...ids.map((own) => own.length))), other);
  }

  // other: its rank on the other side, if it has one there.
  function item(hit, rank, other, side) {
    const up = other > rank;
    const [kind, mark, said] = other === undefined ? (side ? ["gained", "new", "only on the right"] : ["lost", "lost", "only on the left"])
      : other === rank ? ["", "=", "at the same rank"]
      : [side ? (up ? "up" : "down") : "", side ? `${up ? "↑" : "↓"}${Math.abs(other - rank)}` : `→${other}`, `at rank ${other} on the other side`];
    return make("li", { className: `placed ${kind}` }, make("span", { className: "rank" }, String(rank)),
      make("div", {}, make("p", { className: "name", dir: "auto", title: hit.id }, hit.title || cut(hit.text || hit.id, 80)),
        make("p", { className: "beginning", dir: "auto" }, cut(hit.text ?? "", 90))),
      make("span", { className: "mark", ariaHidden: "true" }, mark), make("span", { className: "unseen" }, said));
  }

  for (const control of [collection.select, k]) control.addEventListener("change", changed);
  return { ...shell, restore, refreshed: () => collection.fill(collection.select.value) };
}
