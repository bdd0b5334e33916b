"""Arrays of queries over HTTP: the answers of single searches, in the form that was asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app.client import Document, Sheaf
from app.client.sending import Retries

NPY, ARROW = "application/x-npy", "application/vnd.apache.arrow.stream"
ROWS = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture(scope="module")
def filled(client: httpx.Client) -> str:
    """A dense collection of 20 documents."""
    address = "/v1/collections/arrays"
    encoder = {"model": None, "kind": "dense", "dim": 6}
    assert client.post("/v1/collections", json={"name": "arrays", "encoder": encoder}).status_code == 201
    documents = [{"id": f"é{i}", "metadata": {"n": i}, "vector": row.tolist()} for i, row in enumerate(ROWS)]
    assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    return address


def ask(client: httpx.Client, filled: str, content: bytes, **more: Any) -> httpx.Response:
    headers = {"content-type": NPY, **more.pop("headers", {})}
    return client.post(f"{filled}/search/vectors", content=content, headers=headers, params=more)


def test_each_query_finds_what_it_finds_alone(client: httpx.Client, filled: str) -> None:
    condition = {"n": {"gte": 4}}
    answer = ask(client, filled, npy(ROWS[:5]), k=3, filter=json.dumps(condition))
    assert (answer.status_code, answer.headers["content-type"]) == (200, NPY)
    found = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert found.shape == (5, 3)
    for query, own in zip(ROWS, found, strict=False):
        body = {"vector": query.tolist(), "k": 3, "filter": condition}
        hits = client.post(f"{filled}/search", json=body).json()["hits"]
        assert [one["id"].decode() for one in own] == [hit["id"] for hit in hits]
        assert own["score"].tolist() == [hit["score"] for hit in hits]
    said = json.loads(answer.headers["x-sheaf-search"])
    assert said.keys() == {"generation", "took_ms", "stages", "warnings"}
    assert not said["warnings"]
    assert ask(client, filled, npy(ROWS[:5]), k=50).content[:6] == b"\x93NUMPY"


def test_fewer_documents_than_asked_for_are_all(client: httpx.Client, filled: str) -> None:
    def shape(**more: Any) -> tuple[int, ...]:
        return np.load(io.BytesIO(ask(client, filled, npy(ROWS[:2]), **more).content)).shape

    assert shape(k=50) == shape(k=50, exact="true") == (2, 20)
    assert shape(filter='{"n": {"lt": 3}}') == (2, 3)
    assert shape(filter='{"n": {"eq": -3}}') == (2, 0)
    said = ask(client, filled, npy(ROWS[:1]), filter='{"m": {"eq": 1}}').headers["x-sheaf-search"]
    assert [one["code"] for one in json.loads(said)["warnings"]] == ["unknown_field"]


def test_arrow_comes_and_goes(client: httpx.Client, filled: str) -> None:
    pa = pytest.importorskip("pyarrow")
    sink = pa.BufferOutputStream()
    table = pa.table({"vector": list(ROWS[:4])})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content = bytes(sink.getvalue())
    one = ask(client, filled, content, k=2, headers={"content-type": ARROW})
    other = ask(client, filled, npy(ROWS[:4]), k=2, headers={"accept": ARROW})
    third = ask(client, filled, content, k=2, headers={"content-type": ARROW, "accept": f"text/html, {NPY};q=.9"})
    assert [one.headers["content-type"], other.headers["content-type"]] == [ARROW, ARROW]
    rows = pa.ipc.open_stream(one.content).read_all().to_pydict()
    assert rows == pa.ipc.open_stream(other.content).read_all().to_pydict()
    assert rows["query"] == [0, 0, 1, 1, 2, 2, 3, 3]
    as_npy = np.load(io.BytesIO(third.content))
    assert [text.decode() for text in as_npy["id"].ravel()] == rows["id"]
    assert as_npy["score"].ravel().tolist() == rows["score"]


def test_what_unpacks_is_refused_in_words(client: httpx.Client, filled: str) -> None:
    pa = pytest.importorskip("pyarrow")
    sink = pa.BufferOutputStream()
    table = pa.table({"vector": list(ROWS[:4])})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    answer = ask(client, filled, bytes(sink.getvalue()), headers={"content-type": ARROW})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert "without compression" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "more", "status", "pointer"),
    [
        (npy(ROWS[:, :5]), {}, 422, ""),
        (npy(np.zeros((2, 6), np.float32)), {}, 422, "/0"),
        (npy(np.where(np.arange(6) == 2, np.inf, ROWS[:3])), {}, 422, "/0"),
        (npy(ROWS), {"k": 0}, 422, "/k"),
        (npy(ROWS), {"k": 1_001}, 422, "/k"),
        (npy(ROWS), {"candidates": 0}, 422, "/candidates"),
        (npy(ROWS), {"filter": "{"}, 422, "/filter"),
        (npy(ROWS), {"filter": '{"n": {"like": 3}}'}, 422, "/filter/n/like"),
        (npy(ROWS), {"nonsense": 3}, 422, "/nonsense"),
        (npy(np.ones((4_097, 6), np.float32)), {}, 422, ""),
        (b"nonsense", {}, 400, None),
        (b"\x93NUMPY\x01\x00\x0b\x00{'descr': (", {}, 400, None),
        (npy(np.zeros((2, 6), "S1")), {}, 422, ""),
        (npy(ROWS), {"headers": {"content-type": "application/json"}}, 415, None),
        (npy(ROWS), {"headers": {"accept": "text/html"}}, 406, None),
        (b"x" * 200_001, {}, 413, None),
    ],
)
def test_faults_are_told(
    client: httpx.Client, filled: str, content: bytes, more: Any, status: int, pointer: str | None
) -> None:
    answer = ask(client, filled, content, **more)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    if pointer is not None:
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


def test_the_client_sends_and_reads_arrays(server: Any, filled: str) -> None:
    with Sheaf(server.url, retries=Retries(tries=1)) as sheaf:
        found = sheaf.collection("arrays").search_vectors(ROWS[:3], k=2, filter={"n": {"lt": 9}})
        alone = [sheaf.collection("arrays").search(vectors=row, k=2, filter={"n": {"lt": 9}}) for row in ROWS[:3]]
    assert found.ids == [[hit.id for hit in one] for one in alone]
    assert found.scores.tolist() == [[hit.score for hit in one] for one in alone]


def test_queries_are_kept_where_they_are(serve: Callable[..., Any]) -> None:
    running = serve(log_queries=10)
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        client.post("/v1/collections", json={"name": "c", "encoder": {"model": None, "kind": "dense", "dim": 6}})
        client.post("/v1/collections/c/documents", json=[{"id": "a", "vector": ROWS[0].tolist()}])
        assert ask(client, "/v1/collections/c", npy(ROWS[:3])).status_code == 200
        kept = client.get("/v1/collections/c/queries").json()
    assert kept["kept"] == 3


def test_values_come_and_go(server: Any, client: httpx.Client) -> None:
    """A key-value memory, through the client, in every form."""
    values = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    with Sheaf(server.url, retries=Retries(tries=1)) as sheaf:
        memory = sheaf.create("key-values", model=None, kind="dense", dim=6, values={"dim": 4})
        memory.write([Document("a", vectors=ROWS[0], values=values), Document("b", vectors=ROWS[1])])
        assert client.get("/v1/collections/key-values").json()["values"] == {"dim": 4}
        found = memory.search_vectors(ROWS[:2], k=2, values=True)
        assert found.values is not None
        assert found.counts is not None
        for ids, own, counts in zip(found.ids, found.values, found.counts.tolist(), strict=True):
            assert dict(zip(ids, counts, strict=True)) == {"a": 3, "b": 0}
            assert np.array_equal(own[ids.index("a")], values)
            assert not own[ids.index("b")].any()
        (hit, other) = memory.search(vectors=ROWS[0], include=["values"])
        assert hit.values is not None
        assert np.array_equal(hit.values, values)
        assert other.values is None
        assert np.array_equal(memory.get("a", include=["values"]).values, values)  # type: ignore[arg-type]
    body = {"vector": ROWS[0].tolist(), "include": ["values"]}
    hits = client.post("/v1/collections/key-values/search", json=body).json()["hits"]
    assert np.array_equal(np.array(hits[0]["values"], np.float32), values)
    assert "values" not in hits[1]
    line = json.loads(client.get("/v1/collections/key-values/export?include=values").text.splitlines()[0])
    assert line["values"] == hits[0]["values"]
    pa = pytest.importorskip("pyarrow")
    answer = ask(client, "/v1/collections/key-values", npy(ROWS[:1]), include="values", headers={"accept": ARROW})
    rows = pa.ipc.open_stream(answer.content).read_all().to_pydict()
    assert [rows["values"][0], rows["values"][1]] == [hits[0]["values"], []]
    parquet = pytest.importorskip("pyarrow.parquet")
    exported = client.get("/v1/collections/key-values/export?include=values&include=vectors&format=parquet").content
    assert parquet.read_table(io.BytesIO(exported)).to_pydict()["values"] == [hits[0]["values"], None]
    encoder = {"model": None, "kind": "dense", "dim": 6}
    copied = client.post("/v1/collections", json={"name": "key-values-again", "encoder": encoder, "values": {"dim": 4}})
    assert copied.status_code == 201
    headers = {"content-type": "application/vnd.apache.parquet"}
    with Sheaf(server.url, retries=Retries(tries=1)) as sheaf:
        task = client.post("/v1/collections/key-values-again/import", content=exported, headers=headers).json()["id"]
        sheaf.follow(task)
        assert np.array_equal(sheaf.collection("key-values-again").get("a", include=["values"]).values, values)  # type: ignore[arg-type]
    # Through a rebuild, and through a snapshot that is sent back as a stranger's.
    with Sheaf(server.url, retries=Retries(tries=1)) as sheaf:
        for path in ("rebuild", "snapshots"):
            task = client.post(f"/v1/collections/key-values/{path}").json()["id"]
            sheaf.follow(task)
            assert np.array_equal(sheaf.collection("key-values").get("a", include=["values"]).values, values)  # type: ignore[arg-type]
        archive = client.get(f"/v1/collections/key-values/snapshots/{task}").content
        headers = {"content-type": "application/x-tar"}
        assert client.put("/v1/collections/restored/restore", content=archive, headers=headers).status_code == 201
        restored = sheaf.collection("restored").search_vectors(ROWS[:2], k=2, values=True)
        assert restored.values is not None
        assert np.array_equal(restored.values, found.values)
    patched = client.patch("/v1/collections/key-values/documents/a", json={"values": None})
    assert patched.status_code == 200, patched.text
    assert "values" not in client.get("/v1/collections/key-values/documents/a?include=values").json()
    wrong = client.patch("/v1/collections/key-values/documents/a", json={"values": [[1.0, 2.0]]})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/values")
    assert ask(client, "/v1/collections/arrays", npy(ROWS[:1]), include="values").status_code == 422
