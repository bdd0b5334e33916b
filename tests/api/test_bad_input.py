"""Values that should never be sent, sent at once and in imports: refused alike, at their place, and nothing kept."""

from __future__ import annotations

import base64
import json
import struct
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from app.settings import Settings

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
COMPOSED = unicodedata.normalize("NFC", "café")
DECOMPOSED = unicodedata.normalize("NFD", "café")


def packed(*values: float, shape: list[int], dtype: str = "float32") -> str:
    code = "f" if dtype == "float32" else "e"
    content = base64.b64encode(struct.pack(f"<{len(values)}{code}", *values)).decode()
    return json.dumps({"base64": content, "dtype": dtype, "shape": shape})


NAN, INF = float("nan"), float("inf")
BAD_VECTOR = {
    "NaN": "[1, NaN]",
    "Infinity": "[1, Infinity]",
    "-Infinity": "[-Infinity, 1]",
    "too large": "[1, 1e39]",
    "much too large": "[1, 1e999]",
    "zero": "[0, 0]",
    "minus zero": "[-0.0, 0]",
    "empty": "[]",
    "short": "[1]",
    "long": "[1, 2, 3]",
    "string": '[1, "2"]',
    "boolean": "[1, true]",
    "null": "[1, null]",
    "nested": "[[1, 2]]",
    "object": '{"0": 1}',
    "number": "1",
    "packed NaN": packed(1, NAN, shape=[2]),
    "packed Infinity": packed(INF, 1, shape=[2]),
    "packed zero": packed(0, 0, shape=[2]),
    "packed half NaN": packed(1, NAN, shape=[2], dtype="float16"),
    "packed short": packed(1, shape=[1]),
    "packed shape": packed(1, 2, 3, 4, shape=[2, 2]),
    "packed lie": packed(1, 2, 3, shape=[2]),
    "packed huge": '{"base64": "AAAA", "dtype": "float32", "shape": [99999999999999999999]}',
}
BAD_VECTORS = {
    **{name: f"[[1, 2], {value}]" for name, value in BAD_VECTOR.items() if not value.startswith("{") and value != "1"},
    "none": "[]",
    "one vector": "[1, 2]",
    "packed NaN": packed(1, 2, 3, NAN, shape=[2, 2]),
    "packed zero row": packed(1, 2, 0, 0, shape=[2, 2]),
    "packed wrong dimensions": packed(1, 2, 3, 4, shape=[1, 4]),
    "packed none": '{"base64": "", "dtype": "float32", "shape": [0, 2]}',
}
CASES = [
    *((f"dense {name}", "dense", "vector", value) for name, value in BAD_VECTOR.items()),
    *((f"multi {name}", "multi_vector", "vectors", value) for name, value in BAD_VECTORS.items()),
]


@pytest.fixture(scope="module")
def own(client: httpx.Client) -> dict[str, str]:
    """A collection of each kind for callers' vectors of two dimensions, each with one document."""
    found = {}
    for kind, vectors in (("dense", {"vector": [1, 1]}), ("multi_vector", {"vectors": [[1, 1]]})):
        name = f"own-{kind}".replace("_", "-")
        body = {"name": name, "encoder": {"model": None, "kind": kind, "dim": 2}}
        assert client.post("/v1/collections", json=body).status_code == 201
        found[kind] = f"/v1/collections/{name}"
        first = client.post(f"{found[kind]}/documents", json={"documents": [{"id": "first", **vectors}]})
        assert first.status_code == 200, first.text
    return found


