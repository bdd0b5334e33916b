"""Errors: one shape, stable codes, request ids, and nothing of the inside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

FIELDS = {"type", "title", "status", "detail", "code", "request_id"}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) - {"errors"} == FIELDS
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:sheaf:problem:{code}")
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/nothing", "not_found"),
        ("POST", "/v1/nothing", "not_found"),
        ("GET", "/v1/collections/", "not_found"),
        ("GET", "/v1/collections/absent", "collection_not_found"),
        ("DELETE", "/v1/collections/absent", "collection_not_found"),
        ("POST", "/v1/collections/absent/rebuild", "collection_not_found"),
        ("GET", "/v1/collections/absent/documents", "collection_not_found"),
        ("GET", "/v1/collections/absent/documents/a", "collection_not_found"),
        ("GET", "/v1/collections/%2e%2e", "collection_not_found"),
        ("GET", "/v1/collections/%2e%2e%2fsecret", "collection_not_found"),
        ("GET", "/v1/collections/UPPER", "collection_not_found"),
        ("GET", "/v1/collections/a%00b", "collection_not_found"),
        ("GET", f"/v1/collections/{'a' * 64}", "collection_not_found"),
        ("GET", "/v1/tasks/absent", "task_not_found"),
        ("GET", "/v1/tasks/%2e%2e%2f", "task_not_found"),
        ("POST", "/v1/tasks/absent/cancel", "task_not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", "not_found"),
        ("GET", "/static/../../settings.py", "not_found"),
        ("POST", "/v1/completions", "not_found"),
    ],
)
def test_what_is_not_there(client: httpx.Client, method: str, path: str, code: str) -> None:
    problem(client.request(method, path), 404, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/collections", "GET, HEAD, POST"),
        ("PUT", "/v1/collections/c", "DELETE, GET, HEAD, PATCH"),
        ("DELETE", "/v1/collections/c/documents", "GET, HEAD, POST"),
        ("POST", "/v1/collections/c/documents/a/b", "DELETE, GET, HEAD, PATCH, PUT"),
        ("GET", "/v1/collections/c/search", "POST"),
        ("GET", "/v1/collections/c/import", "POST"),
        ("DELETE", "/v1/tasks/t", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/health/live", "GET, HEAD"),
    ],
)
def test_another_method(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limt=5", "/limt"),
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        ("limit=x", "/limit"),
        ("limit=1.5", "/limit"),
        (f"limit={'9' * 5000}", "/limit"),
        ("filter=x", "/filter"),
        ("filter=[]", "/filter"),
        ("filter=%ff", "/filter"),
        ("cursor=%ff", "/cursor"),
        ("limit=5&cursor=a%ed%a0%80", "/cursor"),
        ('filter={"a":{"eq":NaN}}', "/filter/a/eq"),
        ('filter={"a":{"like":1}}', "/filter/a/like"),
    ],
)
def test_parameters_are_pointed_at(client: httpx.Client, collection: str, query: str, pointer: str) -> None:
    body = problem(client.get(f"{collection}/documents?{query}"), 422, "invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_a_request_id_is_taken_if_it_is_sane(client: httpx.Client) -> None:
    assert client.get("/health/live", headers={"X-Request-Id": "from-me.1"}).headers["x-request-id"] == "from-me.1"
    assert problem(client.get("/x", headers={"X-Request-Id": "mine"}), 404, "not_found")["request_id"] == "mine"
    made = set()
    for insane in ("", "a b", "x" * 129, '"><script>'):
        made.add(client.get("/health/live", headers={"X-Request-Id": insane}).headers["x-request-id"])
    assert len(made) == 4
    assert all(len(id) == 32 for id in made)


def test_the_unexpected_is_logged_and_not_told(
    client: httpx.Client, server: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.catalogue.catalogue import Catalogue

    def broken(self: Catalogue) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(Catalogue, "describe_all", broken)
    answer = client.get("/v1/collections")
    id = problem(answer, 500, "internal")["request_id"]
    assert "secret" not in answer.text
    assert "ZeroDivisionError" not in answer.text
    logged = [record for record in caplog.records if id in record.getMessage() and record.exc_info]
    assert len(logged) == 1
    monkeypatch.undo()
    assert client.get("/v1/collections").status_code == 200


def test_one_line_a_request_without_its_content(
    client: httpx.Client,
    collection: str,
    caplog: pytest.LogCaptureFixture,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    def lines() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.getMessage().startswith("seen ")]

    with caplog.at_level(logging.INFO, logger="app.api.edge.frame"):
        answer = client.get(f"{collection}/documents/a-secret-id", headers={"X-Request-Id": "seen"})
        eventually(lambda: bool(lines()))
    assert answer.status_code == 404
    assert len(lines()) == 1
    assert lines()[0].startswith("seen GET /v1/collections/{name}/documents/{id} 404 ")
    assert "secret" not in lines()[0]


def test_errors_of_the_engine_keep_their_codes(client: httpx.Client, create: Callable[..., str]) -> None:
    address = create()
    name = address.rpartition("/")[2]
    again = client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}})
    problem(again, 409, "collection_exists")
    unknown = client.post("/v1/collections", json={"name": "other", "encoder": {"model": "unknown"}})
    assert [e["pointer"] for e in problem(unknown, 422, "invalid")["errors"]] == ["/encoder/model"]
    problem(client.get(f"{address}/documents/none"), 404, "document_not_found")
