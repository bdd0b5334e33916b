"""Encoders that take long to load: who waits for them, who is told to come again, and when the server is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

import app.main
from app.client import Retries, Sheaf, blocking
from app.encoders.registry import Encoders
from app.settings import Settings

VECTORS = {"name": "own", "encoder": {"model": None, "kind": "dense", "dim": 2}}
TEXTS = {"name": "texts", "encoder": {"model": "words"}}


@pytest.fixture
def loading(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No model opens before the event is set, and nobody waits long for one. Servers are stopped after it is."""
    go, real = threading.Event(), Encoders._maker

    def slow(encoders: Encoders, name: str) -> Any:
        assert go.wait(300)
        return real(encoders, name)

    monkeypatch.setattr(app.main, "PATIENCE_S", 0.05)
    monkeypatch.setattr(Encoders, "_maker", slow)
    yield go
    go.set()


def ask(server: Any, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(
        method, f"{server.url}{path}", json=body, headers=headers, trust_env=False, verify=False, timeout=300
    )


def test_readiness_waits_for_the_encoders_that_are_preloaded(
    loading: threading.Event, serve: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    server = serve(wait=False, preload="words")
    eventually(server.app.state.opening.done)
    eventually(lambda: "words" in ask(server, "GET", "/health/ready").json().get("detail", ""))
    answer = ask(server, "GET", "/health/ready")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    assert "sheaf_ready 0.0" in ask(server, "GET", "/metrics").text
    # A request that needs no encoder is answered meanwhile.
    assert ask(server, "POST", "/v1/collections", VECTORS).status_code == 201
    loading.set()
    eventually(server.app.state.warming.done)
    ready = ask(server, "GET", "/health/ready")
    assert (ready.status_code, ready.json()["encoders"]) == (200, {"builtin": "not loaded", "words": "loaded"})
    assert "sheaf_ready 1.0" in ask(server, "GET", "/metrics").text


def test_what_needs_an_encoder_that_is_being_loaded_is_told_to_come_again(
    loading: threading.Event, serve: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    server = serve(preload="none")
    told = ask(server, "POST", "/v1/collections", TEXTS)
    assert (told.status_code, told.json()["code"], told.headers["retry-after"]) == (503, "encoder_loading", "5")
    assert ask(server, "GET", "/v1/collections/texts").status_code == 404
    assert ask(server, "GET", "/v1/info").json()["models"][1]["state"] == "loading"
    loading.set()
    # The loading that the refused request began went on.
    eventually(lambda: ask(server, "GET", "/v1/info").json()["models"][1]["state"] != "loading")
    assert ask(server, "POST", "/v1/collections", TEXTS).status_code == 201
    words = ask(server, "GET", "/v1/info").json()["models"][1]
    assert {name: words[name] for name in ("name", "state", "dim", "max_tokens", "backend", "warning")} == {
        "name": "words", "state": "loaded", "dim": 16, "max_tokens": 512, "backend": "hash", "warning": None,
    }  # fmt: skip


def test_a_command_that_creates_a_collection_waits_for_its_encoder(
    loading: threading.Event, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(preload="none")
    # Between two of its tries the encoder has been loaded.
    monkeypatch.setattr(blocking, "time", SimpleNamespace(sleep=lambda _: loading.set()))
    with Sheaf(server.url, retries=Retries(tries=1)) as sheaf:
        assert sheaf.create(TEXTS["name"], **TEXTS["encoder"]).describe()["name"] == "texts"


def test_a_search_waits_for_an_encoder_no_longer_than_it_may(
    loading: threading.Event, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.main, "PATIENCE_S", 300)
    loading.set()
    first = serve()
    assert ask(first, "POST", "/v1/collections", TEXTS).status_code == 201
    first.stop()
    loading.clear()
    second = serve(preload="none")
    answer = ask(second, "POST", "/v1/collections/texts/search", {"query": "a", "timeout_ms": 50})
    assert (answer.status_code, answer.json()["code"]) == (503, "encoder_loading")


def test_a_preloaded_encoder_that_nobody_configured_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match="there is no 'wrods'"):
        Settings(preload="builtin, wrods")
    assert Settings(preload="builtin").preloaded == ["builtin"]
    assert Settings(preload="none").preloaded == Settings().preloaded == []


def test_a_creation_under_a_key_is_made_once(serve: Callable[..., Any]) -> None:
    server = serve()
    first = ask(server, "POST", "/v1/collections", TEXTS, **{"Idempotency-Key": "k1"})
    assert first.status_code == 201
    ask(server, "POST", "/v1/collections/texts/documents", {"documents": [{"id": "a", "text": "cat"}]})
    again = ask(server, "POST", "/v1/collections", TEXTS, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.content, again.headers["location"]) == (
        201, first.content, "/v1/collections/texts",
    )  # fmt: skip
    other = ask(server, "POST", "/v1/collections", {**TEXTS, "precision": "8bit"}, **{"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    for headers in ({}, {"Idempotency-Key": "k2"}):
        taken = ask(server, "POST", "/v1/collections", TEXTS, **headers)
        assert (taken.status_code, taken.json()["code"]) == (409, "collection_exists")
    # Once it is deleted, so is what was answered.
    assert ask(server, "DELETE", "/v1/collections/texts").status_code == 204
    assert ask(server, "POST", "/v1/collections", TEXTS, **{"Idempotency-Key": "k1"}).status_code == 201


def test_a_creation_whose_answer_was_lost_is_answered_to_the_retry(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stops after the collection is there and before its answer is known."""
    from app.catalogue.catalogue import Catalogue

    def lost(*_: Any) -> Any:
        raise OSError("the machine stops")

    server = serve()
    with monkeypatch.context() as stopping:
        stopping.setattr(Catalogue, "describe", lost)
        assert ask(server, "POST", "/v1/collections", TEXTS, **{"Idempotency-Key": "k1"}).status_code >= 500
    server.stop()
    second = serve()
    answers = [ask(second, "POST", "/v1/collections", TEXTS, **{"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert answers[0].json()["name"] == "texts"
