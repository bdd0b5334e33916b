// A hit: closed, its title and what of it answers the query; open, the whole document.

import { at, hasKey } from "../api.js";
import { button, cut, field, make, stylesheet } from "../elements.js";
import { isMarkup, marked, snippets, spans, whereOf } from "./fragments.js";

const TITLE = 160; // characters of the title of a closed hit
const FIELDS = 6; // metadata fields in a closed hit
const VALUE = 60; // characters of a metadata value in a closed hit

// context: of the search that found it, see answer.js.
export function hitElement(hit, i, context) {
  const body = make("div", { id: `hit-${i}`, className: "body" });
  const name = hit.title || hit.id;
  const opener = make("button", { type: "button", ariaExpanded: "false", "aria-controls": body.id, dir: "auto" });
  const scored = context.answer.mode !== "browse";
  const score = make("p", { className: "score", title: `Score ${hit.score}` }, make("span", { className: "unseen" }, "score "), hit.score.toFixed(3));
  const item = make("li", { className: "hit" }, make("h2", {}, opener), scored && score, body);
  item.dataset.id = hit.id;
  const draw = (open) => {
    opener.ariaExpanded = String(open);
    opener.replaceChildren(...(open || name.length <= TITLE ? marked(name, 0, name.length, spans(hit, "title")) : [cut(name, TITLE)]));
    item.classList.toggle("open", open);
    body.replaceChildren(...(open ? whole(hit, context, item) : brief(hit)).filter(Boolean));
  };
  item.addEventListener("click", (event) => {
    const open = opener.ariaExpanded === "true";
    if (opener.contains(event.target)) draw(!open);
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
  return [whereOf(hit.passages?.[0]), ...snippets(hit), list.length && metadata(list)];
}

function whole(hit, context, item) {
  const list = Object.entries(hit.metadata ?? {}).map(([key, value]) => field(key, shown(value)));
  return [
    hit.passages?.length > 1 && later(() => import("./readable.js"), (module) => module.passages(hit)),
    hit.text && textOf(hit),
    list.length && metadata(list),
    make("p", { className: "id" }, make("span", {}, "id ", identity(hit.id, context.collection)), alike(hit, context)),
    context.answer.mode !== "browse" && reasons(hit, context, item),
  ];
}

// The text as it is written; of Markdown and HTML first what they say, as text.
function textOf(hit) {
  const written = () => make("div", { className: "text", dir: "auto" }, ...marked(hit.text, 0, undefined, spans(hit, "text")));
  if (!isMarkup(hit.text)) return written();
  return later(() => import("./readable.js"), (module) => module.readable(hit.text, spans(hit, "text"), written));
}

// What is shown once its module is there.
function later(load, made) {
  const place = make("div", { className: "later" });
  load().then((module) => place.replaceWith(made(module)));
  return place;
}

function alike(hit, { like }) {
  return button("More like this", () => {
    like(hit);
    scrollTo(0, 0);
  });
}

// Why a hit has its score, asked for when it is opened.
function reasons(hit, context, item) {
  const place = make("div", { className: "reasons" });
  const details = make("details", { className: "why" }, make("summary", {}, "Why this score?"), place);
  details.addEventListener("toggle", async () => {
    if (!details.open || place.hasChildNodes()) return;
    const explaining = Promise.all([import("../why/reasons.js"), stylesheet("why/style.css")]);
    try {
      const found = (await context.why()).hits.find(({ id }) => id === hit.id)?.explanation;
      const [{ told }] = await explaining;
      place.replaceChildren(...(found ? told(found, hit, context, item) : [make("p", {}, "The collection has changed since: search again.")]));
    } catch (error) {
      place.replaceChildren(make("p", {}, error.message));
    }
  });
  return details;
}

// A link to the document over REST; a dot or two would be taken for a step in the path, and a link carries no key.
function identity(id, collection) {
  if (id === "." || id === ".." || hasKey()) return make("code", {}, id);
  return make("a", { href: `${at(collection)}/documents/${encodeURIComponent(id)}` }, make("code", {}, id));
}

function shown(value) {
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const metadata = (fields) => make("dl", { className: "metadata", ariaLabel: "Metadata" }, ...fields);
