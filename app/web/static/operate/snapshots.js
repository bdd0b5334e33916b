// The snapshots of a collection: taken, fetched, and deleted after a question.

import { at, call, hasKey } from "../api.js";
import { button, count, make, number, size } from "../elements.js";
import { tag, when } from "./collections.js";

// ready: whether one can be taken. began(task): one that is being taken.
export function snapshotList(shell, name, ready, began) {
  const base = `${at(name)}/snapshots`;
  const list = make("ol", { className: "snapshots", role: "list" });
  const take = button("Take a snapshot", () => {
    shell.clear();
    shell.doing(async () => began(await call(base, { method: "POST" })));
  }, { className: "act" });
  const element = make("section", { tabIndex: -1, ariaLabel: "Snapshots" }, make("h3", {}, "Snapshots"), list, ready && make("p", {}, take));

  async function load(signal) {
    const { snapshots } = await call(base, { signal });
    list.replaceChildren(...(snapshots.length ? snapshots.map(row) : [make("li", { className: "said" }, "None.")]));
  }

  // A link carries no key: with one the archive is fetched first.
  function download({ id, collection }, named) {
    const [href, file] = [`${base}/${id}`, `${collection}-${id}.tar`];
    if (!hasKey()) return make("a", { href, download: file, ariaLabel: `Download ${named}` }, "Download");
    const made = button("Download", () => {
      shell.clear();
      shell.doing(async (signal) => {
        shell.say(`Fetching ${file} …`);
        try {
          const url = URL.createObjectURL(await call(href, { as: "blob", signal }));
          make("a", { href: url, download: file }).click();
          setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser has begun to save it by then
        } finally {
          shell.say("");
        }
      });
    });
    made.ariaLabel = `Download ${named}`;
    return made;
  }

  function row(saved) {
    const { id, created, documents, generation, size: bytes, error } = saved;
    const named = created ? `the snapshot of ${created}` : `the snapshot ${id}`;
    const actions = make("span", { className: "actions" });
    function ask() {
      const keep = button("Keep it", show);
      actions.replaceChildren("Delete it for good? ", button("Delete", remove), keep);
      keep.focus();
    }
    function show() {
      const again = actions.childElementCount > 0;
      const begin = button("Delete …", ask);
      begin.ariaLabel = `Delete ${named} …`;
      actions.replaceChildren(...[!error && download(saved, named), begin].filter(Boolean));
      if (again) begin.focus();
    }
    function remove() {
      shell.clear();
      shell.doing(async (signal) => {
        await call(`${base}/${id}`, { method: "DELETE" });
        shell.say("The snapshot is deleted.");
        await load(signal);
        element.focus();
      });
    }
    show();
    const told = error ? [tag("bad", "damaged"), ` ${error}`] : [when(created), `, ${count(documents, "document")}, generation ${number(generation)}, ${size(bytes)}`];
    return make("li", {}, make("span", {}, ...told), actions);
  }
  return { element, load };
}
