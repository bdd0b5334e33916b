// The pieces of a text that a hit shows, with what was found marked.

import { cut, make } from "../elements.js";

const SNIPPET = 320; // characters of text in a closed hit

// Places are in characters, of which some are two units of JavaScript's.
function slicer(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (start, stop) => text.slice(start, stop);
  const characters = [...text];
  return (start, stop) => characters.slice(start, stop).join("");
}

// text[start:stop] with the spans marked, as nodes.
export function marked(text, start, stop, spans) {
  const slice = slicer(text);
  const nodes = [];
  for (const span of spans) {
    nodes.push(slice(start, span.start), make("mark", {}, slice(span.start, span.stop)));
    start = span.stop;
  }
  return [...nodes, slice(start, stop)];
}

export const spans = (hit, field) => hit.highlights?.find((one) => one.by === "words" && one.field === field)?.spans ?? [];

function fragment({ by, start, stop, spans }, text) {
  // A sentence that is all there is needs no mark.
  const slice = slicer(text);
  const page = /\f/.test(text) ? `p. ${slice(0, spans[0].start).split("\f").length} ` : "";
  if (by === "meaning" && spans[0].start === start && spans[0].stop === stop) spans = [];
  return make("p", { className: "snippet", "data-by": by, dir: "auto" }, page, start ? "…" : "", ...marked(text, start, stop, spans), slice(stop) ? "…" : "");
}

// The words that were found and the sentence that is nearest, or where nothing is known how the text begins.
export function snippets({ text = "", highlights = [] }) {
  const [first, second] = highlights.filter(({ field }) => field === "text");
  if (!first) {
    const piece = cut(text.slice(0, 4 * SNIPPET).replace(/\s+/g, " ").trim(), SNIPPET);
    return piece ? [make("p", { className: "snippet", dir: "auto" }, piece)] : [];
  }
  const apart = second && (second.stop <= first.start || second.start >= first.stop);
  return [fragment(first, text), ...(apart ? [fragment(second, text)] : [])];
}
