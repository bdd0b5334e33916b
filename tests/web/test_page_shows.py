"""The look of a hit in the page: the words and the sentence that were found, and why it has its score."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from test_page_looks import CONTRASTS
from web_pages import HOSTILE, PHONE, Server, Visits

pytestmark = pytest.mark.browser


def marks(page: Page, within: str) -> list[str]:
    return page.locator(f"{within} mark").all_text_contents()


def test_words_that_were_found_are_marked(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="owl hunting mice")
    first = page.locator(".hit").first
    expect(first.locator("h2")).to_have_text("Owl")
    assert marks(page, ".hit:first-child h2") == ["Owl"]
    found = marks(page, ".hit:first-child .snippet")
    assert found[:3] == ["owl", "hunts", "mice"]
    assert set(found) == {"owl", "hunts", "mice"}
    expect(first.locator(".snippet").first).to_contain_text(
        re.compile(r"^\s*owl.night.\s+hunts mice.*…\s*$", re.DOTALL)
    )
    first.get_by_role("button").click()
    text = server.search("animals", query="owl hunts")["hits"][0]["text"]
    assert first.locator(".text").evaluate("one => one.textContent") == text
    assert marks(page, ".hit:first-child .text")[:3] == ["owl", "hunts", "mice"]


def test_the_nearest_sentence_is_shown_where_no_word_is_found(server: Server, visit: Visits) -> None:
    text = (
        "𝔘 begins. " + "Nothing is here 🐦. " * 40 + "The 𝔘𝔫𝔦 wren & <i>cafe\u0301</i> sing. " + "No more of it. " * 40
    )
    page = visit(server).page
    start = text.index("The ")
    stop = start + len("The 𝔘𝔫𝔦 wren & <i>cafe\u0301</i> sing.")
    shown = {"by": "meaning", "field": "text", "start": start - 5, "stop": stop, "marked": "", "spans": []}
    shown["spans"] = [{"start": start, "stop": stop, "terms": []}]
    hit = {"id": "a", "score": 1, "title": "", "text": text, "highlights": [shown]}
    answer = {"hits": [hit], "took_ms": 1, "stages": {}, "exact": False, "generation": 1, "mode": "semantic"}
    page.route("**/search", lambda route: route.fulfill(json=answer))
    page.goto(f"{server.url}/?c=animals&q=x")
    # Places count characters, not units of JavaScript's.
    expect(page.locator(".snippet mark")).to_have_text(text[start:stop])
    assert page.locator(".snippet").evaluate("one => one.textContent") == f"…{text[start - 5 : stop]}…"
    assert page.locator(".snippet i").count() == 0


def test_of_a_text_with_pages_a_snippet_says_its_page(server: Server, visit: Visits) -> None:
    text = "𝔘 first.\fA second one.\fAnd a third one."
    page = visit(server).page
    start, word, stop = text.index("A second"), text.index("third"), len(text)
    shown = {"by": "words", "field": "text", "start": start, "stop": stop, "marked": ""}
    shown["spans"] = [{"start": word, "stop": word + 5, "terms": ["third"]}]
    hit = {"id": "a", "score": 1, "title": "", "text": text, "highlights": [shown]}
    answer = {"hits": [hit], "took_ms": 1, "stages": {}, "exact": False, "generation": 1, "mode": "lexical"}
    page.route("**/search", lambda route: route.fulfill(json=answer))
    page.goto(f"{server.url}/?c=animals&q=third")
    # The page of the word that was found, though the snippet begins on the one before.
    assert page.locator(".snippet").evaluate("one => one.textContent") == f"p. 3 …{text[start:]}"


def test_why_a_hit_has_its_score_is_told_when_it_is_asked(server: Server, visit: Visits) -> None:
    visited = visit(server)
    asked: list[dict[str, Any]] = []

    def note(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        route.continue_()

    visited.page.route("**/search", note)
    page = visited.go(c="animals", q="dog sleeps at night")
    page.locator(".hit h2 button").first.click()
    reasons = page.locator(".hit").first.locator("details")
    expect(reasons.locator("dd")).to_have_count(0)
    assert [one.get("explain") for one in asked] == [None]
    # By keys alone: the disclosure is one stop, and Escape closes the hit.
    summary = reasons.locator("summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(reasons.locator("dt").first).to_have_text("Words")
    assert [one.get("explain") for one in asked] == [None, True]
    said = dict(zip(reasons.locator("dt").all_inner_texts(), reasons.locator("dd").all_inner_texts(), strict=True))
    assert {"Words", "Meaning, by tokens", "Meaning, as a whole", "dog", "sleeps", "night", "Tokens"} <= set(said)
    assert re.search(r"dog → [dD]og (1\.00|0\.99)", said["Tokens"])
    adds = [float(re.findall(r"adds (-?[\d.]+)", said[side])[0]) for side in list(said)[:3]]
    score = float((page.locator(".score").first.text_content() or "").removeprefix("score "))
    assert sum(adds) == pytest.approx(score, abs=0.003)
    # A second hit needs no second search.
    page.locator(".hit h2 button").nth(1).click()
    page.locator(".hit").nth(1).locator("summary").click()
    expect(page.locator(".hit").nth(1).locator("dt", has_text="Words")).to_be_visible()
    assert len(asked) == 2
    summary.focus()
    page.keyboard.press("Escape")
    expect(page.locator(".hit h2 button").first).to_be_focused()


def test_reasons_that_do_not_come_are_said_so(server: Server, visit: Visits) -> None:
    visited = visit(server)
    page = visited.go(c="animals", q="dog")
    page.locator(".hit h2 button").first.click()
    page.route("**/search", lambda route: route.abort())
    page.locator("summary").click()
    expect(page.locator("details")).to_contain_text("It may have stopped, or the network is down")
    visited.expected = ("ERR_FAILED",)


def test_nothing_of_a_document_runs_in_what_is_shown(server: Server, visit: Visits) -> None:
    page = visit(server).go(c="animals", q="hostile window ran script onload onerror img")
    hit = page.locator(".hit").first
    expect(hit.locator("h2")).to_have_text(HOSTILE["title"])
    assert {"hostile", "img", "onerror", "window", "ran"} <= set(marks(page, ".hit:first-child h2"))
    expect(hit.locator(".snippet").first).to_have_text(HOSTILE["text"])
    hit.get_by_role("button").click()
    hit.locator("summary").click()
    expect(hit.locator("dt", has_text="onload")).to_be_visible()
    assert hit.locator("img, script, svg, b").count() == 0
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_what_is_shown_is_readable_and_fits(server: Server, visit: Visits, options: dict[str, Any]) -> None:
    page = visit(server, **options).go(c="animals", q="wide cat sleeps " + "w" * 900)
    page.locator(".hit").first.wait_for()
    for button in page.locator(".hit h2 button").all():
        button.click()
    for summary in page.locator("summary").all():
        summary.click()
        assert (summary.bounding_box() or {})["height"] >= 16
    expect(page.locator(".hit details dt").filter(has_text=re.compile("^Tokens$"))).to_have_count(6)
    found = page.evaluate(CONTRASTS)
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}
    assert {"MARK.", "SUMMARY."} <= set(found)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
