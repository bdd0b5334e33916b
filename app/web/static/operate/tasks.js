// Tasks, the newest first, each with its progress and its errors by line. Running ones are followed while they are shown.

import { addressOf, given, remember } from "../address.js";
import { Problem, call, taskAt } from "../api.js";
import { button, count, make, number } from "../elements.js";
import { tag, when } from "./collections.js";

const POLL = 2000; // ms
const PAGE = 100;
const ENOUGH = 10; // tasks of the collection, before older ones are asked for
const PAGES = 5; // at most, each time
const KIND = { queued: "", running: "warn", succeeded: "good", failed: "bad", cancelled: "" };
const sent = new Set(); // ids of tasks whose files this page sent

function progressOf({ phase, state, done, total, rate, eta_s: left, finished }) {
  const steps = total === null ? number(done) : `${number(done)} of ${number(total)}`;
  if (finished) return done || total ? steps : "";
  const rest = left === null ? "" : `, ${count(Math.ceil(left), "second")} left`;
  return `${phase === state ? "" : `${phase} `}${steps}${rate ? `, ${number(Math.round(rate))} a second` : ""}${rest}`;
}

function taskRow(shell, first, several, changed) {
  let listed = "";
  const state = make("span"), said = make("span", { className: "said" }), warnings = make("div");
  const bar = make("progress", { ariaLabel: `Progress of the ${first.kind}` });
  const summary = make("summary"), faults = make("ol", { role: "list" });
  const errors = make("details", { hidden: true }, summary, faults);
  const cancel = shell.may("admin") && button("Cancel", () => {
    shell.clear();
    shell.doing(async () => changed(await call(`${taskAt(first.id)}/cancel`, { method: "POST" })));
  });
  if (cancel) cancel.ariaLabel = `Cancel the ${first.kind} of ${first.collection}`;
  const what = make("b", { dir: "auto" }, first.kind, several && ` of ${first.collection}`);
  const file = make("span", { dir: "auto", className: "file" });
  const element = make("li", {}, make("div", { className: "head" }, what, file, state, said, when(first.created), cancel), bar, errors, warnings);
  element.dataset.created = first.created;

  // Line 0 is the task as a whole.
  const fault = ({ line, code, message }) => {
    const place = [first.file, line > 0 && `line ${number(line)}`].filter(Boolean).join(", ");
    return make("li", { dir: "auto" }, place && make("b", {}, `${place}: `), message, " ", make("code", {}, code));
  };

  const row = { element, task: first };
  row.update = (task) => {
    row.task = task;
    file.textContent = task.file ?? "";
    state.replaceChildren(tag(KIND[task.state], task.state));
    said.textContent = progressOf(task);
    bar.hidden = Boolean(task.finished);
    if (cancel) cancel.hidden = bar.hidden;
    if (task.total) [bar.max, bar.value] = [task.total, task.done];
    else bar.removeAttribute("value");
    warnings.replaceChildren(...task.warnings.map((text) => make("p", { className: "said" }, text)));
    const now = `${task.errors_total} ${task.errors.length}`;
    if (now === listed) return;
    listed = now;
    errors.hidden = !task.errors_total;
    const all = task.errors.length === task.errors_total;
    summary.textContent = all ? count(task.errors_total, "error") : `${count(task.errors_total, "error")}, the first ${number(task.errors.length)} here`;
    faults.replaceChildren(...task.errors.map(fault));
    if (task.errors_total && (sent.has(task.id) || given().get("task") === task.id)) errors.open = true;
  };
  // The listing tells the first errors alone.
  errors.addEventListener("toggle", () => {
    if (!errors.open || !element.isConnected) return;
    remember(addressOf("operate", { c: given().get("c"), task: first.id }));
    if (row.task.errors.length < row.task.errors_total) shell.doing(async (signal) => row.update(await call(taskAt(first.id), { signal })));
  });
  return row;
}

// of: the collection, or null for all. ended(): called when tasks have come to their ends.
export function taskList(shell, signal, of, ended) {
  const rows = new Map();
  const list = make("ol", { className: "tasks", role: "list" });
  const none = make("p", { className: "said", hidden: true }, "None.");
  const older = button("Older tasks", () => shell.doing(more));
  older.hidden = true;
  const element = make("section", {}, make("h3", {}, "Tasks"), none, list, older);
  let next = null;
  let timer = 0;
  let lost = false;
  signal.addEventListener("abort", () => clearTimeout(timer));

  function put(task) {
    let row = rows.get(task.id);
    if (!row) {
      row = taskRow(shell, task, of === null, changed);
      rows.set(task.id, row);
      list.insertBefore(row.element, [...list.children].find((one) => one.dataset.created < task.created) ?? null);
    }
    row.update(task);
    none.hidden = true;
  }

  function changed(task) {
    const ends = task.finished && !rows.get(task.id)?.task.finished;
    put(task);
    if (ends) ended();
  }

  // The API lists the tasks of all collections together.
  async function more() {
    let found = 0;
    for (let pages = 0; pages < PAGES && found < ENOUGH && (next || !pages); pages++) {
      const asked = new URLSearchParams({ limit: PAGE, ...(next && { cursor: next }) });
      const page = await call(`v1/tasks?${asked}`, { signal });
      const mine = page.tasks.filter((task) => of === null || task.collection === of);
      mine.forEach(put);
      found += mine.length;
      next = page.next;
    }
    older.hidden = !next;
    none.hidden = rows.size > 0;
    follow();
  }

  const running = () => [...rows.values()].filter(({ task }) => !task.finished);

  function follow() {
    clearTimeout(timer);
    if (!signal.aborted && running().length) timer = setTimeout(poll, POLL);
  }

  async function poll() {
    // In a tab behind others nobody looks.
    if (!document.hidden) {
      await shell.doing(async () => {
        const before = running();
        try {
          for (const row of before) {
            const { id } = row.task;
            try {
              changed(await call(taskAt(id), { signal }));
            } catch (error) {
              // A task goes with its collection.
              if (error.details?.status !== 404) throw error;
              rows.delete(id);
              row.element.remove();
              none.hidden = rows.size > 0;
            }
          }
          if (lost) shell.clear();
          lost = false;
        } catch (error) {
          lost = error instanceof Problem;
          throw error;
        }
      });
    }
    follow();
  }

  return {
    element,
    async load() {
      next = null;
      await more();
      const asked = given().get("task");
      if (!asked || rows.has(asked)) return;
      const task = await call(taskAt(asked), { signal });
      if (of === null || task.collection === of) put(task);
      follow();
    },
    // A task that this page began.
    began(task) {
      if (task.file) sent.add(task.id);
      if (signal.aborted) return;
      put(task);
      follow();
    },
  };
}
