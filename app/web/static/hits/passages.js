// The best passages of an open hit: each with the headings that it stands under, its pages, and a score of its own.

import { make } from "../elements.js";
import { isMarkup, marked, slicer, spans, whereOf } from "./fragments.js";
import { blocks } from "./readable.js";

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
