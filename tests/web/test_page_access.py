"""The page for everybody: no violation that axe knows, no motion for who wants none, 360 pixels are enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from web_pages import PHONE, Server, Visits

pytestmark = pytest.mark.browser
NARROW: dict[str, Any] = {**PHONE, "viewport": {"width": 360, "height": 780}}


def opened(page: Page) -> None:
    page.locator(".hit h2 button").first.click()
    page.locator("summary").first.click()
    expect(page.locator(".parts .sum")).to_be_visible()
    page.get_by_role("button", name="Compare with exact search").click()
    expect(page.locator(".missed p")).to_be_visible()


def narrowed(page: Page) -> None:
    page.get_by_role("button", name="Order").click()
    if page.locator("#filter-panel").is_hidden():
        page.get_by_role("button", name="Filter").click()
    expect(page.locator("#facets fieldset").first).to_be_visible()


def quiet(page: Page) -> None:
    page.locator(".about, .panel, #filter-error:not(:empty)").first.wait_for()


STATES: list[tuple[dict[str, str], Callable[[Page], None]]] = [
    ({"c": "animals"}, quiet),
    ({"c": "animals", "q": "cat"}, opened),
    ({"c": "animals", "q": "wide cat", "k": "2"}, narrowed),
    ({"c": "animals", "q": "cat", "group": "legs", "filter": '{"legs": {"gte": 2}}'}, narrowed),
    ({"c": "animals", "like": "cat"}, opened),
    ({"c": "broken"}, quiet),
]


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, NARROW])
def test_axe_finds_nothing_and_nothing_is_too_wide(server: Server, visit: Visits, options: dict[str, Any]) -> None:
    visited = visit(server, reduced_motion="reduce", **options)
    for state, act in STATES:
        page = visited.go(**state)
        act(page)
        found = Axe().run(page)
        assert found.response["passes"], state
        assert found.violations_count == 0, (state, found.generate_report())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state
        moving = "document.getAnimations().length"
        assert page.evaluate(moving) == 0


def test_a_key_is_asked_for_accessibly(server: Server, visit: Visits) -> None:
    visited = visit(server)
    visited.expected = ("401 (Unauthorized)",)
    page = visited.page
    refused = {"title": "Unauthorized", "status": 401, "code": "key_required", "detail": "a key"}
    page.route("**/v1/**", lambda route: route.fulfill(status=401, json=refused))
    visited.go(c="animals", q="cat")
    expect(page.get_by_label("This server asks for a key")).to_be_focused()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
