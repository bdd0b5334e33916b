"""What a server has loaded, by the memory map of its process: no torch where none is needed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

LIBRARIES = ("torch", "openvino", "tokenizers", "faiss")


def loaded(process: Any) -> set[str]:
    """Which libraries' files the process has mapped."""
    lines = Path(f"/proc/{process.process.pid}/maps").read_text().splitlines()
    files = [line.split(maxsplit=5)[5] for line in lines if line.count("/")]
    return {name for name in LIBRARIES if any(f"/site-packages/{name}/" in file for file in files)}


def post(url: str, body: Any) -> Any:
    answer = httpx.post(url, json=body, trust_env=False, timeout=120)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def test_callers_vectors_need_no_encoder_and_converted_models_no_torch(start: Callable[..., Any]) -> None:
    first = start()
    url = f"{first.ready()}/v1/collections"
    post(url, {"name": "own", "encoder": {"model": None, "kind": "multi_vector", "dim": 2}})
    post(f"{url}/own/documents", {"documents": [{"id": "a", "vectors": [[1, 0]]}, {"id": "b", "vectors": [[0, 1]]}]})
    assert post(f"{url}/own/search", {"vectors": [[1, 0.5]]})["hits"][0]["id"] == "a"
    assert loaded(first) <= {"faiss"}
    post(url, {"name": "text"})
    post(f"{url}/text/documents", {"documents": [{"id": "zip", "text": "archives"}, {"id": "cat", "text": "a pet"}]})
    # The first use converts the model, with torch: so the map does tell.
    assert {"torch", "openvino", "tokenizers"} <= loaded(first)
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 0
    second = start()
    url = f"{second.ready()}/v1/collections"
    assert post(f"{url}/own/search", {"vectors": [[0, 1]]})["hits"][0]["id"] == "b"
    assert loaded(second) <= {"faiss"}
    assert post(f"{url}/text/search", {"query": "a dog or a cat"})["hits"][0]["id"] == "cat"
    post(f"{url}/text/documents", {"documents": [{"id": "tar", "text": "tapes"}]})
    assert loaded(second) >= {"openvino", "tokenizers"}
    assert "torch" not in loaded(second)