@pytest.mark.parametrize(("kind", "field", "value"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_vector_that_cannot_be(
    client: httpx.Client, own: dict[str, str], finished: Callable[[str], Any], kind: str, field: str, value: str
) -> None:
    address = own[kind]
    good = '"vector": [1, 2]' if kind == "dense" else '"vectors": [[1, 2]]'
    pair = f'{{"id": "good", {good}}}', f'{{"id": "bad", "{field}": {value}}}'
    together = client.post(f"{address}/documents", content=f'{{"documents": [{", ".join(pair)}]}}', headers=JSON)
    assert together.status_code == 422, together.text
    assert together.json()["errors"][0]["pointer"].startswith(f"/documents/1/{field}")
    alone = client.put(f"{address}/documents/bad", content=f'{{"{field}": {value}}}', headers=JSON)
    assert alone.status_code == 422, alone.text
    assert alone.json()["errors"][0]["pointer"].startswith(f"/{field}")
    asked = client.post(f"{address}/search", content=f'{{"{field}": {value}}}', headers=JSON)
    assert asked.status_code == 422, asked.text
    # Later, and just as clearly: the task says which line.
    answer = client.post(f"{address}/import", content="\n".join(pair), headers=LINES)
    task = finished(answer.headers["location"])
    assert (task["state"], [error["line"] for error in task["errors"]]) == ("failed", [2])
    assert field in task["errors"][0]["message"]
    assert client.post(f"{address}/count", json={}).json() == {"count": 1}
    found = client.post(f"{address}/search", content=f"{{{good}}}", headers=JSON).json()["hits"]
    assert [hit["id"] for hit in found] == ["first"]


GOOD_IDS = [
    "a" * 512,
    "é" * 256,
    "\U0001f33e" * 128,
    "..",
    ".",
    "../../etc/passwd",
    "%2e%2e",
    "%2E%2E%2F",
    "a/b",
    "a?b#c",
    "a b",
    "\u202eright to left",
    "שלום",
    "مرحبا",
    COMPOSED,
    DECOMPOSED,
    "\ufeffmark",
    "\u200b",
    "\uffff",
    "'; DROP TABLE documents; --",
    "null",
    "0",
    "\\",
    '"',
    "<script>",
]
BAD_IDS = ["", "a" * 513, "é" * 257, "\U0001f33e" * 129, "a\x00", "\x00", "\n", "a\tb", "\x7f", "\x85", "\x9f"]


def test_ids_come_back_byte_for_byte(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    documents = [{"id": id, "text": f"document {i}"} for i, id in enumerate(GOOD_IDS)]
    for start in range(0, len(documents), 20):
        written = client.post(f"{address}/documents", json={"documents": documents[start : start + 20]})
        assert written.json()["duplicates"] == []
    listed = client.get(f"{address}/documents").json()["documents"]
    assert [one["id"] for one in listed] == sorted(GOOD_IDS, key=str.encode)
    for i, id in enumerate(GOOD_IDS):
        found = client.post(f"{address}/documents/get", json={"ids": [id]}).json()
        assert [(one["id"], one["text"]) for one in found["documents"]] == [(id, f"document {i}")]
        if id not in (".", ".."):
            path = f"{address}/documents/{quote(id, safe='')}"
            assert client.get(path).json()["text"] == f"document {i}"
    assert client.delete(f"{address}/documents/{quote(COMPOSED)}").json() == {"deleted": 1}
    assert client.get(f"{address}/documents/{quote(DECOMPOSED)}").status_code == 200
    assert client.get(f"{address}/documents/{quote(COMPOSED)}").status_code == 404


def test_imported_ids_come_back_byte_for_byte(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]
) -> None:
    address = create()
    lines = [json.dumps({"id": id, "text": f"document {i}"}, ensure_ascii=i % 2 == 0) for i, id in enumerate(GOOD_IDS)]
    answer = client.post(f"{address}/import", content="\n".join(lines).encode(), headers=LINES)
    task = finished(answer.headers["location"])
    assert (task["state"], task["errors"], task["done"]) == ("succeeded", [], len(GOOD_IDS))
    listed = client.get(f"{address}/documents", params={"limit": "1000"}).json()["documents"]
    assert {one["id"]: one["text"] for one in listed} == {id: f"document {i}" for i, id in enumerate(GOOD_IDS)}


@pytest.mark.parametrize("way", ["documents", "import"])
def test_texts_come_back_byte_for_byte(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any], way: str
) -> None:
    """A NUL, right to left, NFC beside NFD: in text, title and metadata, and a filter tells them apart."""
    address = create()
    strange = [
        "a\x00b",
        "\x00",
        "a",
        "\u202eright to left",
        "שלום",
        COMPOSED,
        DECOMPOSED,
        "\ufeff",
        "\x1b[31m",
        "\uffff",
    ]
    documents = [{"id": f"d{i}", "text": f"x{one}", "title": one, "metadata": {"s": one, "l": [one]}}
                 for i, one in enumerate(strange)]  # fmt: skip
    if way == "import":
        content = "\n".join(json.dumps(one) for one in documents).encode()
        answer = client.post(f"{address}/import", content=content, headers=LINES)
        assert finished(answer.headers["location"])["state"] == "succeeded"
    else:
        assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    assert client.get(f"{address}/documents").json()["documents"] == documents
    for i, one in enumerate(strange):
        for condition in ({"s": {"eq": one}}, {"l": {"in": [one]}}):
            found = client.post(f"{address}/search", json={"query": "x", "filter": condition}).json()["hits"]
            assert [hit["id"] for hit in found] == [f"d{i}"]


@pytest.mark.parametrize("id", BAD_IDS, ids=[repr(id[:8]) for id in BAD_IDS])
def test_ids_that_cannot_be(client: httpx.Client, collection: str, finished: Callable[[str], Any], id: str) -> None:
    document = {"id": id, "text": "a text"}
    assert client.post(f"{collection}/documents", json={"documents": [document]}).status_code == 422
    assert client.post(f"{collection}/documents/get", json={"ids": [id]}).status_code == 422
    assert client.post(f"{collection}/delete", json={"ids": [id]}).status_code == 422
    assert client.put(f"{collection}/documents/{quote(id, safe='')}", json={"text": "a text"}).status_code == 422
    task = finished(
        client.post(f"{collection}/import", content=json.dumps(document), headers=LINES).headers["location"]
    )
    assert [(error["line"], error["code"]) for error in task["errors"]] == [(1, "invalid")]
    assert client.post(f"{collection}/count", json={}).json() == {"count": 3}


NOT_UNICODE = [
    b'{"id": "\\ud800", "text": "a"}',
    b'{"id": "\\udc00\\ud800", "text": "a"}',
    b'{"id": "a", "text": "\\ud83d"}',
    b'{"id": "a", "text": "x", "metadata": {"k": "\\udfff"}}',
    b'{"id": "a", "text": "x", "metadata": {"\\ud800": 1}}',
    b'{"id": "\xff", "text": "a"}',
    b'{"id": "a", "text": "\xc3"}',
    b'{"id": "a", "text": "\xed\xa0\x80"}',
    b'{"id": "a", "text": "\xc0\xaf"}',
    b'{"id": "a", "text": "\xf4\x90\x80\x80"}',
    '{"id": "a", "text": "x"}'.encode("utf-16"),
    '{"id": "a", "text": "x"}'.encode("utf-32-le"),
]


@pytest.mark.parametrize("document", NOT_UNICODE, ids=[str(one[:40]) for one in NOT_UNICODE])
def test_what_is_not_unicode(
    client: httpx.Client, collection: str, finished: Callable[[str], Any], document: bytes
) -> None:
    body = b'{"documents": [' + document + b"]}"
    answer = client.post(f"{collection}/documents", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body"), answer.text
    task = finished(
        client.post(f"{collection}/import?on_error=skip", content=document, headers=LINES).headers["location"]
    )
    assert {error["code"] for error in task["errors"]} == {"malformed_body"}
    assert client.post(f"{collection}/count", json={}).json() == {"count": 3}


@pytest.mark.parametrize(
    ("name", "status"),
    [("a" * 63, 201), ("a" * 64, 422), ("..", 422), ("%2e%2e", 422), ("a/b", 422), ("a\\b", 422), (".a", 422),
     ("a.b", 422), ("A", 422), ("é", 422), ("a b", 422), ("a\x00", 422), ("", 422), ("_a", 422), ("0", 201),
     ("con", 201), ("a" * 63 + "\n", 422)],
)  # fmt: skip
def test_names_of_collections(client: httpx.Client, server: Any, name: str, status: int) -> None:
    before = {path.name for path in server.settings.indexes.parent.iterdir()}
    answer = client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}})
    assert answer.status_code == status
    path = f"/v1/collections/{quote(name, safe='')}" if name not in ("", "..") else "/v1/collections/%2e%2e"
    for address in (path, f"{path}/documents", f"{path}/documents/a"):
        assert client.get(address).status_code in ((200, 404) if status == 201 else (404,))
    assert {path.name for path in server.settings.indexes.parent.iterdir()} == before
    if status == 201:
        assert client.delete(path).status_code == 204


