"""Views of the page: the address names one, the navigation leads to those that the key allows, by keys alone too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from web_pages import ANIMALS, FOLDER, PHONE, Server, Visit, Visits

from app.keys import hash_of, make_key

pytestmark = pytest.mark.browser
BOSS, READER = make_key(), make_key()
READS = ["Search", "Map", "Compare", "Evaluate", "Operate"]
SECOND = """
export function show(root, page) {
  const said = document.createElement("p");
  said.className = "second";
  root.append(said);
  return {
    restore: () => {
      const name = new URLSearchParams(location.search).get("c");
      said.textContent = `second of ${page.collections.length}, ${name}`;
    },
    leave: () => { window.left = (window.left ?? 0) + 1; },
  };
}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys: list[dict[str, Any]] = [
        {"name": "boss", "sha256": hash_of(BOSS), "scopes": ["admin"]},
        {"name": "reader", "sha256": hash_of(READER), "scopes": ["read"]},
    ]
    server = Server(tmp_path_factory.mktemp("guarded"), BOSS, SHEAF_KEYS=json.dumps(keys))
    server.create("animals", ANIMALS)
    yield server
    server.end()


def with_second(visited: Visit, scope: str = "admin") -> Page:
    """A page that has one view more, of a scope."""
    shell = (FOLDER / "app.js").read_text()
    entry = f'second: {{ label: "Second", scope: "{scope}", style: "second.css", load: () => import("./second.js") }},'
    changed = shell.replace("const VIEWS = {", f"const VIEWS = {{\n  {entry}")
    assert changed != shell
    page = visited.page
    page.route("**/app.js", lambda route: route.fulfill(body=changed, content_type="text/javascript"))
    page.route("**/second.js", lambda route: route.fulfill(body=SECOND, content_type="text/javascript"))
    page.route("**/second.css", lambda route: route.fulfill(body=".second { color: red }", content_type="text/css"))
    return page


def test_views_are_gone_to_and_back_by_keys_alone(server: Server, visit: Visits) -> None:
    visited = visit(server)
    page = with_second(visited)
    visited.go(c="animals", q="cat")
    expect(page.locator(".hit")).to_have_count(6)
    assert not [url for url in visited.requests if "second" in url]
    links = page.get_by_role("navigation", name="Views").get_by_role("link")
    expect(links).to_have_text(["Second", "Search", "Map", "Compare", "Evaluate", "Judge", "Operate"])
    expect(links.nth(1)).to_have_attribute("aria-current", "page")
    links.nth(0).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".second")).to_have_text("second of 5, animals")
    expect(page.locator(".second")).to_have_css("color", "rgb(255, 0, 0)")
    expect(page).to_have_url(f"{server.url}/?view=second&c=animals")
    expect(page).to_have_title("Second · Sheaf")
    expect(links.nth(0)).to_be_focused()
    expect(links.nth(0)).to_have_attribute("aria-current", "page")
    assert page.locator(".hit, #form").count() == 0
    page.go_back()
    expect(page.locator(".hit")).to_have_count(6)
    assert page.evaluate("window.left") == 1
    page.go_forward()
    expect(page.locator(".second")).to_be_visible()


def test_an_address_opens_its_view_and_an_unknown_one_the_search(server: Server, visit: Visits) -> None:
    visited = visit(server, **PHONE)
    page = with_second(visited)
    visited.go(view="second", c="plants")
    expect(page.locator(".second")).to_have_text("second of 5, plants")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for unknown in ("absent", "constructor"):
        visited.go(view=unknown, c="plants", q="oak")
        expect(page.locator(".hit")).to_have_count(2)


def test_what_a_key_may_not_do_is_not_shown(guarded: Server, visit: Visits) -> None:
    for key, names in ((READER, READS), (BOSS, ["Second", *READS[:4], "Judge", "Operate"])):
        visited = visit(guarded)
        visited.expected = ("401 (Unauthorized)",)
        page = with_second(visited)
        visited.go(c="animals", q="cat")
        page.get_by_label("This server asks for a key").fill(key)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator(".hit")).to_have_count(6)
        expect(page.get_by_role("navigation", name="Views").get_by_role("link")).to_have_text(names)


def test_a_view_that_does_not_come_is_said_so(server: Server, visit: Visits) -> None:
    visited = visit(server)
    visited.expected = ("ERR_FAILED",)
    page = with_second(visited)
    page.route("**/second.js", lambda route: route.abort())
    visited.go(view="second", c="plants")
    expect(page.locator(".panel")).to_contain_text("This part of the page did not load")
    page.get_by_role("navigation", name="Views").get_by_role("link", name="Search").click()
    expect(page.locator("#form")).to_be_visible()
