"""Filters of the page: values of the fields that there are, counted by the server, beside the JSON that they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from web_pages import Server, Visits, state_of

pytestmark = pytest.mark.browser

FILMS = [
    {
        "id": f"f{i:02}",
        "title": f"Film {i}",
        "text": f"a film about a {['river', 'king'][i % 2]}",
        "metadata": {
            "genre": ["drama", "comedy", "western"][i % 3],
            "year": 1980 + i,
            "minutes": 61.5 + 3 * i,
            "stars": i % 4 + 1,
            "seen": i % 5 == 0,
            "shown": f"{2000 + i // 12}-{i % 12 + 1:02}-15T20:00:00",
            "serial": 2**53 + 1 + 2 * (i % 2),
            "tags": ["old"] if i < 10 else ["old", "new"],
            "author": {"name": "Ada" if i < 20 else "Ben"},
            "place": {"lat": i, "lon": i},
            "e.mail": "x",
        },
    }
    for i in range(40)
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("films"))
    server.create("films", FILMS)
    schema = {"schema": {"place": "geo"}}
    assert server.client.patch("/v1/collections/films", json=schema).is_success
    server.create("bare", [{"id": "a", "text": "without metadata"}])
    server.create(
        "listed",
        [
            {
                "id": f"l{i}",
                "text": "of lists",
                "metadata": {"parts": [{"size": 20 * i}, {"size": 990 - i}], "marks": [i * 30, 700]},
            }
            for i in range(14)
        ],
    )
    yield server
    server.end()


def field(page: Page, name: str) -> Locator:
    return page.locator("#facets fieldset").filter(has=page.locator("legend > span", has_text=name)).first


def expect_lines(of: Locator, counts: dict[str, int]) -> None:
    expect(of.locator(".value")).to_have_text(list(counts))
    expect(of.locator(".count")).to_have_text([f"{count:,}" for count in counts.values()])


def truth(server: Server, name: str, **asked: Any) -> dict[str, int]:
    facets = server.search("films", mode="browse", k=1, facets={name: {"terms": 12}}, **asked)["facets"]
    counts = facets[name]["counts"]
    return {one["value"] if isinstance(one["value"], str) else json.dumps(one["value"]): one["count"] for one in counts}


def test_a_bound_that_was_refused_stays_when_counts_arrive_after_it(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="film", k="50")
    page.get_by_role("button", name="Filter").click()
    year = field(page, "year")
    expect(year.get_by_label("year to")).to_have_attribute("placeholder", "2019")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if '"facets"' in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route("**/search*", hold)
    page.route("**/search/batch", hold)
    year.get_by_label("year from").fill("2010")
    year.get_by_label("year from").press("Tab")
    expect(page.get_by_role("status")).to_have_text("10 hits, approximate")
    year.get_by_label("year to").fill("2o11")
    year.get_by_label("year to").press("Tab")
    expect(year.get_by_label("year to")).to_have_attribute("aria-invalid", "true")
    assert held, "the counts are asked for"
    before = year.get_by_label("year to").element_handle()
    # Those that are held go on, and what is asked after them.
    page.unroute("**/search*")
    page.unroute("**/search/batch")
    assert before is not None
    page.wait_for_function("one => !one.isConnected", arg=before)
    expect(year.get_by_label("year from")).to_have_value("2010")
    expect(year.get_by_label("year to")).to_have_value("2o11")
    expect(year.get_by_label("year to")).to_have_attribute("aria-invalid", "true")


def test_numbers_of_lists_are_ticked_for_no_range_holds_a_list(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="listed", q="lists")
    page.get_by_role("button", name="Filter").click()
    # A list of objects has no values of its own.
    expect(page.locator("#facets legend > span")).to_have_text(["marks", "parts.size"])
    for name in ("marks", "parts.size"):
        expect(field(page, name).locator("input[type=checkbox]")).to_have_count(8)
        expect(field(page, name).locator(".bars")).to_have_count(0)
    expect(field(page, "marks").locator("label").first).to_contain_text("700")
    field(page, "marks").get_by_role("checkbox", name="30", exact=False).first.check()
    expect(page.locator(".hit")).to_have_count(1)


def test_each_field_that_there_is_is_shown_as_what_it_holds(films: Server, visit: Visits) -> None:
    visited = visit(films)
    page = visited.go(c="films", q="film")
    expect(page.locator(".hit")).to_have_count(10)
    assert not [url for url in visited.requests if "facets" in url]
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#facets legend > span")).to_have_text(
        [
            *(
                "author.name",
                "e.mail",
                "genre",
                "minutes",
                "place.lat",
                "place.lon",
                "seen",
                "serial",
                "shown",
                "stars",
            ),
            *("tags", "year"),
        ]
    )
    for name in ("genre", "stars", "seen", "tags", "author.name"):
        expect_lines(field(page, name), truth(films, name))
    # Numbers that hardly come again are ranges, dates are too; their bars hold every document.
    for name in ("minutes", "year", "shown"):
        assert field(page, name).locator("label").count() == 0
        said = [bar.get_attribute("aria-label") or "" for bar in field(page, name).locator(".bars button").all()]
        assert sum(int(one.rpartition(", ")[2]) for one in said) == 40
        assert 4 <= len(said) <= 12


def test_a_tick_changes_the_filter_and_the_hits(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="film", k="50")
    page.get_by_role("button", name="Filter").click()
    box = page.get_by_role("textbox", name="Filter on metadata")
    field(page, "genre").get_by_label("drama").check()
    expect(page.get_by_role("status")).to_have_text("14 hits, approximate")
    expect(box).to_have_value('{"genre":{"eq":"drama"}}')
    # Of its own field all values stay, with what they would add; of others what the filter leaves.
    expect(field(page, "tags").locator(".count").first).to_have_text("14")
    expect_lines(field(page, "genre"), truth(films, "genre"))
    field(page, "genre").get_by_label("western").check()
    expect(box).to_have_value('{"genre":{"in":["drama","western"]}}')
    field(page, "seen").get_by_label("true").check()
    both = {"and": [{"genre": {"in": ["drama", "western"]}}, {"seen": {"eq": True}}]}
    expect(page.get_by_role("status")).to_have_text("6 hits, approximate")
    assert json.loads(state_of(page)["filter"]) == both
    expect_lines(field(page, "stars"), truth(films, "stars", filter=both))
    # The focus stays on what was ticked, and back takes it back.
    expect(field(page, "seen").get_by_label("true")).to_be_focused()
    page.go_back()
    expect(field(page, "seen").get_by_label("true")).not_to_be_checked()
    expect(page.get_by_role("status")).to_have_text("27 hits, approximate")
    field(page, "genre").get_by_role("button", name="Anything of genre").click()
    expect(box).to_have_value("")
    expect(page.get_by_role("status")).to_have_text("40 hits of 40, approximate")


def test_ranges_are_set_by_bounds_and_by_bars(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="film", k="50")
    page.get_by_role("button", name="Filter").click()
    box = page.get_by_role("textbox", name="Filter on metadata")
    year = field(page, "year")
    expect(year.get_by_label("year from")).to_have_attribute("placeholder", "1980")
    expect(year.get_by_label("year to")).to_have_attribute("placeholder", "2019")
    year.get_by_label("year from").fill("2010")
    year.get_by_label("year from").press("Tab")
    expect(box).to_have_value('{"year":{"gte":2010}}')
    expect(page.get_by_role("status")).to_have_text("10 hits, approximate")
    year.get_by_label("year to").fill("2o11")
    year.get_by_label("year to").press("Tab")
    expect(year.get_by_label("year to")).to_have_attribute("aria-invalid", "true")
    year.get_by_label("year to").fill("2011")
    year.get_by_label("year to").press("Tab")
    expect(page.get_by_role("status")).to_have_text("2 hits, approximate")
    year.get_by_role("button", name="Anything of year").click()
    bar = field(page, "shown").locator(".bars button").nth(1)
    expect(bar).to_have_attribute("aria-label", "shown 2001, 12")
    bar.focus()
    page.keyboard.press("Enter")
    expect(box).to_have_value('{"shown":{"gte":"2001-01-01","lt":"2002-01-01"}}')
    expect(page.get_by_role("status")).to_have_text("12 hits, approximate")
    expect(field(page, "shown").get_by_label("shown to")).to_have_value("2001-12-31")
    expect(bar).to_have_attribute("aria-pressed", "true")
    # The last day is one of them, whatever the time of day.
    field(page, "shown").get_by_label("shown to").fill("2001-03-15")
    expect(page.get_by_role("status")).to_have_text("3 hits, approximate")


def test_what_is_no_tick_stays_json(films: Server, visit: Visits) -> None:
    other = {"or": [{"year": {"lt": 1990}}, {"stars": {"eq": 4}}]}
    asked = {"and": [other, {"not": {"seen": {"eq": True}}}, {"genre": "drama"}]}
    page = visit(films).go(c="films", q="film", k="50", filter=json.dumps(asked))
    expect(page.locator("#facets")).to_contain_text("2 parts of it stand in the JSON alone")
    expect(field(page, "genre").get_by_label("drama")).to_be_checked()
    field(page, "genre").get_by_label("comedy").check()
    box = page.get_by_role("textbox", name="Filter on metadata")
    expect(box).not_to_have_value(json.dumps(asked))
    now = json.loads(box.input_value())["and"]
    assert sorted(now, key=json.dumps) == sorted(
        [{"genre": {"in": ["drama", "comedy"]}}, other, {"not": {"seen": {"eq": True}}}], key=json.dumps
    )
    # Broken JSON is said beside the box, and the counts wait.
    box.fill('{"genre": ')
    box.press("Enter")
    expect(page.locator("#filter-error")).to_contain_text("not JSON")


def test_large_integers_are_ticked_exactly(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="films", q="film", k="50")
    page.get_by_role("button", name="Filter").click()
    field(page, "serial").get_by_label("9007199254740993").check()
    box = page.get_by_role("textbox", name="Filter on metadata")
    expect(box).to_have_value('{"serial":{"eq":9007199254740993}}')
    expect(page.get_by_role("status")).to_have_text("20 hits, approximate")
    # And what was written exactly stays so when another field is ticked.
    field(page, "genre").get_by_label("drama").check()
    expect(box).to_have_value('{"and":[{"serial":{"eq":9007199254740993}},{"genre":{"eq":"drama"}}]}')
    expect(page.get_by_role("status")).to_have_text("7 hits, approximate")


def test_without_metadata_and_without_matches_the_panel_says_so(films: Server, visit: Visits) -> None:
    page = visit(films).go(c="bare", q="metadata")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#facets")).to_have_text("No document has metadata to filter by.")
    page = visit(films).go(c="films", q="film", filter='{"yaer": {"gt": 1}}')
    expect(page.get_by_role("list", name="Warnings")).to_contain_text("the filter asks for 'yaer'")
    expect(page.get_by_role("status")).to_have_text("No document passes the filter")
    expect(field(page, "year")).to_contain_text("none")
