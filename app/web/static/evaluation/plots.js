// Plots as inline SVG, and the overlap of two rankings.

import { make } from "../elements.js";

const svg = (name, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter(Boolean));
  return element;
};
export const plot = (width, height, attributes, ...children) => svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", ...attributes }, ...children);
export const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name, "vector-effect": "non-scaling-stroke" });
export const box = (x, y, width, height, name) => svg("rect", { x, y, width, height, class: name });

// Rank-biased overlap, extrapolated (Webber, Moffat and Zobel 2010, equation 32), as the service computes it.
export function overlap(one, other, p = 0.9) {
  const [short, long] = one.length < other.length ? [one, other] : [other, one];
  const [s, n] = [short.length, long.length];
  if (!s) return n ? 0 : 1;
  const common = (depth) => short.slice(0, depth).filter((id) => long.slice(0, depth).includes(id)).length;
  let total = 0;
  for (let depth = 1; depth <= n; depth++) {
    total += (common(depth) / depth) * p ** depth;
    if (depth > s) total += ((common(s) * (depth - s)) / (s * depth)) * p ** depth;
  }
  return Math.min(1, ((1 - p) / p) * total + ((common(n) - common(s)) / n + common(s) / s) * p ** n);
}

// Lines between the ranks of what two lists have in common, each row one unit high.
export function lines(pairs, rows) {
  const made = plot(1, rows, { class: "lines", "aria-hidden": "true" },
    ...pairs.map(([one, other]) => line(0, one - 0.5, 1, other - 0.5, one === other ? "same" : other < one ? "up" : "down")));
  made.style.setProperty("--rows", rows);
  return made;
}

// The ends of a scale for intervals, with some room.
export function scaleOf(intervals, ...also) {
  const ends = intervals.flatMap(({ low, high }) => [low, high]).concat(also);
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const room = (most - least || Math.abs(most) || 1) * 0.05;
  return [least - room, most + room];
}

export function intervalBar({ mean, low, high }, [from, to], said) {
  const x = (value) => (100 * (value - from)) / (to - from);
  return plot(100, 10, { class: "interval", role: "img", "aria-label": said }, from < 0 && to > 0 && line(x(0), 0, x(0), 10, "zero"),
    box(x(low), 3, Math.max(0.4, x(high) - x(low)), 4, "range"), line(x(mean), 0.5, x(mean), 9.5, "mean"));
}

// Bars of queries, each { label, value, href }. Arrow keys go from bar to bar.
export function bars(each, said) {
  const most = Math.max(...each.map(({ value }) => Math.abs(value)));
  const links = each.map(({ label, value, href }, i) => {
    const [high, name] = [(48 * Math.abs(value)) / most, `${label}: ${signed(value)}`];
    return svg("a", { href, tabindex: i ? -1 : 0, "aria-label": name }, svg("title", {}, name), box(i, 0, 1, 100, "reach"),
      box(i + 0.1, value > 0 ? 50 - high : 50, 0.8, high, value > 0 ? "gain" : "loss"));
  });
  const made = plot(each.length, 100, { class: "bars" }, ...links, line(0, 50, each.length, 50, "zero"));
  made.style.setProperty("max-width", `${each.length * 3}rem`);
  made.addEventListener("keydown", (event) => {
    const now = links.indexOf(document.activeElement);
    const next = links[now + { ArrowRight: 1, ArrowLeft: -1 }[event.key]];
    if (!next) return;
    event.preventDefault();
    links[now].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
  return make("div", { role: "group", ariaLabel: said, className: "plot" }, made);
}

export const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(3)}`;
