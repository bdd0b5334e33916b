// Elements, and the forms of numbers. Whatever comes from documents or from the server goes in as text, never as markup.

// make("p", { className: "a" }, "text", child) -> <p class="a">text<child/></p>; children that are null or false are left out.
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function button(label, act, properties = { className: "quiet" }) {
  const made = make("button", { type: "button", ...properties }, ...[label].flat());
  made.addEventListener("click", act);
  return made;
}

const formed = new Intl.NumberFormat("en");
export const number = (n) => formed.format(n);
export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

export function duration(ms) {
  if (ms < 0.005) return "0 ms";
  if (ms < 1000) return `${ms.toFixed(ms < 1 ? 2 : ms < 100 ? 1 : 0)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

export const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${number(Math.round(bytes / 1e5) / 10)} MB`);

export function cut(text, length) {
  if (text.length <= length) return text;
  const piece = text.slice(0, length);
  const space = piece.lastIndexOf(" ");
  // A cut never leaves half of a surrogate pair.
  return `${(space > length / 2 ? piece.slice(0, space) : piece).replace(/[\ud800-\udbff]$/, "")}…`;
}

// A term and its description in a list of them.
export const field = (key, value) => make("div", {}, make("dt", {}, key), make("dd", { dir: "auto" }, value));

export const panel = (title, ...content) => make("div", { className: "panel" }, make("h2", {}, title), ...content);

// Problem details (RFC 9457) as a panel.
export function problemPanel({ title, detail, code, status, request_id, errors = [] }) {
  const origin = [code, status && `status ${status}`, request_id && `request ${request_id}`];
  const faults = errors.map(({ pointer, message }) => make("li", {}, make("code", {}, pointer), ` ${message}`));
  return panel(
    title,
    make("p", {}, detail ?? ""),
    faults.length > 1 && make("ul", {}, ...faults),
    make("p", { className: "origin" }, origin.filter(Boolean).join(" · ")),
  );
}

// A stylesheet that only what is opened needs. Without it that is plain, and still there.
export function stylesheet(href) {
  if (document.querySelector(`link[href="${href}"]`)) return null;
  return new Promise((done) => {
    const link = make("link", { rel: "stylesheet", href });
    link.addEventListener("load", done);
    link.addEventListener("error", done);
    document.head.append(link);
  });
}
