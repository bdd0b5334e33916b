"""Exports over HTTP: there and back, a fault midway, clients that leave, and how far ahead is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from running import Running

from app.api.service import EXPORTS
from app.api.streaming import Streamed
from app.store.layout import DATABASE

LINES = {"Content-Type": "application/x-ndjson"}
VALUES = {
    "text": "naïve \u2028 line",
    "empty": "",
    "yes": True,
    "no": False,
    "zero": 0,
    "one": 1.0,
    "small": 5e-324,
    "large": 2**63 - 1,
    "least": -(2**63),
    "third": 1 / 3,
    "tags": ["a", "ä\n", ""],
    "none": [],
}
WRITTEN: list[dict[str, Any]] = [
    {"id": "de", "title": "Straße", "text": 'Übermäßig große "Füße" im\r\nGärtchen.', "metadata": VALUES},
    {"id": "ja", "title": "日本語", "text": "すもももももももものうち。\u2029猫が眠る。\x85", "metadata": {"言": 1}},
    {"id": "a/b ?#%", "text": "a cat 🐈 sleeps", "metadata": {"n": -0.0}},
    {"id": "titled", "title": "only a title"},
]
WRITTEN[1]["metadata"] = {"lang": "日本語"}


def vector(i: int, dim: int = 4) -> list[float]:
    return [round(0.1 + (i * 7 + j * 3) % 11 / 3, 3) for j in range(dim)]


TEXT: dict[str, Any] = {"encoder": {"model": "words"}, "lexical": {"language": "german"}}
TOKENS: dict[str, Any] = {"encoder": {"model": None, "dim": 4}, "precision": "2bit"}
DENSE: dict[str, Any] = {"encoder": {"model": None, "kind": "dense", "dim": 4}, "similarity": "inner_product"}
SPARSE: dict[str, Any] = {"encoder": {"model": "words", "kind": "dense"}, "sparse": {}}


def documents(spec: dict[str, Any]) -> list[dict[str, Any]]:
    made = [dict(one) for one in WRITTEN] + [{"id": f"d{i}", "text": f"word{i} and word{i % 3}"} for i in range(12)]
    for i, one in enumerate(made):
        if spec is TOKENS:
            one["vectors"] = [vector(i), vector(i + 5)][: 1 + i % 2]
        if spec is DENSE:
            one["vector"] = vector(i)
        if spec is SPARSE and i % 4:
            one["sparse_vector"] = {"indices": [i % 5, 900 + i], "values": [0.1 * i, 1.5]}
    return made


ASKED = {
    "text": {"query": "word1 große Füße 猫", "mode": "hybrid"},
    "tokens": {"vectors": [vector(3), vector(8)]},
    "dense": {"vector": vector(3)},
    "sparse": {"query": "word2", "sparse_vector": {"indices": [1, 905], "values": [1.0, 0.3]}},
}


@pytest.mark.parametrize("form", ["numbers", "base64"])
@pytest.mark.parametrize(("which", "spec"), [("text", TEXT), ("tokens", TOKENS), ("dense", DENSE), ("sparse", SPARSE)])
def test_there_and_back(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any], which: str, spec: Any, form: str
) -> None:
    one, other = create(**spec), create(**spec)
    given = documents(spec)
    assert client.post(f"{one}/documents", json={"documents": given}).status_code == 200
    # Written again, so that ids, versions and places are in another order each.
    assert client.put(f"{one}/documents/d3", json={**given[7], "title": "Again"}).status_code == 200
    given.append({**given.pop(7), "title": "Again"})
    whole = client.get(f"{one}/export", params={"include": ["text", "metadata", "vectors"], "vectors_format": form})
    assert whole.headers["content-type"] == "application/x-ndjson"
    assert whole.headers["content-disposition"] == f'attachment; filename="{one.rpartition("/")[2]}.ndjson"'
    lines = [json.loads(line) for line in whole.content.removesuffix(b"\n").split(b"\n")]
    assert [line["id"] for line in lines] == [document["id"] for document in given]
    if form == "numbers":
        told = [{**{"title": "", "text": "", "metadata": {}}, **document} for document in given]
        if which == "text":
            assert json.dumps(lines, sort_keys=True) == json.dumps(told, sort_keys=True)
    accepted = client.post(f"{other}/import", content=whole.content, headers=LINES)
    assert finished(accepted.headers["location"])["state"] == "succeeded"
    parts = {"include": ["text", "metadata", "vectors"], "limit": 100}
    listed = [client.get(f"{address}/documents", params=parts).json() for address in (one, other)]
    assert len(listed[0]["documents"]) == len(given)
    assert json.dumps(listed[0]) == json.dumps(listed[1])
    body = {**ASKED[which], "exact": True, "k": 20}
    if which in ("text", "sparse"):
        # What is learned of queries is no part of an export.
        body["fusion"] = "reciprocal_rank"
    hits = [client.post(f"{address}/search", json=body).json()["hits"] for address in (one, other)]
    assert hits[0]
    assert hits[0] == hits[1]
    assert client.get(f"{other}/export", params=whole.request.url.params).content == whole.content


def test_what_is_asked_for(client: httpx.Client, collection: str, create: Callable[..., str]) -> None:
    def asked(**params: Any) -> list[Any]:
        return [json.loads(line) for line in client.get(f"{collection}/export", params=params).text.splitlines()]

    assert asked(filter='{"legs": {"eq": 2}}', include="text") == [
        {"id": "hen", "title": "", "text": "a hen lays eggs"}
    ]
    assert [one["id"] for one in asked()] == ["cat", "dog", "hen"]
    assert [one["id"] for one in asked(filter='{"legs": 4}')] == ["cat", "dog"]
    assert [one["id"] for one in asked(filter='{"legs": {"gt": 1, "lt": 4}}')] == ["hen"]
    # The encoder makes them again.
    assert asked(include=["text", "metadata", "vectors"]) == asked()
    empty = client.get(f"{create()}/export")
    assert (empty.status_code, empty.content) == (200, b"")
    head = client.head(f"{collection}/export")
    assert (head.status_code, head.headers["content-type"]) == (200, "application/x-ndjson")


@pytest.mark.parametrize(
    ("params", "pointer"),
    [({"filter": "{"}, "/filter"), ({"filter": '{"a": {"near": 1}}'}, "/filter/a/near"), ({"limit": "1"}, "/limit"),
     ({"include": "title"}, "/include/0"), ({"vectors_format": "hex"}, "/vectors_format")],
)  # fmt: skip
def test_bad_input(client: httpx.Client, collection: str, params: dict[str, str], pointer: str) -> None:
    answer = client.get(f"{collection}/export", params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_what_is_not_there(client: httpx.Client) -> None:
    assert client.get("/v1/collections/absent/export").json()["code"] == "collection_not_found"


@pytest.fixture
def large(serve: Callable[..., Running]) -> Iterator[tuple[Running, httpx.Client]]:
    """20 MB, more than a connection holds on its way."""
    server = serve()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        spec = {"name": "c", "encoder": {"model": None, "kind": "dense", "dim": 2}, "lexical": None}
        assert client.post("/v1/collections", json=spec).status_code == 201
        text = "x" * 100_000
        written = [{"id": f"d{i:03}", "text": text, "vector": [1, i]} for i in range(200)]
        assert client.post("/v1/collections/c/documents", json={"documents": written}).status_code == 200
        yield server, client


def test_a_fault_midway_does_not_look_like_an_end(
    large: tuple[Running, httpx.Client], caplog: pytest.LogCaptureFixture
) -> None:
    server, client = large
    with closing(sqlite3.connect(server.settings.indexes / "c" / DATABASE)) as other, other:
        assert other.execute("UPDATE documents SET text = 'flipped' WHERE id = ?", (b"d150",)).rowcount == 1
    got: list[int] = []
    with client.stream("GET", "/v1/collections/c/export") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            got.extend(piece.count(b"\n") for piece in answer.iter_bytes())
    assert 100 <= sum(got) <= 150
    assert "was cut short: " in caplog.text
    assert "checksum of document row" in caplog.text
    # And the damage is known, as from any other read.
    assert client.get("/v1/collections/c/export").json()["code"] == "collection_damaged"


def test_who_leaves_gives_his_place_back(
    large: tuple[Running, httpx.Client], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    _, client = large
    begun = []
    with ExitStack() as reading:
        for _ in range(EXPORTS):
            answer = reading.enter_context(client.stream("GET", "/v1/collections/c/export"))
            begun.append(answer.iter_bytes())
            next(begun[-1])
        refused = client.get("/v1/collections/c/export")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        # Others are served, and what is written meanwhile does not wait.
        assert client.put("/v1/collections/c/documents/new", json={"text": "y", "vector": [1, 1]}).status_code == 201
    eventually(lambda: client.get("/v1/collections/c/export").content.count(b"\n") == 201)


def test_the_next_piece_is_made_when_the_one_before_is_taken() -> None:
    """Counted at the connection: pieces that were made, beside those that it took."""
    made = sent = closed = 0

    async def following() -> bytes:
        nonlocal made
        made += 1
        return b"piece" if made < 50 else b""

    async def close() -> None:
        nonlocal closed
        closed += 1

    async def send(message: Any) -> None:
        nonlocal sent
        await anyio.lowlevel.checkpoint()
        assert made <= sent
        sent += message["type"] == "http.response.body"

    async def receive() -> Any:
        await anyio.sleep_forever()

    answer = Streamed(b"first", following, close, "application/x-ndjson", {})
    anyio.run(answer, {"type": "http", "method": "GET", "state": {"request_id": "r"}}, receive, send)
    assert (made, sent, closed) == (50, 51, 1)
