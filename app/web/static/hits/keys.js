// Keys: / to the box, arrows or j and k between hits (a hit's button takes Enter by itself), Esc closes and goes back.

export function keysOf({ form, query }) {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const { key, target } = event;
    const typing = target.matches("input, textarea, select");
    const hits = [...document.querySelectorAll(".hit")];
    const here = hits.findIndex((hit) => hit.contains(document.activeElement));
    const go = (i) => {
      event.preventDefault();
      const goal = hits[i]?.querySelector("h2 button") ?? query;
      goal.focus({ preventScroll: true });
      (hits[i] ?? form).scrollIntoView({ block: "nearest" });
    };
    if (key === "/" && !typing) {
      event.preventDefault();
      query.focus();
      query.select();
    } else if (hits.length && ((key === "ArrowDown" && (!typing || target === query)) || (key === "j" && !typing))) {
      go(Math.min(here + 1, hits.length - 1));
    } else if (here >= 0 && (key === "ArrowUp" || key === "k")) {
      go(here - 1);
    } else if (key === "Escape" && here >= 0) {
      if (!hits[here].classList.contains("open")) return go(-1);
      hits[here].dispatchEvent(new Event("close"));
      go(here);
    }
  };
}
