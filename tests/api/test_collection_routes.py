"""Collections over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from app.api.routes.health import InfoAnswer, ReadyAnswer
from app.api.schemas.collections import CollectionsAnswer
from app.catalogue.info import CollectionInfo, EncoderInfo


def test_a_collection_comes_and_goes(client: httpx.Client) -> None:
    body = {"name": "comes-and_goes9", "encoder": {"model": "words", "kind": "dense"}}
    made = client.post("/v1/collections", json=body)
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/collections/comes-and_goes9"
    info = TypeAdapter(CollectionInfo).validate_json(made.content)
    assert info.encoder == EncoderInfo("words", "dense", 16)
    assert (info.similarity, info.documents, info.state) == ("cosine", 0, "ready")
    assert client.get(made.headers["location"]).json() == made.json()
    assert client.get("/v1/collections/comes%2Dand_goes9").json() == made.json()
    listed = CollectionsAnswer.model_validate_json(client.get("/v1/collections").content).collections
    assert info in listed
    assert [one.name for one in listed] == sorted(one.name for one in listed)
    gone = client.delete(made.headers["location"])
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.get(made.headers["location"]).status_code == 404
    assert client.post("/v1/collections", json=body).status_code == 201


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"encoder": {"model": "words"}},
            {"similarity": "cosine", "precision": "8bit", "token_pooling": 1, "keep_vectors": True},
        ),
        (
            {"encoder": {"model": None, "dim": 3}, "similarity": "inner_product", "keep_vectors": False},
            {"similarity": "inner_product", "precision": "float32", "keep_vectors": False},
        ),
        (
            {"encoder": {"model": None, "dim": 384}, "precision": "2bit", "token_pooling": 4},
            {"precision": "2bit", "token_pooling": 4},
        ),
        ({"encoder": {"model": "words"}, "token_pooling": {"vectors": 8}}, {"token_pooling": {"vectors": 8}}),
        (
            {"encoder": {"model": None, "kind": "dense", "dim": 16_384}, "precision": "float32"},
            {"precision": "float32", "fusion": None},
        ),
        (
            {"encoder": {"model": "words"}, "fusion": {"words": 0.4, "pooled": 1}},
            {"fusion": {"words": 0.4, "tokens": 0.0, "pooled": 1.0}},
        ),
        (
            {"encoder": {"model": "words", "kind": "dense"}, "fusion": {"words": 0.4, "tokens": 0, "pooled": 1}},
            {"fusion": {"words": 0.4, "pooled": 1.0}},
        ),
        ({"encoder": {"model": "words"}, "fusion": "reciprocal_rank"}, {"fusion": "reciprocal_rank"}),
        ({"encoder": {"model": "words"}, "fusion": None}, {"fusion": None}),
    ],
)
def test_what_was_asked_for_is_described(
    client: httpx.Client, create: Callable[..., str], body: dict[str, Any], expected: dict[str, Any]
) -> None:
    described = client.get(create(**body)).json()
    assert {key: described[key] for key in expected} == expected
    assert {key: described["encoder"][key] for key in body["encoder"]} == body["encoder"]


@pytest.mark.parametrize(
    ("fusion", "pointer", "said"),
    [
        ("ranks", "/fusion", "expected reciprocal_rank, or an object of weights"),
        (1, "/fusion", "object"),
        ({"smell": 0.5}, "/fusion/smell", "unknown field"),
        ({"words": -0.1}, "/fusion/words", "expected 0.0 or more"),
        ({"words": 1.1}, "/fusion/words", "expected 1.0 or less"),
        ({"words": "1"}, "/fusion/words", "valid number"),
        ({"tokens": 0.5, "words": 0.5}, "/fusion/tokens", "the collection is dense: it has words, pooled"),
        ({"words": 0}, "/fusion", "at least one above 0"),
        ({}, "/fusion", "at least one above 0"),
    ],
)
def test_an_order_that_cannot_be_pinned_is_pointed_at(
    client: httpx.Client, fusion: Any, pointer: str, said: str
) -> None:
    body = {"name": "pinned", "encoder": {"model": "words", "kind": "dense"}, "fusion": fusion}
    answer = client.post("/v1/collections", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], said in error["message"]) == (pointer, True), error
    assert client.get("/v1/collections/pinned").status_code == 404


def test_a_search_that_does_not_say_is_weighted_as_the_collection_is(
    client: httpx.Client, create: Callable[..., str]
) -> None:
    pinned = {"words": 0.6, "tokens": 0.0, "pooled": 0.4}
    weighted, ranked = (create(encoder={"model": "words"}, fusion=one) for one in (pinned, "reciprocal_rank"))
    for address in (weighted, ranked):
        client.post(f"{address}/documents", json={"documents": [{"id": "dog", "text": "a dog barks"}]})

    def weights(address: str, **asked: Any) -> Any:
        answer = client.post(f"{address}/search", json={"query": "a dog", **asked})
        assert answer.status_code == 200, answer.text
        return answer.json().get("weights")

    usual = {"words": 0.225, "tokens": 0.3875, "pooled": 0.3875}
    assert (weights(weighted), weights(ranked)) == (pinned, None)
    for address in (weighted, ranked):
        assert weights(address, weights={"words": 1}) == {"words": 1, "tokens": 0, "pooled": 0}
        assert weights(address, fusion="reciprocal_rank") is None
        assert weights(address, fusion="weighted") == usual
        assert weights(address, fusion="weighted", weights={"words": 1}) == {"words": 1, "tokens": 0, "pooled": 0}


def test_documents_are_counted(client: httpx.Client, collection: str) -> None:
    info = client.get(collection).json()
    assert (info["documents"], info["passages"], info["tail"]) == (3, 3, 3)
    assert info["bytes"] > 0
    assert info["read_only"] is None


def test_a_rebuild_is_a_task(client: httpx.Client, collection: str, finished: Callable[[str], Any]) -> None:
    accepted = client.post(f"{collection}/rebuild")
    assert accepted.status_code == 202
    task = finished(accepted.headers["location"])
    assert (task["id"], task["kind"], task["state"]) == (accepted.json()["id"], "rebuild", "succeeded")
    info = client.get(collection).json()
    assert (info["documents"], info["tail"]) == (3, 0)
    assert info["generation"] > 0


@pytest.mark.parametrize(("asked", "status"), [("live", 200), ("ready", 200), ("live?x=1", 422), ("ready?x=1", 422)])
def test_health_by_head_is_its_get_without_a_body(client: httpx.Client, asked: str, status: int) -> None:
    port = client.base_url.port
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(f"HEAD /health/{asked} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            received = stream.read()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert body == b""
    by_get, by_head = client.get(f"/health/{asked}"), client.head(f"/health/{asked}")
    assert by_get.status_code == by_head.status_code == status
    assert by_head.headers["content-type"] == by_get.headers["content-type"]
    assert by_head.headers.keys() == by_get.headers.keys()


def test_health_and_info(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert ReadyAnswer.model_validate_json(ready.content).quarantined == []
    info = InfoAnswer.model_validate_json(client.get("/v1/info").content)
    assert [(model.name, model.kinds) for model in info.models] == [
        ("builtin", ["multi_vector", "dense"]),
        ("words", ["multi_vector", "dense"]),
    ]
    assert info.limits["documents"] == 20
    assert info.limits["k"] == 1_000
    # Without keys anyone may do all.
    assert info.caller.scopes == ["read", "write", "admin"]
    assert info.caller.collections is None
