"""The page on a server that asks for a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from web_pages import ANIMALS, Server, Visits

from app.keys import hash_of, make_key

pytestmark = pytest.mark.browser
BOSS, READER = make_key(), make_key()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys: list[dict[str, Any]] = [
        {"name": "boss", "sha256": hash_of(BOSS), "scopes": ["admin"]},
        {"name": "reader", "sha256": hash_of(READER), "scopes": ["read"], "collections": ["animals"]},
    ]
    server = Server(tmp_path_factory.mktemp("guarded"), BOSS, SHEAF_KEYS=json.dumps(keys))
    server.create("animals", ANIMALS)
    server.create("secrets", [{"id": "a", "text": "a secret"}])
    yield server
    server.end()


def give(page: Page, key: str) -> None:
    page.get_by_label("This server asks for a key").fill(key)
    page.get_by_role("button", name="Use it").click()


def kept(page: Page) -> str | None:
    found: str | None = page.evaluate("sessionStorage.getItem('sheaf-key')")
    return found


def test_the_page_asks_for_a_key_and_searches_with_it(guarded: Server, visit: Visits) -> None:
    visited = visit(guarded)
    visited.expected = ("401 (Unauthorized)",)
    page = visited.go(c="animals", q="a cat")
    box = page.get_by_label("This server asks for a key")
    expect(box).to_be_focused()
    expect(box).to_have_attribute("type", "password")
    expect(page.locator(".hit")).to_have_count(0)
    give(page, READER)
    expect(page.get_by_role("status")).to_have_text("6 hits of 6, approximate")
    expect(box).to_be_hidden()
    # It sees what its key reaches, and keeps the key out of every address.
    assert page.get_by_role("combobox", name="Collection").locator("option").count() == 1
    assert not [url for url in [*visited.requests, page.url] if READER in url]
    page.reload()
    expect(page.get_by_role("status")).to_have_text("6 hits of 6, approximate")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    # A link carries no key, so there is none to the document.
    page.locator(".hit h2 button").first.click()
    expect(page.locator(".hit .id").first).to_be_visible()
    assert page.locator(".hit .id a").count() == 0


def test_a_wrong_key_is_not_kept(guarded: Server, visit: Visits) -> None:
    visited = visit(guarded)
    visited.expected = ("401 (Unauthorized)",)
    page = visited.go(c="animals")
    give(page, make_key())
    fault = page.locator("#key-error")
    expect(fault).to_have_text("The server does not know this key.")
    assert kept(page) is None
    give(page, "schlüssel\u2028")
    expect(fault).to_have_text("This is no key.")
    assert kept(page) is None
    give(page, READER)
    expect(page.get_by_role("combobox", name="Collection")).to_have_value("animals")
    expect(fault).to_be_empty()


def test_a_key_is_forgotten_when_asked_to(guarded: Server, visit: Visits) -> None:
    visited = visit(guarded)
    visited.expected = ("401 (Unauthorized)",)
    page = visited.go(c="animals", q="a cat")
    give(page, READER)
    expect(page.locator(".hit")).to_have_count(6)
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("This server asks for a key")).to_be_visible()
    expect(page.locator(".hit")).to_have_count(0)
    assert kept(page) is None


def test_a_server_without_keys_is_not_asked_for_one(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="a cat")
    expect(page.locator(".hit")).to_have_count(6)
    expect(page.get_by_label("This server asks for a key")).to_be_hidden()
    expect(page.get_by_role("button", name="Forget the key")).to_be_hidden()
