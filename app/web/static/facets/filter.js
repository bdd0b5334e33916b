// A filter in JSON as what can be ticked or set beside what cannot: one condition a field, all of which must hold.
//
//   {"and": [{"kind": {"in": ["class", "function"]}}, {"year": {"gte": 2020}}, {"not": ...}]}
//   -> conditions: kind {values: ["class", "function"]}, year {gte: 2020}; others: [{"not": ...}], which stay as they are

const BOUNDS = ["gt", "gte", "lt", "lte"];
const scalar = (value) => value !== null && (typeof value !== "object" || isRaw(value));
const isRaw = (value) => JSON.isRawJSON?.(value) ?? false;

// An integer beyond 2^53 as it was written, where the browser can keep it so.
export const exactly = (digits) => (Number.isSafeInteger(Number(digits)) ? Number(digits) : JSON.rawJSON(digits));

// null where it is no JSON object, or holds a number that this browser would round.
export function read(text) {
  if (!text) return { conditions: new Map(), others: [] };
  let parsed;
  try {
    parsed = JSON.parse(text, (key, value, context) =>
      typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) ? JSON.rawJSON(context.source) : value);
  } catch {
    return null;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return null;
  const keys = Object.keys(parsed);
  const parts = keys.length === 1 && keys[0] === "and" && Array.isArray(parsed.and) ? parsed.and : [parsed];
  const conditions = new Map();
  const others = [];
  for (const part of parts) {
    const [field, condition] = conditionOf(part) ?? [];
    if (field === undefined || conditions.has(field)) others.push(part);
    else conditions.set(field, condition);
  }
  return { conditions, others };
}

function conditionOf(part) {
  const entries = typeof part === "object" && part !== null ? Object.entries(part) : [];
  if (entries.length !== 1 || ["and", "or", "not"].includes(entries[0][0])) return null;
  const [field, asked] = entries[0];
  if (scalar(asked)) return [field, { values: [asked] }];
  if (typeof asked !== "object" || asked === null || Array.isArray(asked)) return null;
  const names = Object.keys(asked);
  if (names.length === 1 && names[0] === "eq" && scalar(asked.eq)) return [field, { values: [asked.eq] }];
  if (names.length === 1 && names[0] === "in" && Array.isArray(asked.in) && asked.in.every(scalar)) return [field, { values: asked.in }];
  if (names.length && names.every((name) => BOUNDS.includes(name)) && names.every((name) => scalar(asked[name]))) return [field, asked];
  return null;
}

export function write({ conditions, others }) {
  const parts = [...conditions].map(([field, { values, ...bounds }]) => {
    if (!values) return { [field]: bounds };
    return { [field]: values.length === 1 ? { eq: values[0] } : { in: values } };
  });
  parts.push(...others);
  if (!parts.length) return "";
  return JSON.stringify(parts.length === 1 ? parts[0] : { and: parts });
}

// The same without what it asks of a field; condition: in its place, if any.
export function without(filter, field, condition) {
  const conditions = new Map(filter.conditions);
  if (condition) conditions.set(field, condition);
  else conditions.delete(field);
  return { ...filter, conditions };
}

// One form of a value, to tell true from "true" and 1 from "1".
export const keyOf = (value) => JSON.stringify(value);
