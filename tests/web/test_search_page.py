"""Searching in the page, in a real browser against a real server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect
from web_pages import HOSTILE, Server, Visits, state_of

pytestmark = pytest.mark.browser


def query_box(page: Page) -> Locator:
    return page.get_by_role("searchbox", name="Search by words and meaning")


def titles(page: Page) -> Locator:
    return page.get_by_role("list", name="Hits").get_by_role("heading")


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def test_typing_shows_ranked_hits_with_scores(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals")
    query_box(page).press_sequentially("dog sleeps at night")
    expect(status(page)).to_have_text("6 hits of 6, approximate")
    truth = server.search("animals", query="dog sleeps at night")["hits"]
    assert [hit["id"] for hit in truth][:2] == ["dog", "cat"]
    expect(titles(page).nth(0)).to_have_text("Dog")
    expect(titles(page).nth(1)).to_have_text("Cat")
    # The hen has no title: its id stands for it.
    expect(titles(page).filter(has_text=re.compile("^hen$"))).to_have_count(1)
    shown = page.locator(".score").all_text_contents()
    assert all(re.fullmatch(r"score -?\d+\.\d{3}", one) for one in shown)
    # Each search moves the weights of words and meaning a little.
    scores = [float(one.removeprefix("score ")) for one in shown]
    assert scores == pytest.approx([hit["score"] for hit in truth], abs=0.05)
    dog = page.locator(".hit").first
    expect(dog.locator(".snippet")).to_have_text("a dog sleeps at night")
    expect(dog.locator("dl")).to_have_text("legs4loudtrue")


def test_an_alias_is_searched_under_its_own_name(server: Server, visit: Visits) -> None:
    assert server.client.put("/v1/aliases/live", json={"collection": "animals"}).is_success
    try:
        page = visit(server).go(c="live", q="dog")
        expect(status(page)).to_have_text("6 hits of 6, approximate")
        box = page.get_by_role("combobox", name="Collection")
        expect(box).to_have_value("live")
        expect(box.get_by_role("option", name="live — 6 documents")).to_have_count(1)
    finally:
        assert server.client.delete("/v1/aliases/live").is_success


def test_the_time_of_each_stage_is_shown(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="dog")
    expect(page.locator("#total")).to_have_text(re.compile(r"^total [\d.]+ m?s$"))
    stages = [name.removesuffix("_ms") for name in server.search("animals", query="dog")["stages"]]
    assert {"encode", "candidates", "rescore"} <= set(stages)
    assert page.locator(".legend dt").all_inner_texts() == [*stages, "network"]
    for text in page.locator(".legend dd").all_inner_texts():
        assert re.fullmatch(r"[\d.]+ m?s", text)
    widths = page.locator(".bar").evaluate("bar => [...bar.children].map(one => one.getBoundingClientRect().width)")
    assert len(widths) == len(stages) + 2
    assert sum(widths) == pytest.approx(page.locator(".bar").bounding_box()["width"], abs=2 * len(widths))  # type: ignore[index]


def test_times_and_numbers_are_those_of_the_answer(server: Server, visit: Visits) -> None:
    page = visit(server).page
    answer = {
        "hits": [{"id": "a", "score": -1.5, "title": "", "text": ""}],
        "took_ms": 1234.5,
        "stages": {"encode_ms": 1200.0, "filter_ms": 0.001, "candidates_ms": 0.25, "rescore_ms": 34.0},
        "exact": True,
        "generation": 1,
    }
    page.route("**/search", lambda route: route.fulfill(json=answer))
    page.goto(f"{server.url}/?c=animals&q=x")
    expect(page.locator("#total")).to_have_text("total 1.2 s")
    expect(status(page)).to_have_text("1 hit of 6, exact")
    assert page.locator(".legend dd").all_inner_texts()[:4] == ["1.2 s", "0 ms", "0.25 ms", "34.0 ms"]
    expect(page.locator(".score")).to_have_text("score -1.500")


def test_another_collection_is_chosen(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="oak needles")
    expect(status(page)).to_have_text("6 hits of 6, approximate")
    choice = page.get_by_role("combobox", name="Collection")
    assert choice.locator("option").all_inner_texts() == [
        "a-vectors — 1 document",
        "a-void — 0 documents",
        "animals — 6 documents",
        "broken — quarantined",
        "plants — 2 documents",
    ]
    choice.select_option("plants")
    expect(status(page)).to_have_text("2 hits of 2, approximate")
    assert set(titles(page).all_inner_texts()) == {"oak", "fir"}
    assert state_of(page) == {"c": "plants", "q": "oak needles"}


def test_options_are_sent_and_remembered(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="sleeps")
    expect(titles(page)).to_have_count(6)
    page.get_by_role("spinbutton", name="Hits").fill("2")
    page.get_by_role("spinbutton", name="Hits").press("Enter")
    expect(titles(page)).to_have_count(2)
    page.get_by_role("checkbox", name="Exact").check()
    expect(status(page)).to_have_text("2 hits of 6, exact")
    page.get_by_role("button", name="Filter").click()
    box = page.get_by_role("textbox", name="Filter on metadata")
    expect(box).to_be_focused()
    box.fill('{"loud": {"eq": true}}')
    box.press("Enter")
    expect(status(page)).to_have_text("1 hit, exact")
    assert titles(page).all_inner_texts() == ["Dog"]
    box.fill('{"legs": {"gt": 9}}')
    box.press("Enter")
    expect(status(page)).to_have_text("No document passes the filter")
    state = {"c": "animals", "q": "sleeps", "k": "2", "exact": "1", "filter": '{"legs": {"gt": 9}}'}
    assert state_of(page) == state


def test_the_url_restores_everything(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="a cat", k="3", exact="1", filter='{"legs": {"eq": 4}}')
    expect(status(page)).to_have_text("2 hits, exact")
    assert titles(page).all_inner_texts() == ["Cat", "Dog"]
    expect(query_box(page)).to_have_value("a cat")
    expect(page.get_by_role("combobox", name="Collection")).to_have_value("animals")
    expect(page.get_by_role("spinbutton", name="Hits")).to_have_value("3")
    expect(page.get_by_role("checkbox", name="Exact")).to_be_checked()
    expect(page.get_by_role("textbox", name="Filter on metadata")).to_have_value('{"legs": {"eq": 4}}')
    expect(page).to_have_title("a cat · animals · Sheaf")


def test_back_and_forward_go_between_searches(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals")
    for query in ("cat mat", "dog night"):
        query_box(page).fill("")
        query_box(page).press_sequentially(query)
        query_box(page).press("Enter")
        expect(titles(page).first).to_have_text(query.split()[0].title())
    page.get_by_role("combobox", name="Collection").select_option("plants")
    expect(titles(page)).to_have_count(2)
    page.go_back()
    expect(titles(page).first).to_have_text("Dog")
    page.go_back()
    expect(titles(page).first).to_have_text("Cat")
    expect(query_box(page)).to_have_value("cat mat")
    page.go_back()
    expect(titles(page)).to_have_count(0)
    expect(query_box(page)).to_have_value("")
    page.go_forward()
    expect(titles(page).first).to_have_text("Cat")


def test_keys_alone_suffice(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="hunts mice")
    expect(titles(page)).to_have_count(6)
    expect(query_box(page)).not_to_be_focused()
    page.keyboard.press("/")
    expect(query_box(page)).to_be_focused()
    expect(query_box(page)).to_have_value("hunts mice")
    buttons = titles(page).get_by_role("button")
    page.keyboard.press("ArrowDown")
    expect(buttons.nth(0)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    expect(buttons.nth(2)).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("ArrowUp")
    expect(buttons.nth(0)).to_be_focused()
    expect(buttons.nth(0)).to_have_attribute("aria-expanded", "false")
    expect(page.locator(".hit").first).not_to_contain_text("until dawn")
    page.keyboard.press("Enter")
    expect(buttons.nth(0)).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".hit").first).to_contain_text("until dawn")
    page.keyboard.press("Escape")
    expect(buttons.nth(0)).to_have_attribute("aria-expanded", "false")
    expect(buttons.nth(0)).to_be_focused()
    page.keyboard.press("Escape")
    expect(query_box(page)).to_be_focused()
    for _ in range(9):
        page.keyboard.press("ArrowDown")
    expect(buttons.last).to_be_focused()
    expect(buttons.last).to_be_in_viewport()
    # In the box, j and k are letters.
    query_box(page).fill("")
    page.keyboard.type("jk/")
    expect(query_box(page)).to_have_value("jk/")


def test_an_opened_hit_shows_the_whole_document(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="owl hunts")
    expect(titles(page).first).to_have_text("Owl")
    owl = page.locator(".hit").first
    brief = owl.locator(".snippet").inner_text()
    assert brief.startswith("owl(night) hunts mice and hunts on")
    assert brief.endswith("…")
    assert 200 < len(brief) <= 321
    owl.locator(".snippet").click()
    whole = owl.locator(".text")
    assert whole.evaluate("one => one.textContent") == server.search("animals", query="owl hunts")["hits"][0]["text"]
    link = owl.get_by_role("link", name="owl")
    assert server.client.get(f"/{link.get_attribute('href')}").json()["title"] == "Owl"


def test_documents_are_text_and_nothing_of_them_runs(server: Server, visit: Visits) -> None:
    visited = visit(server)
    page = visited.go(c="animals", q="hostile <img src=x onerror=\"window.ran='query'\">")
    expect(titles(page).first).to_have_text(HOSTILE["title"])
    hit = page.locator(".hit").first
    expect(hit.locator(".snippet")).to_have_text(HOSTILE["text"])
    hit.get_by_role("button").click()
    expect(hit.locator(".text")).to_have_text(HOSTILE["text"])
    expect(hit.locator("dd")).to_have_text(HOSTILE["metadata"]["link"])
    link = hit.get_by_role("link")
    expect(link).to_have_text(HOSTILE["id"])
    assert server.client.get(f"/{link.get_attribute('href')}").json()["id"] == HOSTILE["id"]
    assert hit.locator("img, script, svg, b").count() == 0
    assert page.evaluate("window.ran") is None
    assert not [url for url in visited.requests if url.endswith("/x")]


def test_integers_of_64_bits_stay_exact(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="eggs", filter='{"serial": {"eq": 9007199254740993}}')
    expect(status(page)).to_have_text("1 hit, approximate")
    expect(page.locator(".hit dl")).to_have_text("legs2serial9007199254740993")


def test_a_bad_filter_is_explained_beside_it(server: Server, visit: Visits) -> None:
    visited = visit(server)
    page = visited.go(c="animals", q="cat", filter='{"legs": {"over": 3}}')
    alert = page.locator("#filter-error")
    expect(alert).to_contain_text("/legs/over: unknown operator")
    expect(titles(page)).to_have_count(0)
    assert visited.errors.pop().count("422") == 1
    box = page.get_by_role("textbox", name="Filter on metadata")
    expect(box).to_have_attribute("aria-invalid", "true")
    sent = [url for url in visited.requests if url.endswith("/search")]
    box.fill('{"legs": ')
    box.press("Enter")
    expect(alert).to_contain_text("not JSON")
    assert [url for url in visited.requests if url.endswith("/search")] == sent
    box.fill('{"legs": {"gt": 3}}')
    box.press("Enter")
    expect(titles(page)).to_have_count(2)
    expect(alert).to_be_empty()
    expect(box).to_have_attribute("aria-invalid", "false")


def test_an_error_shows_its_problem_details(server: Server, visit: Visits) -> None:
    visited = visit(server)
    page = visited.go(c="animals", q="cat", k="5000")
    problem = page.locator("#problem")
    expect(problem).to_contain_text("/k: expected 1000 or less")
    expect(problem).to_contain_text(re.compile(r"invalid · status 422 · request \w+"))
    expect(page.get_by_role("alert").filter(has_text="/k")).to_be_visible()
    assert visited.errors.pop().count("422") == 1
    page.get_by_role("spinbutton", name="Hits").fill("")
    page.get_by_role("button", name="Search").click()
    expect(problem).to_contain_text("/k: expected a number")


def test_what_is_typed_before_the_collections_are_there_is_asked_when_they_are(server: Server, visit: Visits) -> None:
    page = visit(server).page
    listing: list[Route] = []
    searches: list[str] = []
    page.route("**/v1/collections", lambda route: listing.append(route))
    page.on("request", lambda request: searches.append(request.post_data or "") if "/search" in request.url else None)
    page.clock.install()
    with page.expect_request("**/v1/collections"):
        page.goto(f"{server.url}/?c=animals")
    query_box(page).fill("dog night")
    query_box(page).press("Enter")
    # Longer than the page waits after a key.
    page.clock.fast_forward(1_000)
    assert (len(listing), searches, page.url) == (1, [], f"{server.url}/?c=animals")
    assert "no collection" not in (page.locator("main").text_content() or "").lower()
    with page.expect_response("**/search"):
        listing[0].continue_()
    expect(titles(page).first).to_have_text("Dog")
    expect(query_box(page)).to_have_value("dog night")
    assert [json.loads(one)["query"] for one in searches] == ["dog night"]
    assert page.url.endswith("q=dog+night")


def test_an_answer_that_comes_too_late_is_dropped(server: Server, visit: Visits) -> None:
    page = visit(server).page
    held: list[Route] = []
    failed: list[Request] = []
    page.on("requestfailed", lambda request: failed.append(request))

    def hold(route: Route) -> None:
        body: dict[str, Any] = json.loads(route.request.post_data or "")
        if body["query"] == "cat mat":
            held.append(route)
        else:
            route.continue_()

    page.route("**/search", hold)
    # So that a search begins by Enter alone, however long it is typed.
    page.clock.install(time=0)
    page.goto(f"{server.url}/?c=animals")
    expect(page.get_by_role("combobox", name="Collection").locator("option")).not_to_have_count(0)
    page.clock.pause_at(3_600_000)
    query_box(page).fill("cat mat")
    with page.expect_request("**/search"):
        query_box(page).press("Enter")
    query_box(page).fill("dog night")
    with page.expect_response("**/search"):
        query_box(page).press("Enter")
    expect(titles(page).first).to_have_text("Dog")
    assert len(held) == 1
    assert [request.post_data for request in failed] == [held[0].request.post_data]
    assert failed[0].failure == "net::ERR_ABORTED"
    assert page.locator("#hits").get_attribute("aria-busy") == "false"
