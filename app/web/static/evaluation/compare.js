// Two ways to search side by side: what stays, what moves, what only one of them finds. All of it is in the address.

import { addressOf, given, remember } from "../address.js";
import { Problem, aborted } from "../api.js";
import { count, cut, duration, make, problemPanel } from "../elements.js";
import { refused, searchBy } from "./calls.js";
import { lines, overlap } from "./plots.js";
import { collectionField, labelled, settingField } from "./settings.js";

export function show(root, page) {
  const query = make("input", { id: "query", type: "search", placeholder: "A query", autocapitalize: "off", spellcheck: false, dir: "auto" });
  const collection = collectionField(page);
  const k = make("input", { id: "k", type: "number", value: "10", min: "1", max: "100", inputMode: "numeric" });
  const sides = [settingField("Left", "left", changed), settingField("Right", "right", changed)];
  const form = make("form", { id: "form", role: "search", autocomplete: "off", noValidate: true },
    make("div", { className: "box" },
      make("div", { className: "entry" }, make("label", { htmlFor: "query", className: "unseen" }, "Query"), query),
      make("button", { type: "submit" }, "Compare")),
    make("div", { className: "options" }, collection.element, labelled("Hits", k)),
    make("div", { className: "sides" }, ...sides.map((one) => one.element)));
  const status = make("p", { role: "status", className: "figures" });
  const problem = make("div", { id: "problem", role: "alert" });
  const found = make("div", { className: "compared" });
  root.append(form, status, problem, found);
  let running = null;

  function state() {
    return { c: collection.select.value, q: query.value.trim(), k: k.value.trim() === "10" ? "" : k.value.trim(), a: sides[0].text, b: sides[1].text };
  }

  function changed() {
    remember(addressOf("compare", state()));
    page.named();
    run();
  }

  function restore() {
    const said = given();
    collection.fill(said.get("c"));
    query.value = said.get("q") ?? "";
    k.value = said.get("k") ?? "10";
    sides[0].text = said.get("a") ?? "";
    sides[1].text = said.get("b") ?? (said.has("a") ? "" : '{"mode":"lexical"}');
    run();
  }

  async function run() {
    running?.abort();
    const mine = (running = new AbortController());
    const { c, q } = state();
    if (!q || !c) return clear(c ? "Two settings, one query: what moves, what is gained and what is lost." : "There is no collection to search.");
    found.setAttribute("aria-busy", "true");
    if (!found.children.length) status.textContent = "Searching …";
    try {
      const ways = sides.map((one, i) => one.value(i ? "/b" : "/a"));
      const most = Number(k.value);
      if (!Number.isInteger(most) || most < 1 || most > 100) throw refused("/k", "expected a number of hits, 1 to 100");
      const answers = await Promise.all(ways.map((way) => searchBy(c, way, q, most, mine.signal)));
      if (running === mine) answered(answers, most);
    } catch (error) {
      if (aborted(error)) return;
      if (!(error instanceof Problem)) throw error;
      if (running === mine) page.failed(error.details);
    } finally {
      if (running === mine) found.removeAttribute("aria-busy");
    }
  }

  function clear(said = "") {
    status.textContent = said;
    problem.replaceChildren();
    found.replaceChildren();
  }

  function answered(answers, most) {
    const ids = answers.map(({ hits }) => hits.map(({ id }) => id));
    const ranks = ids.map((own) => new Map(own.map((id, i) => [id, i + 1])));
    const both = ids[0].filter((id) => ranks[1].has(id));
    const moved = both.filter((id) => ranks[0].get(id) !== ranks[1].get(id)).length;
    clear(`Rank-biased overlap ${overlap(ids[0], ids[1]).toFixed(3)}. ${both.length} in both, ${moved} of them moved; `
      + `${ids[1].length - both.length} gained, ${ids[0].length - both.length} lost.`);
    const lists = answers.map((answer, side) => {
      const hits = answer.hits.map((hit, i) => item(hit, i + 1, ranks[1 - side].get(hit.id), side));
      const head = `${side ? "Right" : "Left"}: ${count(hits.length, "hit")}, ${answer.mode ?? ""} ${duration(answer.took_ms)}`;
      return make("section", { ariaLabel: side ? "Right" : "Left" }, make("h2", {}, head), make("ol", { role: "list" }, ...hits));
    });
    const pairs = both.map((id) => [ranks[0].get(id), ranks[1].get(id)]);
    found.replaceChildren(lists[0], lines(pairs, Math.max(ids[0].length, ids[1].length, 1), most), lists[1]);
  }

  // other: its rank on the other side, if it has one there.
  function item(hit, rank, other, side) {
    const by = other && (side ? other - rank : rank - other);
    const alone = side ? ["gained", "new", "only on the right"] : ["lost", "lost", "only on the left"];
    const [kind, mark, said] = other === undefined ? alone : by === 0 ? ["same", "=", "at the same rank"]
      : [side ? (by > 0 ? "up" : "down") : "moved", side ? `${by > 0 ? "↑" : "↓"}${Math.abs(by)}` : `→${other}`, `at rank ${other} on the other side`];
    return make("li", { className: `placed ${kind}` },
      make("span", { className: "rank" }, String(rank)),
      make("div", { className: "what" },
        make("p", { className: "name", dir: "auto", title: hit.id }, hit.title || cut(hit.text || hit.id, 80)),
        make("p", { className: "beginning", dir: "auto" }, cut(hit.text ?? "", 90))),
      make("span", { className: "mark", ariaHidden: "true" }, mark),
      make("span", { className: "unseen" }, said));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (page.listed) changed();
    else page.load();
  });
  for (const control of [collection.select, k]) control.addEventListener("change", changed);
  if (matchMedia("(hover: hover)").matches && !given().has("q")) query.focus();
  return {
    restore,
    refreshed: () => collection.fill(collection.select.value),
    failed(details) {
      clear();
      problem.replaceChildren(problemPanel(details));
    },
    leave: () => running?.abort(),
  };
}
