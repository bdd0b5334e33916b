// What stands where no hits are: why a collection cannot be searched, and what can be.

import { at, hasKey } from "../api.js";
import { count, field, make, number, panel, size } from "../elements.js";

function command(path, body) {
  const url = new URL(path, document.baseURI);
  const json = JSON.stringify(body, null, 1).replace(/\n\s*/g, " ").replaceAll("'", "'\\''").replaceAll('"…"', "…");
  const key = hasKey() ? ` -H "X-API-Key: $SHEAF_API_KEY"` : "";
  return make("pre", { tabIndex: 0, ariaLabel: "Command" }, `curl ${url} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${json}'`);
}

const EXAMPLE = { id: "1", title: "Sheaf", text: "Stalks of grain, bound into a bundle after the harvest.", metadata: { year: 2026 } };

export const noCollections = () => panel(
  "No collection yet",
  make("p", {}, "Make one, write documents to it, then reload this page:"),
  command("v1/collections", { name: "papers", encoder: { model: "builtin", kind: "multi_vector" } }),
  command("v1/collections/papers/documents", { documents: [EXAMPLE] }),
  make("p", {}, "Or run ", make("code", {}, "make run"), ": it builds a collection of Python’s own documentation."),
);

export const missing = (name) => panel(`There is no collection “${name}”`, make("p", {}, "Choose another from the list."));

// What keeps a collection from being searched in this page, if anything does, else null.
export function hindrance({ name, state, error, documents, encoder, lexical }, { q, like, mode, filter, sort }) {
  const path = at(name);
  if (state === "quarantined") {
    return panel(`“${name}” is quarantined`, make("p", {}, error ?? ""), make("p", {}, "The other collections are served as ever."));
  }
  const findable = like || ["lexical", "sparse"].includes(mode) || (!q && (filter || sort));
  if (encoder.model === null && !findable) {
    return panel(
      `“${name}” takes vectors, not text`,
      lexical && documents > 0 && make("p", {}, "Its words can be searched here, in the mode “lexical”."),
      make("p", {}, `Its documents came with vectors of their own, of ${count(encoder.dim, "dimension")}. Search it over REST:`),
      command(`${path}/search`, encoder.kind === "dense" ? { vector: ["…"] } : { vectors: [["…"]] }),
    );
  }
  if (documents) return null;
  return panel(`“${name}” is empty`, make("p", {}, "Write documents to it; the next search finds them:"), command(`${path}/documents`, { documents: [EXAMPLE] }));
}

// Before the first query: what can be searched.
export function about({ documents, encoder, similarity, bytes, read_only, error }) {
  const kind = { dense: "one vector a document", sequence: "segments in order" }[encoder.kind] ?? "one vector a token, scored by MaxSim";
  return make("dl", { className: "about" },
    ...[
      ["documents", number(documents)],
      ["encoder", encoder.model],
      ["vectors", `${kind}, ${count(encoder.dim, "dimension")}`],
      ["similarity", similarity.replaceAll("_", " ")],
      ["on disk", size(bytes)],
      ...(read_only ? [["read-only", read_only]] : []),
      ...(error ? [["error", error]] : []),
    ].map(([key, value]) => field(key, value)),
  );
}
