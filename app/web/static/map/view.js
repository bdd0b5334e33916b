// A collection as points: where its documents lie, and which of them a query finds. Points are drawn once, into a canvas
// that is not shown; moving puts that one into place and draws the hits upon it.

import { addressOf, given, remember } from "../address.js";
import { at, call } from "../api.js";
import { button, count, make, number } from "../elements.js";
import { ask, collectionField, frame } from "../evaluation/settings.js";

const EDGE = 1.05;
const SIDE = 2048;
const percent = (share) => `${number(Math.round(share * 1000) / 10)}\u00a0%`;
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);

export function show(root, page) {
  const query = make("input", { id: "query", type: "search", ariaLabel: "Query" });
  const collection = collectionField(page);
  const form = make("form", { id: "form", role: "search", autocomplete: "off" },
    make("div", { className: "box" }, make("div", { className: "entry" }, query), make("button", { type: "submit" }, "Light")),
    make("div", { className: "options" }, collection.element));
  const canvas = make("canvas", { role: "img" });
  const [context, whole] = [canvas.getContext("2d"), make("canvas", { width: SIDE, height: SIDE })];
  const tip = make("p", { dir: "auto" });
  const zoomed = (name, times) => button(name, () => move(zoom * times));
  const figure = make("div", { className: "map", hidden: true }, canvas, make("p", {}, zoomed("Closer", 2), " ", zoomed("Farther", 0.5), " ", zoomed("Whole", 0)), tip);
  const list = make("ol", { role: "list", ariaLabel: "Hits" });
  const shell = frame(root, page, form, changed, list);
  root.append(figure, list);
  let [map, held, lit, over, zoom, x, y, width, waiting, dragged, from, colour] = [{ ids: [] }, "", [], null, 1, 0, 0, 1, 0, 0, [0, 0]];

  const scale = () => (width * zoom) / (2 * EDGE);
  const left = (place) => width / 2 + (map.x[place] - x) * scale();
  const top = (place) => width / 2 - (map.y[place] - y) * scale();

  function fit() {
    if (!(width = canvas.clientWidth)) return;
    canvas.width = canvas.height = width * devicePixelRatio;
    const style = getComputedStyle(canvas);
    colour = (name) => style.getPropertyValue(`--${name}`);
    const [into, to, dot] = [whole.getContext("2d"), SIDE / (2 * EDGE), (2.4 * SIDE) / width];
    into.clearRect(0, 0, SIDE, SIDE);
    into.fillStyle = colour("candidates");
    map.ids.forEach((_, i) => into.fillRect((map.x[i] + EDGE) * to - dot / 2, (EDGE - map.y[i]) * to - dot / 2, dot, dot));
    draw();
  }

  function draw() {
    waiting = 0;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, width);
    context.drawImage(whole, width / 2 - (EDGE + x) * scale(), width / 2 - (EDGE - y) * scale(), width * zoom, width * zoom);
    context.font = "600 11px sans-serif";
    context.textAlign = "center";
    for (const [place, rank] of [...lit].reverse().concat(over === null ? [] : [[over, lit.find(([place]) => place === over)?.[1] ?? ""]])) {
      context.beginPath();
      context.arc(left(place), top(place), 9, 0, 7);
      context.fillStyle = colour(place === over ? "ink" : "leaf");
      context.fill();
      context.fillStyle = colour("paper");
      context.fillText(rank, left(place), top(place) + 4);
    }
  }
  const later = () => (waiting ||= requestAnimationFrame(draw));

  function move(times, dx = 0, dy = 0) {
    zoom = Math.min(16, Math.max(1, times));
    [x, y] = [x - dx / scale(), y + dy / scale()].map((value) => (times ? Math.min(1, Math.max(-1, value)) : 0));
    later();
  }

  function point(place) {
    over = place;
    tip.textContent = place === null ? "" : map.titles[place] || map.ids[place];
    later();
  }

  canvas.addEventListener("pointerdown", (event) => {
    dragged = 0;
    from = [event.offsetX, event.offsetY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", ({ buttons, offsetX, offsetY }) => {
    const [dx, dy] = [offsetX - from[0], offsetY - from[1]];
    from = [offsetX, offsetY];
    if (buttons) {
      dragged += Math.abs(dx) + Math.abs(dy);
      return move(zoom, dx, dy);
    }
    let [found, best] = [null, 144];
    for (let i = 0; i < map.ids.length; i++) {
      const far = (left(i) - offsetX) ** 2 + (top(i) - offsetY) ** 2;
      if (far < best) [found, best] = [i, far];
    }
    if (found !== over) point(found);
  });
  canvas.addEventListener("click", () => {
    if (over !== null && dragged < 5) location.href = addressOfDocument(map.ids[over]);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    move(zoom * 2 ** (-event.deltaY / 300));
  });
  const sized = new ResizeObserver(fit);
  sized.observe(canvas);

  const addressOfDocument = (id) => addressOf("search", { c: collection.select.value, q: query.value.trim(), filter: JSON.stringify({ $id: { eq: id } }) });

  function changed() {
    remember(addressOf("map", { c: collection.select.value, q: query.value.trim() }));
    page.named();
    run();
  }

  function restore() {
    collection.fill(given().get("c"));
    query.value = given().get("q") ?? "";
    run();
  }

  const run = () => shell.doing(async (signal) => {
    const [c, q] = [collection.select.value, query.value.trim()];
    const known = page.collections.find(({ name }) => name === c);
    const wanted = JSON.stringify([c, known?.documents, known?.generation]);
    lit = [];
    if (held !== wanted) {
      empty(c ? "Projecting …" : "There is no collection to show.");
      if (!c) return;
      const found = await call(`${at(c)}/map`, { signal });
      if (!found.ids.length) return empty("The collection has no documents yet.");
      map = { ...found, x: floats(found.x), y: floats(found.y) };
      [held, figure.hidden] = [wanted, false];
      fit();
      move(0);
    }
    said();
    point(null);
    if (q) light((await ask(`${at(c)}/search`, { query: q, include: [] }, signal)).hits);
  });

  function empty(words) {
    [held, figure.hidden] = ["", true];
    shell.clear(words);
  }

  function said(more = "") {
    const [first, second] = map.variance;
    const most = map.of > map.ids.length ? `${number(map.ids.length)} of ` : "";
    shell.clear(`${more}${most}${count(map.of, "document")}. The picture has ${percent(first + second)} of the variance of their vectors: to lie near is only a hint of likeness.`);
    canvas.ariaLabel = shell.status.textContent;
  }

  function light(hits) {
    said(`${count(hits.length, "hit")}. `);
    const places = hits.map(({ id }) => map.ids.indexOf(id));
    lit = places.map((place, i) => [place, i + 1]).filter(([place]) => place >= 0);
    list.replaceChildren(...hits.map(({ id, title }, i) => {
      const link = make("a", { href: addressOfDocument(id), dir: "auto" }, `${i + 1}. ${title || id}${places[i] < 0 ? " (not among the points)" : ""}`);
      link.addEventListener("focus", () => point(places[i] < 0 ? null : places[i]));
      return make("li", {}, link);
    }));
    later();
  }

  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "next", ArrowUp: "previous" }[event.key];
    if (!step) return;
    event.preventDefault();
    event.target.parentElement[`${step}ElementSibling`]?.firstChild.focus();
  });
  collection.select.addEventListener("change", changed);
  return {
    ...shell,
    restore,
    failed(details) {
      if (held) said();
      else empty("");
      shell.tell(details);
    },
    leave() {
      shell.leave();
      sized.disconnect();
    },
  };
}
