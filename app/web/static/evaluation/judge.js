// Judging hits that the service draws, one after another, by keys. Each grade is kept at once; what is judged already is
// not asked again, so that one goes on where one stopped.

import { addressOf, given, remember } from "../address.js";
import { Problem } from "../api.js";
import { button, make } from "../elements.js";
import { FOUR, ask, collectionField, frame, labelled, refused, setAt, sets } from "./settings.js";

const GRADES = ["Not relevant", "Marginal", "Relevant", "Answers it"];
const SOURCES = { "": "Queries of the set", text: "These queries", latest: "Searched last", frequent: "Searched most", without_hits: "Searched without a hit" };

export function show(root, page) {
  const collection = collectionField(page);
  const name = make("input", { id: "set", pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}", required: true, spellcheck: false, autocapitalize: "off" });
  name.setAttribute("list", "sets");
  const known = make("datalist", { id: "sets" });
  const source = make("select", { id: "source" }, ...Object.entries(SOURCES).map(([value, label]) => make("option", { value }, label)));
  const most = make("input", { id: "most", type: "number", min: "1", max: "1000", inputMode: "numeric" });
  const queries = make("textarea", { id: "queries", rows: 3, placeholder: "Queries, one a line", ariaLabel: "Queries, one a line" });
  const form = make("form", { id: "form", autocomplete: "off", noValidate: true },
    make("div", { className: "options" }, collection.element, labelled("Set", name), known, labelled("Of", source), labelled("Hits", most),
      make("button", { type: "submit" }, "Judge")), queries);
  const card = make("div", { className: "card" });
  const shell = frame(root, page, form, submitted, card);
  let work = null; // { c, set, left, past, judged, total }
  let saving = false;
  const state = () => ({ c: collection.select.value, set: name.value, of: source.value, n: most.value, q: source.value === "text" ? queries.value.trim() : "" });

  function restore() {
    const said = given();
    collection.fill(said.get("c"));
    name.value = said.get("set") ?? "people";
    source.value = said.get("of") ?? "";
    most.value = said.get("n") ?? "50";
    queries.value = said.get("q") ?? "";
    queries.hidden = source.value !== "text";
    listSets();
    work = null;
    if (said.has("set")) shell.doing(draw);
    else shell.clear("Hits by words and by all together are drawn, in an order that does not say who found them.");
  }

  async function listSets() {
    // Without the list a set is named all the same.
    const found = await sets(collection.select.value).catch(() => []);
    known.replaceChildren(...found.map((one) => make("option", { value: one.name })));
  }

  function submitted() {
    if (!name.reportValidity()) return;
    remember(addressOf("judge", state()));
    page.named();
    document.activeElement.blur();
    shell.doing(draw);
  }

  async function draw(signal) {
    const { c, set, of, n, q } = state();
    const wanted = Number(n);
    work = null;
    shell.clear("Drawing …");
    if (!(wanted >= 1 && wanted <= 1000)) throw refused("/most", "expected a number of hits, 1 to 1,000");
    const body = { settings: FOUR.slice(0, 2), most: wanted };
    if (of === "text") {
      const texts = new Set(q.split("\n").map((one) => one.trim()).filter(Boolean));
      // An id has at most 512 bytes, and no tab.
      body.queries = [...texts].map((text) => ({ id: [...text.replace(/\s/g, " ")].slice(0, 128).join(""), query: text }));
    } else if (of) Object.assign(body, { logged: Math.min(250, Math.ceil(wanted / 5)), draw: of });
    const found = await ask(`${setAt(c, set)}/pool`, body, signal);
    // How many were judged when one began stands in the address, so that it is known when one comes again.
    const from = Math.min(given().get("from") ?? found.judged, found.judged);
    history.replaceState(history.state, "", addressOf("judge", { ...state(), from: String(from) }));
    const judged = found.judged - from;
    const left = found.to_judge.slice(0, Math.max(0, wanted - judged));
    work = { c, set, left, past: [], judged, total: judged + left.length };
    next("");
  }

  const key = (name, label, className, pressed) => button([make("kbd", {}, name), ` ${label}`], pressed, { className });

  // Shows the first that is left; heard: what became of the one before.
  function next(heard) {
    const { left: [one, ...others], judged, total, past, c, set } = work;
    const undo = past.length > 0 && key("u", "Undo", "quiet", back);
    shell.clear(one ? `${heard}${total - others.length} of ${total}`
      : `${heard}${total ? `All ${total} are judged or skipped.` : "There is nothing to judge: no hit without a grade."}`);
    shell.bar.hidden = !total;
    [shell.bar.max, shell.bar.value] = [total || 1, judged];
    if (!one) return card.append(make("p", { className: "actions" }, undo, make("a", { href: addressOf("evaluate", { c, set }) }, "Evaluate by this set")));
    card.append(
      make("p", { className: "asked", dir: "auto" }, one.asked ?? one.query),
      make("article", {}, make("h2", { dir: "auto" }, one.title || one.document), make("p", { className: "text", dir: "auto" }, one.text || "(no text)")),
      make("div", { className: "grades", role: "group", ariaLabel: "Grade" }, ...GRADES.map((label, value) => key(value, label, "", () => give(value)))),
      make("p", { className: "actions" }, undo, key("s", "Skip", "quiet", pass)));
  }

  // Keeps a grade, or takes it back (null). Gives whether it is kept, and the work still the same.
  async function keep({ query, asked, document: id }, value) {
    const now = work;
    if (saving) return false;
    saving = true;
    try {
      await ask(`${setAt(now.c, now.set)}/grades`, { grades: [{ query, ...(asked && { text: asked }), document: id, grade: value }] });
      return now === work;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.details.status === 401) page.failed(error.details);
      else shell.tell(error.details);
      return false;
    } finally {
      saving = false;
    }
  }

  async function give(value) {
    const [one] = work.left;
    if (!(await keep(one, value))) return;
    work.left.shift();
    work.judged++;
    work.past.push({ one, value });
    next(`${GRADES[value]}. `);
  }

  function pass() {
    if (saving) return;
    work.past.push({ one: work.left.shift(), value: null });
    next("Skipped. ");
  }

  async function back() {
    const { one, value } = work.past.at(-1);
    if (value !== null) {
      if (!(await keep(one, null))) return;
      work.judged--;
    }
    work.past.pop();
    work.left.unshift(one);
    next("Taken back. ");
  }

  function keys(event) {
    const { key, target } = event;
    if (!work || event.ctrlKey || event.metaKey || event.altKey || target.closest?.("input, textarea, select")) return;
    if (/^[0-3]$/.test(key) && work.left.length) give(Number(key));
    else if (key === "s" && work.left.length) pass();
    else if (key === "u" && work.past.length) back();
  }

  source.addEventListener("change", () => {
    queries.hidden = source.value !== "text";
    if (!queries.hidden) queries.focus();
  });
  collection.select.addEventListener("change", listSets);
  document.addEventListener("keydown", keys);
  const leave = () => {
    shell.leave();
    document.removeEventListener("keydown", keys);
  };
  return { ...shell, restore, leave };
}
