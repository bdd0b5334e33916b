// Judging hits that the service draws, one after another, by keys. Each grade is kept at once; what is judged already is
// not asked again, so that one goes on where one stopped.

import { addressOf, given, remember } from "../address.js";
import { Problem, aborted } from "../api.js";
import { make, problemPanel } from "../elements.js";
import { grade, pool, refused, sets } from "./calls.js";
import { FOUR, collectionField, labelled } from "./settings.js";

const GRADES = ["Not relevant", "Marginal", "Relevant", "Answers it"];
const WIDTHS = [FOUR[0], FOUR[1]];

export function show(root, page) {
  const collection = collectionField(page);
  const name = make("input", { id: "set", value: "people", pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}", spellcheck: false, autocapitalize: "off" });
  const known = make("datalist", { id: "sets" });
  name.setAttribute("list", "sets");
  const source = make("select", { id: "source" }, make("option", { value: "" }, "Queries of the set"), make("option", { value: "text" }, "These queries"),
    make("option", { value: "latest" }, "Searched last"), make("option", { value: "frequent" }, "Searched most"), make("option", { value: "without_hits" }, "Searched without a hit"));
  const most = make("input", { id: "most", type: "number", value: "50", min: "1", max: "1000", inputMode: "numeric" });
  const queries = make("textarea", { id: "queries", rows: 3, placeholder: "One query a line" });
  const own = make("div", { hidden: true }, make("label", { htmlFor: "queries", className: "over" }, "Queries, one a line"), queries);
  const form = make("form", { id: "form", autocomplete: "off", noValidate: true },
    make("div", { className: "options" }, collection.element, labelled("Set", name), known, labelled("Of", source), labelled("Hits", most),
      make("button", { type: "submit" }, "Judge")), own);
  const status = make("p", { role: "status", className: "figures" });
  const bar = make("progress", { ariaLabel: "Judged", hidden: true });
  const problem = make("div", { id: "problem", role: "alert" });
  const card = make("div", { className: "card" });
  root.append(form, status, bar, problem, card);
  let running = null;
  let work = null; // { c, set, left, past, judged, total }
  let saving = false;

  const state = () => ({ c: collection.select.value, set: name.value.trim(), of: source.value, n: most.value.trim(), q: source.value === "text" ? queries.value.trim() : "" });

  function restore() {
    const said = given();
    collection.fill(said.get("c"));
    name.value = said.get("set") ?? "people";
    source.value = said.get("of") ?? "";
    if (source.selectedIndex < 0) source.value = "";
    most.value = said.get("n") ?? "50";
    queries.value = said.get("q") ?? "";
    own.hidden = source.value !== "text";
    listSets();
    if (said.has("set")) draw();
    else clear("Hits of words and of all together are drawn, in an order that does not say who found them.");
  }

  async function listSets() {
    try {
      const found = collection.select.value ? await sets(collection.select.value) : [];
      known.replaceChildren(...found.map((one) => make("option", { value: one.name })));
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // a set can be named all the same
    }
  }

  function clear(said = "") {
    work = null;
    status.textContent = said;
    bar.hidden = true;
    problem.replaceChildren();
    card.replaceChildren();
  }

  async function draw() {
    running?.abort();
    const mine = (running = new AbortController());
    const { c, set, of, n, q } = state();
    clear("Drawing …");
    try {
      const wanted = Number(n);
      if (!Number.isInteger(wanted) || wanted < 1 || wanted > 1000) throw refused("/most", "expected a number of hits, 1 to 1,000");
      const body = { settings: WIDTHS, most: wanted };
      if (of === "text") {
        const texts = [...new Set(q.split("\n").map((one) => one.trim()).filter(Boolean))];
        if (!texts.length) throw refused("/queries", "expected at least one query, one a line");
        body.queries = texts.map((text) => ({ id: text.slice(0, 200), query: text }));
      } else if (of) Object.assign(body, { logged: Math.max(1, Math.ceil(wanted / 5)), draw: of });
      const found = await pool(c, set, body, mine.signal);
      if (running !== mine) return;
      // How many were judged when one began stands in the address, so that it is known when one comes again.
      const from = Math.min(Number(given().get("from") ?? found.judged), found.judged);
      history.replaceState(history.state, "", addressOf("judge", { ...state(), from: String(from) }));
      const judged = found.judged - from;
      const left = found.to_judge.slice(0, Math.max(0, wanted - judged));
      work = { c, set, left, past: [], judged, total: judged + left.length };
      next();
    } catch (error) {
      if (aborted(error)) return;
      if (!(error instanceof Problem)) throw error;
      if (running === mine) page.failed(error.details);
    }
  }

  // Shows the first that is left; heard: what became of the one before.
  function next(heard = "") {
    const { left, judged, total, past, set } = work;
    problem.replaceChildren();
    bar.hidden = !total;
    [bar.max, bar.value] = [total || 1, judged];
    const undo = make("button", { type: "button", className: "quiet", disabled: !past.length }, make("kbd", {}, "u"), " Undo");
    undo.addEventListener("click", back);
    if (!left.length) {
      status.textContent = `${heard}${total ? `All ${total} are judged or skipped.` : "There is nothing to judge: no hit without a grade."}`;
      const on = make("a", { href: addressOf("evaluate", { c: work.c, set }) }, "Evaluate by this set");
      return card.replaceChildren(make("p", { className: "actions" }, past.length > 0 && undo, " ", on));
    }
    const [one] = left;
    status.textContent = `${heard}${total - left.length + 1} of ${total}`;
    const buttons = GRADES.map((label, value) => {
      const button = make("button", { type: "button" }, make("kbd", {}, String(value)), ` ${label}`);
      button.addEventListener("click", () => give(value));
      return button;
    });
    const skip = make("button", { type: "button", className: "quiet" }, make("kbd", {}, "s"), " Skip");
    skip.addEventListener("click", pass);
    card.replaceChildren(
      make("p", { className: "asked", dir: "auto" }, one.asked ?? one.query),
      make("article", {}, make("h2", { dir: "auto" }, one.title || one.document), make("p", { className: "text", dir: "auto" }, one.text || "(no text)")),
      make("div", { className: "grades", role: "group", ariaLabel: "Grade" }, ...buttons),
      make("p", { className: "actions" }, undo, skip));
  }

  // Keeps a grade, or takes it back (null), before going on.
  async function keep(one, value) {
    if (saving) return false;
    saving = true;
    try {
      await grade(work.c, work.set, { query: one.query, ...(one.asked && { text: one.asked }), document: one.document, grade: value });
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.details.status === 401) page.failed(error.details);
      else problem.replaceChildren(problemPanel(error.details));
      return false;
    } finally {
      saving = false;
    }
  }

  async function give(value) {
    const now = work;
    const [one] = now.left;
    if (!(await keep(one, value)) || now !== work) return;
    now.left.shift();
    now.judged++;
    now.past.push({ one, value });
    next(`${GRADES[value]}. `);
  }

  function pass() {
    if (saving) return;
    work.past.push({ one: work.left.shift(), value: null });
    next("Skipped. ");
  }

  async function back() {
    const now = work;
    const last = now.past.at(-1);
    if (!last) return;
    if (last.value !== null) {
      if (!(await keep(last.one, null)) || now !== work) return;
      now.judged--;
    }
    now.past.pop();
    now.left.unshift(last.one);
    next("Taken back. ");
  }

  function keys(event) {
    if (!work || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.("input, textarea, select")) return;
    const { left, past } = work;
    if (/^[0-3]$/.test(event.key) && left.length) give(Number(event.key));
    else if (event.key === "s" && left.length) pass();
    else if (event.key === "u" && past.length) back();
    else return;
    event.preventDefault();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!page.listed) return page.load();
    if (!name.reportValidity()) return;
    remember(addressOf("judge", state()));
    page.named();
    document.activeElement?.blur();
    draw();
  });
  source.addEventListener("change", () => {
    own.hidden = source.value !== "text";
    if (!own.hidden) queries.focus();
  });
  collection.select.addEventListener("change", listSets);
  document.addEventListener("keydown", keys);
  return {
    restore,
    failed(details) {
      clear();
      problem.replaceChildren(problemPanel(details));
    },
    leave() {
      running?.abort();
      document.removeEventListener("keydown", keys);
    },
  };
}
