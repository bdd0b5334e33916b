"""Answers: callers' vectors as they were given, and no more bytes than one answer may have."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from made import OpenCatalogue

from app.errors import AnswerTooLarge
from app.ingest import write_documents
from app.search import Query, search
from app.types import Document

GIVEN = {"dense": [3.0, 4.0], "multi_vector": [[3.0, 4.0], [0.1, 0.0]]}


def asked(client: httpx.Client, address: str, **how: Any) -> list[dict[str, Any]]:
    """The document `a` by every way that leads to it."""
    params = {"include": ["vectors"], **how}
    vector = {"vector": [1, 0]} if "vector" in client.get(f"{address}/documents/a", params=params).json() else None
    body = {"k": 1, **(vector or {"vectors": [[1, 0]]}), **params}
    return [
        client.get(f"{address}/documents/a", params=params).json(),
        client.get(f"{address}/documents", params=params).json()["documents"][0],
        client.post(f"{address}/documents/get", json={"ids": ["a"], **params}).json()["documents"][0],
        client.post(f"{address}/search", json=body).json()["hits"][0],
        client.post(f"{address}/search/batch", json={"searches": [body]}).json()["results"][0]["hits"][0],
    ]


@pytest.mark.parametrize("kind", ["dense", "multi_vector"])
@pytest.mark.parametrize("wait", ["durable", "indexed"])
def test_vectors_come_back_as_they_were_given(
    client: httpx.Client, create: Callable[..., str], kind: str, wait: str
) -> None:
    address = create(encoder={"model": None, "kind": kind, "dim": 2})
    name = "vector" if kind == "dense" else "vectors"
    one = {"id": "a", "text": "a text", name: GIVEN[kind]}
    written = client.post(f"{address}/documents", params={"wait": wait}, json={"documents": [one]})
    assert written.status_code == 200, written.text
    expected = np.array(GIVEN[kind], np.float32)
    for document in asked(client, address):
        assert np.array_equal(np.array(document[name], np.float32), expected)
        assert "text" not in document
    for document in asked(client, address, vectors_format="base64"):
        assert document[name]["shape"] == list(expected.shape)
        assert base64.b64decode(document[name]["base64"]) == expected.tobytes()
        # It may be sent back as it is.
        again = {"documents": [{"id": "a", "text": "a text", name: document[name]}]}
        assert client.post(f"{address}/documents", json=again).json()["written"] == 1
    assert name not in client.get(f"{address}/documents/a").json()


def test_vectors_that_are_not_kept_come_back_as_they_are_stored(
    client: httpx.Client, create: Callable[..., str]
) -> None:
    address = create(encoder={"model": None, "kind": "dense", "dim": 2}, keep_vectors=False)
    client.post(f"{address}/documents", json={"documents": [{"id": "a", "vector": [3, 4]}]})
    for document in asked(client, address):
        assert document["vector"] == pytest.approx([0.6, 0.8])
    made = create()
    client.put(f"{made}/documents/a", json={"text": "a cat"})
    assert len(client.get(f"{made}/documents/a", params={"include": "vectors"}).json()["vectors"][0]) == 16


def test_what_may_be_included_is_named(client: httpx.Client, collection: str) -> None:
    for answer in (
        client.get(f"{collection}/documents/cat", params={"include": "all"}),
        client.get(f"{collection}/documents", params={"vectors_format": "hex"}),
        client.post(f"{collection}/documents/get", json={"ids": ["cat"], "include": ["all"]}),
    ):
        assert answer.status_code == 422, answer.text
    assert set(client.get(f"{collection}/documents/cat", params={"include": "metadata"}).json()) == {
        "id",
        "title",
        "metadata",
        "version",
    }


def test_an_answer_has_a_bound(serve: Callable[..., Any]) -> None:
    server = serve(max_answer_bytes=20_000)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}})
        address = "/v1/collections/c"
        texts = {f"d{i:02}": f"cat {i} " + "x" * 3_000 for i in range(30)}
        documents = [{"id": id, "text": text} for id, text in texts.items()]
        assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
        # A listing stops early, and goes on from there.
        listed: dict[str, str] = {}
        cursor, pages = None, 0
        while pages == 0 or cursor is not None:
            params = {"limit": 100, **({} if cursor is None else {"cursor": cursor})}
            page = client.get(f"{address}/documents", params=params)
            assert len(page.content) < 25_000
            listed.update((one["id"], one["text"]) for one in page.json()["documents"])
            cursor, pages = page.json()["next"], pages + 1
        assert (listed, pages) == (texts, 5)
        whole = client.get(f"{address}/documents", params={"limit": 100, "include": "metadata"}).json()
        assert (len(whole["documents"]), whole["next"]) == (30, None)
        many = {"ids": list(texts)}
        for path, body in (
            ("documents/get", many),
            ("search", {"query": "cat", "k": 30}),
            # Two that fit alone.
            ("search/batch", {"searches": [{"query": "cat", "k": 5}] * 2}),
            ("search", {"query": "cat", "k": 30, "include": ["vectors"]}),
        ):
            refused = client.post(f"{address}/{path}", json=body)
            assert (refused.status_code, refused.json()["code"]) == (422, "answer_too_large"), refused.text
            assert "20,000 bytes" in refused.json()["detail"]
            assert "include" in refused.json()["detail"]
        for path, body in (
            ("documents/get", {"ids": list(texts)[:5]}),
            ("documents/get", {**many, "include": []}),
            ("search", {"query": "cat", "k": 5}),
            ("search", {"query": "cat", "k": 30, "include": ["metadata"]}),
        ):
            assert client.post(f"{address}/{path}", json=body).status_code == 200
        # One document is always answered.
        client.put(f"{address}/documents/large", json={"text": "y" * 50_000})
        assert len(client.get(f"{address}/documents/large").json()["text"]) == 50_000
        assert len(client.get(f"{address}/documents?cursor=d29").json()["documents"][0]["text"]) == 50_000


@pytest.mark.slow
def test_memory_for_an_answer_is_bounded_by_its_bytes(open_catalogue: OpenCatalogue) -> None:
    most = 2**20
    collection = open_catalogue(max_answer_bytes=most).create("c", model="words", kind="dense")
    for start in range(0, 200, 20):
        write_documents(collection, [Document(f"d{i:03}", "cat " + "x" * 200_000) for i in range(start, start + 20)])
    ids = [f"d{i:03}" for i in range(200)]
    search(collection, Query("cat", k=1, exact=True))

    def refused(work: Callable[[], Any]) -> None:
        with pytest.raises(AnswerTooLarge):
            work()

    every: list[Callable[[], Any]] = [
        lambda: collection.listing(None, 200),
        lambda: refused(lambda: collection.get_many(ids)),
        lambda: refused(lambda: search(collection, Query("cat", k=200, exact=True))),
        lambda: search(collection, Query("cat", k=200, exact=True, include=frozenset())),
    ]
    for work in every:
        tracemalloc.start()
        try:
            work()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # All texts have 40 MB.
        assert peak < 4 * most


def test_parsing_counts_as_memory(serve: Callable[..., Any]) -> None:
    """A body of small numbers takes forty times its bytes while it is parsed; base64 takes its own."""
    server = serve(max_buffered_bytes=4_000_000)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        encoder = {"model": None, "kind": "dense", "dim": 1_000}
        client.post("/v1/collections", json={"name": "c", "encoder": encoder})
        address = "/v1/collections/c/documents"
        few = [{"id": f"d{i}", "vector": [1] * 1_000} for i in range(20)]
        assert client.post(address, json={"documents": few}).status_code == 200
        many = [{"id": f"d{i}", "vector": [1] * 1_000} for i in range(400)]
        refused = client.post(address, json={"documents": many})
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
        assert "base64" in refused.json()["detail"]
        packed = base64.b64encode(np.ones(1_000, "<f4").tobytes()).decode()
        short = {"base64": packed, "dtype": "float32", "shape": [1_000]}
        answer = client.post(address, json={"documents": [{"id": f"d{i}", "vector": short} for i in range(400)]})
        assert answer.status_code == 200, answer.text
