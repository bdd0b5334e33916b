// What a search is asked with, as elements; view.js reads and fills them.

import { make } from "../elements.js";

const EXAMPLE = '{"and": [{"kind": {"eq": "function"}}, {"year": {"gte": 2020}}]}';

export function controls() {
  const query = make("input", {
    id: "query", type: "search", placeholder: "Search by words and meaning", enterKeyHint: "search", autocapitalize: "off", spellcheck: false, dir: "auto",
  });
  const collection = make("select", { id: "collection", disabled: true }, make("option", {}, "loading …"));
  const k = make("input", { id: "k", type: "number", value: "10", min: "1", max: "1000", inputMode: "numeric" });
  const exact = make("input", { id: "exact", type: "checkbox" });
  const filter = make("textarea", {
    id: "filter", rows: 2, spellcheck: false, autocapitalize: "off", "aria-describedby": "filter-error", placeholder: EXAMPLE,
  });
  const fault = make("p", { id: "filter-error", role: "alert" });
  const filterPanel = make("div", { id: "filter-panel", hidden: true },
    make("label", { htmlFor: "filter" }, "Filter on metadata, in JSON. Enter applies it."),
    filter,
    fault,
  );
  const toggle = make("button", { type: "button", id: "filter-toggle", ariaExpanded: "false", "aria-controls": "filter-panel" }, "Filter");
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
      make("label", {}, "Hits ", k),
      make("label", { title: "Score every document: slower, and nothing is missed" }, exact, " Exact"),
      toggle,
    ),
    filterPanel,
  );

  const openFilter = (open) => {
    filterPanel.hidden = !open;
    toggle.ariaExpanded = String(open);
  };
  const filterFault = (message) => {
    fault.textContent = message;
    filter.setAttribute("aria-invalid", String(Boolean(message)));
    if (message) openFilter(true);
  };
  toggle.addEventListener("click", () => {
    openFilter(filterPanel.hidden);
    if (!filterPanel.hidden) filter.focus();
  });
  return { form, query, collection, k, exact, filter, openFilter, filterFault };
}
