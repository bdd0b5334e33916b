// The metadata fields of the collection that is searched: what can be ordered, grouped and filtered by.

import { Problem, listFields } from "../api.js";
import { stylesheet } from "../elements.js";

// asked: the controls. apply(filter): takes another filter, a text.
export function fieldsFor(asked, apply) {
  let of = ""; // the collection whose fields are known
  let list = [];
  let panel = null; // once the filter has been opened

  // Ticks and ranges, where the panel of the filter is open.
  async function count() {
    // A filter that is refused would be refused again.
    if (asked.filterPanel.hidden || !of || asked.filter.ariaInvalid === "true") return;
    const [module] = await Promise.all([import("../facets/panel.js"), stylesheet("facets/style.css")]);
    panel ??= module.panel(asked.facets, () => asked.filter.value.trim(), apply);
    if (of === asked.collection.value) panel.show(of, list, asked.filter.value.trim());
  }

  asked.filterPanel.addEventListener("opened", count);
  return {
    count,
    listed: (collection) => (of === collection ? list : []),
    // Asks for them, once for each collection.
    async know(collection) {
      if (of === collection) return;
      [of, list] = [collection, []];
      try {
        const found = await listFields(collection);
        // A key with dots has two names, of which one is enough.
        const names = new Set(found.map(({ name }) => name));
        if (of === collection) list = found.filter(({ name }) => !(name[0] === '"' && names.has(name.slice(1, -1))));
      } catch (error) {
        if (!(error instanceof Problem)) throw error; // an order can still be asked for in the address
        of = "";
      }
    },
  };
}
