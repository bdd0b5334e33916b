// Markdown and HTML as what they say: text in blocks of our own, in which nothing of the document is markup. A document
// that is written so is shown so on demand, and its best passages at once. Places are kept, so that what was found is marked
// here too.

import { make } from "../elements.js";
import { MEANT, isMarkup, marked, slicer, spans, whereOf } from "./fragments.js";

const LONGEST = 200_000; // characters; a longer text is shown as it is written
const BLOCKS = /^(p|div|h[1-6]|ul|ol|li|table|tr|article|section|main|header|footer|nav|aside|blockquote|pre|dl|dt|dd|figure|body|html|hr|form)$/;
const TOKENS = /<!--[^]*?-->|<(script|style|template)\b[^]*?<\/\1\s*>|<!doctype[^>]*>|<(\/?)([a-z][\w-]*)(?:"[^"]*"|'[^']*'|[^'">])*>|&(#\d+|#x[\da-f]+|\w+);/gi;
const ENTITIES = { ...MEANT, apos: "'", nbsp: "\u00a0", mdash: "—", ndash: "–", hellip: "…", copy: "©", rsquo: "’", lsquo: "‘", ldquo: "“", rdquo: "”", bull: "•", middot: "·", times: "×" };
const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|__(.+?)__|!?\[([^\]]*)\]\([^()\s]*(?:\s+"[^"]*")?\)/dg;

// The text for reading, with a way to see it as it is written.
export function readable(text, spans, written) {
  if (text.length > LONGEST) return written();
  const said = blocks(text, spans);
  const place = make("div", {}, said);
  const toggle = make("button", { type: "button", className: "quiet", ariaPressed: "false" }, "As it is written");
  toggle.addEventListener("click", () => {
    const raw = toggle.ariaPressed === "false";
    toggle.ariaPressed = String(raw);
    place.replaceChildren(raw ? written() : said);
  });
  return make("div", { className: "reading" }, place, toggle);
}

// A block is {kind, level, pieces}; a piece [start, stop, style, said] is text[start:stop], or what is said in its place.
function blocks(text, spans) {
  const html = /<(p|div|h[1-6]|ul|ol|table|article|section|body|html)\b[^>]*>[^]*<\/\1\s*>/i.test(text) && !/^#{1,6} /m.test(text);
  const found = (html ? blocksOfHtml(text) : blocksOfMarkdown(text)).filter(({ pieces }) => pieces.length);
  const places = inUnits(text, spans);
  return make("div", { className: "readable", dir: "auto" }, ...found.map((block) => drawn(text, block, places)));
}

// Spans count characters; strings here count units.
function inUnits(text, spans) {
  if (!spans.length || !/[\ud800-\udbff]/.test(text)) return spans;
  const starts = [];
  for (let at = 0; at < text.length; at += text.codePointAt(at) > 0xffff ? 2 : 1) starts.push(at);
  starts.push(text.length);
  return spans.map(({ start, stop }) => ({ start: starts[start], stop: starts[stop] }));
}

function drawn(text, { kind, level = 0, pieces }, spans) {
  const nodes = [];
  for (const [start, stop, style, said] of pieces) {
    const inner = [];
    const form = (from, to) => (kind === "code" ? text.slice(from, to) : text.slice(from, to).replace(/\s+/g, " "));
    let at = start;
    for (const span of said === undefined ? spans : []) {
      if (span.stop <= at || span.start >= stop) continue;
      inner.push(form(at, Math.max(at, span.start)), make("mark", {}, form(Math.max(at, span.start), Math.min(stop, span.stop))));
      at = Math.min(stop, span.stop);
    }
    inner.push(said ?? form(at, stop));
    nodes.push(...(style ? [make(style === "code" ? "code" : "span", { className: style }, ...inner)] : inner));
  }
  return make("p", { className: `${kind} level-${Math.min(level, 6)}` }, ...nodes);
}

function inline(text, start, stop) {
  const pieces = [];
  let at = start;
  for (const found of text.slice(start, stop).matchAll(INLINE)) {
    const [from, to] = found.indices[0];
    if (start + from > at) pieces.push([at, start + from]);
    const part = [2, 3, 4, 5].find((i) => found[i] !== undefined);
    const [inner, end] = found.indices[part];
    if (end > inner) pieces.push([start + inner, start + end, ["code", "strong", "strong", ""][part - 2]]);
    at = start + to;
  }
  if (stop > at) pieces.push([at, stop]);
  return pieces;
}

function blocksOfMarkdown(text) {
  const made = [];
  let open = null; // the paragraph or item that goes on
  let fence = "";
  let at = 0;
  for (const line of text.split("\n")) {
    const [start, stop] = [at, at + line.length];
    at = stop + 1;
    const mark = /^\s*(```+|~~~+)/.exec(line);
    if (mark && (!fence || mark[1].startsWith(fence))) {
      fence = fence ? "" : mark[1];
      open = fence ? { kind: "code", pieces: [] } : null;
      if (open) made.push(open);
    } else if (fence || /^\s*\|/.test(line)) {
      if (open?.kind !== "code") made.push((open = { kind: "code", pieces: [] }));
      if (fence || !/^[\s|:-]+$/.test(line)) open.pieces.push([start, Math.min(stop + 1, text.length)]);
    } else if (!line.trim()) {
      open = null;
    } else {
      const [, hashes, heading] = /^(#{1,6})\s+(.*?)\s*#*\s*$/.exec(line) ?? [];
      const [, indent, item] = /^(\s*)([-*+]|\d+[.)])\s+/.exec(line) ?? [];
      const quote = /^\s*>\s?/.exec(line);
      if (hashes) {
        const from = start + line.indexOf(heading, hashes.length);
        made.push({ kind: "heading", level: hashes.length, pieces: inline(text, from, from + heading.length) });
        open = null;
      } else if (item) {
        const from = start + /^\s*\S+\s+/.exec(line)[0].length;
        open = { kind: "item", level: Math.floor(indent.length / 2), pieces: [[0, 0, "", /\d/.test(item) ? `${item} ` : "• "], ...inline(text, from, stop)] };
        made.push(open);
      } else {
        const from = start + (quote ? quote[0].length : 0);
        const kind = quote ? "quote" : "plain";
        if (open && (open.kind === kind || (open.kind === "item" && !quote))) open.pieces.push([0, 0, "", " "], ...inline(text, from, stop));
        else made.push((open = { kind, pieces: inline(text, from, stop) }));
      }
    }
  }
  return made;
}

function blocksOfHtml(text) {
  const made = [];
  let open = { kind: "plain", pieces: [] };
  let at = 0;
  let code = 0;
  const piece = (start, stop, said) => {
    if (stop > start && (code || said !== undefined || /\S/.test(text.slice(start, stop)) || open.pieces.length)) open.pieces.push([start, stop, "", said]);
  };
  const begin = (kind, level) => {
    made.push(open);
    open = { kind, level, pieces: kind === "item" ? [[0, 0, "", "• "]] : [] };
  };
  for (const { 0: token, 2: closing, 3: name = "", 4: entity, index } of text.matchAll(TOKENS)) {
    piece(at, index);
    at = index + token.length;
    const tag = name.toLowerCase();
    if (entity) piece(index, at, sign(entity));
    else if (tag === "br") piece(index, at, code ? "\n" : " ");
    else if (BLOCKS.test(tag)) {
      if (tag === "pre") code = closing ? 0 : 1;
      if (closing) begin(code ? "code" : "plain");
      else begin(tag === "pre" ? "code" : /^h\d/.test(tag) ? "heading" : tag === "li" ? "item" : "plain", /^h\d/.test(tag) ? Number(tag[1]) : 0);
    } else if (/^t[dh]$/.test(tag)) piece(index, at, " ");
  }
  piece(at, text.length);
  return [...made, open].filter(({ pieces }) => pieces.some(([start, stop, , said]) => /\S/.test(said === undefined ? text.slice(start, stop) : said.replace("•", ""))));
}

function sign(entity) {
  const code = /^#x/i.test(entity) ? parseInt(entity.slice(2), 16) : entity[0] === "#" ? Number(entity.slice(1)) : null;
  if (code !== null) return code > 0 && code < 0x110000 ? String.fromCodePoint(code) : "\ufffd";
  return Object.hasOwn(ENTITIES, entity) ? ENTITIES[entity] : `&${entity};`;
}

// The best passages of an open hit: each with the headings that it stands under, its pages, and a score of its own.
export function passages(hit) {
  const found = spans(hit, "text");
  const items = hit.passages.map(({ start, stop, headings, pages, score }) => {
    const said = pages && (pages[0] === pages[1] ? `p. ${pages[0]}` : `pp. ${pages[0]}–${pages[1]}`);
    const within = found.filter((span) => span.start >= start && span.stop <= stop);
    return make("li", {},
      make("div", { className: "head" }, whereOf({ headings }) || make("p", { className: "where" }, start ? "" : "The beginning"),
        make("p", { className: "score" }, [said, `score ${score.toFixed(3)}`].filter(Boolean).join(" · "))),
      isMarkup(hit.text)
        ? blocks(slicer(hit.text)(start, stop), within.map((span) => ({ start: span.start - start, stop: span.stop - start })))
        : make("p", { className: "text", dir: "auto" }, ...marked(hit.text, start, stop, within)));
  });
  return make("section", { className: "passages", ariaLabel: "Best passages" }, make("p", { className: "label" }, "Best passages"), make("ol", {}, ...items));
}
