"""How long the page takes from opening an address with a query to the first hit on the screen, and what it loads;
with ``--map`` how many frames a second its map has while it is dragged.

    python scripts/bench_page.py [--url http://127.0.0.1:8000] [--collection NAME] [--query TEXT ...] [--rounds 10]
        [--map]

Asks a running server through chromium (playwright, of the extra ``browser``). Each round opens the address in a
new context, so with an empty cache, and a query of its own in turn. The time ends with the frame in which the first hit
came to stand in the page, and is counted from the browser's own start of the navigation. Bytes are those of the bodies,
as sent. The first round, which warms the browser and the server, is not counted.

The map is dragged by a pointer that moves with every frame of the browser, three seconds a round, in a new context.
A frame is one that ``requestAnimationFrame`` gave; chromium gives 60 a second at most.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

LATE_MS: Final = 25
"""Between two frames: one of 60 a second is missing."""
DRAG: Final = """() => new Promise((done) => {
  const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect(), waits = [];
  const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, pointerType: "mouse", buttons: 1, bubbles: true, clientX: box.left + x, clientY: box.top + y }));
  canvas.setPointerCapture = () => {};
  send("pointerdown", 200, 200);
  let first = 0, last = 0;
  requestAnimationFrame(function step(now) {
    if (last) waits.push(now - last);
    first ||= now;
    last = now;
    const turn = (now - first) / 300;
    send("pointermove", 200 + 120 * Math.sin(turn), 200 + 120 * (1 - Math.cos(turn)));
    if (now - first < 3000) return requestAnimationFrame(step);
    send("pointerup", 0, 0);
    done(waits);
  });
})"""
CHROMIUM: Final = Path("/usr/bin/chromium")
QUERIES: Final = ("read a zip archive", "send an email", "parse command line options", "compare two dates")
WATCH: Final = """
window.shown = new Promise((done, failed) => {
  setTimeout(() => failed(new Error("no hit within 30 s")), 30_000);
  const watching = new MutationObserver(() => {
    if (!document.querySelector(".hit")) return;
    watching.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  });
  watching.observe(document, { childList: true, subtree: true });
});
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server (default: %(default)s)")
    parser.add_argument("--collection", default="python-docs", help="that is searched (default: %(default)s)")
    parser.add_argument("--query", nargs="+", default=list(QUERIES), help="queries, in turn")
    parser.add_argument("--rounds", type=int, default=10, help="openings that are counted (default: %(default)s)")
    parser.add_argument("--map", action="store_true", help="measure the map while it is dragged")
    return parser


def drag_map(browser: Browser, address: str) -> list[float]:
    """Milliseconds between the frames of a map of an address while it is dragged for three seconds."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    try:
        page = context.new_page()
        page.goto(address)
        page.locator(".map + ol a").first.wait_for()
        page.wait_for_timeout(500)
        found: list[float] = page.evaluate(DRAG)
        return found
    finally:
        context.close()


def report_map(rounds: list[list[float]]) -> None:
    """Frames a second of each round, and the longest waits for one."""
    rates = [1_000 * len(one) / sum(one) for one in rounds]
    waits = sorted(wait for one in rounds for wait in one)
    print(f"{median(rates):.1f} frames a second at the median of {len(rates)} drags of three seconds")
    late = sum(wait >= LATE_MS for wait in waits)
    print(f"  {min(rates):.1f} to {max(rates):.1f}; of {len(waits):,} frames {late:,} came after {LATE_MS} ms or more")
    print(f"  99 of 100 within {waits[int(0.99 * (len(waits) - 1))]:.1f} ms, the last after {waits[-1]:.1f}")


def open_page(browser: Browser, address: str, base: str) -> tuple[float, int, int, int]:
    """Milliseconds to the first hit; bytes of the page's own files, and how many; bytes of the API's answers."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    try:
        page = context.new_page()
        page.add_init_script(WATCH)
        answers: list[tuple[str, int]] = []
        page.on("requestfinished", lambda one: answers.append((one.url, one.sizes()["responseBodySize"])))
        page.goto(address)
        shown = float(page.evaluate("() => window.shown"))
        page.wait_for_load_state("networkidle")
        asked = [size for url, size in answers if url.startswith(f"{base}/v1/")]
        own = [size for url, size in answers if not url.startswith(f"{base}/v1/")]
        return shown, sum(own), len(own), sum(asked)
    finally:
        context.close()


def main() -> None:
    """Opens the page and writes what it took."""
    args = parser().parse_args()
    base = args.url.rstrip("/")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        if args.map:
            asked = urlencode({"view": "map", "c": args.collection, "q": args.query[0]})
            drags = [drag_map(browser, f"{base}/?{asked}") for _ in range(args.rounds + 1)]
            browser.close()
            return report_map(drags[1:])
        rounds = []
        for i in range(args.rounds + 1):
            asked = urlencode({"c": args.collection, "q": args.query[i % len(args.query)]})
            rounds.append(open_page(browser, f"{base}/?{asked}", base))
        browser.close()
    times = [shown for shown, *_ in rounds[1:]]
    _, own, files, answered = rounds[-1]
    print(f"first hit after {median(times):.0f} ms at the median of {len(times)} openings")
    print(f"  {min(times):.0f} to {max(times):.0f} ms, nothing cached")
    print(f"the page's {files} files: {own:,} bytes; answers of the API: {answered:,}")


if __name__ == "__main__":
    main()
