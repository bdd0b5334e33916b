// The pieces of a text that a hit shows, with what was found marked.

import { cut, make } from "../elements.js";

const SNIPPET = 320; // characters of text in a closed hit

// Places are in characters, of which some are two units of JavaScript's.
export function slicer(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (start, stop) => text.slice(start, stop);
  const characters = [...text];
  return (start, stop) => characters.slice(start, stop).join("");
}

// Whether a text is Markdown or HTML, by what it has.
export const isMarkup = (text) => /^#{1,6} |^(```|~~~)|<(p|div|h[1-6]|ul|ol|table|article|section|body|html)\b[^>]*>/im.test(text);

// The same text, as long, in which signs of Markdown and HTML are characters that are not shown: places stay what they are.
const HIDDEN = "\u0000";
const SIGNS = /<(script|style)\b[^]*?<\/\1\s*>|<\/?[a-z!][^<>]*>|\*\*|__|`+|^[^\S\n]*(?:#{1,6}|[-*+])[^\S\n]+|!?\[(?=[^\]\n]*\]\()|\]\([^)\n]*\)/gim;
const ENTITY = /&(amp|lt|gt|quot|nbsp|#39);/g;
export const MEANT = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: " ", "#39": "'" };
function bare(text) {
  if (!isMarkup(text)) return text;
  // Each character stays one, though it be two units.
  const hidden = (signs) => (signs[0] === "<" ? " " : HIDDEN) + HIDDEN.repeat([...signs].length - 1);
  return text.replace(SIGNS, hidden).replace(ENTITY, (signs, name) => MEANT[name] + HIDDEN.repeat(signs.length - 1));
}
const said = (piece) => piece.replaceAll(HIDDEN, "");

// text[start:stop] with the spans marked, as nodes.
export function marked(text, start, end, spans) {
  const slice = slicer(text);
  const nodes = [];
  for (const span of spans) {
    nodes.push(slice(start, span.start), make("mark", {}, slice(span.start, span.stop)));
    start = span.stop;
  }
  return [...nodes, slice(start, end)];
}

export const spans = (hit, field) => hit.highlights?.find((one) => one.by === "words" && one.field === field)?.spans ?? [];

// The headings that a passage stands under, the outermost first.
export const whereOf = (passage) =>
  passage?.headings.length > 0 && make("p", { className: "where", dir: "auto" }, passage.headings.join(" › "));

function fragment({ by, start, stop, spans }, text, shown) {
  const slice = slicer(text);
  const page = /\f/.test(text) ? `p. ${slice(0, spans[0].start).split("\f").length} ` : "";
  // A sentence that is all there is needs no mark; nor does what is not shown, such as the name of a tag.
  if (by === "meaning" && spans[0].start === start && spans[0].stop === stop) spans = [];
  const seen = slicer(shown);
  spans = spans.filter((span) => by === "meaning" || seen(span.start, span.stop) === slice(span.start, span.stop));
  const nodes = marked(shown, start, stop, spans);
  for (const node of nodes) if (node.textContent) node.textContent = said(node.textContent);
  return make("p", { className: "snippet", "data-by": by, dir: "auto" }, page, start ? "…" : "", ...nodes.map((node) => (typeof node === "string" ? said(node) : node)), slice(stop) ? "…" : "");
}

// The words that were found and the sentence that is nearest, or where nothing is known how the text begins.
export function snippets({ text = "", highlights = [] }) {
  const [first, second] = highlights.filter(({ field }) => field === "text");
  if (!first) {
    const piece = cut(said(bare(text.slice(0, 4 * SNIPPET))).replace(/\s+/g, " ").trim(), SNIPPET);
    return piece ? [make("p", { className: "snippet", dir: "auto" }, piece)] : [];
  }
  const shown = bare(text);
  const apart = second && (second.stop <= first.start || second.start >= first.stop);
  return [fragment(first, text, shown), ...(apart ? [fragment(second, text, shown)] : [])];
}
