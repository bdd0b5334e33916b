// What a search is asked with, as elements; view.js reads and fills them.

import { make } from "../elements.js";
import { keysOfSort, modesOf, sortOf } from "./state.js";

const EXAMPLE = '{"and": [{"kind": {"eq": "function"}}, {"year": {"gte": 2020}}]}';
const UNORDERED = new Set(["list", "numbers", "booleans", "null", "object"]);
const UNGROUPED = new Set(["null", "object"]);

export function controls() {
  const query = make("input", {
    id: "query", type: "search", placeholder: "Search by words and meaning", enterKeyHint: "search", autocapitalize: "off", spellcheck: false, dir: "auto",
  });
  const collection = make("select", { id: "collection", disabled: true }, make("option", {}, "loading …"));
  const mode = make("div", { id: "mode", role: "radiogroup", ariaLabel: "Mode" });
  const sort = make("select", { id: "sort" }, make("option", { value: "" }, "relevance"));
  const group = make("select", { id: "group" }, make("option", { value: "" }, "nothing"));
  const k = make("input", { id: "k", type: "number", value: "10", min: "1", max: "1000", inputMode: "numeric" });
  const exact = make("input", { id: "exact", type: "checkbox" });
  const filter = make("textarea", {
    id: "filter", rows: 2, spellcheck: false, autocapitalize: "off", "aria-describedby": "filter-error", placeholder: EXAMPLE,
  });
  const fault = make("p", { id: "filter-error", role: "alert" });
  const facets = make("div", { id: "facets" });
  const orderPanel = make("div", { id: "order-panel", className: "options", hidden: true },
    make("label", {}, "Sort by ", sort),
    make("label", {}, "Group by ", group),
  );
  const filterPanel = make("div", { id: "filter-panel", hidden: true },
    facets,
    make("label", { htmlFor: "filter" }, "Filter on metadata, in JSON. Enter applies it."),
    filter,
    fault,
  );
  const toggle = make("button", { type: "button", id: "filter-toggle", ariaExpanded: "false", "aria-controls": "filter-panel" }, "Filter");
  const order = make("button", { type: "button", ariaExpanded: "false", "aria-controls": "order-panel" }, "Order");
  const form = make("form", { id: "form", role: "search", autocomplete: "off", noValidate: true },
    make("div", { className: "box" },
      make("div", { className: "entry" },
        make("label", { htmlFor: "query", className: "unseen" }, "Search by words and meaning"),
        query,
        make("kbd", { ariaHidden: "true" }, "/"),
      ),
      make("button", { type: "submit" }, "Search"),
    ),
    make("div", { className: "options" },
      make("label", { className: "collection" }, "Collection ", collection),
      mode,
    ),
    make("div", { className: "options" },
      make("label", {}, "Hits ", k),
      make("label", { title: "Score every document: slower, and nothing is missed" }, exact, " Exact"),
      make("span", { className: "toggles" }, order, toggle),
    ),
    orderPanel,
    filterPanel,
  );

  const openFilter = (open) => {
    filterPanel.hidden = !open;
    toggle.ariaExpanded = String(open);
    filterPanel.dispatchEvent(new Event("opened"));
  };
  const openOrder = (open) => {
    orderPanel.hidden = !open;
    order.ariaExpanded = String(open);
  };
  order.addEventListener("click", () => {
    openOrder(orderPanel.hidden);
    if (!orderPanel.hidden) sort.focus();
  });
  const filterFault = (message) => {
    fault.textContent = message;
    filter.setAttribute("aria-invalid", String(Boolean(message)));
    if (message && filterPanel.hidden) openFilter(true);
  };
  toggle.addEventListener("click", () => {
    openFilter(filterPanel.hidden);
    if (!filterPanel.hidden) filter.focus();
  });
  return { form, query, collection, mode, sort, group, k, exact, filter, filterPanel, facets, openFilter, openOrder, filterFault };
}

// options: [value, text]. A chosen one that is none of them is shown all the same, so that a link says what it asked for.
export function choose(select, options, chosen) {
  const found = options.some(([value]) => value === chosen) ? options : [...options, [chosen, chosen]];
  // The same ones stay, in a list that may just be open.
  const same = select.options.length === found.length && found.every(([value, text], i) => select.options[i].value === value && select.options[i].text === text);
  if (!same) select.replaceChildren(...found.map(([value, text]) => make("option", { value }, text)));
  select.value = chosen;
}

// A mode is a radio button; the default one stands as "" where it is not chosen.
export function chooseMode(group, collection, chosen) {
  const modes = collection ? modesOf(collection) : [];
  const byDefault = collection?.encoder.model ? modes[0] : null;
  const named = chosen && !modes.includes(chosen) ? [...modes, chosen] : modes;
  const options = named.map((mode) => {
    const value = mode === byDefault && chosen !== mode ? "" : mode;
    return make("label", {}, make("input", { type: "radio", name: "mode", value, checked: value === chosen }), make("span", {}, mode));
  });
  // The same ones stay, so that the focus does.
  if (group.textContent === named.join("") && [...group.querySelectorAll("input")].every((one, i) => one.value === options[i].firstChild.value)) {
    for (const one of group.querySelectorAll("input")) one.checked = one.value === chosen;
  } else group.replaceChildren(...options);
}
export const modeOf = (group) => group.querySelector(":checked")?.value ?? "";

// fields: of the collection, [] until they are known.
export function chooseFields({ sort, group }, fields, state) {
  const ordered = fields.filter(({ shapes, type }) => type !== "geo" && shapes.some((shape) => !UNORDERED.has(shape)));
  const options = ordered.flatMap(({ name }) => [[sortOf(name, "asc"), `${name} ↑`], [sortOf(name, "desc"), `${name} ↓`]]);
  const said = (chosen) => keysOfSort(chosen).flatMap((key) => Object.entries(key)).map(([name, order]) => `${name} ${order === "asc" ? "↑" : "↓"}`).join(", ");
  const known = !state.sort || options.some(([value]) => value === state.sort);
  choose(sort, [["", state.q || state.like ? "relevance" : "id"], ...options, ...(known ? [] : [[state.sort, said(state.sort)]])], state.sort);
  const grouped = fields.filter(({ shapes, type }) => type !== "geo" && shapes.some((shape) => !UNGROUPED.has(shape)));
  choose(group, [["", "nothing"], ...grouped.map(({ name }) => [name, name])], state.group);
}
