"""A real server and Debian's chromium, which together show the search page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from web_pages import ANIMALS, PLANTS, Server, Visit, Visits, make_broken

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    """A server without any collection, for one test alone."""
    server = Server(tmp_path)
    yield server
    server.end()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with collections in every state; tests do not change it."""
    folder = tmp_path_factory.mktemp("web")
    make_broken(folder)
    server = Server(folder)
    server.create("animals", ANIMALS)
    server.create("plants", PLANTS, kind="dense")
    server.create("a-void", [])
    server.create("a-vectors", [{"id": "a", "text": "", "vector": [1, 2]}], model=None, kind="dense", dim=2)
    yield server
    server.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed with each module: while it is open, no other event loop can run in this thread."""
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is missing, so THE SEARCH PAGE IS NOT TESTED: apt-get install chromium"
        if os.environ.get("SHEAF_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    """Opens pages. At the end none has logged an error, or asked any other origin for anything."""
    made: list[Visit] = []
    with ExitStack() as closing:

        @contextmanager
        def context(**options: Any) -> Iterator[Page]:
            opened = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
            opened.set_default_timeout(20_000)
            yield opened.new_page()
            opened.close()

        def make(server: Server, **options: Any) -> Visit:
            page = closing.enter_context(context(**options))
            seen = Visit(page, server.url)
            page.on("console", lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: seen.errors.append(str(error)))
            page.on("dialog", lambda dialog: seen.errors.append(f"dialog: {dialog.message}"))
            page.on("request", lambda request: seen.requests.append(request.url))
            made.append(seen)
            return seen

        yield make
    for seen in made:
        assert seen.unexpected == []
        assert seen.requests
        assert [url for url in seen.requests if not url.startswith(f"{seen.url}/")] == []
