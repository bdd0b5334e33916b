"""How long the page takes from opening an address with a query to the first hit on the screen, and what it loads.

    python scripts/bench_page.py [--url http://127.0.0.1:8000] [--collection NAME] [--query TEXT ...] [--rounds 10]

Asks a running server through chromium (playwright, of the extra ``browser``). Each round opens the address in a
new context, so with an empty cache, and a query of its own in turn. The time ends with the frame in which the first hit
came to stand in the page, and is counted from the browser's own start of the navigation. Bytes are those of the bodies,
as sent. The first round, which warms the browser and the server, is not counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

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
    return parser


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
