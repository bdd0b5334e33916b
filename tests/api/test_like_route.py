"""More like these, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.api.schemas.searches import BatchAnswer, SearchAnswer


def test_more_like_a_document(client: httpx.Client, collection: str) -> None:
    body = {"like": {"positive": ["cat"]}, "explain": True, "highlights": {}, "passages": 1, "include": []}
    answer = client.post(f"{collection}/search", json=body)
    read = SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert {hit.id for hit in read.hits} == {"dog", "hen"}
    assert read.mode == "hybrid"
    assert read.weights
    assert "like_ms" in read.stages
    first = read.hits[0].explanation
    assert first is not None
    assert read.hits[0].score == pytest.approx(sum(one.weight * one.standard for one in first.sides), abs=1e-6)
    kept = client.post(f"{collection}/search", json={"like": {"positive": ["cat"], "include_examples": True}}).json()
    assert kept["hits"][0]["id"] == "cat"


def test_a_text_as_the_one_example_is_that_query(client: httpx.Client, collection: str) -> None:
    searches: list[dict[str, Any]] = []
    for mode in ("semantic", "dense", "lexical"):
        searches += [{"query": "cat night", "mode": mode}]
        searches += [{"like": {"positive": [{"query": "cat night"}]}, "mode": mode}]
    for start in (0, 2, 4):
        answer = client.post(f"{collection}/search/batch", json={"searches": searches[start : start + 2]})
        query, like = BatchAnswer.model_validate_json(answer.content).results
        assert [hit.id for hit in like.hits] == [hit.id for hit in query.hits]
        assert [hit.score for hit in like.hits] == pytest.approx([hit.score for hit in query.hits], abs=1e-6)


def test_less_like_an_example_is_further_down(client: httpx.Client, create: Callable[..., str]) -> None:
    collection = create(encoder={"model": None, "kind": "dense", "dim": 2})
    vectors = {"a": [1, 0], "b": [0.9, 0.1], "c": [0.8, 0.6], "d": [0, 1]}
    documents = [{"id": one, "vector": vector} for one, vector in vectors.items()]
    client.post(f"{collection}/documents", json={"documents": documents}).raise_for_status()
    like: dict[str, Any] = {"positive": ["c"]}
    answer = client.post(f"{collection}/search", json={"like": like}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["b", "a", "d"]
    like["negative"] = [{"vector": [1, 0]}]
    like["weight"] = 0.9
    answer = client.post(f"{collection}/search", json={"like": like, "mode": "semantic"}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["d", "b", "a"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"like": {"positive": ["cow"]}}, "/like/positive/0"),
        ({"like": {"positive": ["cat"], "negative": ["dog", "cow"]}}, "/like/negative/1"),
        ({"like": {"positive": []}}, "/like/positive"),
        ({"like": {"positive": ["cat"] * 65}}, "/like/positive"),
        ({"like": {}}, "/like/positive"),
        ({"like": None}, "/like"),
        ({"like": ["cat"]}, "/like"),
        ({"like": {"positive": ["cat"], "weight": -1}}, "/like/weight"),
        ({"like": {"positive": ["cat"], "weight": True}}, "/like/weight"),
        ({"like": {"positive": ["cat"], "less": ["dog"]}}, "/like/less"),
        ({"like": {"positive": ["cat"]}, "query": "dog"}, "/like"),
        ({"like": {"positive": ["cat"]}, "mode": "browse"}, "/mode"),
        ({"like": {"positive": ["cat"]}, "syntax": "query"}, "/syntax"),
        ({"like": {"positive": ["cat"]}, "rerank": {"model": "words"}}, "/rerank"),
        ({"like": {"positive": [{"vectors": [[1, 2]]}]}}, "/like/positive/0/vectors"),
        ({"like": {"positive": [{"vector": [1, 2]}]}}, "/like/positive/0/vector"),
    ],
)
def test_examples_that_cannot_be(client: httpx.Client, collection: str, body: dict[str, Any], pointer: str) -> None:
    answer = client.post(f"{collection}/search", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    if pointer.startswith("/like/positive/0") or pointer == "/like/negative/1":
        batched = client.post(f"{collection}/search/batch", json={"searches": [{"query": "cat"}, body]})
        assert batched.json()["errors"][0]["pointer"] == f"/searches/1{pointer}"


@pytest.mark.parametrize(
    ("example", "pointer"),
    [(1, ""), ("", ""), ("\n", ""), ({}, ""), ({"query": " "}, "/query"), ({"id": "cat"}, "/id"), (None, ""), ([], "")],
)
def test_an_example_that_is_none(client: httpx.Client, collection: str, example: Any, pointer: str) -> None:
    answer = client.post(f"{collection}/search", json={"like": {"positive": ["cat", example]}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/like/positive/1{pointer}"
