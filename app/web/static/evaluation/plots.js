// Plots as inline SVG, and the overlap of two rankings.

import { make } from "../elements.js";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter(Boolean));
  return element;
}

// Rank-biased overlap, extrapolated (Webber, Moffat and Zobel 2010, equation 32), as the service computes it.
export function overlap(one, other, p = 0.9) {
  const [short, long] = [one, other].sort((a, b) => a.length - b.length);
  const [s, n] = [short.length, long.length];
  if (!s) return n ? 0 : 1;
  const common = [0];
  const [seenShort, seenLong] = [new Set(), new Set()];
  for (let depth = 1; depth <= n; depth++) {
    if (depth <= s) seenShort.add(short[depth - 1]);
    seenLong.add(long[depth - 1]);
    common.push([...seenShort].filter((id) => seenLong.has(id)).length);
  }
  let total = 0;
  for (let depth = 1; depth <= n; depth++) total += (common[depth] / depth) * p ** depth;
  for (let depth = s + 1; depth <= n; depth++) total += ((common[s] * (depth - s)) / (s * depth)) * p ** depth;
  return Math.min(1, ((1 - p) / p) * total + ((common[n] - common[s]) / n + common[s] / s) * p ** n);
}

// Lines between the ranks of what two lists have in common, each row one unit high.
export function lines(pairs, rows) {
  const drawn = pairs.map(([left, right]) =>
    svg("line", { x1: 0, y1: left - 0.5, x2: 1, y2: right - 0.5, class: left === right ? "same" : right < left ? "up" : "down", "vector-effect": "non-scaling-stroke" }));
  const plot = svg("svg", { viewBox: `0 0 1 ${rows}`, preserveAspectRatio: "none", class: "lines", "aria-hidden": "true" }, ...drawn);
  plot.style.setProperty("--rows", rows);
  return plot;
}

// A mean with its interval between the ends of a scale.
export function intervalBar({ mean, low, high }, [from, to], said) {
  const x = (value) => (100 * (value - from)) / (to - from || 1);
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "interval", role: "img", "aria-label": said },
    from < 0 && to > 0 && svg("line", { x1: x(0), x2: x(0), y1: 0, y2: 10, class: "zero", "vector-effect": "non-scaling-stroke" }),
    svg("rect", { x: x(low), y: 3, width: Math.max(0.4, x(high) - x(low)), height: 4, class: "range" }),
    svg("line", { x1: x(mean), x2: x(mean), y1: 0.5, y2: 9.5, class: "mean", "vector-effect": "non-scaling-stroke" }));
}

// The ends of a scale for intervals, with some room.
export function scaleOf(intervals, zero = false) {
  const ends = intervals.flatMap(({ low, high }) => [low, high]).concat(zero ? [0] : []);
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const room = (most - least || Math.abs(most) || 1) * 0.05;
  return [least - room, most + room];
}

// Bars of queries, the largest difference first. each: { label, value, href }. Arrow keys go from bar to bar.
export function bars(each, said) {
  const most = Math.max(...each.map(({ value }) => Math.abs(value)), 1e-9);
  const links = each.map(({ label, value, href }, i) => {
    const high = (48 * Math.abs(value)) / most;
    const name = `${label}: ${signed(value)}`;
    return svg("a", { href, tabindex: i ? -1 : 0, "aria-label": name },
      svg("title", {}, name),
      svg("rect", { x: i, y: 0, width: 1, height: 100, class: "reach" }),
      svg("rect", { x: i + 0.1, y: value > 0 ? 50 - high : 50, width: 0.8, height: high, class: value > 0 ? "gain" : "loss" }));
  });
  const plot = svg("svg", { viewBox: `0 0 ${each.length} 100`, preserveAspectRatio: "none", class: "bars" },
    ...links, svg("line", { x1: 0, x2: each.length, y1: 50, y2: 50, class: "zero", "vector-effect": "non-scaling-stroke" }));
  plot.style.setProperty("max-width", `${each.length * 3}rem`);
  const group = make("div", { role: "group", ariaLabel: said, className: "plot" }, plot);
  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const now = links.indexOf(document.activeElement);
    const next = links[now + by];
    if (!by || !next) return;
    event.preventDefault();
    links[now].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
  return group;
}

export const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(3)}`;
