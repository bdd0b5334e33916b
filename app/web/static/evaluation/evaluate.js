// Ways to search, measured by judged queries: means with intervals, differences, and the queries behind them. The address
// holds what is asked; of a long one it holds the task, whose report stays.

import { addressOf, given, remember } from "../address.js";
import { Problem, aborted } from "../api.js";
import { count, duration, make, number, problemPanel } from "../elements.js";
import { evaluate, refused, sets, task } from "./calls.js";
import { bars, intervalBar, scaleOf, signed } from "./plots.js";
import { FOUR, collectionField, labelled, parsed } from "./settings.js";

const DRAWN = { sentence: "Drawn: sentences of documents", title: "Drawn: titles", keywords: "Drawn: four words" };
const POLL = 700; // ms
const WORST = 8;
const queries = (n) => (n === 1 ? "1 query" : `${number(n)} queries`);

export function show(root, page) {
  const collection = collectionField(page);
  const source = make("select", { id: "source" });
  const settings = make("textarea", { id: "settings", rows: 5, spellcheck: false, autocapitalize: "off" });
  const measures = make("input", { id: "measures", spellcheck: false, autocapitalize: "off" });
  const button = make("button", { type: "submit" }, "Evaluate");
  const form = make("form", { id: "form", autocomplete: "off", noValidate: true },
    make("div", { className: "options" }, collection.element, labelled("Queries", source)),
    make("label", { htmlFor: "settings", className: "over" }, "Settings: name, search, and `collection` for another one"), settings,
    make("div", { className: "options" }, make("label", { className: "wide" }, "Measures ", measures), button));
  const status = make("p", { role: "status", className: "figures" });
  const bar = make("progress", { ariaLabel: "Progress", hidden: true });
  const problem = make("div", { id: "problem", role: "alert" });
  const told = make("div", { className: "report" });
  root.append(form, status, bar, problem, told);
  let running = null;
  let listing = "";

  const state = () => ({ c: collection.select.value, set: source.value, s: settings.value.trim(), m: measures.value.trim() });

  async function fill(chosen, wanted) {
    collection.fill(chosen);
    const name = collection.select.value;
    listing = name;
    let kept = [];
    try {
      if (name) kept = await sets(name);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      page.failed(error.details);
    }
    if (listing !== name) return false;
    const options = kept.map((one) => make("option", { value: one.name }, `${one.name} — ${queries(one.queries)}`));
    for (const [piece, label] of Object.entries(DRAWN)) options.push(make("option", { value: `drawn:${piece}` }, label));
    if (wanted && !options.some((one) => one.value === wanted)) options.unshift(make("option", { value: wanted }, wanted));
    source.replaceChildren(...options);
    source.value = wanted || options[0].value;
    return true;
  }

  async function restore() {
    running?.abort();
    const said = given();
    settings.value = said.get("s") ?? `[\n${FOUR.map((one) => ` ${JSON.stringify(one)}`).join(",\n")}\n]`;
    measures.value = said.get("m") ?? "nDCG@10, RR@10, R@100";
    if (!(await fill(said.get("c"), said.get("set")))) return;
    clear(source.value.startsWith("drawn:") ? "No set of judged queries yet: what is drawn tells how known documents are found, and no more." : "");
    if (said.has("task")) follow(said.get("task"));
    else if (said.has("run")) run();
  }

  function clear(said = "") {
    status.textContent = said;
    bar.hidden = true;
    problem.replaceChildren();
    told.replaceChildren();
  }

  // What is to be asked, as the API takes it. Throws a Problem.
  function asked() {
    const own = state();
    const body = { settings: parsed(own.s, "/settings", []), per_query: true };
    if (!body.settings.length) throw refused("/settings", "expected at least one setting");
    if (own.m) body.measures = own.m.split(/,(?![^(]*\))/).map((one) => one.trim()).filter(Boolean);
    if (own.set.startsWith("drawn:")) body.known_items = { piece: own.set.slice(6) };
    else body.judgements = own.set;
    return body;
  }

  // Runs work that a later one ends, and shows what goes wrong.
  async function doing(work) {
    running?.abort();
    const mine = (running = new AbortController());
    button.disabled = true;
    try {
      await work(mine.signal);
    } catch (error) {
      if (aborted(error)) return;
      if (!(error instanceof Problem)) throw error;
      if (running === mine) page.failed(error.details);
    } finally {
      if (running === mine) button.disabled = false;
    }
  }

  const run = () => doing(async (signal) => {
    clear("Searching …");
    const answer = await evaluate(collection.select.value, asked(), signal);
    if (answer.settings) return report(answer);
    // Long: the address has the task from here on, and with it the report.
    remember(addressOf("evaluate", { ...state(), task: answer.id }));
    await until(answer, signal);
  });

  const follow = (id) => doing(async (signal) => {
    clear("Looking for the report …");
    await until(await task(id, signal), signal);
  });

  async function until(found, signal) {
    while (!found.finished) {
      status.textContent = `${found.phase} ${number(found.done)}${found.total ? ` of ${number(found.total)} queries` : ""}`;
      bar.hidden = false;
      if (found.total) [bar.max, bar.value] = [found.total, found.done];
      await new Promise((done) => setTimeout(done, POLL));
      signal.throwIfAborted();
      found = await task(found.id, signal);
    }
    if (found.result) return report(found.result);
    const reason = found.errors.map(({ message }) => message).join("; ") || "the key does not reach all collections of its report";
    throw new Problem({ title: `The task ${found.state}`, detail: reason, code: "task" });
  }

  function report(found) {
    clear(`${queries(found.queries)}, ${found.settings.length} settings${found.drawn ? `; drawn from documents (${found.drawn}), not judged by people` : ""}.`);
    const names = Object.keys(found.settings[0].measures);
    const pairs = found.differences.filter(({ measure }) => measure === names[0]).map(({ setting, than }) => ({ setting, than }));
    const measure = make("select", { id: "measure" }, ...names.map((name) => make("option", {}, name)));
    const pair = make("select", { id: "pair" }, ...pairs.map(({ setting, than }, i) => make("option", { value: i }, `${than} − ${setting}`)));
    const [said, shown] = [given(), make("div")];
    if (names.includes(said.get("measure"))) measure.value = said.get("measure");
    const place = pairs.findIndex(({ setting, than }) => said.get("pair") === `${than} − ${setting}`);
    const first = found.differences.filter((one) => one.measure === measure.value).map(({ mean }) => Math.abs(mean));
    if (pairs.length) pair.value = place >= 0 ? place : first.indexOf(Math.max(...first));
    const redraw = () => shown.replaceChildren(table(found, measure.value), ...(pairs.length ? [differences(found, measure.value),
      make("div", { className: "options" }, labelled("Query by query", pair)), each(found, measure.value, pairs[pair.value])] : []));
    const chosen = () => {
      const now = given();
      const kept = { c: now.get("c"), set: now.get("set"), s: now.get("s"), m: now.get("m"), task: now.get("task"), run: now.has("run") };
      const { setting, than } = pairs[pair.value] ?? {};
      remember(addressOf("evaluate", { ...kept, measure: measure.value, pair: setting && `${than} − ${setting}` }));
      redraw();
    };
    for (const one of [measure, pair]) one.addEventListener("change", chosen);
    told.replaceChildren(make("div", { className: "options" }, labelled("Measure", measure)), shown);
    redraw();
  }

  const wide = (label, content) => make("div", { className: "scrolls", role: "region", ariaLabel: label, tabIndex: 0 }, content);
  const cell = (...content) => make("td", {}, ...content);
  const head = (...names) => make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
  const drawn = (...interval) => make("td", { className: "drawn" }, intervalBar(...interval));
  const ranged = ({ low, high }) => `${low.toFixed(3)} to ${high.toFixed(3)}`;

  function table(found, measure) {
    const scale = scaleOf(found.settings.map((one) => one.measures[measure]));
    const others = Object.keys(found.settings[0].measures).filter((name) => name !== measure);
    const rows = found.settings.map((one) => {
      const value = one.measures[measure];
      return make("tr", {}, make("th", { scope: "row", dir: "auto" }, one.name), cell(make("b", {}, value.mean.toFixed(4))),
        drawn(value, scale, `${one.name}: ${value.mean.toFixed(3)}, ${ranged(value)}`), cell(ranged(value)),
        ...others.map((name) => cell(one.measures[name].mean.toFixed(4))),
        cell(`${(100 * one.unjudged).toFixed(0)} %`), cell(duration(one.p50_ms)), cell(duration(one.p95_ms)));
    });
    return wide("Means", make("table", {}, make("caption", {}, `Means of ${measure} with 95 % intervals over queries`),
      head("Setting", measure, "Interval", "95 %", ...others, "Unjudged", "p50", "p95"), make("tbody", {}, ...rows)));
  }

  function differences(found, measure) {
    const own = found.differences.filter((one) => one.measure === measure);
    const scale = scaleOf(own, true);
    const agreed = new Map(found.agreement.map((one) => [`${one.setting}\n${one.than}`, one.overlap]));
    const rows = own.map((one) => {
      const name = `${one.than} − ${one.setting}`;
      return make("tr", { className: one.different ? "different" : "" }, make("th", { scope: "row", dir: "auto" }, name), cell(make("b", {}, signed(one.mean))),
        drawn(one, scale, `${name}: ${signed(one.mean)}`), cell(`${signed(one.low)} to ${signed(one.high)}`),
        cell(one.p_corrected.toFixed(4)), cell(one.different ? "different" : "may be chance"), cell(agreed.get(`${one.setting}\n${one.than}`).toFixed(2)));
    });
    return wide("Differences", make("table", {}, make("caption", {}, `Differences in ${measure}, tested by randomisation, corrected for ${count(own.length, "pair")}`),
      head("Pair", "Mean", "Interval", "95 %", "p", "Verdict", "Overlap"), make("tbody", {}, ...rows)));
  }

  function each(found, measure, { setting, than }) {
    const ways = new Map(parsed(settings.value, "/settings", []).map((one) => [one.name, one]));
    const json = (name) => {
      const { search = {}, collection: other } = ways.get(name) ?? {};
      return JSON.stringify({ ...search, ...(other && { collection: other }) });
    };
    const c = collection.select.value;
    const values = found.per_query.map((one) => ({
      label: one.text ?? one.id,
      value: one.settings[than].values[measure] - one.settings[setting].values[measure],
      href: addressOf("compare", { c, q: one.text, a: json(setting), b: json(than) }),
    })).sort((one, other) => other.value - one.value);
    const differ = values.filter(({ value }) => value);
    const listed = (label, some) => some.length > 0 && make("section", {}, make("h2", {}, label),
      make("ol", { role: "list", className: "queries" }, ...some.map(({ label: text, value, href }) =>
        make("li", {}, make("a", { href, dir: "auto" }, text), " ", make("span", {}, signed(value))))));
    const said = `${than} is better on ${differ.filter(({ value }) => value > 0).length}, worse on ${differ.filter(({ value }) => value < 0).length}, `
      + `equal on ${values.length - differ.length} of ${values.length}`;
    return make("div", {}, make("p", { className: "figures" }, `${said}. A bar leads to its query, side by side.`),
      differ.length > 0 && bars(differ, `${than} minus ${setting}, query by query`),
      make("div", { className: "extremes" }, listed("Gains most", values.slice(0, WORST).filter(({ value }) => value > 0)),
        listed("Loses most", values.slice(-WORST).reverse().filter(({ value }) => value < 0))));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!page.listed) return page.load();
    remember(addressOf("evaluate", { ...state(), run: true }));
    page.named();
    run();
  });
  collection.select.addEventListener("change", () => {
    remember(addressOf("evaluate", { c: collection.select.value, s: given().get("s"), m: given().get("m") }));
    page.named();
    restore();
  });
  return {
    restore,
    failed(details) {
      clear();
      problem.replaceChildren(problemPanel(details));
    },
    leave: () => running?.abort(),
  };
}
