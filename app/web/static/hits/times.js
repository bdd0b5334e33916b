// Where the time of a search went.

import { duration, make } from "../elements.js";

// A bar and its legend: the stages, the rest of the server's time, and the network.
export function times(stages, took, roundTrip) {
  const parts = Object.entries(stages).map(([name, ms]) => [name.replace(/_ms$/, "").replaceAll("_", " "), ms]);
  const rest = Math.max(0, took - parts.reduce((sum, [, ms]) => sum + ms, 0));
  const network = ["network", Math.max(0, roundTrip - took)];
  const bar = make("div", { className: "bar", ariaHidden: "true" });
  const legend = make("dl", { className: "legend" });
  for (const [name, ms] of [...parts, ["rest", rest], network]) {
    const segment = make("span", { className: `stage ${name.replaceAll(" ", "-")}` });
    segment.style.flexGrow = ms;
    bar.append(segment);
  }
  for (const [name, ms] of [...parts, network]) {
    const explained = name === "network" ? "Round trip outside the engine: HTTP, JSON and the network" : "";
    legend.append(
      make("div", { className: name.replaceAll(" ", "-"), title: explained }, make("dt", {}, name), make("dd", {}, duration(ms))),
    );
  }
  return [bar, legend];
}
