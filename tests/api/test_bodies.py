"""Bodies: content type, size, strictness, and a pointer to each fault; never a 500."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

JSON = {"Content-Type": "application/json"}
NESTED = b"[" * 100_000
WIDE = b"9" * 5_000


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/ndjson",
        "multipart/form-data",
        "application/jsonx",
        "json",
    ],
)
def test_other_content_types_are_refused(client: httpx.Client, collection: str, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post(f"{collection}/search", content=b'{"query": "cat"}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_in_utf8_is_taken(client: httpx.Client, collection: str, content_type: str) -> None:
    answer = client.post(f"{collection}/search", content=b'{"query": "cat"}', headers={"Content-Type": content_type})
    assert answer.status_code == 200


def test_content_codings_are_refused(client: httpx.Client, collection: str) -> None:
    answer = client.post(
        f"{collection}/search", content=b'{"query": "cat"}', headers={**JSON, "Content-Encoding": "gzip"}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nope",
        b"{'query': 'cat'}",
        b'{"query": "cat"',
        b'{"query": "cat"} x',
        b'{"query": "\xff"}',
        b'{"query": "\\ud800"}',
        b'{"query": ' + NESTED,
        b'{"k": ' + WIDE + b"}",
        b'{"filter": ' + b"[" * 300 + b"]" * 300 + b"}",
        b"\xef\xbb\xbf{}",
        b"\x00",
        b'{"query": "a\x00"}',
    ],
)
def test_what_is_not_json(client: httpx.Client, collection: str, body: bytes) -> None:
    for address in (f"{collection}/search", f"{collection}/documents", f"{collection}/count", "/v1/collections"):
        answer = client.post(address, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body"), answer.text


SEARCHES: list[tuple[str, str]] = [
    ("[]", ""),
    ("null", ""),
    ("1", ""),
    ("{}", ""),
    ('{"query": "a", "vectors": [[1]]}', "/vectors"),
    ('{"query": "a", "vector": [1]}', "/vector"),
    ('{"vector": [1], "vectors": [[1]]}', ""),
    ('{"query": null}', "/query"),
    ('{"query": ""}', "/query"),
    ('{"query": " \\t"}', "/query"),
    ('{"query": 1}', "/query"),
    ('{"query": ["a"]}', "/query"),
    ('{"query": "%s"}' % ("a" * 100_001), "/query"),
    ('{"query": "a", "k": 0}', "/k"),
    ('{"query": "a", "k": -1}', "/k"),
    ('{"query": "a", "k": 1001}', "/k"),
    ('{"query": "a", "k": "10"}', "/k"),
    ('{"query": "a", "k": true}', "/k"),
    ('{"query": "a", "k": 1.5}', "/k"),
    ('{"query": "a", "k": null}', "/k"),
    ('{"query": "a", "k": NaN}', "/k"),
    ('{"query": "a", "k": %s}' % ("9" * 4_000), "/k"),
    ('{"query": "a", "candidates": 0}', "/candidates"),
    ('{"query": "a", "candidates": 1e3}', "/candidates"),
    ('{"query": "a", "candidates": 100001}', "/candidates"),
    ('{"query": "a", "exact": 1}', "/exact"),
    ('{"query": "a", "exact": "true"}', "/exact"),
    ('{"query": "a", "mode": "best"}', "/mode"),
    ('{"query": "a", "vector": [1], "mode": "semantic"}', "/mode"),
    ('{"vector": [1], "mode": "lexical"}', "/query"),
    ('{"vector": [1], "mode": "hybrid"}', "/query"),
    ('{"query": "a", "syntax": "lucene"}', "/syntax"),
    ('{"query": "+\\"a", "syntax": "query"}', "/query"),
    ('{"query": "a", "weights": {"words": 1.5}}', "/weights/words"),
    ('{"query": "a", "weights": {}}', "/weights"),
    ('{"query": "a", "weights": "rank"}', "/weights"),
    ('{"query": "a", "weights": {"words": 1}, "fusion": "reciprocal_rank"}', "/weights"),
    ('{"query": "a", "fusion": "ranks"}', "/fusion"),
    ('{"query": "a", "explain": 1}', "/explain"),
    ('{"query": "a", "include": "text"}', "/include"),
    ('{"query": "a", "include": ["highlights"]}', "/include/0"),
    ('{"query": "a", "include": ["text", 1]}', "/include/1"),
    ('{"query": "a", "size": 3}', "/size"),
    ('{"query": "a", "filter": null}', "/filter"),
    ('{"query": "a", "filter": {}}', "/filter"),
    ('{"query": "a", "filter": []}', "/filter"),
    ('{"query": "a", "filter": {"legs": [4]}}', "/filter/legs"),
    ('{"query": "a", "filter": {"legs": {"equals": 4}}}', "/filter/legs/equals"),
    ('{"query": "a", "filter": {"legs": {"eq": NaN}}}', "/filter/legs/eq"),
    ('{"query": "a", "filter": {"legs": {"eq": 1e400}}}', "/filter/legs/eq"),
    ('{"query": "a", "filter": {"legs": {"eq": {}}}}', "/filter/legs/eq"),
    ('{"query": "a", "filter": {"legs": {"gt": true}}}', "/filter/legs/gt"),
    ('{"query": "a", "filter": {"and": [{"legs": {"in": 4}}]}}', "/filter/and/0/legs/in"),
    ('{"query": "a", "filter": {"le/gs": {"eq": 4}}}', "/filter/le~1gs"),
    ('{"query": "a", "filter": ' + '{"not": ' * 40 + '{"legs": {"eq": 4}}' + "}" * 41, "/filter" + "/not" * 32),
    ('{"vector": [1, 2]}', "/vector"),
    ('{"vectors": [[1, 2], [3]]}', "/vectors/1"),
    ('{"vectors": [[1, 2]]}', "/vectors"),
    ('{"vectors": [[1, true]]}', "/vectors/0/1"),
    ('{"vectors": [[1, "1.5"]]}', "/vectors/0/1"),
    ('{"vectors": [[1, NaN]]}', "/vectors/0/1"),
    ('{"vectors": []}', "/vectors"),
    ('{"vectors": [[%s0]]}' % ("0," * 15), "/vectors"),
]


@pytest.mark.parametrize(("body", "pointer"), SEARCHES, ids=[body[:70] for body, _ in SEARCHES])
def test_faults_of_a_search(client: httpx.Client, collection: str, body: str, pointer: str) -> None:
    answer = client.post(f"{collection}/search", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    if body not in ("[]", "null", "1"):
        batch = client.post(f"{collection}/search/batch", content='{"searches": [' + body + "]}", headers=JSON)
        assert batch.status_code == 422, batch.text
        assert [error["pointer"] for error in batch.json()["errors"]] == ["/searches/0" + pointer]


OTHERS: list[tuple[str, str, Any, list[str]]] = [
    # (method, path under the collection or absolute, body, pointers)
    ("POST", "/v1/collections", {}, ["/name"]),
    ("POST", "/v1/collections", {"name": "UPPER"}, ["/name"]),
    ("POST", "/v1/collections", {"name": ""}, ["/name"]),
    ("POST", "/v1/collections", {"name": "a" * 64}, ["/name"]),
    ("POST", "/v1/collections", {"name": "-a"}, ["/name"]),
    ("POST", "/v1/collections", {"name": "a\n"}, ["/name"]),
    ("POST", "/v1/collections", {"name": "../a"}, ["/name"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"model": None}}, ["/encoder/dim"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"model": None, "dim": 0}}, ["/encoder/dim"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"model": None, "dim": 16_385}}, ["/encoder/dim"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"model": None, "dim": True}}, ["/encoder/dim"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"model": "words", "dim": 16}}, ["/encoder/dim"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"model": "/etc/passwd"}}, ["/encoder/model"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": {"kind": "sparse"}}, ["/encoder/kind"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": "words"}, ["/encoder"]),
    ("POST", "/v1/collections", {"name": "ok", "encoder": None}, ["/encoder"]),
    ("POST", "/v1/collections", {"name": "ok", "similarity": "euclid"}, ["/similarity"]),
    ("POST", "/v1/collections", {"name": "ok", "keep_vectors": 1}, ["/keep_vectors"]),
    ("POST", "/v1/collections", {"name": "ok", "precision": "int8"}, ["/precision"]),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": 0}, ["/token_pooling"]),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": 33}, ["/token_pooling"]),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": True}, ["/token_pooling"]),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": {"vectors": 0}}, ["/token_pooling/vectors"]),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": {"vectors": 1_025}}, ["/token_pooling/vectors"]),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": {"vectors": 1.5}}, ["/token_pooling/vectors"]),
    (
        "POST",
        "/v1/collections",
        {"name": "ok", "token_pooling": {"share": 2}},
        ["/token_pooling/vectors", "/token_pooling/share"],
    ),
    ("POST", "/v1/collections", {"name": "ok", "token_pooling": "8"}, ["/token_pooling"]),
    ("POST", "/v1/collections", {"name": "ok", "passages": {"size": 7}}, ["/passages/size"]),
    ("POST", "/v1/collections", {"name": "ok", "passages": {"size": 100_000}}, ["/passages/size"]),
    ("POST", "/v1/collections", {"name": "ok", "passages": {"size": 9, "overlap": 5}}, ["/passages/overlap"]),
    ("POST", "/v1/collections", {"name": "ok", "passages": {"overlap": -1}}, ["/passages/overlap"]),
    ("POST", "/v1/collections", {"name": "ok", "passages": {"split": "lines"}}, ["/passages/split"]),
    ("POST", "/v1/collections", {"name": "ok", "passages": {"length": 9}}, ["/passages/length"]),
    (
        "POST",
        "/v1/collections",
        {"name": "ok", "encoder": {"model": "words"}, "passages": {"size": 513}},
        ["/passages/size"],
    ),
    (
        "POST",
        "/v1/collections",
        {"name": "ok", "encoder": {"model": None, "dim": 2}, "passages": {"split": "structure"}},
        ["/passages/split"],
    ),
    ("POST", "/search", {"query": "a", "passages": 11}, ["/passages"]),
    ("POST", "/search", {"query": "a", "passages": -1}, ["/passages"]),
    ("POST", "/search", {"query": "a", "passages": True}, ["/passages"]),
    ("POST", "/search", {"query": "a", "highlights": True}, ["/highlights"]),
    ("POST", "/search", {"query": "a", "highlights": {"mark": ["<b>", "</b>"]}}, ["/highlights/mark"]),
    ("POST", "/search", {"query": "a", "highlights": {"marks": ["<b>"]}}, ["/highlights/marks"]),
    ("POST", "/search", {"query": "a", "highlights": {"marks": ["<b>", 1]}}, ["/highlights/marks/1"]),
    ("POST", "/search", {"query": "a", "highlights": {"marks": ["<b>", "x" * 101]}}, ["/highlights/marks/1"]),
    ("POST", "/search", {"query": "a", "highlights": {"length": 15}}, ["/highlights/length"]),
    ("POST", "/search", {"query": "a", "highlights": {"length": 2_001}}, ["/highlights/length"]),
    ("POST", "/documents", {}, ["/documents"]),
    ("POST", "/documents", {"documents": []}, ["/documents"]),
    ("POST", "/documents", {"documents": {}}, ["/documents"]),
    ("POST", "/documents", {"documents": [1]}, ["/documents/0"]),
    ("POST", "/documents", {"documents": [{"id": "a"}]}, ["/documents/0/text"]),
    ("POST", "/documents", {"documents": [{"id": "a", "text": "x"}, {"id": ""}]}, ["/documents/1/id"]),
    ("POST", "/documents", {"documents": [{"id": "a", "text": "x", "vectors": [[1]]}]}, ["/documents/0/vectors"]),
    ("POST", "/documents", {"documents": [{"id": "a", "text": "x", "vector": [1]}]}, ["/documents/0/vector"]),
    ("POST", "/documents", {"documents": [{"id": str(i), "text": "x"} for i in range(21)]}, ["/documents"]),
    (
        "POST",
        "/documents",
        {"documents": [{"id": "a", "text": "x", "metadata": {"a/b": [{"c": 10**400}]}}]},
        ["/documents/0/metadata/a~1b/0/c"],
    ),
    ("POST", "/documents/get", {"ids": [1.5]}, ["/ids/0"]),
    ("POST", "/documents/get", {"ids": [1, True]}, ["/ids/1"]),
    ("POST", "/delete", {"ids": [None]}, ["/ids/0"]),
    ("POST", "/search", {"ids": [1.0]}, ["/ids/0"]),
    ("POST", "/search", {"like": {"positive": [False]}}, ["/like/positive/0"]),
    ("POST", "/documents/get", {"ids": ["a", "\u0000"]}, ["/ids/1"]),
    ("POST", "/documents/get", {"ids": "a"}, ["/ids"]),
    ("POST", "/documents/get", {"ids": [str(i) for i in range(21)]}, ["/ids"]),
    ("POST", "/delete", {}, [""]),
    ("POST", "/delete", {"ids": ["a"], "filter": {"legs": {"eq": 1}}}, [""]),
    ("POST", "/delete", {"filter": {"legs": {"eq": [1]}}}, ["/filter/legs/eq"]),
    ("POST", "/delete", {"ids": None}, ["/ids"]),
    ("POST", "/count", {"filter": {"or": []}}, ["/filter/or"]),
    ("POST", "/count", {"where": {}}, ["/where"]),
    ("POST", "/search/batch", {"searches": []}, ["/searches"]),
    ("POST", "/search/batch", {"searches": [{"query": "a"}] * 4}, ["/searches"]),
    ("PUT", "/documents/a", {"id": "b", "text": "x"}, ["/id"]),
    ("PUT", "/documents/a", {"id": 1, "text": "x"}, ["/id"]),
    ("PUT", "/documents/a", {"text": ""}, ["/text"]),
    ("PUT", "/documents/a", {"text": "x", "vectors": [[1]]}, ["/vectors"]),
    ("PUT", "/documents/", {"text": "x"}, ["/id"]),
    ("PUT", "/documents/a%00", {"text": "x"}, ["/id"]),
    ("PUT", "/documents/%ff", {"text": "x"}, ["/id"]),
    ("PUT", "/documents/" + "a" * 513, {"text": "x"}, ["/id"]),
    ("PATCH", "/documents/cat", {}, [""]),
    ("PATCH", "/documents/cat", {"metadata": {"a": {"b": 10**309}}}, ["/metadata/a/b"]),
    ("PATCH", "/documents/cat", {"metadata": {"a b": [None, 10**309]}}, ["/metadata/a b/1"]),
    ("PATCH", "/documents/cat", {"metadata": None}, ["/metadata"]),
    ("PATCH", "/documents/cat", {"text": 1, "x": 2}, ["/text", "/x"]),
    ("PATCH", "/documents/cat", {"text": None}, ["/text"]),
    ("PATCH", "/documents/cat", {"text": "", "title": ""}, ["/text"]),
    ("PATCH", "/documents/cat", {"vectors": [[1]]}, ["/vectors"]),
    ("PATCH", "/documents/cat", {"vector": [1], "vectors": [[1]]}, ["/vectors"]),
    ("PATCH", "/documents/cat", {"sparse_vector": {"indices": [1], "values": [1]}}, ["/sparse_vector"]),
    ("PATCH", "/documents/cat?metadata=replace", {"metadata": {"a b": [10**309]}}, ["/metadata/a b/0"]),
    ("PATCH", "/documents/cat?metadata=drop", {"metadata": {}}, ["/metadata"]),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "pointers"), OTHERS, ids=[f"{m} {p[:40]} {str(b)[:60]}" for m, p, b, _ in OTHERS]
)
def test_faults_of_other_bodies(
    client: httpx.Client, collection: str, method: str, path: str, body: Any, pointers: list[str]
) -> None:
    address = path if path.startswith("/v1") else collection + path
    answer = client.request(method, address, json=body)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    # Where it is is the pointer's to say, and no class of pydantic's is anybody's business.
    assert not [m for e in answer.json()["errors"] if re.match("/|String|List|Value", m := e["message"])]
    assert client.post(f"{collection}/count", json={}).json() == {"count": 3}


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/search", {"text": "a"}, ["query", "vector", "vectors", "k", "filter"]),
        ("/delete", {"id": "a"}, ["ids", "filter"]),
        ("/documents", {"docs": []}, ["documents"]),
    ],
)
def test_who_misnames_a_field_is_told_the_names(
    client: httpx.Client, collection: str, path: str, body: Any, fields: list[str]
) -> None:
    answer = client.post(collection + path, json=body)
    assert answer.status_code == 422
    (told,) = [e["message"] for e in answer.json()["errors"] if e["pointer"] == f"/{next(iter(body))}"]
    assert set(fields) <= set(re.findall(r"\w+", told.partition(";")[2]))


def test_at_most_a_hundred_faults_are_listed(client: httpx.Client, collection: str) -> None:
    body = {"query": "a", **{f"x{i}": 1 for i in range(200)}}
    answer = client.post(f"{collection}/search", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 100
    assert "200" in answer.json()["detail"]


def test_a_flood_of_faults_is_one_fault(client: httpx.Client, collection: str) -> None:
    body = {"query": "a", **{f"x{i}": 1 for i in range(12_000)}}
    answer = client.post(f"{collection}/search", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 1


def large(size: int) -> bytes:
    frame = len(b'{"query": ""}')
    return b'{"query": "%s"}' % (b"a" * (size - frame))


def chunks(content: bytes) -> Iterator[bytes]:
    yield from (content[i : i + 10_000] for i in range(0, len(content), 10_000))


@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_is_exact(client: httpx.Client, collection: str, chunked: bool) -> None:
    def post(size: int) -> httpx.Response:
        content: Any = chunks(large(size)) if chunked else large(size)
        return client.post(f"{collection}/search", content=content, headers=JSON)

    # One byte below the limit the body is read; its query is too long then.
    assert post(200_000).json()["code"] == "invalid"
    answer = post(200_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_declared_length_is_refused_before_the_body_comes(server: Any, collection: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"POST {collection}/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 200001\r\n\r\n".encode())
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


def test_large_bodies_are_read_too(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    documents = [{"id": str(i), "text": "word " * 1_500} for i in range(20)]
    assert len(json.dumps(documents)) > 100_000
    answer = client.post(f"{address}/documents", json={"documents": documents})
    assert answer.json()["written"] == 20
    bad = client.post(f"{address}/documents", json={"documents": [*documents[:-1], {"id": "x", "text": 1}]})
    assert [error["pointer"] for error in bad.json()["errors"]] == ["/documents/19/text"]
