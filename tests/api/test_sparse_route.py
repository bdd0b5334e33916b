"""Sparse vectors over HTTP: written, read back, searched, fused and explained; what is none is refused where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.api.schemas.searches import SearchAnswer

ROWS: dict[str, dict[int, float]] = {"a": {3: 1.0, 9: 0.5}, "b": {9: 2.0}, "c": {}, "d": {3: 0.25, 70_000: 1.5}}
TEXTS = {"a": "read a zip archive", "b": "send mail", "c": "parse arguments", "d": "zip files"}


def body(weights: dict[int, float]) -> dict[str, Any]:
    return {"indices": list(weights), "values": list(weights.values())}


@pytest.fixture(scope="module")
def sparse(client: httpx.Client) -> str:
    made = client.post("/v1/collections", json={"name": "sparse", "encoder": {"model": "words"}, "sparse": {}})
    assert (made.status_code, made.json()["sparse"]) == (201, {"model": None})
    documents = [{"id": name, "text": TEXTS[name], "sparse_vector": body(own)} for name, own in ROWS.items()]
    del documents[2]["sparse_vector"]
    client.post("/v1/collections/sparse/documents", json={"documents": documents}).raise_for_status()
    return "/v1/collections/sparse"


def ask(client: httpx.Client, at: str, **asked: Any) -> SearchAnswer:
    answer = client.post(f"{at}/search", json=asked)
    assert answer.status_code == 200, answer.text
    return SearchAnswer.model_validate_json(answer.content, strict=True, extra="forbid")


def test_a_sparse_vector_alone_finds_by_inner_products(client: httpx.Client, sparse: str) -> None:
    found = ask(client, sparse, sparse_vector=body({9: 1.0, 3: 2.0}))
    assert (found.mode, found.exact, [(hit.id, hit.score) for hit in found.hits]) == (
        "sparse",
        True,
        [("a", 2.5), ("b", 2.0), ("d", 0.5)],
    )
    assert found.total is not None
    assert found.total.count == 3


def test_a_text_and_a_sparse_vector_are_fused_and_explained(client: httpx.Client, sparse: str) -> None:
    found = ask(client, sparse, query="zip archive", sparse_vector=body({9: 1.0, 3: 2.0}), explain=True)
    assert found.mode == "hybrid"
    assert found.weights is not None
    assert found.weights.keys() == {"words", "sparse", "tokens", "pooled"}
    for hit in found.hits:
        assert hit.explanation is not None
        sides = {side.side: side for side in hit.explanation.sides}
        assert sum(side.weight * side.standard for side in sides.values()) == pytest.approx(hit.score, abs=1e-6)
        assert sum(part.score for part in hit.explanation.indices) == pytest.approx(sides["sparse"].score)
        assert (hit.explanation.ranks["sparse"] is None) == (hit.id == "c")
    weights = {"sparse": 1.0}
    by_it = ask(client, sparse, query="zip archive", sparse_vector=body({9: 1.0, 3: 2.0}), weights=weights)
    assert [hit.id for hit in by_it.hits] == ["a", "b", "d", "c"]
    batch = client.post(
        f"{sparse}/search/batch",
        json={"searches": [{"query": "zip archive"}, {"sparse_vector": body({9: 1.0})}]},
    ).json()["results"]
    assert [one["mode"] for one in batch] == ["hybrid", "sparse"]
    assert "sparse" not in batch[0]["weights"]


def test_more_like_a_document_by_its_sparse_vector(client: httpx.Client, sparse: str) -> None:
    # 1 at 3, and .5 - .2 * 2 = .1 at 9.
    like = {"positive": ["a"], "negative": ["b"]}
    found = ask(client, sparse, like=like, mode="sparse")
    assert [(hit.id, hit.score) for hit in found.hits] == [("d", 0.25)]
    named = ask(client, sparse, like={**like, "include_examples": True}, mode="sparse")
    assert [hit.id for hit in named.hits] == ["a", "d", "b"]
    assert [hit.score for hit in named.hits] == pytest.approx([1.05, 0.25, 0.2])
    fused = ask(client, sparse, like=like)
    assert fused.mode == "hybrid"
    assert fused.weights is not None
    assert fused.weights.keys() == {"words", "sparse", "tokens", "pooled"}


def test_they_are_read_back_as_they_came(client: httpx.Client, sparse: str) -> None:
    read = client.get(f"{sparse}/documents/d", params={"include": ["vectors"]}).json()
    assert read["sparse_vector"] == body(ROWS["d"])
    assert "sparse_vector" not in client.get(f"{sparse}/documents/c", params={"include": ["vectors"]}).json()
    assert "sparse_vector" not in client.get(f"{sparse}/documents/d").json()
    (hit, *_) = ask(client, sparse, sparse_vector=body({70_000: 1.0}), include=["vectors"]).hits
    assert hit.sparse_vector is not None
    assert hit.sparse_vector.model_dump() == body(ROWS["d"])


def test_weights_of_zero_are_left_out_and_order_is_free(client: httpx.Client, sparse: str) -> None:
    given = {"indices": [8, 2, 5], "values": [1, 0, 0.5]}
    client.put(f"{sparse}/documents/zero", json={"text": "none", "sparse_vector": given}).raise_for_status()
    read = client.get(f"{sparse}/documents/zero", params={"include": ["vectors"]}).json()
    assert read["sparse_vector"] == {"indices": [5, 8], "values": [0.5, 1.0]}
    client.delete(f"{sparse}/documents/zero").raise_for_status()


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ([], ""),
        ({"indices": [1]}, "/values"),
        ({"indices": [1], "values": [1], "more": 1}, "/more"),
        ({"indices": [1, 2], "values": [1]}, "/values"),
        ({"indices": [1, 1], "values": [1, 1]}, "/indices"),
        ({"indices": [-1], "values": [1]}, "/indices/0"),
        ({"indices": [2**31], "values": [1]}, "/indices/0"),
        ({"indices": [True], "values": [1]}, "/indices/0"),
        ({"indices": [1.0], "values": [1]}, "/indices/0"),
        ({"indices": ["1"], "values": [1]}, "/indices/0"),
        ({"indices": [1, 2], "values": [1, -0.5]}, "/values/1"),
        ({"indices": [1], "values": [1e39]}, "/values/0"),
        ({"indices": [1], "values": [None]}, "/values/0"),
        ({"indices": 1, "values": [1]}, "/indices"),
    ],
)
def test_what_is_no_sparse_vector_is_refused_where_it_is(
    client: httpx.Client, sparse: str, value: Any, at: str
) -> None:
    refused = client.post(f"{sparse}/search", json={"sparse_vector": value})
    written = client.put(f"{sparse}/documents/x", json={"text": "x", "sparse_vector": value})
    for answer in (refused, written):
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/sparse_vector{at}")
    assert client.get(f"{sparse}/documents/x").status_code == 404


@pytest.mark.parametrize(
    ("asked", "at"),
    [
        ({"sparse_vector": body({1: 1.0}), "mode": "semantic"}, "/sparse_vector"),
        ({"query": "a", "sparse_vector": body({1: 1.0}), "mode": "lexical"}, "/mode"),
        ({"sparse_vector": body({1: 1.0}), "mode": "hybrid"}, "/vector"),
        ({"query": "a", "mode": "sparse"}, "/query"),
        ({"query": "a", "weights": {"sparse": 1}}, "/weights/sparse"),
        ({"sparse_vector": body({1: 1.0}), "like": {"positive": ["a"]}}, "/like"),
        ({"like": {"positive": [{"query": "a"}]}, "mode": "sparse"}, "/like/positive"),
        ({"sparse_vector": body({1: 1.0}), "rerank": {"model": "builtin"}}, "/rerank"),
    ],
)
def test_what_no_search_can_be_by_is_refused(client: httpx.Client, sparse: str, asked: dict[str, Any], at: str) -> None:
    refused = client.post(f"{sparse}/search", json=asked)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, at)


def test_a_collection_without_them_says_so(client: httpx.Client) -> None:
    made = client.post("/v1/collections", json={"name": "plain", "encoder": {"model": "words"}, "sparse": None}).json()
    assert made["sparse"] is None
    at = "/v1/collections/plain"
    refused = client.put(f"{at}/documents/x", json={"text": "x", "sparse_vector": body({1: 1.0})})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/sparse_vector")
    refused = client.post(f"{at}/search", json={"sparse_vector": body({1: 1.0})})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/sparse_vector")
    unknown = client.post(
        "/v1/collections", json={"name": "n", "encoder": {"model": "words"}, "sparse": {"model": "no"}}
    )
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/sparse/model")


def test_a_snapshot_has_them(client: httpx.Client, sparse: str, finished: Callable[[str], Any]) -> None:
    """From its own archive, of which an upload believes nothing: postings are made anew of rows that were checked."""
    query = body({9: 1.0, 3: 2.0})
    before = [(hit.id, hit.score) for hit in ask(client, sparse, sparse_vector=query).hits]
    more = {"documents": [{"id": "e", "text": "e", "sparse_vector": body({5: 1.0})}]}
    client.post(f"{sparse}/documents", params={"wait": "indexed"}, json=more).raise_for_status()
    client.put(f"{sparse}/documents/f", json={"text": "f", "sparse_vector": body({5: 2.0})}).raise_for_status()
    finished(client.post(f"{sparse}/snapshots").headers["location"])
    (taken,) = client.get(f"{sparse}/snapshots").json()["snapshots"]
    content = client.get(f"{sparse}/snapshots/{taken['id']}").content
    made = client.put("/v1/collections/again/restore", content=content, headers={"Content-Type": "application/x-tar"})
    assert made.status_code == 201
    for at in (sparse, "/v1/collections/again"):
        assert [(hit.id, hit.score) for hit in ask(client, at, sparse_vector=query).hits] == before
        assert [hit.id for hit in ask(client, at, sparse_vector=body({5: 1.0})).hits] == ["f", "e"]
