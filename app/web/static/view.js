// What the page shows. Whatever comes from documents or from the server goes in as text, never as markup.

import { hasKey } from "./api.js";

const TITLE = 160; // characters of the title of a closed hit
const SNIPPET = 320; // characters of text in a closed hit
const FIELDS = 6; // metadata fields in a closed hit
const VALUE = 60; // characters of a metadata value in a closed hit

const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

// make("p", { className: "a" }, "text", child) -> <p class="a">text<child/></p>
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export const count = (n, noun) => `${number.format(n)} ${noun}${n === 1 ? "" : "s"}`;

function duration(ms) {
  if (ms < 0.005) return "0 ms";
  if (ms < 1000) return `${ms.toFixed(ms < 1 ? 2 : ms < 100 ? 1 : 0)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

function cut(text, length) {
  if (text.length <= length) return text;
  const piece = text.slice(0, length);
  const space = piece.lastIndexOf(" ");
  // A cut never leaves half of a surrogate pair.
  return `${(space > length / 2 ? piece.slice(0, space) : piece).replace(/[\ud800-\udbff]$/, "")}…`;
}

// The status stays a live region: only its text changes.
export function clear() {
  for (const id of ["status", "total", "times", "problem", "notice", "hits"]) at(id).replaceChildren();
  filterFault("");
}

export function busy(on) {
  at("hits").setAttribute("aria-busy", String(on));
}

// `chosen` is shown even where it is not there, so that a stale link says what it asked for.
export function collections(list, chosen) {
  const select = at("collection");
  const options = list.map(({ name, documents, state }) =>
    make("option", { value: name }, `${name} — ${state === "quarantined" ? "quarantined" : count(documents, "document")}`),
  );
  if (chosen && !list.some(({ name }) => name === chosen)) {
    options.push(make("option", { value: chosen }, `${chosen} — not there`));
  }
  if (!options.length) options.push(make("option", { value: "" }, "none yet"));
  select.replaceChildren(...options);
  select.disabled = options.length < 2 && !list.length;
  select.value = chosen;
}

// why: gives the same answer with its reasons.
export function answer({ hits, took_ms, stages, exact, round_trip_ms }, collection, filtered, why) {
  clear();
  const all = filtered ? "" : ` of ${number.format(collection.documents)}`;
  at("status").textContent = hits.length
    ? `${count(hits.length, "hit")}${all}, ${exact ? "exact" : "approximate"}`
    : filtered ? "No document passes the filter" : "Nothing found";
  at("total").textContent = `total ${duration(took_ms)}`;
  at("times").replaceChildren(...times(stages, took_ms, round_trip_ms));
  at("hits").replaceChildren(...hits.map((hit, i) => hitElement(hit, i, collection.name, why)));
}

// A bar and its legend: the stages, the rest of the server's time, and the network.
function times(stages, took, roundTrip) {
  const parts = Object.entries(stages).map(([name, ms]) => [name.replace(/_ms$/, "").replaceAll("_", " "), ms]);
  const rest = Math.max(0, took - parts.reduce((sum, [, ms]) => sum + ms, 0));
  const network = ["network", Math.max(0, roundTrip - took)];
  const bar = make("div", { className: "bar", ariaHidden: "true" });
  const legend = make("dl", { className: "legend" });
  for (const [name, ms] of [...parts, ["rest", rest], network]) {
    const segment = make("span", { className: `stage ${name.replaceAll(" ", "-")}` });
    segment.style.flexGrow = ms;
    bar.append(segment);
  }
  for (const [name, ms] of [...parts, network]) {
    const explained = name === "network" ? "Round trip outside the engine: HTTP, JSON and the network" : "";
    legend.append(
      make("div", { className: name.replaceAll(" ", "-"), title: explained }, make("dt", {}, name), make("dd", {}, duration(ms))),
    );
  }
  return [bar, legend];
}

function hitElement(hit, i, collection, why) {
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

// Places are in characters, of which some are two units of JavaScript's.
function slicer(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (start, stop) => text.slice(start, stop);
  const characters = [...text];
  return (start, stop) => characters.slice(start, stop).join("");
}

// text[start:stop] with the spans marked, as nodes.
function marked(text, start, stop, spans) {
  const slice = slicer(text);
  const nodes = [];
  for (const span of spans) {
    nodes.push(slice(start, span.start), make("mark", {}, slice(span.start, span.stop)));
    start = span.stop;
  }
  return [...nodes, slice(start, stop)];
}

const spans = (hit, field) => hit.highlights?.find((one) => one.by === "words" && one.field === field)?.spans ?? [];

function fragment({ by, start, stop, spans }, text) {
  // A sentence that is all there is needs no mark.
  const slice = slicer(text);
  const page = /\f/.test(text) ? `p. ${slice(0, spans[0].start).split("\f").length} ` : "";
  if (by === "meaning" && spans[0].start === start && spans[0].stop === stop) spans = [];
  return make("p", { className: "snippet", "data-by": by, dir: "auto" }, page, start ? "…" : "", ...marked(text, start, stop, spans), slice(stop) ? "…" : "");
}

// The words that were found and the sentence that is nearest, or where nothing is known how the text begins.
function snippets({ text = "", highlights = [] }) {
  const [first, second] = highlights.filter(({ field }) => field === "text");
  if (!first) {
    const piece = cut(text.slice(0, 4 * SNIPPET).replace(/\s+/g, " ").trim(), SNIPPET);
    return piece ? [make("p", { className: "snippet", dir: "auto" }, piece)] : [];
  }
  const apart = second && (second.stop <= first.start || second.start >= first.stop);
  return [fragment(first, text), ...(apart ? [fragment(second, text)] : [])];
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

const shown = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
export const field = (key, value) => make("div", {}, make("dt", {}, key), make("dd", { dir: "auto" }, value));
const metadata = (fields) => make("dl", { className: "metadata", ariaLabel: "Metadata" }, ...fields);

// Faults of the filter stand beside it, all others in the page.
export function problem(details) {
  clear();
  const faults = details.errors ?? [];
  const inFilter = faults.filter(({ pointer }) => /^\/filter(\/|$)/.test(pointer));
  if (inFilter.length) {
    filterFault(inFilter.map(({ pointer, message }) => `${pointer.slice("/filter".length) || "filter"}: ${message}`).join("\n"));
    if (inFilter.length === faults.length) return;
  }
  const origin = [details.code, details.status && `status ${details.status}`, details.request_id && `request ${details.request_id}`];
  at("problem").replaceChildren(
    make("div", { className: "panel" },
      make("h2", {}, details.title),
      make("p", {}, details.detail ?? ""),
      ...(faults.length > 1 ? [make("ul", {}, ...faults.map(({ pointer, message }) => make("li", {}, make("code", {}, pointer), ` ${message}`)))] : []),
      make("p", { className: "origin" }, origin.filter(Boolean).join(" · ")),
    ),
  );
}

// The form that asks for a key, and the button that forgets the one in use.
export function askForKey(ask, inUse, fault = "") {
  at("key-form").hidden = !ask;
  at("forget").hidden = !inUse;
  at("key-error").textContent = fault;
  if (!ask) return;
  clear();
  at("key").focus();
}

export function filterFault(message) {
  at("filter-error").textContent = message;
  at("filter").setAttribute("aria-invalid", String(Boolean(message)));
  if (message) openFilter(true);
}

export function openFilter(open) {
  at("filter-panel").hidden = !open;
  at("filter-toggle").ariaExpanded = String(open);
}

function notice(title, ...content) {
  clear();
  at("notice").replaceChildren(make("div", { className: "panel" }, make("h2", {}, title), ...content));
}

function command(path, body) {
  const url = new URL(path, document.baseURI);
  const json = JSON.stringify(body, null, 1).replace(/\n\s*/g, " ").replaceAll("'", "'\\''").replaceAll('"…"', "…");
  const key = hasKey() ? ` -H "X-API-Key: $SHEAF_API_KEY"` : "";
  return make("pre", { tabIndex: 0, ariaLabel: "Command" }, `curl ${url} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${json}'`);
}

