"""Boosts over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.api.schemas.searches import SearchAnswer


@pytest.mark.parametrize("mode", ["semantic", "dense", "lexical", "hybrid"])
def test_a_boost_lifts_a_document_and_is_explained(client: httpx.Client, collection: str, mode: str) -> None:
    body: dict[str, Any] = {"query": "cat mat dog hen", "mode": mode, "explain": True, "include": []}
    body["boosts"] = [
        {"field": "mass", "function": "value", "weight": 50},
        {"filter": {"legs": {"eq": 4}}, "weight": 0.5},
    ]
    answer = client.post(f"{collection}/search", json=body)
    read = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert read.hits[0].id == "hen"
    for hit in read.hits:
        told = hit.explanation
        assert told is not None
        if mode == "hybrid":
            base = sum(one.weight * one.standard for one in told.sides)
        else:
            base = sum(one.score for one in told.terms) or sum(one.product for one in told.shares)
        assert hit.score == pytest.approx(base + sum(one.score for one in told.boosts), abs=1e-5)
        assert [one.value for one in told.boosts] == ([2, 0] if hit.id == "hen" else [0, 1])
    (batched,) = client.post(f"{collection}/search/batch", json={"searches": [body]}).json()["results"]
    assert [hit["id"] for hit in batched["hits"]] == [hit.id for hit in read.hits]


def test_a_boost_by_what_no_document_has_is_warned_of(client: httpx.Client, collection: str) -> None:
    body = {"query": "cat", "boosts": [{"field": "year", "decay": {"origin": "2026-05-01", "scale": 30}, "weight": 1}]}
    answer = client.post(f"{collection}/search", json=body).json()
    assert "'year'" in answer["warnings"][0]["message"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"query": "cat", "boosts": []}, "/boosts"),
        ({"query": "cat", "boosts": None}, "/boosts"),
        ({"query": "cat", "boosts": [{"filter": {"legs": {"is": 1}}, "weight": 1}]}, "/boosts/0/filter/legs/is"),
        ({"query": "cat", "boosts": [{"field": "legs", "function": "eval", "weight": 1}]}, "/boosts/0/function"),
        ({"query": "cat", "boosts": [{"field": "legs", "function": "sqrt", "weight": 1e9}]}, "/boosts/0/weight"),
        ({"mode": "browse", "boosts": [{"field": "legs", "function": "sqrt", "weight": 1}]}, "/boosts"),
    ],
)
def test_boosts_that_cannot_be(client: httpx.Client, collection: str, body: dict[str, Any], pointer: str) -> None:
    answer = client.post(f"{collection}/search", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
