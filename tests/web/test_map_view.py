"""The map: its points are the service's, hits are lit and reached by keys, and it says how little it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from web_pages import HOSTILE, Server, Visits

from app.client import Sheaf

pytestmark = pytest.mark.browser
WORDS = "wren owl heron finch crane stork robin eagle swan kite rook dove gull teal".split()  # noqa: SIM905
NOTES = [
    {"id": f"{word} {i}", "title": f"{word.title()} {i}", "text": f"{word} sings {i}"}
    for word in WORDS
    for i in range(4)
]
ASKED = "which wren sings"
SMALL: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mapped"))
    server.create("birds", [*NOTES, HOSTILE])
    server.create("none", [])
    server.create("two", [{"id": "a", "text": "", "vector": [1, 2]}], model=None, kind="dense", dim=2)
    server.search("birds", query=ASKED)
    yield server
    server.end()


def inked(page: Page) -> int:
    """Pixels of the canvas that are not empty."""
    found: int = page.evaluate(
        """() => {
          const shown = document.querySelector("canvas"), copy = document.createElement("canvas");
          [copy.width, copy.height] = [shown.width, shown.height];
          const read = copy.getContext("2d", { willReadFrequently: true });
          read.drawImage(shown, 0, 0);
          const { data } = read.getImageData(0, 0, copy.width, copy.height);
          return data.filter((value, i) => i % 4 === 3 && value).length;
        }"""
    )
    return found


def test_points_are_drawn_and_hits_are_reached_by_keys(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(view="map", c="birds")
    with Sheaf(birds.url) as sheaf:
        found = sheaf.collection("birds").map()
    shown = f"{round(sum(found['variance']) * 100, 1):g}\u00a0%"
    status = page.get_by_role("status")
    expect(status).to_contain_text(f"57 documents. The picture has {shown} of the variance")
    expect(status).to_contain_text("to lie near is only a hint")
    drawn = inked(page)
    assert drawn > 100
    assert page.get_by_role("img").get_attribute("aria-label") == status.inner_text()
    page.get_by_label("Query").fill(ASKED)
    page.keyboard.press("Enter")
    hits = birds.search("birds", query=ASKED, k=10)["hits"]
    links = page.get_by_role("list", name="Hits").get_by_role("link")
    expect(links).to_have_count(10)
    expect(links).to_have_text([f"{i}. {hit['title']}" for i, hit in enumerate(hits, 1)])
    expect(status).to_contain_text("10 hits. 57 documents")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert inked(page) > drawn
    links.nth(0).focus()
    page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    expect(page.locator(".map > p").last).to_have_text(hits[1]["title"])
    page.keyboard.press("Enter")
    expect(page.locator(".hit h2")).to_have_text([hits[1]["title"]])
    page.go_back()
    expect(links).to_have_count(10)


def test_a_point_says_its_title_and_opens_its_document(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(view="map", c="birds")
    canvas, tip = page.locator("canvas"), page.locator(".map > p").last
    expect(canvas).to_be_visible()
    with Sheaf(birds.url) as sheaf:
        found = sheaf.collection("birds").map()
    place = int(abs(found["x"]).argmax())
    page.get_by_role("button", name="Closer").click()
    page.get_by_role("button", name="Whole").click()
    box = canvas.bounding_box()
    assert box is not None
    side = box["width"] / 2.1
    spot = (
        box["x"] + box["width"] / 2 + float(found["x"][place]) * side,
        box["y"] + box["height"] / 2 - float(found["y"][place]) * side,
    )
    inside = spot[0] - 40 * float(found["x"][place])
    expect(tip).to_have_text("")
    page.mouse.move(*spot)
    expect(tip).to_have_text(found["titles"][place])
    # A drag opens nothing.
    page.mouse.move(*spot)
    page.mouse.down()
    page.mouse.move(inside, spot[1])
    page.mouse.up()
    expect(canvas).to_be_visible()
    page.mouse.move(inside, spot[1])
    expect(tip).to_have_text(found["titles"][place])
    page.mouse.down()
    page.mouse.up()
    expect(page.locator(".hit h2")).to_have_text([found["titles"][place]])


def test_what_cannot_be_mapped_or_searched_is_told(birds: Server, visit: Visits) -> None:
    visited = visit(birds)
    visited.expected = ("404 (Not Found)", "ERR_FAILED")
    page = visited.go(view="map", c="none")
    expect(page.get_by_role("status")).to_have_text("The collection has no documents yet.")
    expect(page.locator("canvas")).to_be_hidden()
    page = visited.go(view="map", c="two", q="owl")
    expect(page.get_by_role("status")).to_contain_text("0 hits. 1 document. The picture has 0")
    page.route("**/search", lambda route: route.abort())
    page.get_by_role("button", name="Light").click()
    expect(page.get_by_role("alert").locator(".panel")).to_contain_text("The server does not answer")
    expect(page.get_by_role("status")).to_contain_text("1 document. ")
    expect(page.locator("canvas")).to_be_visible()
    page = visited.go(view="map", c="absent")
    expect(page.get_by_role("alert").locator(".panel")).to_contain_text("absent")
    expect(page.locator("canvas")).to_be_hidden()


@pytest.mark.parametrize("options", [SMALL, {"color_scheme": "dark"}, {}], ids=["phone", "dark", "light"])
def test_it_fits_and_is_clean(birds: Server, visit: Visits, options: dict[str, Any]) -> None:
    page = visit(birds, **options).go(view="map", c="birds", q="javascript hostile")
    expect(page.locator(".map + ol a").first).to_contain_text(HOSTILE["title"])
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []
