"""Collections over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from running import Running

from app.api.routes.health import InfoAnswer, ReadyAnswer
from app.api.schemas.collections import CollectionsAnswer
from app.catalogue.info import CollectionInfo, EncoderInfo
from app.compute.turns import Turns
from app.settings import DeterministicModel, Settings
from app.store import folders


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
    *_, last = client.get(f"{collection}/history").json()["generations"]
    assert (last["generation"], last["documents"], last["segments"]) == (info["generation"], 3, info["segments"])
    assert [last[name] for name in ("sources", "candidates", "learned")] == [
        info["first_stage"][name] for name in ("sources", "candidates", "learned")
    ]


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


REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/fields", None),
    ("PATCH", "", {"schema": {"legs": "number"}}),
    ("GET", "/documents", None),
    ("GET", "/documents/cat", None),
    ("POST", "/documents", {"documents": [{"id": "owl", "text": "an owl"}]}),
    ("PATCH", "/documents/cat", {"metadata": {"legs": 3}}),
    ("DELETE", "/documents/cat", None),
    ("POST", "/count", {}),
    ("POST", "/search", {"query": "a cat"}),
    ("POST", "/import", {"id": "owl", "text": "an owl"}),
    ("GET", "/export", None),
    ("POST", "/snapshots", None),
    ("POST", "/rebuild", None),
    ("GET", "/judgements", None),
    ("GET", "/v1/tasks/", None),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, running: Callable[[Settings], Running]) -> Iterator[Running]:
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = running(Settings(indexes=tmp_path_factory.mktemp("deleted"), models=models)).opened()
    yield server
    server.stop()


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_what_meets_a_deletion_is_told_that_nothing_is_there(
    served: Running,
    eventually: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    body: Any,
) -> None:
    """A request that finds the collection closed, while it is being deleted, answers as one after it."""
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client, ThreadPoolExecutor(2) as pool:
        client.post("/v1/collections", json={"name": "c", "encoder": {"model": "words"}}).raise_for_status()
        document = {"id": "cat", "text": "a cat", "metadata": {"legs": 4}}
        client.post("/v1/collections/c/documents", json=document).raise_for_status()
        task = ""
        if path == "/v1/tasks/":
            task = client.post("/v1/collections/c/rebuild").json()["id"]
            eventually(lambda: client.get(f"/v1/tasks/{task}").json()["finished"] is not None)
        closed, go, waiting = threading.Event(), threading.Event(), list[str]()
        take_away, turn_of = folders.take_away, Turns.of

        def held(*given: Any) -> str:
            closed.set()
            assert go.wait(60)
            return take_away(*given)

        def counted(turns: Turns, name: str) -> Any:
            waiting.append(name)
            return turn_of(turns, name)

        monkeypatch.setattr(folders, "take_away", held)
        deleted = pool.submit(client.delete, "/v1/collections/c")
        assert closed.wait(60)
        monkeypatch.setattr(Turns, "of", counted)
        lines = {"Content-Type": "application/x-ndjson"} if path == "/import" else None
        address = f"{path}{task}" if task else f"/v1/collections/c{path}"
        asked = pool.submit(client.request, method, address, json=body, headers=lines)
        eventually(lambda: bool(waiting) or asked.done())
        go.set()
        assert deleted.result().status_code == 204
        told = asked.result()
    assert (told.status_code, told.json()["code"]) == (404, "task_not_found" if task else "collection_not_found")
