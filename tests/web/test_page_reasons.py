"""Why a hit is a hit, in the page: parts that add up, tokens by tokens, and what the approximate path missed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from test_page_looks import CONTRASTS
from web_pages import PHONE, Server, Visits

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = ["wren", "owl", "heron", "nests", "sings", "hunts", "river", "forest", "night", "morning"]
    texts = [" ".join(words[(i * k + k) % 10] for k in range(1, 9)) for i in range(60)]
    server = Server(tmp_path_factory.mktemp("birds"))
    server.create("birds", [{"id": f"b{i:02}", "title": f"Bird {i}", "text": text} for i, text in enumerate(texts)])
    body = {"name": "long", "encoder": {"model": "words"}, "passages": {"size": 16, "overlap": 4}}
    assert server.client.post("/v1/collections", json=body).is_success
    text = "the wren sings in the forest. " * 12 + "an 🐦 owl hunts by the river at night. " + "nothing else. " * 12
    server.client.post("/v1/collections/long/documents", json={"documents": [{"id": "a", "text": text}]})
    yield server
    server.end()


def open_reasons(page: Page, place: int = 0) -> Locator:
    hit = page.locator(".hit").nth(place)
    hit.locator("h2 button").click()
    hit.locator("summary").click()
    expect(hit.locator(".parts .sum")).to_be_visible()
    return hit


def values(hit: Locator) -> list[float]:
    said = hit.locator(".parts li:not(.sum) .value").all_inner_texts()
    return [float(one.replace("−", "-").replace("+", "")) for one in said]


@pytest.mark.parametrize("mode", ["", "semantic", "dense", "lexical"])
@pytest.mark.parametrize("collection", ["birds", "long"])
def test_the_parts_of_a_score_are_a_bar_that_adds_up_to_it(
    birds: Server, visit: Visits, mode: str, collection: str
) -> None:
    page = visit(birds).go(c=collection, q="owl hunts at night", **({"mode": mode} if mode else {}))
    hit = open_reasons(page)
    score = float((hit.locator(".score").first.text_content() or "").removeprefix("score "))
    assert sum(values(hit)) == pytest.approx(score, abs=0.006)
    assert float(hit.locator(".parts .sum .value").inner_text()) == pytest.approx(score, abs=0.002)
    # Each is as wide as its share.
    bar = hit.locator(".stack")
    parts = bar.locator(".part").evaluate_all("all => all.map(one => [one.title, one.getBoundingClientRect().width])")
    assert len(parts) == len(values(hit))
    whole = sum(abs(value) for value in values(hit))
    # The only document of a collection is as good as the mean of all.
    assert bool(whole) == (collection == "birds" or bool(mode))
    for title, width in parts if whole else []:
        share = abs(float(title.rpartition(" ")[2])) / whole
        assert width == pytest.approx((bar.bounding_box() or {})["width"] * share, abs=2 + len(parts))


def test_parts_that_take_away_and_ranks_are_told(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(c="birds", q="owl hunts at night", k="60")
    expect(page.locator(".hit")).to_have_count(60)
    last = open_reasons(page, 59)
    assert min(values(last)) < 0
    assert last.locator(".stack .below .part").count() == sum(value < 0 for value in values(last))
    answer = birds.search("birds", query="owl hunts at night", k=60, explain=True)
    ranks = answer["hits"][0]["explanation"]["ranks"]
    first = open_reasons(page, 0)
    said = first.locator(".parts li:not(.sum) .said").all_inner_texts()
    assert said == [f"number {rank} in its list" if rank else "not in its list" for rank in ranks.values()]


def test_the_map_shows_each_pair_and_marks_both_texts(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(c="long", q="Owl hunts at night", mode="semantic")
    hit = open_reasons(page)
    why = birds.search("long", query="Owl hunts at night", mode="semantic", explain=True)["hits"][0]["explanation"]
    heat = hit.locator(".heat")
    rows = heat.locator("tbody tr")
    assert rows.count() == len(why["shares"]) == len(why["grid"])
    assert heat.locator("tbody th").all_inner_texts() == [one["asked"] for one in why["shares"]]
    columns = sorted({one["row"] for one in why["shares"]})
    whole = sum(one["product"] for one in why["shares"])
    for i, share in enumerate(why["shares"]):
        cells = rows.nth(i).locator("td:not(.share)")
        texts = cells.all_inner_texts()
        assert "-.00" not in texts
        shown = [float(one) for one in texts]
        assert shown == pytest.approx(why["grid"][i], abs=0.006)
        best = rows.nth(i).locator("td.best")
        assert best.get_attribute("data-row") == str(share["row"])
        assert rows.nth(i).locator(".share").inner_text() == f"{round(100 * share['product'] / whole)} %"
    heads = heat.locator("thead button")
    assert heads.count() == len(columns)

    def lit() -> list[str]:
        return heat.locator(".token.lit").all_inner_texts()

    # By the pointer and by keys alone.
    assert lit() == []
    place = [one["asked"].lower() for one in why["shares"]].index("owl")
    rows.nth(place).locator("td.best").hover()
    assert [one.lower() for one in lit()] == ["owl", "owl"]
    page.mouse.move(1, 1)
    assert lit() == []
    rows.nth(place).locator("th button").focus()
    assert [one.lower() for one in lit()] == ["owl", "owl"]
    heads.first.focus()
    assert len(lit()) >= 2
    page.keyboard.press("Tab")
    page.get_by_role("searchbox").focus()
    assert lit() == []
    # The query as it was asked, the passage with what is found in it, in characters though some are two units.
    texts = heat.locator(".texts p:not(.label)")
    assert "Owl hunts at night" in texts.nth(0).inner_text()
    assert "🐦 owl hunts by the river" in texts.nth(1).inner_text()


def test_what_an_approximate_search_missed_is_one_click_away(birds: Server, visit: Visits) -> None:
    page = visit(birds).page
    kept: list[dict[str, Any]] = []

    def change(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        answer = route.fetch().json()
        kept.append(body)
        if not body.get("exact"):
            # As if it had not found the second, and had the others in another order.
            hits = answer["hits"]
            answer["hits"] = [hits[0], hits[3], hits[2], {**hits[0], "id": "other", "title": "Another"}]
        route.fulfill(json=answer)

    page.route("**/search", change)
    page.goto(f"{birds.url}/?c=birds&q=owl+hunts+at+night&k=4")
    button = page.get_by_role("button", name="Compare with exact search")
    button.focus()
    page.keyboard.press("Enter")
    missed = page.locator(".missed")
    expect(missed).to_contain_text("Of exact search’s 4 hits it missed 1, and has 1 at another place")
    exact = birds.search("birds", query="owl hunts at night", k=4, exact=True, weights=kept[1]["weights"])["hits"]
    expect(missed.locator("li")).to_have_text(
        [f"+ 2 {exact[1]['title']}", re.compile(rf"2 → 4 {exact[3]['title']}"), "− 4 Another"]
    )
    assert kept[1]["exact"] is True
    assert kept[1]["weights"]


def test_nothing_missed_is_said_so(birds: Server, visit: Visits) -> None:
    visited = visit(birds)
    page = visited.go(c="birds", q="owl hunts at night", k="5", mode="semantic")
    page.get_by_role("button", name="Compare with exact search").click()
    expect(page.locator(".missed")).to_contain_text("Nothing missed")
    # An exact search, and one by words, which is exact, have nothing to compare.
    for more in ({"exact": "1"}, {"mode": "lexical"}):
        page = visited.go(c="birds", q="owl", **more)
        expect(page.locator(".hit").first).to_be_visible()
        assert page.get_by_role("button", name="Compare with exact search").count() == 0
    page = visited.go(c="birds", q="owl", mode="semantic")
    expect(page.locator(".hit").first).to_be_visible()
    page.route("**/search", lambda route: route.abort())
    page.get_by_role("button", name="Compare with exact search").click()
    expect(page.locator(".missed")).to_contain_text("It may have stopped, or the network is down")
    expect(page.get_by_role("button", name="Compare with exact search")).to_be_enabled()
    visited.expected = ("ERR_FAILED",)


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_reasons_are_readable_and_fit(birds: Server, visit: Visits, options: dict[str, Any]) -> None:
    page = visit(birds, **options).go(c="birds", q="owl hunts at night in the forest by the river " * 3, k="3")
    hit = open_reasons(page)
    expect(hit.locator(".heat")).to_be_visible()
    found = page.evaluate(CONTRASTS)
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}
    assert {"TD.best dark", "TD.share"} <= set(found)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
