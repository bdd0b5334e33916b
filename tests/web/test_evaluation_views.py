"""Compare, Judge and Evaluate: what they show is what the service says, by keys alone, and addresses lead back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from web_pages import HOSTILE, Server, Visits

from app.evaluation.statistics import overlap

pytestmark = pytest.mark.browser
WORDS = "wren owl heron finch crane stork robin eagle swan kite rook dove gull teal".split()  # noqa: SIM905
NEST = "sings at dawn over water and builds its nest of reeds where nobody looks"
BIRDS: list[dict[str, Any]] = [
    *({"id": word, "title": word.title(), "text": f"the {word} {NEST}"} for word in WORDS),
    *(
        {"id": f"n{i}", "title": f"Notes {i}", "text": f"what sings at dawn over the water number {i}"}
        for i in range(12)
    ),
    HOSTILE,
]
ASKED = "which wren sings at dawn"
SMALL: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
ADDRESS = "/v1/collections/birds"


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("birds"), SHEAF_LOG_QUERIES="100")
    server.create("birds", BIRDS)
    queries = [{"id": word, "query": f"which {word} sings at dawn", "grades": {word: 3}} for word in WORDS]
    assert server.client.put(f"{ADDRESS}/judgements/people", json={"queries": queries}).status_code == 201
    # The first search compiles, which is not what a page waits for.
    server.search("birds", query=ASKED)
    server.search("birds", query=ASKED, mode="lexical")
    yield server
    server.end()


def state_of(page: Page) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def ids(server: Server, **way: Any) -> list[str]:
    return [hit["id"] for hit in server.search("birds", query=ASKED, k=10, **way)["hits"]]


def test_two_settings_side_by_side_say_what_moved(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(view="compare", c="birds", q=ASKED, b='{"mode":"lexical"}')
    left, right = page.get_by_label("Left", exact=True), page.get_by_label("Right", exact=True)
    expect(right.locator("li")).to_have_count(10)
    one, other = ids(birds), ids(birds, mode="lexical")
    titles = {document["id"]: document["title"] for document in BIRDS}
    for side, found in ((left, one), (right, other)):
        expect(side.locator(".name")).to_have_text([titles[id] for id in found])
    both = [id for id in one if id in other]
    moved = [id for id in both if one.index(id) != other.index(id)]
    said = f"Rank-biased overlap {overlap(one, other):.3f}. {len(both)} in both, {len(moved)} of them moved; "
    expect(page.get_by_role("status")).to_have_text(f"{said}{10 - len(both)} gained, {10 - len(both)} lost.")
    assert both
    assert len(both) < 10
    expect(page.locator(".lines line")).to_have_count(len(both))
    marks = ["new" if id not in one else f"{'↑' if one.index(id) > i else '↓'}{abs(one.index(id) - i)}" if one.index(id) != i else "=" for i, id in enumerate(other)]  # fmt: skip  # noqa: E501
    expect(right.locator(".mark")).to_have_text(marks)
    assert right.locator(".gained .unseen").first.inner_text() == "only on the right"
    # Another way on the left: the address has it, and the way back leads to the one before.
    page.get_by_label("Left: preset").select_option("Words")
    expect(page.get_by_role("status")).to_contain_text(
        "Rank-biased overlap 1.000. 10 in both, 0 of them moved; 0 gained"
    )
    assert state_of(page)["a"] == '{"mode":"lexical"}'
    page.go_back()
    expect(page.get_by_role("status")).to_contain_text(said)


def test_a_setting_that_cannot_be_is_told_and_what_is_hostile_is_text(birds: Server, visit: Visits) -> None:
    visited = visit(birds)
    page = visited.go(
        view="compare", c="birds", q="javascript alert hostile", a='{"mode":"lexical"}', b='{"mode":"lexical"}'
    )
    expect(page.locator(".name").first).to_have_text(HOSTILE["title"])
    assert page.evaluate("window.ran") is None
    assert page.locator(".compared img, .compared script").count() == 0
    visited.expected = ("422 (Unprocessable Entity)",)
    for written, said in (("{", r"/a: not JSON"), ("[]", r"/a: expected an object"), ('{"mode": "loud"}', r"/mode")):
        page.get_by_label("Left: JSON of the search").fill(written)
        page.get_by_label("Left: JSON of the search").press("Tab")
        expect(page.get_by_role("alert").filter(has_text=re.compile(said))).to_be_visible()
        expect(page.locator(".placed")).to_have_count(0)


def grades(server: Server, name: str) -> dict[tuple[str, str], int]:
    found = server.client.get(f"{ADDRESS}/judgements/{name}").json()["queries"]
    return {(one["id"], document): grade for one in found for document, grade in one["grades"].items()}


def test_hits_are_judged_by_keys_and_one_goes_on_where_one_stopped(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(view="judge", c="birds", of="text", q=f"{ASKED}\na stork over water", set="mine", n="6")
    status, name = page.get_by_role("status"), page.locator(".card h2")
    expect(status).to_have_text("1 of 6")
    asked, first = page.locator(".asked").inner_text(), name.inner_text()
    assert asked in (ASKED, "a stork over water")
    page.keyboard.press("3")
    expect(status).to_have_text("Answers it. 2 of 6")
    titles = {document["title"]: document["id"] for document in BIRDS}
    assert grades(birds, "mine") == {(asked, titles[first]): 3}
    page.keyboard.press("u")
    expect(status).to_have_text("Taken back. 1 of 6")
    expect(name).to_have_text(first)
    assert grades(birds, "mine") == {}
    page.keyboard.press("0")
    expect(status).to_have_text("Not relevant. 2 of 6")
    skipped = name.inner_text()
    page.keyboard.press("s")
    expect(status).to_have_text("Skipped. 3 of 6")
    page.get_by_role("button", name="2 Relevant").click()
    expect(status).to_have_text("Relevant. 4 of 6")
    assert sorted(grades(birds, "mine").values()) == [0, 2]
    # What was skipped comes again, what was judged does not.
    page.reload()
    expect(status).to_have_text("3 of 6")
    seen = []
    for place in range(3, 7):
        expect(status).to_contain_text(f"{place} of 6")
        seen.append(name.inner_text())
        page.keyboard.press("1")
    expect(status).to_contain_text("All 6 are judged or skipped.")
    assert first not in seen or asked != ASKED
    assert skipped
    assert len(grades(birds, "mine")) == 6
    page.get_by_role("link", name="Evaluate by this set").click()
    expect(page.get_by_role("combobox", name="Queries")).to_have_value("mine")
    # Digits that are typed into a field are no grades.
    page.goto(f"{birds.url}/?view=judge&c=birds&set=mine&n=6")
    expect(status).to_contain_text("1 of 6")
    page.get_by_role("spinbutton", name="Hits").fill("30")
    assert len(grades(birds, "mine")) == 6


def test_a_query_of_any_writing_is_judged_under_an_id(birds: Server, visit: Visits) -> None:
    long = "鷦鷯\t🦉 " * 60
    page = visit(birds).go(view="judge", c="birds", of="text", q=f"{long}\nan owl", set="written", n="3")
    expect(page.get_by_role("status")).to_have_text("1 of 3")
    page.keyboard.press("1")
    expect(page.get_by_role("status")).to_have_text("Marginal. 2 of 3")
    page.keyboard.press("1")
    expect(page.get_by_role("status")).to_have_text("Marginal. 3 of 3")
    kept = birds.client.get(f"{ADDRESS}/judgements/written").json()["queries"]
    assert {one["query"] for one in kept} == {long.strip(), "an owl"}


def test_what_was_searched_is_judged_and_nothing_to_judge_is_said(birds: Server, visit: Visits) -> None:
    page = visit(birds).go(view="judge", c="birds", of="latest", set="logged", n="5")
    expect(page.get_by_role("status")).to_have_text("1 of 5")
    for place in range(2, 6):
        page.keyboard.press("1")
        expect(page.get_by_role("status")).to_contain_text(f"{place} of 5")
    page.keyboard.press("1")
    expect(page.get_by_role("status")).to_contain_text("All 5 are judged or skipped.")
    assert len(grades(birds, "logged")) == 5


def test_an_evaluation_shows_means_intervals_and_the_queries_behind_them(birds: Server, visit: Visits) -> None:
    settings = [{"name": "all", "search": {}}, {"name": "pooled", "search": {"mode": "dense"}}]
    body = {"judgements": "people", "settings": settings, "measures": ["RR@10", "P@1"], "per_query": True}
    expected = birds.client.post(f"{ADDRESS}/evaluate", json=body).json()
    visited = visit(birds)
    page = visited.go(view="evaluate", c="birds", set="people", s=json.dumps(settings), m="RR@10, P@1")
    page.get_by_role("button", name="Evaluate").click()
    rows = page.get_by_role("region", name="Means").locator("tbody tr")
    expect(rows).to_have_count(2)
    for row, one in zip(rows.all(), expected["settings"], strict=True):
        value = one["measures"]["RR@10"]
        expect(row.locator("th")).to_have_text(one["name"])
        expect(row.locator("td").first).to_have_text(f"{value['mean']:.4f}")
        expect(row).to_contain_text(f"{value['low']:.3f} to {value['high']:.3f}")
        expect(row).to_contain_text(f"{100 * one['unjudged']:.0f} %")
        box, bar = row.locator("td:has(.interval)").bounding_box(), row.locator(".range").bounding_box()
        assert box is not None
        assert bar is not None
        assert box["x"] <= bar["x"] <= bar["x"] + bar["width"] <= box["x"] + box["width"] + 1
    (pair,) = [one for one in expected["differences"] if one["measure"] == "RR@10"]
    told = page.get_by_role("region", name="Differences").locator("tbody tr")
    expect(told).to_contain_text(f"{pair['p_corrected']:.4f}")
    values = {
        one["text"]: one["settings"]["pooled"]["values"]["RR@10"] - one["settings"]["all"]["values"]["RR@10"]
        for one in expected["per_query"]
    }
    differ = sorted((value for value in values.values() if value), reverse=True)
    assert differ
    bars = page.locator(".bars a")
    expect(bars).to_have_count(len(differ))
    shown = [str(one.get_attribute("aria-label")).rpartition(": ")[2].replace("−", "-") for one in bars.all()]
    assert [float(one) for one in shown] == [pytest.approx(value, abs=6e-4) for value in differ]
    # Another measure; its address shows the same again.
    page.get_by_role("combobox", name="Measure").select_option("P@1")
    expect(rows.first.locator("td").first).to_have_text(f"{expected['settings'][0]['measures']['P@1']['mean']:.4f}")
    page.reload()
    expect(page.get_by_role("combobox", name="Measure")).to_have_value("P@1")
    expect(rows).to_have_count(2)
    # By keys to a query, side by side.
    bars.first.focus()
    page.keyboard.press("ArrowRight")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == bars.nth(min(1, bars.count() - 1)).get_attribute("aria-label")
    page.keyboard.press("Enter")
    expect(page.locator(".placed").first).to_be_visible()
    assert state_of(page) == {"view": "compare", "c": "birds", "q": label.rpartition(": ")[0], "a": "{}", "b": '{"mode":"dense"}'}  # fmt: skip  # noqa: E501


def test_a_long_evaluation_is_a_task_that_the_address_holds(birds: Server, visit: Visits) -> None:
    settings = [{"name": str(i), "search": {"mode": "lexical"}} for i in range(8)]
    queries = [{"id": str(i), "query": f"{WORDS[i % 14]} {i}", "grades": {WORDS[i % 14]: 1}} for i in range(70)]
    assert birds.client.put(f"{ADDRESS}/judgements/many", json={"queries": queries}).status_code == 201
    page = visit(birds).go(view="evaluate", c="birds", set="many", s=json.dumps(settings), m="P@1")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.get_by_role("region", name="Means").locator("tbody tr")).to_have_count(8)
    assert state_of(page)["task"]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {urlsplit(request.url).path}"))
    page.reload()
    expect(page.get_by_role("region", name="Means").locator("tbody tr")).to_have_count(8)
    assert f"POST {ADDRESS}/evaluate" not in asked


def test_faults_of_an_evaluation_are_told(birds: Server, visit: Visits) -> None:
    visited = visit(birds)
    visited.expected = ("422 (Unprocessable Entity)", "404 (Not Found)")
    for state, said in (
        ({"s": "{}"}, "/settings: expected a list of settings"),
        ({"m": "speed"}, "/measures/0"),
        ({"set": "absent"}, "no judgements named absent"),
        ({"task": "absent"}, "there is no task"),
    ):
        page = visited.go(**{"view": "evaluate", "c": "birds", "set": "people", "run": "1", **state})
        expect(page.get_by_role("alert").filter(has_text=said)).to_be_visible()


VIEWS = [
    ({"view": "compare", "q": ASKED}, ".placed"),
    ({"view": "evaluate", "set": "people", "run": "1", "m": "RR@10"}, ".bars"),
    ({"view": "judge", "set": "people"}, ".grades"),
]


@pytest.mark.parametrize("options", [SMALL, {"color_scheme": "dark"}, {}], ids=["phone", "dark", "light"])
def test_views_fit_and_each_control_has_a_name(birds: Server, visit: Visits, options: dict[str, Any]) -> None:
    visited = visit(birds, **options)
    for state, shown in VIEWS:
        page = visited.go(c="birds", **state)
        expect(page.locator(shown).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []
        unnamed = "e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())"
        controls = page.locator("input, select, textarea, button, a").all()
        assert [control.evaluate("e => e.outerHTML") for control in controls if control.evaluate(unnamed)] == []
        # Cells and columns that scroll are reached by keys.
        for region in page.locator(".scrolls").all():
            assert region.get_attribute("tabindex") == "0"
