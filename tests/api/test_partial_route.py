"""Searches over HTTP whose time runs out, by a clock that the test moves: answers, log and metrics."""

from __future__ import annotations

import logging
from itertools import count
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.api.routes import searches
from app.api.schemas.searches import SearchAnswer
from app.compute.deadline import Deadline, deadline

LOOKS = 60


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the next requests may look at the time before theirs is over."""
    allowed = [10**6]

    def limited(until: float) -> Any:
        times = count(1)
        return deadline(Deadline(allowed[0], lambda: next(times)))

    monkeypatch.setattr(searches, "deadline", limited)
    return allowed


@pytest.fixture
def many(client: httpx.Client, collection: str) -> str:
    for start in range(0, 400, 20):
        more = [{"id": f"m{i}", "text": f"cat number {i}"} for i in range(start, start + 20)]
        assert client.post(f"{collection}/documents", json={"documents": more}).status_code == 200
    return collection


def counted(client: httpx.Client) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(s.value for family in families for s in family.samples if s.name == "sheaf_searches_partial_total")


def test_what_was_found_by_then(
    client: httpx.Client, many: str, looks: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    body = {"query": "cat", "exact": True, "partial": True, "timeout_ms": 1_000}
    whole = client.post(f"{many}/search", json=body).json()
    assert (whole["partial"], whole["coverage"], whole["exact"]) == (False, {"scored": 403, "of": 403}, True)
    before, statuses, partial = counted(client), set(), 0
    with caplog.at_level(logging.INFO, "app.api.edge.frame"):
        for looks[0] in range(LOOKS):
            answer = client.post(f"{many}/search", json=body)
            statuses.add(answer.status_code)
            if answer.status_code == 504:
                assert answer.json()["code"] == "search_timeout"
                continue
            read = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
            assert read.coverage is not None
            assert read.partial == (read.coverage.scored < 403)
            assert read.exact == (not read.partial)
            assert len(read.hits) == 10
            partial += bool(read.partial)
    assert statuses == {200, 504}
    assert partial
    assert counted(client) - before == partial
    noted = [r.fields for r in caplog.records if "partial" in getattr(r, "fields", {})]  # type: ignore[attr-defined]
    assert [fields["partial"] for fields in noted] == [1] * partial
    assert all(", 1 partial" in r.getMessage() for r in caplog.records if "partial" in getattr(r, "fields", {}))


def test_a_batch_says_it_of_each(client: httpx.Client, many: str, looks: list[int]) -> None:
    body = {"searches": [{"query": "cat", "exact": True, "partial": True}] * 2}
    found = []
    for looks[0] in range(LOOKS):
        answer = client.post(f"{many}/search/batch", json=body)
        if answer.status_code == 200:
            found.append([one["coverage"] for one in answer.json()["results"]])
    assert [{"scored": 403, "of": 403}, {"scored": 0, "of": None}] in found
    assert [{"scored": 403, "of": 403}] * 2 in found


def test_who_does_not_ask_is_told_nothing(client: httpx.Client, many: str, looks: list[int]) -> None:
    answer = client.post(f"{many}/search", json={"query": "cat"}).json()
    assert not {"partial", "coverage"} & set(answer)
    looks[0] = 3
    assert client.post(f"{many}/search", json={"query": "cat"}).status_code == 504
    assert client.post(f"{many}/search", json={"query": "cat", "partial": 1}).status_code == 422
