"""Pages of other origins, in a real browser: read nothing unless they are listed. The page frames nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from web_pages import PLANTS, Server, Visits

pytestmark = pytest.mark.browser
ASK = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return [answer.status, (await answer.text()).slice(0, 40)];
  } catch (error) {
    return String(error);
  }
}"""


class Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The origin of a page that is not Sheaf's."""
    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{other.server_address[1]}"
    other.shutdown()
    thread.join()
    other.server_close()


@pytest.fixture
def other_page(browser: Browser, origin: str) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(origin)
    yield page
    context.close()


def test_a_page_of_another_origin_reads_nothing(server: Server, other_page: Page) -> None:
    assert "TypeError" in other_page.evaluate(ASK, [f"{server.url}/v1/collections", {}])
    search = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": '{"query": "cat"}'}
    assert "TypeError" in other_page.evaluate(ASK, [f"{server.url}/v1/collections/animals/search", search])
    # A request that needs no leave to be sent is not taken.
    plain = {"method": "POST", "mode": "no-cors", "body": '{"ids": ["cat"]}'}
    other_page.evaluate(ASK, [f"{server.url}/v1/collections/animals/delete", plain])
    assert server.client.get("/v1/collections/animals/documents/cat").status_code == 200


def test_a_listed_page_does(tmp_path: Path, origin: str, other_page: Page) -> None:
    server = Server(tmp_path, SHEAF_CORS_ORIGINS=f'["{origin}"]')
    try:
        server.create("plants", PLANTS)
        search = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": '{"query": "oak"}'}
        status, text = other_page.evaluate(ASK, [f"{server.url}/v1/collections/plants/search", search])
        assert status == 200
        assert text.startswith('{"hits":[{"id":"oak"')
    finally:
        server.end()


def test_the_page_stands_in_no_frame(server: Server, other_page: Page) -> None:
    other_page.evaluate(
        """url => new Promise(done => {
          const frame = document.createElement("iframe");
          frame.onload = done;
          frame.src = url;
          document.body.append(frame);
        })""",
        server.url,
    )
    assert other_page.frames[1].locator("#query").count() == 0


def test_the_description_of_the_api_works_under_its_policy(server: Server, visit: Visits) -> None:
    page = visit(server).page
    page.goto(f"{server.url}/docs")
    expect(page.locator("#operations-search-search_documents")).to_be_visible()
    expect(page.get_by_role("button", name="Authorize").first).to_be_visible()
