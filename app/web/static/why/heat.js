// The tokens of the query by the tokens of the document that answer them best: a map in which a pair is the darker, the
// more alike the two are. A token under the pointer or the focus is marked in both texts.

import { make } from "../elements.js";
import { slicer } from "../hits/fragments.js";

const AROUND = 60; // characters of the text before and after the tokens that are shown
const WIDEST = 1_500;

export function heat({ shares, grid, passage, opening_weight }, hit, query) {
  if (!grid.length || !shares.every(({ asked }) => asked)) return null;
  const rows = shares.toSorted((a, b) => a.query - b.query);
  const columns = [...new Map(shares.map(({ row, found }) => [row, found])).entries()].sort(([a], [b]) => a - b);
  const whole = rows.reduce((sum, { product }) => sum + product, 0);
  const share = ({ product }) => `${Math.round((100 * product) / whole)} %`;
  const figure = make("figure", { className: "heat", ariaLabel: "Query tokens by the tokens that answer them" });
  const asked = askedText(query, rows);
  const answered = answeredText(hit, columns);

  const head = columns.map(([row, found]) =>
    make("th", { scope: "col", "data-row": row }, make("button", { type: "button" }, found?.text ?? `vector ${row + 1}`)));
  const lines = rows.map((one, i) => {
    const cells = columns.map(([row], j) => {
      const product = grid[one.query]?.[j] ?? 0;
      const best = row === one.row;
      const cell = make("td", { className: best ? "best" : "", "data-row": row, title: `${one.asked} × ${columns[j][1]?.text ?? row}: ${product.toFixed(3)}` }, product.toFixed(2).replace(/^-(?=0\.00)/, "").replace(/^(-?)0/, "$1"));
      cell.style.setProperty("--heat", `${Math.round(100 * Math.max(0, Math.min(1, product)))}%`);
      if (product > 0.6) cell.classList.add("dark");
      return cell;
    });
    const button = make("button", { type: "button" }, one.asked);
    return make("tr", { "data-query": one.query, "data-best": one.row }, make("th", { scope: "row" }, button), make("td", { className: "share" }, share(one)), ...cells);
  });
  const table = make("table", {},
    make("caption", { className: "unseen" }, "Inner products of each token of the query with the tokens of the document that are the best of one; and its share of the score by tokens"),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { className: "unseen" }, "Token of the query")), make("th", { scope: "col", className: "share" }, "Share"), ...head)),
    make("tbody", {}, ...lines));
  const texts = make("div", { className: "texts" },
    make("p", { className: "label" }, "Query"), make("p", { dir: "auto" }, ...asked),
    make("p", { className: "label" }, opening_weight ? `Passage ${passage + 1}` : "Document"), make("p", { dir: "auto" }, ...answered));

  // pairs: of query and row that are lit.
  const light = (queries, documents) => {
    for (const one of figure.querySelectorAll(".token")) {
      const { query: asks, row } = one.dataset;
      one.classList.toggle("lit", asks !== undefined ? queries.has(asks) : documents.has(row));
    }
    for (const one of figure.querySelectorAll("tr[data-query]")) one.classList.toggle("lit", queries.has(one.dataset.query));
    for (const one of figure.querySelectorAll("th[data-row]")) one.classList.toggle("lit", documents.has(one.dataset.row));
  };
  const of = (target) => {
    const line = target.closest("[data-query]");
    const column = target.closest("[data-row]");
    if (line && column) return light(new Set([line.dataset.query]), new Set([column.dataset.row]));
    if (line) return light(new Set([line.dataset.query]), new Set(rows.filter((one) => String(one.query) === line.dataset.query).map((one) => String(one.row))));
    if (column) return light(new Set(rows.filter((one) => String(one.row) === column.dataset.row).map((one) => String(one.query))), new Set([column.dataset.row]));
    return light(new Set(), new Set());
  };
  const none = () => of(figure);
  figure.addEventListener("mouseover", (event) => of(event.target));
  figure.addEventListener("mouseleave", none);
  figure.addEventListener("focusin", (event) => of(event.target));
  figure.addEventListener("focusout", none);
  figure.append(texts, make("div", { className: "map" }, table));
  return figure;
}

const token = (text, data) => {
  const one = make("span", { className: "token" }, text);
  Object.assign(one.dataset, data);
  return one;
};

// The query with its tokens; those that are no piece of it, such as [CLS], stand apart.
function askedText(query, rows) {
  const nodes = [];
  let at = 0;
  for (const { asked, query: place } of rows) {
    const found = query.toLowerCase().indexOf(asked.toLowerCase(), at);
    if (found >= 0) {
      nodes.push(query.slice(at, found), token(query.slice(found, found + asked.length), { query: place }));
      at = found + asked.length;
    } else nodes.push(" ", token(asked, { query: place }), " ");
  }
  return [...nodes, query.slice(at)];
}

// The title and the piece of the text that have the tokens.
function answeredText(hit, columns) {
  const nodes = [];
  const apart = columns.filter(([, found]) => !found?.field);
  const within = (field) => columns.filter(([, found]) => found?.field === field).sort(([, a], [, b]) => a.start - b.start);
  const title = within("title");
  if (title.length) nodes.push(...pieces(hit.title, title, 0, undefined), " — ");
  const text = within("text");
  if (text.length && hit.text) {
    const from = Math.max(0, text[0][1].start - AROUND);
    const to = Math.min(text.at(-1)[1].stop + AROUND, from + WIDEST);
    nodes.push(from ? "…" : "", ...pieces(hit.text, text.filter(([, { stop }]) => stop <= to), from, to), slicer(hit.text)(to) ? "…" : "");
  }
  for (const [row, found] of apart) nodes.push(" ", token(found?.text ?? `vector ${row + 1}`, { row }));
  return nodes;
}

function pieces(text, tokens, from, to) {
  const slice = slicer(text);
  const nodes = [];
  for (const [row, { start, stop }] of tokens) {
    if (start < from) continue;
    nodes.push(slice(from, start), token(slice(start, stop), { row }));
    from = stop;
  }
  return [...nodes, slice(from, to)];
}
