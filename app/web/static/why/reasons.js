// Why a hit has its score: the parts as a bar that adds up to it, the query's tokens by those that answer them, and all of it in words.

import { count, field, make } from "../elements.js";
import { heat } from "./heat.js";
import { SIDES, stack } from "./stack.js";

const fixed = (value) => value.toFixed(3);

// explanation: of the hit, as the API gives it. context: see hits/answer.js.
export function told(explanation, hit, context) {
  return [stack(explanation, hit), heat(explanation, hit, context.query), make("dl", { className: "words" }, ...inWords(explanation))].filter(Boolean);
}

function inWords({ sides, ranks, terms, shares, passage, opening_weight, approximate, indices }) {
  const said = sides.map(({ side, score, mean, standard, weight }) => [
    SIDES[side],
    `adds ${fixed(weight * standard)}: ${ranks[side] ? `number ${ranks[side]} of the candidates` : "not found by it"}, ${fixed(Math.abs(standard))} deviations `
      + `${standard < 0 ? "below" : "above"} their mean (${fixed(score)} beside ${fixed(mean)}), times a weight of ${fixed(weight)}`,
  ]);
  for (const { term, tf, df, score } of terms) {
    said.push([term, `adds ${fixed(score)} to words: it is here ${count(tf, "time")}, and in ${count(df, "document")}`]);
  }
  const weighed = indices.map(({ index, term, score }) => `${term ?? `index ${index}`} ${fixed(score)}`);
  if (weighed.length) said.push(["Of sparse vectors", weighed.join(", ")]);
  const pairs = shares.map(({ query, row, product, asked, found }) => `${asked ?? `vector ${query + 1}`} → ${found?.text ?? `vector ${row + 1}`} ${fixed(product)}`);
  if (pairs.length) said.push([opening_weight ? `Tokens of passage ${passage + 1}` : "Tokens", pairs.join(", ")]);
  if (opening_weight) said.push(["Its opening", `counts for ${Math.round(100 * opening_weight)} % of its meaning by tokens`]);
  if (approximate === false) said.push(["Approximate search", "does not find it"]);
  return said.map(([key, value]) => field(key, value));
}
