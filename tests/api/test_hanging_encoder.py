"""An encoder that never answers holds up what needs it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from embedding_server import EmbeddingServer

from app.api.service import SEARCHING
from app.settings import RemoteModel

CLIENTS = 64


@pytest.fixture
def embedding() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    yield server
    server.close()


@pytest.fixture
def server(embedding: EmbeddingServer, serve: Callable[..., Any]) -> Any:
    """With a collection of vectors, `near`, and one whose encoder is remote, `far`."""
    far = RemoteModel(type="remote", url=embedding.url, model="m", dim=embedding.dim, timeout_s=600, retries=0)
    running = serve(models={"far": far}, threads=2, search_timeout_ms=600_000)
    for name, encoder in (
        ("near", {"model": None, "kind": "dense", "dim": 2}),
        ("far", {"model": "far", "kind": "dense"}),
    ):
        made = post(running, "/v1/collections", {"name": name, "encoder": encoder})
        assert made.status_code == 201, made.text
    assert post(running, "/v1/collections/near/documents", {"documents": [{"id": "a", "vector": [1, 0]}]}).is_success
    return running


def post(server: Any, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, trust_env=False, verify=False, timeout=300)


def busy(server: Any, work: str) -> int:
    """Threads that work for the encoder, as they are scraped."""
    lane = f'sheaf_lane_busy{{lane="{work}:far"}} '
    lines = httpx.get(f"{server.url}/metrics", trust_env=False, verify=False, timeout=300).text.splitlines()
    return int(next((float(line.removeprefix(lane)) for line in lines if line.startswith(lane)), 0))


def test_searches_of_others_go_on_while_64_clients_wait_for_an_encoder(
    server: Any, embedding: EmbeddingServer, eventually: Callable[..., None]
) -> None:
    embedding.script = [embedding.hanging] * 2 * CLIENTS
    by_vector = {"vector": [0.0] * (embedding.dim - 1) + [1.0]}
    with ThreadPoolExecutor(CLIENTS) as pool:
        waiting = [pool.submit(post, server, "/v1/collections/far/search", {"query": "a"}) for _ in range(CLIENTS)]
        eventually(lambda: busy(server, "search") == SEARCHING)
        for _ in range(10):
            found = post(server, "/v1/collections/near/search", {"vector": [1, 0]})
            assert [hit["id"] for hit in found.json()["hits"]] == ["a"]
            # Nor does it hold up what of its own collection needs no encoder.
            assert post(server, "/v1/collections/far/search", by_vector).json()["hits"] == []
        assert not [one for one in waiting if one.done()]
        embedding.script = []
        embedding.release.set()
        assert {one.result().status_code for one in waiting} == {200}
    # Those that waited were encoded together.
    assert len(embedding.requests) < CLIENTS / 2


def test_writes_of_others_go_on_while_writes_wait_for_an_encoder(
    server: Any, embedding: EmbeddingServer, eventually: Callable[..., None]
) -> None:
    embedding.script = [embedding.hanging] * 8
    with ThreadPoolExecutor(8) as pool:
        waiting = [
            pool.submit(post, server, "/v1/collections/far/documents", {"documents": [{"id": str(n), "text": "a cat"}]})
            for n in range(8)
        ]
        eventually(lambda: len(embedding.requests) == busy(server, "write") == 4)
        for n in range(10):
            written = post(server, "/v1/collections/near/documents", {"documents": [{"id": f"b{n}", "vector": [0, 1]}]})
            assert written.json()["written"] == 1
            assert post(server, "/v1/collections/far/delete", {"ids": ["absent"]}).json() == {"deleted": 0}
        assert not [one for one in waiting if one.done()]
        embedding.script = []
        embedding.release.set()
        assert {one.result().status_code for one in waiting} == {200}


def test_a_search_ends_with_its_own_time_though_the_encoder_hangs(server: Any, embedding: EmbeddingServer) -> None:
    embedding.script = [embedding.hanging]
    answer = post(server, "/v1/collections/far/search", {"query": "a", "timeout_ms": 100})
    assert (answer.status_code, answer.json()["code"]) == (504, "search_timeout")
    assert not embedding.release.is_set()
