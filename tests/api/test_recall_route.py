"""Measured recall over HTTP."""

from __future__ import annotations

from collections.abc import Callable
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
    assert (read.queries, read.drawn, read.candidates, read.by_length) == (2, False, 1, [])
    read = TypeAdapter(Recall).validate_json(client.post(f"{collection}/recall", json=body | {"lengths": [1]}).content)
    assert [(one.words, one.queries, one.candidates) for one in read.by_length] == [(1, 2, 1)]


def test_recall_is_told_by_length(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create(encoder={"model": "words"})
    text = "one two three four five six seven eight nine ten eleven twelve thirteen"
    documents = [{"id": str(i), "title": f"title{i} of {i}", "text": f"{text} {i}"} for i in range(4)]
    client.post(f"{address}/documents", json={"documents": documents})

    def lengths(**asked: Any) -> Any:
        answer = client.post(f"{address}/recall", json={"k": 2, "queries": 3, **asked})
        assert answer.status_code == 200, answer.text
        return [(one["words"], one["queries"], one["recall"]) for one in answer.json()["by_length"]]

    assert lengths() == [(1, 3, 1.0), (3, 3, 1.0), (12, 3, 1.0)]
    assert lengths(lengths=[2, 30]) == [(2, 3, 1.0)]
    assert lengths(lengths=[]) == []
    own = create(encoder={"model": None, "kind": "dense", "dim": 2})
    client.post(f"{own}/documents", json={"documents": [{"id": "a", "text": "a", "vector": [1, 2]}]})
    assert client.post(f"{own}/recall", json={}).json()["by_length"] == []
    refused = client.post(f"{own}/recall", json={"lengths": [1]})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/lengths")


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
        ({"lengths": [0]}, "/lengths/0"),
        ({"lengths": [33]}, "/lengths/0"),
        ({"lengths": [1] * 9}, "/lengths"),
        ({"lengths": None}, "/lengths"),
        ({"lengths": 1}, "/lengths"),
    ],
)
def test_what_cannot_be_is_pointed_at(
    client: httpx.Client, collection: str, body: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{collection}/recall", json=body)
    assert answer.status_code == 422
    assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"])
