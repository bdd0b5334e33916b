// What is told of collections: a row each in the table of all, and the facts of one.

import { count, field, make, number, size } from "../elements.js";
import { box, line, plot } from "../evaluation/plots.js";

const NONE = "—";
export const when = (time) => make("time", { dateTime: time }, new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }));
export const tag = (kind, text) => make("span", { className: `tag ${kind}` }, text);

// rows: of cells, the first of which is the row's name.
export const table = (label, heads, rows) => make("div", { className: "scrolls", role: "region", ariaLabel: label, tabIndex: 0 },
  make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((one) => make("td", {}, one)))))));

const aliasesOf = (name, aliases) => aliases.filter(({ collection }) => collection === name).map(({ alias }) => alias);
const recallOf = ({ recall }) => (recall ? `${recall.recall.toFixed(3)} at ${recall.k}` : NONE);
const partsOf = ({ segments, tail }) => `${number(segments)}${tail ? ` + ${number(tail)} new` : ""}`;

function stageOf({ sources = [], encoding, dim, index, candidates, learned }) {
  if (!sources.length) return NONE;
  return [sources.join(" + "), encoding && `${encoding} ${number(dim)}`, index, `${number(candidates)} candidates`, learned && "learned"].filter(Boolean).join(", ");
}

// A collection that cannot be opened is told as read-only too, for the same reason.
function stateOf({ state, error, read_only: closed }) {
  if (state === "quarantined") return make("div", {}, tag("bad", "quarantined"), ` ${error ?? ""}`);
  return make("div", {}, closed ? tag("warn", "read-only") : tag("good", "ready"), ...[closed, error].filter(Boolean).map((text) => ` ${text}`));
}

export function collectionTable(collections, aliases, to) {
  return table("Collections", ["Collection", "State", "Documents", "Size", "Generation", "Parts", "First stage", "Recall"], collections.map((one) => {
    const others = aliasesOf(one.name, aliases);
    const name = make("div", {}, to(one.name, one.name), others.length > 0 && make("span", { className: "aliases", dir: "auto" }, `also ${others.join(", ")}`));
    // Of one that cannot be opened, no number is known.
    const known = one.encoder.dim > 0;
    const cells = known ? [number(one.documents), size(one.bytes), number(one.generation), partsOf(one)] : [NONE, NONE, NONE, NONE];
    return [name, stateOf(one), ...cells, stageOf(one.first_stage), recallOf(one)];
  }));
}

const said = (object) => Object.entries(object).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");

// info: of one collection, as the API describes it.
export function facts(info, aliases) {
  const { encoder, first_stage: stage, lexical, fusion, schema, unfit } = info;
  const others = aliasesOf(info.name, aliases);
  const known = encoder.dim > 0;
  const rows = [
    ["State", stateOf(info)],
    others.length && ["Aliases", others.join(", ")],
    known && ["Documents", `${number(info.documents)} in ${count(info.passages, "passage")}`],
    known && ["Size", size(info.bytes)],
    known && ["Generation", number(info.generation)],
    known && ["Parts", partsOf(info)],
    known && ["Encoder", `${encoder.model ?? "callers' own vectors"}, a vector a ${{ dense: "passage", sequence: "segment" }[encoder.kind] ?? "token"}, ${number(encoder.dim)} dimensions`],
    known && ["Stored", `${info.similarity}, ${info.precision}${info.token_pooling === 1 ? "" : `, pooled ${JSON.stringify(info.token_pooling)}`}`],
    lexical && ["Words", `${lexical.language ?? "as they are"}, of ${lexical.fields.join(", ")}`],
    info.sparse && ["Sparse vectors", info.sparse.model ?? "callers' own"],
    fusion && ["Fusion", typeof fusion === "string" ? fusion : said(fusion)],
    schema && Object.keys(schema).length && ["Schema", said(schema)],
    unfit && Object.values(unfit).some(Boolean) && ["Values that do not fit", said(unfit)],
    known && ["First stage", stageOf(stage)],
    stage.documents_since && ["Since it was made", count(stage.documents_since, "document")],
    stage.drift && ["Drift", said(stage.drift)],
    stage.due && ["Due", stage.due],
    known && ["Recall", info.recall ? `${recallOf(info)}, as last measured` : "not measured yet"],
  ];
  return make("dl", { className: "facts" }, ...rows.filter(Boolean).map(([name, value]) => field(name, value)));
}

// Documents by generation, and where the first stage became another.
export function history(generations) {
  const most = Math.max(1, ...generations.map(({ documents }) => documents));
  const changes = generations.filter((one, i) => !i || stageOf(one) !== stageOf(generations[i - 1]));
  return make("section", { ariaLabel: "History" }, make("h3", {}, "History"),
    plot(generations.length, 100, { class: "history", role: "img", "aria-label": `Documents by generation, at most ${number(most)}` },
      ...generations.flatMap((one, i) => [box(i, 100 - (96 * one.documents) / most, 1, 100, "range"), changes.includes(one) && line(i, 0, i, 100)])),
    make("dl", {}, ...changes.reverse().map((one) =>
      field(`Generation ${number(one.generation)}`, make("div", {}, when(one.created), `, ${one.reason}, ${count(one.documents, "document")}: ${stageOf(one)}`)))));
}
