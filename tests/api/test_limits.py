"""Every limit that the operator sets holds, and who keeps within it is served meanwhile."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from limited import TIGHT, post

from app.settings import DeterministicModel, Settings

DEEP = 200_000


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"legs": {"eq": 4}}
    for _ in range(levels - 1):
        value = {"not": value}
    return value


def wide(conditions: int) -> dict[str, Any]:
    return {"or": [{"legs": {"eq": i}} for i in range(conditions)]}


def documents(number: int) -> dict[str, Any]:
    return {"documents": [{"id": str(i), "text": "x"} for i in range(number)]}


def of_many(vectors: int) -> dict[str, Any]:
    return {"documents": [{"id": "a", "vectors": [[1, 2]] * vectors}]}


def listed(values: int) -> dict[str, Any]:
    return {"filter": {"legs": {"in": list(range(values - 1))}}}


LIMITED: list[tuple[str, str, Callable[[int], Any], int, str]] = [
    # (setting, path, a body of a size, the largest size, where the fault of a larger one is)
    ("max_documents", "/text/documents", documents, 3, "/documents"),
    ("max_documents", "/text/documents/get", lambda n: {"ids": [str(i) for i in range(n)]}, 3, "/ids"),
    ("max_batch", "/text/search/batch", lambda n: {"searches": [{"query": "cat"}] * n}, 2, "/searches"),
    ("max_k", "/text/search", lambda n: {"query": "cat", "k": n}, 10, "/k"),
    ("max_candidates", "/text/search", lambda n: {"query": "cat", "candidates": n}, 50, "/candidates"),
    ("max_vectors", "/many/documents", of_many, 4, "/documents/0/vectors"),
    ("max_query_vectors", "/many/search", lambda n: {"vectors": [[1, 2]] * n}, 2, "/vectors"),
    ("max_filter_depth", "/text/search", lambda n: {"query": "cat", "filter": nested(n)}, 3, "/filter/not/not/not"),
    ("max_filter_depth", "/text/count", lambda n: {"filter": nested(n)}, 3, "/filter/not/not/not"),
    ("max_filter_conditions", "/text/count", lambda n: {"filter": wide(n)}, 5, "/filter/or/5/legs"),
    ("max_filter_conditions", "/text/count", listed, 5, "/filter/legs/in"),
]


@pytest.mark.parametrize(
    ("setting", "path", "body", "most", "pointer"), LIMITED, ids=[f"{s} {p}" for s, p, *_ in LIMITED]
)
def test_a_limit_is_exact(
    tight: Any, setting: str, path: str, body: Callable[[int], Any], most: int, pointer: str
) -> None:
    assert TIGHT[setting] == most
    post(tight, path, body(most))
    refused = post(tight, path, body(most + 1), status=422)
    assert [one["pointer"] for one in refused["errors"]] == [pointer]


def test_the_numbers_of_all_vectors_are_limited_together(tight: Any) -> None:
    def write(documents: int) -> Any:
        return {"documents": [{"id": str(i), "vectors": [[1, 2]] * 4} for i in range(documents)]}

    post(tight, "/many/documents", write(2))
    refused = post(tight, "/many/documents", write(3), status=422)
    assert "at most 20 numbers; got 24" in refused["detail"]


def test_a_filter_in_an_address_and_a_line_of_an_import_are_limited_too(tight: Any) -> None:
    with httpx.Client(base_url=f"{tight.url}/v1", trust_env=False, timeout=60) as client:
        path = "/collections/text/documents"
        assert client.get(path, params={"filter": json.dumps(nested(3))}).status_code == 200
        assert client.get(path, params={"filter": json.dumps(nested(4))}).status_code == 422
        lines = b'{"id": "v", "vectors": %s}' % json.dumps([[1, 2]] * 5).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        task = client.post("/collections/many/import", content=lines, headers=headers).json()
        while (task := client.get(f"/tasks/{task['id']}").json())["finished"] is None:
            time.sleep(0.01)
    assert [(error["line"], error["code"]) for error in task["errors"]] == [(1, "invalid")]


def test_the_limits_are_told(tight: Any) -> None:
    limits = httpx.get(f"{tight.url}/v1/info", trust_env=False).json()["limits"]
    assert limits | {"k": 10, "vectors": 4, "query_vectors": 2, "filter_depth": 3, "values": 20} == limits


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"filter":{"not":', b'{"documents":[{"metadata":'])
@pytest.mark.parametrize("route", ["/search", "/count", "/documents", "/delete", ""])
def test_json_of_any_depth_is_refused(client: httpx.Client, collection: str, opening: bytes, route: str) -> None:
    content = opening * (DEEP // opening.count(b"[") if opening == b"[" else 30_000)
    address = collection + route if route else "/v1/collections"
    answer = client.post(address, content=content[:199_000], headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def test_json_of_200_000_levels(running: Callable[[Settings], Any], tmp_path: Path) -> None:
    server = running(
        Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic", dim=16)})
    ).opened()
    try:
        post(server, "", {"name": "c", "encoder": {"model": "words"}}, status=201)
        for content in (b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP):
            for route in ("/c/search", "/c/count", "/c/documents"):
                assert post(server, route, content, status=400)["code"] == "malformed_body"
                assert post(server, route, b'{"filter": ' + content + b"}", status=400)["code"] == "malformed_body"
    finally:
        server.stop()


@pytest.mark.parametrize("digits", [4_000, 5_000, 50_000])
def test_numbers_of_many_digits(client: httpx.Client, collection: str, digits: int) -> None:
    number = b"9" * digits
    for body in (
        b'{"query": "cat", "k": %s}',
        b'{"query": "cat", "filter": {"legs": {"eq": %s}}}',
        b'{"query": "cat", "filter": {"legs": {"eq": 0.%s}}}',
        b'{"query": "cat", "filter": {"legs": {"eq": 1e%s}}}',
        b'{"vectors": [[%s]]}',
        b'{"query": "cat", "filter": {"legs": {"eq": -%s}}}',
    ):
        answer = client.post(
            f"{collection}/search", content=body % number, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 422) or b"0.%s" in body, (body, answer.text)
        assert answer.status_code < 500


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-gzip"])
def test_a_compressed_body_is_refused_unread(tight: Any, coding: str) -> None:
    bomb = gzip.compress(b" " * 1_000_000)
    assert len(bomb) < TIGHT["max_body_bytes"]
    for path in ("/text/search", "/text/documents"):
        post(tight, path, bomb, status=415, content_encoding=coding)
    post(tight, "/text/import", bomb, status=415, content_encoding=coding, content_type="application/x-ndjson")
