"""The libraries that a server has loaded, by the memory map of its process: no torch and no SciPy without need."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import EncoderRefused
from app.settings import DeterministicModel

LIBRARIES = ("torch", "openvino", "tokenizers", "faiss", "scipy/linalg")


def loaded(process: Any) -> set[str]:
    """Which libraries' files the process has mapped."""
    lines = Path(f"/proc/{process.process.pid}/maps").read_text().splitlines()
    files = [line.split(maxsplit=5)[5] for line in lines if line.count("/")]
    return {name for name in LIBRARIES if any(f"/site-packages/{name}/" in file for file in files)}


def post(url: str, body: Any) -> Any:
    answer = httpx.post(url, json=body, trust_env=False, timeout=120)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def test_callers_vectors_need_no_encoder_and_the_built_in_one_no_torch(
    start: Callable[..., Any], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    first = start(cold=True)
    url = f"{first.ready()}/v1/collections"
    post(url, {"name": "own", "encoder": {"model": None, "kind": "multi_vector", "dim": 2}})
    post(f"{url}/own/documents", {"documents": [{"id": "a", "vectors": [[1, 0]]}, {"id": "b", "vectors": [[0, 1]]}]})
    assert post(f"{url}/own/search", {"vectors": [[1, 0.5]]})["hits"][0]["id"] == "a"
    assert loaded(first) <= {"faiss"}
    # The first use converts the model, in the background, where the installation has not.
    made = {"json": {"name": "text"}, "headers": {"Idempotency-Key": "one"}, "trust_env": False, "timeout": 120}
    eventually(lambda: httpx.post(url, **made).status_code == 201)
    post(f"{url}/text/documents", {"documents": [{"id": "zip", "text": "archives"}, {"id": "cat", "text": "a pet"}]})
    assert {"openvino", "tokenizers"} <= loaded(first)
    assert not {"torch", "scipy/linalg"} & loaded(first)
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 0
    second = start(cold=True)
    url = f"{second.ready()}/v1/collections"
    # Before anybody searches for a text.
    eventually(lambda: loaded(second) >= {"openvino", "tokenizers"})
    assert post(f"{url}/own/search", {"vectors": [[0, 1]]})["hits"][0]["id"] == "b"
    assert post(f"{url}/text/search", {"query": "a dog or a cat"})["hits"][0]["id"] == "cat"
    post(f"{url}/text/documents", {"documents": [{"id": "tar", "text": "tapes"}]})
    assert loaded(second) >= {"openvino", "tokenizers"}
    assert not {"torch", "scipy/linalg"} & loaded(second)


def test_what_is_loaded_at_start(
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    """The local encoders of collections that are there; what fails is told, and the server serves."""
    from app.encoders.registry import Encoders

    asked: list[str] = []
    real = Encoders.get

    def get(encoders: Encoders, name: str, kind: Any, *_: Any, **__: Any) -> Any:
        asked.append(name)
        if name == "gone":
            raise EncoderRefused("the folder of 'gone' is gone")
        return real(encoders, "words", kind)

    monkeypatch.setattr(Encoders, "get", get)
    models = {
        "words": DeterministicModel(type="deterministic", dim=16),
        "gone": {"type": "sentence_transformer", "path": "nowhere"},
        "far": {"type": "remote", "url": "http://127.0.0.1:9/v1", "model": "m", "dim": 16},
    }
    first = serve(models=models)
    for name, encoder in (
        ("a", {"model": "builtin"}),
        ("b", {"model": "words"}),
        ("c", {"model": "far", "kind": "dense"}),
        ("own", {"model": None, "dim": 2}),
    ):
        post(f"{first.url}/v1/collections", {"name": name, "encoder": encoder})
    monkeypatch.setattr(Encoders, "get", lambda encoders, name, kind, *_, **__: real(encoders, "words", kind))
    post(f"{first.url}/v1/collections", {"name": "d", "encoder": {"model": "gone"}})
    monkeypatch.setattr(Encoders, "get", get)
    first.stop()
    asked.clear()
    second = serve(models=models)
    eventually(second.app.state.warming.done)
    assert list(dict.fromkeys(asked)) == ["builtin", "gone"]
    assert [r.message for r in caplog.records if r.name == "app.catalogue.warming"] == [
        "the encoder of collection d: the folder of 'gone' is gone"
    ]
    assert httpx.get(f"{second.url}/health/ready", trust_env=False).status_code == 200
