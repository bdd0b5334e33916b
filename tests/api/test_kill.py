"""``kill -9`` of the server, ten times in a row at random moments while it is written to over HTTP."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import httpx

ROUNDS, BATCH, DOCUMENTS = 10, 20, 1_000


def text_of(number: int, version: int) -> str:
    """A document's text names its version in every word, so that vectors of another version would score less."""
    return f"n{number}v{version} m{number}v{version}"


def test_ten_kills_lose_nothing_that_was_acknowledged(start: Callable[..., Any]) -> None:
    dice = random.Random(7)
    acknowledged: dict[str, str] = {}
    # A write sent and not answered may stand or not, but whole.
    uncertain: dict[str, set[str]] = {}
    server = start(SHEAF_SEAL_DOCUMENTS="150")
    url = server.ready()
    body = {"name": "c", "encoder": {"model": "words"}}
    assert httpx.post(f"{url}/v1/collections", json=body, trust_env=False).status_code == 201
    for version in range(ROUNDS):
        killer = threading.Timer(dice.uniform(0.05, 1.2), server.process.kill)
        killer.start()
        try:
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
                for first in range(0, DOCUMENTS, BATCH):
                    texts = {f"d{n}": text_of(n, version) for n in range(first, first + BATCH)}
                    for key, text in texts.items():
                        uncertain.setdefault(key, set()).add(text)
                    documents = [{"id": key, "text": text} for key, text in texts.items()]
                    answer = client.post("/v1/collections/c/documents", json={"documents": documents})
                    assert answer.status_code == 200, answer.text
                    for key, text in texts.items():
                        acknowledged[key] = text
                        uncertain[key] = set()
        except httpx.TransportError:
            pass  # killed
        killer.join()
        server.end()
        server = start(SHEAF_SEAL_DOCUMENTS="150")
        url = server.ready()
        check(url, acknowledged, uncertain)


def check(url: str, acknowledged: dict[str, str], uncertain: dict[str, set[str]]) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        standing: dict[str, str] = {}
        cursor: dict[str, str] = {}
        while True:
            page = client.get("/v1/collections/c/documents", params={"limit": "500", **cursor}).json()
            for document in page["documents"]:
                assert document["id"] not in standing, "a duplicate"
                standing[document["id"]] = document["text"]
            if not page.get("next"):
                break
            cursor = {"cursor": page["next"]}
        for key, text in acknowledged.items():
            assert standing.get(key) in {text} | uncertain[key]
        for key, text in standing.items():
            assert text in {acknowledged.get(key)} | uncertain[key], "a phantom"
        info = client.get("/v1/collections/c").json()
        assert info["documents"] == len(standing)
        # By search too, with text and vectors of one write: only its own version's words score two.
        probes = sorted(standing)[:: max(1, len(standing) // 25)]
        searches = [{"query": standing[key], "k": 1} for key in probes]
        for exact in (False, True):
            asked = {"searches": [{**search, "exact": exact} for search in searches]}
            results = client.post("/v1/collections/c/search/batch", json=asked).json()["results"]
            for key, result in zip(probes, results, strict=True):
                assert result["hits"][0]["id"] == key
                assert result["hits"][0]["text"] == standing[key]
                assert result["hits"][0]["score"] > 1.99
        # The rounds to come are held to what stands.
        acknowledged.update(standing)
        for key in uncertain:
            uncertain[key] = set()