def test_of_a_key_that_comes_twice_the_last_holds(
    client: httpx.Client, collection: str, finished: Callable[[str], Any]
) -> None:
    document = b'{"id": "x", "id": "twice", "text": "a", "text": "b", "metadata": {"k": 1, "k": 2}}'
    body = b'{"documents": [], "documents": [' + document + b"]}"
    assert client.post(f"{collection}/documents", content=body, headers=JSON).json()["written"] == 1
    at_once = client.get(f"{collection}/documents/twice").json()
    assert (at_once["text"], at_once["metadata"]) == ("b", {"k": 2})
    assert client.get(f"{collection}/documents/x").status_code == 404
    client.delete(f"{collection}/documents/twice")
    assert finished(client.post(f"{collection}/import", content=document, headers=LINES).headers["location"])["state"]
    later = client.get(f"{collection}/documents/twice").json()
    assert (later["text"], later["metadata"]) == ("b", {"k": 2})
    # A filter has one key; written twice it is one.
    twice = b'{"filter": {"k": {"eq": 1}, "k": {"eq": 2}}}'
    assert client.post(f"{collection}/count", content=twice, headers=JSON).json() == {"count": 1}


MANY, DEEP = "9" * 5_000, 200_000
MONSTROUS = {
    "a whole number of 5,000 digits": '"metadata": {"n": ' + MANY + "}",
    "a negative one": '"metadata": {"n": -' + MANY + "}",
    "an exponent of 5,000 digits": '"metadata": {"n": 1e' + MANY + "}",
    "a vector of 5,000 digits": '"vector": [1, ' + MANY + "]",
    "a vector with such an exponent": '"vector": [1, 1e' + MANY + "]",
    "an id of 5,000 digits": '"id": ' + MANY,
    "200,000 lists": '"metadata": {"n": ' + "[" * DEEP + "]" * DEEP + "}",
    "200,000 lists without an end": '"metadata": {"n": ' + "[" * DEEP,
    "200,000 objects": '"metadata": {"n": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
}


