// Ways to search, measured by judged queries: means with intervals, differences, and the queries behind them. The address
// holds what is asked; of a long one it holds the task, whose report stays.

import { addressOf, given, remember } from "../address.js";
import { Problem, at, call, taskAt } from "../api.js";
import { duration, make, number } from "../elements.js";
import { bars, intervalBar, scaleOf, signed } from "./plots.js";
import { FOUR, ask, collectionField, frame, labelled, parsed, refused, sets } from "./settings.js";

const DRAWN = { sentence: "Drawn: sentences of documents", title: "Drawn: titles", keywords: "Drawn: four words" };
const POLL = 700; // ms
const LISTED = 8; // queries that gain or lose most
const queries = (n) => (n === 1 ? "1 query" : `${number(n)} queries`);
const ranged = ({ low, high }, form) => `${form(low)} to ${form(high)}`;

export function show(root, page) {
  const collection = collectionField(page);
  const source = make("select", { id: "source" });
  const settings = make("textarea", { id: "settings", rows: 5, spellcheck: false, autocapitalize: "off" });
  const measures = make("input", { id: "measures", spellcheck: false, autocapitalize: "off" });
  const form = make("form", { id: "form", autocomplete: "off", noValidate: true },
    make("div", { className: "options" }, collection.element, labelled("Queries", source)),
    make("label", { htmlFor: "settings", className: "over" }, "Settings: name, search, and `collection` for another one"), settings,
    make("div", { className: "options" }, labelled("Measures", measures, "wide"), make("button", { type: "submit" }, "Evaluate")));
  const told = make("div");
  const shell = frame(root, page, form, submitted, told);
  const state = () => ({ c: collection.select.value, set: source.value, s: settings.value.trim(), m: measures.value.trim() });

  function submitted() {
    remember(addressOf("evaluate", { ...state(), run: true }));
    page.named();
    shell.doing(run);
  }

  const restore = () => shell.doing(async (signal) => {
    const said = given();
    settings.value = said.get("s") ?? `[\n${FOUR.map((one) => ` ${JSON.stringify(one)}`).join(",\n")}\n]`;
    measures.value = said.get("m") ?? "nDCG@10, RR@10, R@100";
    collection.fill(said.get("c"));
    const { c } = state();
    const options = Object.entries(DRAWN).map(([piece, label]) => [`drawn:${piece}`, label]);
    options.unshift(...(c ? await sets(c) : []).map((one) => [one.name, `${one.name} — ${queries(one.queries)}`]));
    signal.throwIfAborted();
    const wanted = said.get("set") ?? options[0][0];
    if (!options.some(([name]) => name === wanted)) options.unshift([wanted, wanted]);
    source.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
    source.value = wanted;
    shell.clear(wanted.startsWith("drawn:") ? "What is drawn tells how known documents are found; a set of judged queries tells more." : "");
    if (said.has("task")) await until(await call(taskAt(said.get("task")), { signal }), signal);
    else if (said.has("run")) await run(signal);
  });

  async function run(signal) {
    shell.clear("Searching …");
    const { c, set, s, m } = state();
    const body = { settings: parsed(s, "/settings", []), per_query: true };
    if (!body.settings.length) throw refused("/settings", "expected at least one setting");
    if (m) body.measures = m.split(/,(?![^(]*\))/).map((one) => one.trim());
    if (set.startsWith("drawn:")) body.known_items = { piece: set.slice(6) };
    else body.judgements = set;
    const answer = await ask(`${at(c)}/evaluate`, body, signal);
    if (answer.settings) return report(answer);
    remember(addressOf("evaluate", { ...state(), task: answer.id }));
    await until(answer, signal);
  }

  async function until(task, signal) {
    while (!task.finished) {
      shell.clear(`${task.phase} ${number(task.done)}${task.total ? ` of ${queries(task.total)}` : ""}`);
      shell.bar.hidden = false;
      if (task.total) [shell.bar.max, shell.bar.value] = [task.total, task.done];
      await new Promise((done) => setTimeout(done, POLL));
      task = await call(taskAt(task.id), { signal });
    }
    if (task.result) return report(task.result);
    const reason = task.errors.map(({ message }) => message).join("; ") || "the key does not reach all collections of its report";
    throw new Problem({ title: `The task ${task.state}`, detail: reason });
  }

  function report(found) {
    const drawn = found.drawn ? `; drawn from documents (${found.drawn}), not judged by people` : "";
    const ungraded = found.ungraded ? `, ${number(found.ungraded)} without a grade and left out` : "";
    shell.clear(`${queries(found.queries)}${ungraded}, ${found.settings.length} settings${drawn}.`);
    const names = Object.keys(found.settings[0].measures);
    if (!names.length) return told.replaceChildren(make("p", {}, "No query has a grade."));
    const pairs = found.differences.filter((one) => one.measure === names[0]);
    const pairName = ({ setting, than }) => `${than} − ${setting}`;
    const measure = make("select", { id: "measure" }, ...names.map((name) => make("option", {}, name)));
    const pair = make("select", { id: "pair" }, ...pairs.map((one) => make("option", {}, pairName(one))));
    const shown = make("div");
    const said = given();
    if (names.includes(said.get("measure"))) measure.value = said.get("measure");
    const sizes = pairs.map(({ mean }) => Math.abs(mean));
    const asked = pairs.findIndex((one) => pairName(one) === said.get("pair"));
    pair.selectedIndex = asked >= 0 ? asked : sizes.indexOf(Math.max(...sizes));
    const redraw = () => shown.replaceChildren(means(found, measure.value, names), ...(pairs.length ? [differences(found, measure.value, pairName),
      make("div", { className: "options" }, labelled("Query by query", pair)), each(found, measure.value, pairs[pair.selectedIndex])] : []));
    for (const one of [measure, pair]) {
      one.addEventListener("change", () => {
        remember(addressOf("evaluate", { ...Object.fromEntries(given()), view: "", measure: measure.value, pair: pair.value }));
        redraw();
      });
    }
    told.replaceChildren(make("div", { className: "options" }, labelled("Measure", measure)), shown);
    redraw();
  }

  // rows: of cells, the first of which is the row's name.
  const table = (label, caption, heads, rows) => make("div", { className: "scrolls", role: "region", ariaLabel: label, tabIndex: 0 },
    make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row", dir: "auto" }, name), ...cells.map((one) => make("td", {}, one)))))));

  function means(found, measure, names) {
    const [others, four] = [names.filter((name) => name !== measure), (value) => value.toFixed(4)];
    const scale = scaleOf(found.settings.map((one) => one.measures[measure]));
    return table("Means", `Means of ${measure} with 95 % intervals over queries`,
      ["Setting", measure, "Interval", "95 %", ...others, "Unjudged", "p50", "p95"],
      found.settings.map(({ name, measures: own, unjudged, p50_ms, p95_ms }) => {
        const range = ranged(own[measure], (value) => value.toFixed(3));
        return [name, make("b", {}, four(own[measure].mean)), intervalBar(own[measure], scale, `${name}: ${range}`), range,
          ...others.map((other) => four(own[other].mean)), `${(100 * unjudged).toFixed(0)} %`, duration(p50_ms), duration(p95_ms)];
      }));
  }

  function differences(found, measure, pairName) {
    const own = found.differences.filter((one) => one.measure === measure);
    const scale = scaleOf(own, 0);
    return table("Differences", `Differences in ${measure}, tested by randomisation, corrected for their number`,
      ["Pair", "Mean", "Interval", "95 %", "p", "Verdict", "Overlap"],
      own.map((one, i) => [pairName(one), make("b", {}, signed(one.mean)), intervalBar(one, scale, `${pairName(one)}: ${signed(one.mean)}`),
        ranged(one, signed), one.p_corrected.toFixed(4), one.different ? make("b", {}, "different") : "may be chance", found.agreement[i].overlap.toFixed(2)]));
  }

  function each(found, measure, { setting, than }) {
    const ways = parsed(settings.value, "/settings", []);
    const json = (name) => {
      const { search, collection: other } = ways.find((one) => one.name === name) ?? {};
      return JSON.stringify({ ...search, ...(other && { collection: other }) });
    };
    const graded = found.per_query.filter(({ settings: by }) => measure in by[than].values);
    const values = graded.map(({ id, text, settings: by }) => ({
      label: text ?? id,
      value: by[than].values[measure] - by[setting].values[measure],
      href: addressOf("compare", { c: collection.select.value, q: text, a: json(setting), b: json(than) }),
    })).sort((one, other) => other.value - one.value);
    const [gains, losses] = [values.filter(({ value }) => value > 0), values.filter(({ value }) => value < 0)];
    const list = (label, some) => some.length > 0 && make("section", {}, make("h2", {}, label), make("ol", { role: "list" },
      ...some.slice(0, LISTED).map(({ label: text, value, href }) => make("li", {}, make("a", { href, dir: "auto" }, text), make("span", {}, signed(value))))));
    const said = `${than} is better on ${gains.length}, worse on ${losses.length}, equal on ${values.length - gains.length - losses.length} of ${values.length}.`;
    return make("div", {}, make("p", { className: "figures" }, `${said} A bar leads to its query, side by side.`),
      gains.length + losses.length > 0 && bars([...gains, ...losses], `${than} minus ${setting}, query by query`),
      make("div", { className: "extremes" }, list("Gains most", gains), list("Loses most", losses.reverse())));
  }

  collection.select.addEventListener("change", () => {
    remember(addressOf("evaluate", { c: collection.select.value, s: given().get("s"), m: given().get("m") }));
    page.named();
    restore();
  });
  return { ...shell, restore };
}
