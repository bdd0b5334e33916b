"""Measured recall over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from app.measure.recall import Recall


def test_drawn_queries_are_measured(client: httpx.Client, collection: str) -> None:
    answer = client.post(f"{collection}/recall", json={"k": 2, "queries": 3})
    assert answer.status_code == 200
    read = TypeAdapter(Recall).validate_json(answer.content, strict=True, extra="forbid")
    # Fewer documents than candidates: the approximate path scores them all.
    assert (read.k, read.queries, read.drawn, read.recall, read.worst) == (2, 3, True, 1.0, 1.0)
    assert read.approximate_ms > 0
    assert read.exact_ms > 0


def test_given_queries_are_measured(client: httpx.Client, collection: str) -> None:
    body = {"k": 1, "queries": [{"query": "cat"}, {"query": "dog"}], "candidates": 1}
    read = TypeAdapter(Recall).validate_json(client.post(f"{collection}/recall", json=body).content)
    assert (read.queries, read.drawn, read.candidates) == (2, False, 1)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"queries": 0}, "/queries"),
        ({"queries": []}, "/queries"),
        ({"queries": [{}]}, "/queries"),
        ({"queries": [{"query": "a", "vectors": [[1]]}]}, "/queries"),
        ({"queries": [{"vectors": [[1.0, 2.0]]}]}, "/queries/0/vectors"),
        ({"k": 0}, "/k"),
        ({"candidates": True}, "/candidates"),
        ({"target": 1}, "/target"),
    ],
)
def test_what_cannot_be_is_pointed_at(
    client: httpx.Client, collection: str, body: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{collection}/recall", json=body)
    assert answer.status_code == 422
    assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"])