@pytest.fixture(scope="module")
def large(running: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that takes larger bodies than that of the other tests."""
    server = running(Settings(indexes=tmp_path_factory.mktemp("large"))).opened()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        made = {"name": "c", "encoder": {"model": None, "kind": "dense", "dim": 2}}
        assert client.post("/v1/collections", json=made).status_code == 201
        yield client
    server.stop()


@pytest.mark.parametrize("part", MONSTROUS.values(), ids=MONSTROUS.keys())
def test_a_document_that_is_monstrous(large: httpx.Client, part: str) -> None:
    good, bad = '{"id": "good", "vector": [1, 2]}', '{"id": "bad", "vector": [1, 2], ' + part + "}"
    body = f'{{"documents": [{good}, {bad}]}}'
    answer = large.post("/v1/collections/c/documents", content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    answer = large.post("/v1/collections/c/import", content=f"{good}\n{bad}\n{good}", headers=LINES)
    location = answer.headers["location"]
    while (task := large.get(location).json())["finished"] is None:
        time.sleep(0.01)
    assert (task["state"], [error["line"] for error in task["errors"]]) == ("failed", [2])
    assert large.post("/v1/collections/c/count", json={}).json() == {"count": 0}


def test_many_digits_after_the_point_are_a_number(
    client: httpx.Client, own: dict[str, str], finished: Callable[[str], Any]
) -> None:
    document = f'{{"id": "precise", "vector": [1, 0.{MANY}], "metadata": {{"n": 0.{MANY}}}}}'
    for content, path, headers in (
        (f'{{"documents": [{document}]}}', "documents", JSON),
        (document, "import", LINES),
    ):
        answer = client.post(f"{own['dense']}/{path}", content=content, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        if path == "import":
            assert finished(answer.headers["location"])["state"] == "succeeded"
        assert client.get(f"{own['dense']}/documents/precise").json()["metadata"] == {"n": 1.0}
        assert client.delete(f"{own['dense']}/documents/precise").status_code == 200


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_bad_line_deep_in_an_import(
    client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any], on_error: str
) -> None:
    address = create(encoder={"model": None, "kind": "dense", "dim": 2})
    lines = [b'{"id": "%d", "vector": [1, 2]}' % i for i in range(8_000)]
    lines[7_776] = b'{"id": "bad", "vector": [1, NaN]}'
    answer = client.post(f"{address}/import?on_error={on_error}", content=b"\n".join(lines), headers=LINES)
    assert answer.status_code == 202, answer.text
    task = finished(answer.headers["location"])
    assert [error["line"] for error in task["errors"]] == [7_777]
    assert task["state"] == ("failed" if on_error == "stop" else "succeeded")
    count = client.post(f"{address}/count", json={}).json()["count"]
    assert count == (0 if on_error == "stop" else 7_999)
