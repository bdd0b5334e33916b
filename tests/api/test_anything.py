"""The answer is an answer, whatever is sent: never a 5xx, and each refusal is a problem."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FIELDS = [
    "name",
    "encoder",
    "model",
    "kind",
    "dim",
    "similarity",
    "precision",
    "token_pooling",
    "documents",
    "id",
    "text",
    "title",
    "metadata",
    "vector",
    "vectors",
    "ids",
    "filter",
    "and",
    "or",
    "not",
    "eq",
    "in",
    "exists",
    "legs",
    "query",
    "k",
    "exact",
    "candidates",
    "include",
    "searches",
    "base64",
    "dtype",
    "shape",
    "limit",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["words", "dense", "text", "cat", "float16", "AAAA"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=3)), inner)
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    VALUES.map(json.dumps),
    st.fixed_dictionaries(
        {},
        optional={
            "query": VALUES,
            "k": VALUES,
            "filter": VALUES,
            "vectors": VALUES,
            "include": VALUES,
            "ids": VALUES,
            "documents": st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5), max_size=3),
            "metadata": VALUES,
            "text": VALUES,
        },
    ).map(json.dumps),
    st.text(max_size=20),
)
ROUTES = [
    ("POST", "/v1/collections"),
    ("POST", "/v1/collections/anything/documents"),
    ("POST", "/v1/collections/anything/documents/get"),
    ("POST", "/v1/collections/anything/delete"),
    ("POST", "/v1/collections/anything/count"),
    ("POST", "/v1/collections/anything/search"),
    ("PUT", "/v1/collections/anything/documents/cat"),
    ("PATCH", "/v1/collections/anything/documents/cat"),
]
LAWS = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", autouse=True)
def _anything(client: httpx.Client) -> None:
    client.post("/v1/collections", json={"name": "anything", "encoder": {"model": "words"}})
    client.put("/v1/collections/anything/documents/cat", json={"text": "a cat", "metadata": {"legs": 4}})


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        problem: dict[str, Any] = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == answer.status_code
        assert (answer.status_code == 422) == bool(problem.get("errors"))


@pytest.mark.parametrize(("method", "path"), ROUTES)
@LAWS
@given(body=BODIES)
def test_any_body(client: httpx.Client, method: str, path: str, body: str) -> None:
    check(client.request(method, path, content=body.encode(), headers={"Content-Type": "application/json"}))


@LAWS
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "POST"]),
    name=st.one_of(st.just("anything"), st.text(max_size=8)),
    id=st.text(max_size=20),
    query=st.dictionaries(st.sampled_from(["limit", "cursor", "filter", "x"]), st.text(max_size=10)),
)
def test_any_path(client: httpx.Client, method: str, name: str, id: str, query: dict[str, str]) -> None:
    for path in (f"/v1/collections/{quote(name, safe='')}/documents", f"/v1/tasks/{quote(id, safe='')}"):
        check(client.request(method, path, params=query))
    path = f"/v1/collections/{quote(name, safe='')}/documents/{quote(id, safe='')}"
    check(client.request(method, path, json={"text": "a dog", "metadata": {}} if method == "PUT" else None))
