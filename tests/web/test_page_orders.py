"""Modes, orders, groups, pages and likeness in the page, all of it in the address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from web_pages import Server, Visits, state_of

pytestmark = pytest.mark.browser

KINDS = ["river", "king", "ship"]
FILMS = [
    {
        "id": f"f{i:02}",
        "title": f"Film {i}",
        "text": f"a film of the {KINDS[i % 3]} and the {KINDS[(i + 1) % 3] if i % 2 else 'winter'}",
        "metadata": {"kind": KINDS[i % 3], "year": 2000 - i, "odd, name:": i},
    }
    for i in range(25)
]
MARKDOWN = (
    "# The *harbour*\n\nBoats **come and go** by the `pier`, see [the map](http://x/y).\n\n"
    "## Tides\n\n- low 🐦 at dawn\n- high at noon\n\n```\nx = '<b>raw</b>'\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    + "The quay is long. "
    * 30
)
HTML = (
    "<h1>The mill</h1><p>Grain &amp; water turn the <b>wheel</b>.</p><ul><li>stone</li></ul>"
    "<script>window.ran = 'readable'</script><p onclick=\"window.ran = 'click'\">Flour comes out.</p>"
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("films"))
    server.create("films", FILMS)
    passages = {"passages": {"size": 16, "overlap": 8}}
    made = server.client.post("/v1/collections", json={"name": "written", "encoder": {"model": "words"}, **passages})
    assert made.status_code == 201, made.text
    documents = [{"id": "harbour", "text": MARKDOWN}, {"id": "mill", "text": HTML}, {"id": "x" * 300, "text": "other"}]
    assert server.client.post("/v1/collections/written/documents", json={"documents": documents}).is_success
    server.create("plain", [{"id": "a", "text": "a text"}], kind="dense")
    body = {"name": "own", "encoder": {"model": None, "kind": "dense", "dim": 2}}
    assert server.client.post("/v1/collections", json=body).is_success
    own = {"documents": [{"id": "a", "text": "the words of it", "vector": [1, 2], "metadata": {"n": 1}}]}
    assert server.client.post("/v1/collections/own/documents", json=own).is_success
    yield server
    server.end()


def titles(page: Page) -> list[str]:
    return page.locator(".hit h2").all_inner_texts()


def test_the_modes_are_those_that_the_collection_has(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="film of the river")
    modes = page.get_by_role("radiogroup", name="Mode").get_by_role("radio")
    expect(page.locator(".hit")).to_have_count(10)
    assert [one.evaluate("e => e.parentElement.textContent") for one in modes.all()] == [
        *("hybrid", "semantic", "dense", "lexical")
    ]
    expect(modes.first).to_be_checked()
    modes.first.focus()
    for mode in ("semantic", "dense", "lexical"):
        with page.expect_response("**/search") as answered:
            page.keyboard.press("ArrowRight")
        assert answered.value.json()["mode"] == mode
        assert state_of(page)["mode"] == mode
        expect(page.locator(".hit").first).to_be_visible()
    page.get_by_role("combobox", name="Collection").select_option("plain")
    expect(page.locator(".hit")).to_have_count(1)
    expect(modes).to_have_count(3)
    assert "mode" not in state_of(page)
    # Words are found where no text can be encoded.
    page = visit(films).go(c="own", q="words")
    expect(page.locator(".panel")).to_contain_text("takes vectors, not text")
    page.get_by_role("radio", name="lexical").check(force=True)
    expect(page.locator(".hit")).to_have_count(1)


def test_hits_are_sorted_and_grouped_by_fields(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="river", mode="lexical", k="4")
    page.get_by_role("button", name="Order").click()
    sort = page.get_by_role("combobox", name="Sort by")
    expect(sort).to_be_focused()
    expect(sort.locator("option")).to_have_text(
        ["relevance", '"odd, name:" ↑', '"odd, name:" ↓', "kind ↑", "kind ↓", "year ↑", "year ↓"]
    )
    sort.select_option("year ↑")
    expect(page.locator(".hit h2").first).to_have_text("Film 24")
    truth = films.search("films", query="river", mode="lexical", sort=[{"year": "asc"}], k=4)["hits"]
    assert titles(page) == [hit["title"] for hit in truth]
    assert state_of(page)["sort"] == "year:asc"
    sort.select_option('"odd, name:" ↓')
    expect(page.locator(".hit h2").first).to_have_text("Film 24")
    # An order by several fields is asked in the address, and said.
    page = visit(films).go(c="films", k="4", sort="kind:desc,year")
    expect(page.locator(".hit")).to_have_count(4)
    assert titles(page) == ["Film 23", "Film 20", "Film 17", "Film 14"]
    expect(page.get_by_role("combobox", name="Sort by")).to_have_value("kind:desc,year")
    expect(page.get_by_role("status")).to_have_text("4 documents of 25")
    page.get_by_role("combobox", name="Sort by").select_option("id")
    page.get_by_role("combobox", name="Group by").select_option("kind")
    page.get_by_role("searchbox").fill("ship")
    page.keyboard.press("Enter")
    expect(page.locator(".grouped")).to_have_count(3)
    expect(page.locator(".grouped .value").first).to_have_text("kind ship")
    expect(page.locator(".grouped").first.locator(".hit")).to_have_count(3)
    expect(page.get_by_role("status")).to_have_text("3 groups, approximate")


def test_pages_follow_each_other_and_stand_in_the_address(films: Server, visit: Visits) -> None:
    visited = visit(films)
    page = visited.go(c="films", q="film of the river")
    pages = page.get_by_role("navigation", name="Pages")
    expect(pages).to_contain_text("1 to 10")
    assert pages.get_by_role("link", name="Previous").count() == 0
    seen = titles(page)
    for first in (11, 21):
        pages.get_by_role("link", name="Next").focus()
        page.keyboard.press("Enter")
        expect(pages).to_contain_text(f"{first} to {min(25, first + 9)}")
        expect(page.get_by_role("status")).to_have_text(f"Hits {first} to {min(25, first + 9)} of 25, approximate")
        assert state_of(page)["from"] == str(first - 1)
        number = page.locator(".hit").first.evaluate("e => getComputedStyle(e, '::before').content")
        assert "rank" in number
        seen += titles(page)
    # One list: each document once, though every search moves the weights a little.
    assert sorted(seen) == sorted(film["title"] for film in FILMS)
    assert pages.get_by_role("link", name="Next").count() == 0
    page.go_back()
    expect(pages).to_contain_text("11 to 20")
    pages.get_by_role("link", name="Previous").click()
    expect(pages).to_contain_text("1 to 10")
    assert "from" not in state_of(page)
    page.go_back()
    page.reload()
    expect(pages).to_contain_text("11 to 20")
    # Another search begins with its first page.
    page.get_by_role("searchbox").fill("film of the king")
    page.keyboard.press("Enter")
    expect(pages).to_contain_text("1 to 10")


def test_a_page_of_a_list_that_has_changed_is_shown_as_it_is_now(films: Server, visit: Visits) -> None:
    visited = visit(films)
    visited.expected = ("409 (Conflict)",)
    page = visited.go(c="films", q="film of the winter")
    expect(page.locator(".hit")).to_have_count(10)
    added = films.client.put("/v1/collections/films/documents/new", json={"text": "nothing else"})
    assert added.status_code == 201
    try:
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("status")).to_have_text("Hits 11 to 20 of 25, approximate")
        assert visited.errors
    finally:
        assert films.client.delete("/v1/collections/films/documents/new").is_success


def test_more_like_a_hit(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="film of the river")
    page.locator(".hit h2 button").first.click()
    title = titles(page)[0]
    page.get_by_role("button", name="More like this").click()
    chip = page.locator(".chip")
    expect(chip).to_contain_text(f"More like {title}")
    expect(page.get_by_role("searchbox")).to_have_value("")
    example = state_of(page)["like"]
    assert "q" not in state_of(page)
    expect(page.locator(".hit")).to_have_count(10)
    assert title not in titles(page)
    truth = films.search("films", like={"positive": [example]})["hits"]
    assert titles(page)[0] == truth[0]["title"]
    page.reload()
    expect(chip).to_contain_text(f"More like {example}")
    # A text that is typed takes its place, and the button takes it back.
    page.get_by_role("searchbox").fill("king")
    page.keyboard.press("Enter")
    expect(chip).to_have_count(0)
    page.go_back()
    chip.get_by_role("button").click()
    expect(page.locator(".about")).to_be_visible()
    page.go_back()
    expect(chip).to_be_visible()


def test_markdown_and_html_are_read_as_text(films: Server, visit: Visits) -> None:
    visited = visit(films)
    page = visited.go(c="written", q="boats by the pier at noon in the harbour")
    hit = page.locator(".hit[data-id=harbour]")
    expect(hit.locator(".snippet").first).to_contain_text("come and go")
    assert "**" not in hit.locator(".snippet").first.inner_text()
    hit.locator("h2 button").click()
    read = hit.locator(".reading .readable")
    expect(read.locator(".heading")).to_have_text(["The *harbour*", "Tides"])
    expect(read.locator(".item")).to_have_text(["• low 🐦 at dawn", "• high at noon"])
    expect(read.locator("p.code")).to_have_text(["x = '<b>raw</b>'", "| a | b | | 1 | 2 |"])
    expect(read).to_contain_text("Boats come and go by the pier, see the map.")
    assert {"Boats", "pier", "noon"} <= set(read.locator("mark").all_inner_texts())
    assert hit.locator("b, h1, ul.none").count() == 0
    # Passages with their headings and scores of their own.
    passages = hit.get_by_role("region", name="Best passages")
    expect(passages.locator("li")).to_have_count(3)
    expect(passages.locator(".where").filter(has_text="The *harbour* › Tides").first).to_be_visible()
    expect(passages.locator(".score").first).to_contain_text("score ")
    button = hit.get_by_role("button", name="As it is written")
    button.focus()
    page.keyboard.press("Enter")
    assert hit.locator(".reading .text").evaluate("e => e.textContent") == MARKDOWN
    expect(button).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Enter")
    expect(read).to_be_visible()

    page = visited.go(c="written", q="grain and water turn the wheel h1 script")
    mill = page.locator(".hit[data-id=mill]")
    expect(mill.locator(".snippet").first).to_contain_text("Grain & water turn the wheel")
    mill.locator("h2 button").click()
    read = mill.locator(".reading .readable")
    expect(read.locator("p")).to_have_text(["The mill", "Grain & water turn the wheel.", "• stone", "Flour comes out."])
    read.locator("p").last.click()
    assert mill.locator("script, b, li[onclick], p[onclick]").count() == 0
    assert page.evaluate("window.ran") is None


def test_browsing_shows_documents_in_order_without_scores(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", filter='{"kind": "king"}', k="5")
    expect(page.get_by_role("status")).to_have_text("5 documents of 8")
    assert titles(page) == ["Film 1", "Film 4", "Film 7", "Film 10", "Film 13"]
    assert page.locator(".score").count() == 0
    page.locator(".hit h2 button").first.click()
    expect(page.locator(".hit .id").first).to_be_visible()
    assert page.locator(".hit details").count() == 0
