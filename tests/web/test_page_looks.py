"""The page when there is nothing to search, and how it fits its reader."""

from __future__ import annotations

import gzip
import re
import shlex
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from web_pages import FOLDER, PHONE, Server, Visits

pytestmark = pytest.mark.browser


def panel(page: Page) -> Any:
    return page.locator(".panel")


def test_without_collections_it_says_how_to_make_one(empty_server: Server, visit: Visits) -> None:
    visited = visit(empty_server)
    page = visited.go()
    expect(panel(page)).to_contain_text("No collection yet")
    create, write = (shlex.split(command) for command in panel(page).locator("pre").all_inner_texts())
    for command in (create, write):
        assert command[0] == "curl"
        content = command[-1].replace('"builtin"', '"words"').encode()
        done = empty_server.client.post(command[1], content=content, headers={"Content-Type": "application/json"})
        assert done.is_success, done.text
    # Coming back to the page, as from a terminal, is enough.
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("combobox", name="Collection")).to_have_value("papers")
    page.get_by_role("searchbox").fill("stalks of grain")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("1 hit of 1, approximate")
    expect(page.locator(".hit h2")).to_have_text("Sheaf")
    visited.expected = ("ERR_CONNECTION_REFUSED",)
    empty_server.end()
    page.get_by_role("searchbox").fill("bundle")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="The server does not answer")).to_be_visible()
    expect(page.locator(".hit")).to_have_count(0)
    assert visited.errors


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", r"“broken” is quarantined.*collection broken is damaged"),
        ("a-void", r"“a-void” is empty.*curl .*/v1/collections/a-void/documents"),
        ("a-vectors", r"“a-vectors” takes vectors, not text.*2 dimensions.*curl .*/a-vectors/search"),
        ("<b>absent", r"There is no collection “<b>absent”"),
    ],
)
def test_why_a_collection_cannot_be_searched(server: Server, visit: Visits, name: str, said: str) -> None:
    visited = visit(server)
    page = visited.go(c=name, q="cat")
    expect(panel(page)).to_contain_text(re.compile(said, re.DOTALL))
    expect(page.get_by_role("combobox", name="Collection")).to_have_value(name)
    assert not [url for url in visited.requests if url.endswith("/search")]
    page.get_by_role("combobox", name="Collection").select_option("animals")
    expect(page.locator(".hit")).to_have_count(6)
    expect(panel(page)).to_have_count(0)


def test_before_a_query_it_tells_of_the_collection(server: Server, visit: Visits) -> None:
    page = visit(server).go()
    expect(page.locator(".about")).to_contain_text("documents6")
    expect(page.locator(".about")).to_contain_text("one vector a token, scored by MaxSim, 64 dimensions")
    expect(page.get_by_role("searchbox")).to_be_focused()


@pytest.mark.parametrize("state", [{"c": "animals", "q": "wide"}, {"c": "a-void"}, {"c": "broken"}, {"c": "a-vectors"}])
def test_a_phone_scrolls_in_one_direction(server: Server, visit: Visits, state: dict[str, str]) -> None:
    page = visit(server, **PHONE).go(**state, filter='{"not": {"legs": {"eq": ' + "9" * 15 + "}}}")
    expect(page.locator(".hit, .panel").first).to_be_visible()
    for button in page.locator(".hit h2 button").all():
        button.click()
    right = page.evaluate(
        "Math.max(...[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right))"
    )
    assert right <= PHONE["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # A touched field is large enough, and no field is so small that a phone zooms in on it.
    for name in ("searchbox", "combobox", "spinbutton"):
        field = page.get_by_role(name)
        assert field.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 16
        assert field.evaluate("e => e.getBoundingClientRect().height") >= 40


CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    const color = getComputedStyle(e).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" ? behind(e.parentElement) : color;
  };
  const found = {};
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = e.tagName + "." + e.className;
    found[name] = Math.min(ratio, found[name] ?? 99);
  }
  return found;
}"""
"""The contrast of every text with what is behind it (WCAG 2.2, relative luminance), by element."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(server: Server, visit: Visits, scheme: str) -> None:
    visited = visit(server, color_scheme=scheme)
    found: dict[str, float] = {}
    for state in ({"q": "cat"}, {"c": "broken"}, {}, {"q": "cat", "k": "0"}, {"q": "cat", "filter": "[]"}):
        page = visited.go(**state)
        page.locator(".hit, .panel, .about, #filter-error:not(:empty)").first.wait_for()
        found |= page.evaluate(CONTRASTS)
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}
    assert {"P.score", "P.snippet", "BUTTON.", "P.origin", "DT.", "DD."} <= set(found)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 23, 21)"
    assert dark == (scheme == "dark")
    assert len(visited.errors) == 2
    visited.errors.clear()


