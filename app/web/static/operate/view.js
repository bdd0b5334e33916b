// Collections for who runs them: the table of all, and one with its facts, files sent to it, tasks and snapshots. The
// address holds which is open (`c`), and the task whose errors are (`task`).

import { addressOf, given, remember } from "../address.js";
import { Problem, aborted, at, call } from "../api.js";
import { make, panel, problemPanel } from "../elements.js";
import { collectionTable, facts, history } from "./collections.js";
import { snapshotList } from "./snapshots.js";
import { taskList } from "./tasks.js";
import { uploadForm } from "./upload.js";

export function show(root, page) {
  const status = make("p", { role: "status", className: "said" });
  const problem = make("div", { id: "problem", role: "alert" });
  const content = make("div", { id: "operate" });
  root.append(content, status, problem);
  let opened = null; // what ends with what is shown
  let refresh = null; // asks anew for what is shown
  let reload = null; // with the tasks that others began

  const shell = {
    may: page.may,
    say: (text) => (status.textContent = text),
    clear: () => problem.replaceChildren(),
    // A piece of work of what is shown: its problems are told.
    async doing(work) {
      const mine = opened;
      try {
        return await work(mine.signal);
      } catch (error) {
        if (aborted(error)) return;
        if (!(error instanceof Problem)) throw error;
        page.failed(error.details); // also where another view is shown by now: nothing fails unsaid
      }
    },
  };

  const aliases = async (signal) => (await call("v1/aliases", { signal })).aliases;
  const to = (name, label) => make("a", { href: addressOf("operate", { c: name }), dir: "auto" }, label);

  async function all(signal) {
    const tasks = taskList(shell, signal, null, () => refresh());
    const place = make("div");
    refresh = () => shell.doing(async () => {
      const [{ collections }, others] = await Promise.all([call("v1/collections", { signal }), aliases(signal)]);
      place.replaceChildren(collections.length
        ? collectionTable(collections, others, to)
        : panel("There is no collection yet", make("p", {}, "POST /v1/collections makes one; documents and files are sent to it then.")));
      return collections.length;
    });
    reload = () => Promise.all([refresh(), shell.doing(tasks.load)]);
    if (await refresh() === undefined) return;
    content.replaceChildren(make("h2", { tabIndex: -1 }, "Collections"), place, tasks.element);
    await tasks.load();
  }

  async function one(asked, signal) {
    content.replaceChildren(make("p", {}, to("", "All collections")));
    const read = () => Promise.all([call(at(asked), { signal }), aliases(signal)]);
    const [found, others] = await read();
    const name = found.name;
    const place = make("div", {}, facts(found, others));
    const past = make("div");
    const grown = async () => {
      const { generations } = found.state === "ready" ? await call(`${at(name)}/history`, { signal }) : {};
      if (generations?.length) past.replaceChildren(history(generations));
    };
    const tasks = taskList(shell, signal, name, () => refresh());
    const snapshots = page.may("admin") && snapshotList(shell, name, found.state === "ready", tasks.began);
    const upload = page.may("write") && found.state === "ready" && uploadForm(shell, name, tasks.began);
    refresh = () => shell.doing(async () => {
      place.replaceChildren(facts(...(await read())));
      await Promise.all([grown(), snapshots?.load?.(signal)]);
    });
    reload = () => Promise.all([refresh(), shell.doing(tasks.load)]);
    content.append(make("h2", { dir: "auto", tabIndex: -1 }, name), place, ...[upload?.element, tasks.element, snapshots?.element].filter(Boolean), past);
    await Promise.all([tasks.load(), grown(), snapshots?.load?.(signal)]);
  }

  function restore() {
    opened?.abort();
    opened = new AbortController();
    shell.clear();
    shell.say("");
    const asked = given().get("c");
    return shell.doing((signal) => (asked ? one(asked, signal) : all(signal)));
  }

  content.addEventListener("click", async (event) => {
    const link = event.target.closest("a");
    if (!link?.search.startsWith("?view=operate") || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    remember(link.search);
    page.named();
    await restore();
    content.querySelector("h2")?.focus();
  });

  return {
    restore,
    refreshed: () => reload?.(),
    failed: (details) => problem.replaceChildren(problemPanel(details)),
    leave: () => opened?.abort(),
  };
}