const EXAMPLE = { id: "1", title: "Sheaf", text: "Stalks of grain, bound into a bundle after the harvest.", metadata: { year: 2026 } };

export function noCollections() {
  notice(
    "No collection yet",
    make("p", {}, "Make one, write documents to it, then reload this page:"),
    command("v1/collections", { name: "papers", encoder: { model: "builtin", kind: "multi_vector" } }),
    command("v1/collections/papers/documents", { documents: [EXAMPLE] }),
    make("p", {}, "Or run ", make("code", {}, "make run"), ": it builds a collection of Python’s own documentation."),
  );
}

export function missing(name) {
  notice(`There is no collection “${name}”`, make("p", {}, "Choose another from the list."));
}

// What keeps a collection from being searched in this page, if anything does: shown, and true.
export function hindered({ name, state, error, documents, encoder }) {
  const path = `v1/collections/${encodeURIComponent(name)}`;
  if (state === "quarantined") {
    notice(`“${name}” is quarantined`, make("p", {}, error ?? ""), make("p", {}, "The other collections are served as ever."));
  } else if (encoder.model === null) {
    notice(
      `“${name}” takes vectors, not text`,
      make("p", {}, `Its documents came with vectors of their own, of ${count(encoder.dim, "dimension")}. Search it over REST:`),
      command(`${path}/search`, encoder.kind === "dense" ? { vector: ["…"] } : { vectors: [["…"]] }),
    );
  } else if (!documents) {
    notice(`“${name}” is empty`, make("p", {}, "Write documents to it; the next search finds them:"), command(`${path}/documents`, { documents: [EXAMPLE] }));
  } else return false;
  return true;
}

// Before the first query: what can be searched.
export function ready({ documents, encoder, similarity, bytes, read_only, error }) {
  clear();
  const kind = encoder.kind === "dense" ? "one vector a document" : "one vector a token, scored by MaxSim";
  const size = bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${number.format(Math.round(bytes / 1e5) / 10)} MB`;
  at("notice").replaceChildren(
    make("dl", { className: "about" },
      ...[
        ["documents", number.format(documents)],
        ["encoder", encoder.model],
        ["vectors", `${kind}, ${count(encoder.dim, "dimension")}`],
        ["similarity", similarity.replaceAll("_", " ")],
        ["on disk", size],
        ...(read_only ? [["read-only", read_only]] : []),
        ...(error ? [["error", error]] : []),
      ].map(([key, value]) => field(key, value)),
    ),
  );
}
