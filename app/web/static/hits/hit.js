// A hit: closed, its title and what of it answers the query; open, the whole document.

import { hasKey } from "../api.js";
import { cut, field, make } from "../elements.js";
import { marked, snippets, spans } from "./fragments.js";

const TITLE = 160; // characters of the title of a closed hit
const FIELDS = 6; // metadata fields in a closed hit
const VALUE = 60; // characters of a metadata value in a closed hit

export function hitElement(hit, i, collection, why) {
  const body = make("div", { id: `hit-${i}`, className: "body" });
  const name = hit.title || hit.id;
  const button = make("button", { type: "button", ariaExpanded: "false", "aria-controls": body.id, dir: "auto" });
  const score = make("p", { className: "score", title: `Score ${hit.score}` }, make("span", { className: "unseen" }, "score "), hit.score.toFixed(3));
  const item = make("li", { className: "hit" }, make("h2", {}, button), score, body);
  const draw = (open) => {
    button.ariaExpanded = String(open);
    button.replaceChildren(...(open || name.length <= TITLE ? marked(name, 0, name.length, spans(hit, "title")) : [cut(name, TITLE)]));
    item.classList.toggle("open", open);
    body.replaceChildren(...(open ? whole(hit, collection, why) : brief(hit)));
  };
  item.addEventListener("click", (event) => {
    const open = button.ariaExpanded === "true";
    if (button.contains(event.target)) draw(!open);
    // Text that is being selected, or was opened to be read, is left alone.
    else if (!open && !event.target.closest("a") && getSelection().isCollapsed) draw(true);
  });
  item.addEventListener("close", () => draw(false));
  draw(false);
  return item;
}

function brief(hit) {
  const fields = Object.entries(hit.metadata ?? {});
  const left = fields.length - FIELDS;
  const list = fields.slice(0, FIELDS).map(([key, value]) => field(key, cut(shown(value), VALUE)));
  if (left > 0) list.push(make("div", { className: "more" }, make("dt", {}, `+${left} more`)));
  return [...snippets(hit), list.length && metadata(list)].filter(Boolean);
}

function whole(hit, collection, why) {
  const list = Object.entries(hit.metadata ?? {}).map(([key, value]) => field(key, shown(value)));
  return [
    hit.text && make("div", { className: "text", dir: "auto" }, ...marked(hit.text, 0, undefined, spans(hit, "text"))),
    list.length && metadata(list),
    make("p", { className: "id" }, "id ", identity(hit.id, collection)),
    reasons(hit, why),
  ].filter(Boolean);
}

// Why a hit has its score, asked for when it is opened.
function reasons(hit, why) {
  const list = make("dl", { className: "reasons" });
  const details = make("details", {}, make("summary", {}, "Why this score?"), list);
  details.addEventListener("toggle", async () => {
    if (!details.open || list.hasChildNodes()) return;
    const explaining = import("./explanation.js");
    try {
      const found = (await why()).hits.find(({ id }) => id === hit.id)?.explanation;
      list.replaceChildren(...(found ? (await explaining).told(found) : [field("changed", "The collection has changed since: search again.")]));
    } catch (error) {
      list.replaceChildren(field("error", error.message));
    }
  });
  return details;
}

// A link to the document over REST; a dot or two would be taken for a step in the path, and a link carries no key.
function identity(id, collection) {
  if (id === "." || id === ".." || hasKey()) return make("code", {}, id);
  const path = `v1/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(id)}`;
  return make("a", { href: path }, make("code", {}, id));
}

function shown(value) {
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
const metadata = (fields) => make("dl", { className: "metadata", ariaLabel: "Metadata" }, ...fields);