SHIFTS = """() => {
  window.shifted = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((e) => (window.shifted += e.value)))
    .observe({ type: "layout-shift", buffered: true });
}"""


@pytest.mark.parametrize("options", [{}, {"viewport": {"width": 375, "height": 812}}])
def test_nothing_moves_when_the_answer_comes(server: Server, visit: Visits, options: dict[str, Any]) -> None:
    visited = visit(server, **options)
    visited.page.add_init_script(f"({SHIFTS})()")
    page = visited.go(c="animals", q="cat")
    expect(page.locator(".hit")).to_have_count(6)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert page.evaluate("window.shifted") < 0.005
    top = page.locator("#hits").bounding_box()
    page.get_by_role("searchbox").fill("dog")
    page.keyboard.press("Enter")
    expect(page.locator(".hit h2").first).to_have_text("Dog")
    assert page.locator("#hits").bounding_box()["y"] == top["y"]  # type: ignore[index]


def test_every_control_has_a_name(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="cat", filter='{"legs": {"gt": 0}}')
    expect(page.locator(".hit")).to_have_count(3)
    unnamed = "e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())"
    controls = page.locator("input, select, textarea, button, a, pre").all()
    assert len(controls) >= 11
    assert [control.evaluate("e => e.outerHTML") for control in controls if control.evaluate(unnamed)] == []
    # Where the focus is can be seen, on every stop of the Tab key.
    for _ in range(len(controls)):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => {
              const e = document.activeElement, ring = getComputedStyle(e);
              const around = e.closest(".hit") && getComputedStyle(e.closest(".hit"), "::after");
              return ring.outlineStyle !== "none" || around?.borderTopStyle === "solid" || e === document.body;
            }"""
        )
        assert seen, page.evaluate("document.activeElement.outerHTML")


FIRST = 78_000
"""Bytes of the page's files that the first search loads, at most; and as they are sent."""
SENT = 42_000
WHOLE = 75_000
"""Bytes of all of them, as they are sent."""


def test_the_first_search_loads_little(server: Server, visit: Visits) -> None:
    visited = visit(server)
    loaded: dict[str, bytes] = {}
    visited.page.on("response", lambda answer: loaded.update({answer.url: answer.body()}))
    page = visited.go(c="animals", q="cat")
    expect(page.locator(".hit")).to_have_count(6)
    page.wait_for_load_state("networkidle")
    files = {url: body for url, body in loaded.items() if "/v1/" not in url}
    assert {"app.js", "style.css"} <= {url.rpartition("/")[2] for url in files}
    assert sum(map(len, files.values())) < FIRST, list(files)
    assert sum(len(gzip.compress(body)) for body in files.values()) < SENT
    # What is there only when somebody asks for it is not among them.
    assert not [url for url in files if re.search("/(why|facets|evaluation|operate|map)/|readable|passages", url)]


def test_the_page_is_small_and_has_no_inline_code() -> None:
    files = {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}
    assert sum(len(gzip.compress(content.encode())) for content in files.values()) < WHOLE
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|https?:", files["index.html"])
    scripts = {name: content for name, content in files.items() if name.endswith(".js")}
    assert len(scripts) >= 10
    for name, content in scripts.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|DOMParser", content), name
        assert content.count("\n") < 300, name


def test_what_is_loaded_with_the_page_is_named_before_it_is_asked_for() -> None:
    """Modules of the first search come at once, not one after the other as each is read."""
    named = set(re.findall(r'(?:modulepreload" href|src)="([^"]+[.]js)"', (FOLDER / "index.html").read_text()))
    needed, left = set[str](), ["app.js", "hits/view.js"]
    while left:
        needed.add(name := left.pop())
        for found in re.findall(r'^import [^;]*"([^"]+)";', (FOLDER / name).read_text(), re.MULTILINE):
            path = ((FOLDER / name).parent / found).resolve().relative_to(FOLDER).as_posix()
            left += [path] if path not in needed else []
    assert named == needed
