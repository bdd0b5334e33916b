"""Slow clients, many at once, and searches that take long: each is ended or told to wait, others are served."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio import CapacityLimiter
from limited import head, post

from app.api.service import Budget, Lane, run
from app.errors import Overloaded
from app.settings import DeterministicModel, Settings


def dripping(port: int, head: bytes, drip: bytes, every_s: float = 0.2) -> tuple[bytes, float]:
    """Sends a byte now and then until the server ends it: what it said, and after how many seconds."""
    started = time.monotonic()
    received = b""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(head)
        connection.settimeout(every_s)
        while time.monotonic() - started < 60:
            try:
                if not (piece := connection.recv(1_000)):
                    break
                received += piece
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                connection.sendall(drip)
            except OSError:
                break
    return received, time.monotonic() - started


@pytest.mark.parametrize(
    ("sent", "drip", "status"),
    [
        (b"", b"", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"a", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n", b""),
        (head("/v1/collections/text/search"), b"a", b"408"),
        (head("/v1/collections/text/search", length="Transfer-Encoding: chunked"), b"1\r\na\r\n", b"408"),
        (head("/v1/collections/text/import", "application/x-ndjson"), b"a", b"408"),
    ],
)
def test_what_comes_drop_by_drop_is_given_up(tight: Any, sent: bytes, drip: bytes, status: bytes) -> None:
    received, took = dripping(tight.port, sent, drip)
    assert received.split(b" ")[1:2] == ([status] if status else [])
    assert took < 30


def test_a_steady_body_may_take_longer_than_the_patience(tight: Any) -> None:
    """Ten times 1,000 bytes with pauses: twice the patience in all, and never less than it asks for."""
    body = json.dumps({"documents": [{"id": "slow", "text": "word " * 2_000}]}).encode()
    with socket.create_connection(("127.0.0.1", tight.port), 60) as connection:
        connection.sendall(head("/v1/collections/text/documents", length=f"Content-Length: {len(body)}"))
        for start in range(0, len(body), 1_000):
            connection.sendall(body[start : start + 1_000])
            time.sleep(0.2)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("endless", [b"X: " + b"a" * 100_000, b"X: a\r\n" * 20_000, b"/" * 100_000])
def test_a_head_without_end_is_refused(tight: Any, endless: bytes) -> None:
    begin = b"GET " if endless.startswith(b"/") else b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    received = b""
    with socket.create_connection(("127.0.0.1", tight.port), 60) as connection:
        try:
            connection.sendall(begin)
            for start in range(0, len(endless), 10_000):
                connection.sendall(endless[start : start + 10_000])
                time.sleep(0.001)
            while piece := connection.recv(1_000):
                received += piece
        except OSError:
            return  # closed while it was still sending
    assert received == b"" or received.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_500_slow_connections_are_closed_while_others_are_served(
    running: Callable[[Settings], Any], tmp_path: Path
) -> None:
    """With the default settings. Half send their head drop by drop, half their body."""
    server = running(
        Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic", dim=16)})
    ).opened()
    try:
        post(server, "", {"name": "text", "encoder": {"model": "words"}}, status=201)
        connections = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(500)]
        started = time.monotonic()
        for i, connection in enumerate(connections):
            connection.sendall(b"GET / HTTP/1.1\r\nX: " if i % 2 else head("/v1/collections/text/search"))
            connection.setblocking(False)
        waiting, served = set(connections), 0
        while waiting and time.monotonic() - started < 60:
            for connection in list(waiting):
                try:
                    connection.send(b"a")
                    if not connection.recv(1_000):
                        waiting.discard(connection)
                except BlockingIOError:
                    pass
                except OSError:
                    waiting.discard(connection)
            post(server, "/text/search", {"query": "cat"})
            served += 1
            time.sleep(0.3)
        took = time.monotonic() - started
        for connection in connections:
            connection.close()
        assert not waiting
        assert served > 5
        assert took < 15 + 15  # a quiet machine needs 11
    finally:
        server.stop()


def test_connections_have_a_number(running: Callable[[Settings], Any], tmp_path: Path) -> None:
    server = running(Settings(indexes=tmp_path, max_connections=3)).opened()
    try:
        held = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(3)]
        assert_refused(server)
        held.pop().close()
        for _ in range(6_000):
            with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
                if client.get("/health/live").status_code == 200:
                    break
            time.sleep(0.01)
        else:
            raise AssertionError("a free place was not given")
        for connection in held:
            connection.close()
    finally:
        server.stop()


def assert_refused(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        received = connection.recv(1_000)
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in received


def test_more_searches_than_may_wait_are_told_to_come_again(
    running: Callable[[Settings], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.api.routes import searches

    release = threading.Event()
    begun = threading.Semaphore(0)
    real = searches.engine.search

    def held(*args: Any) -> Any:
        begun.release()
        assert release.wait(60)
        return real(*args)

    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = running(Settings(indexes=tmp_path, models=models, threads=1, max_queue=2)).opened()
    try:
        post(server, "", {"name": "text", "encoder": {"model": "words"}}, status=201)
        monkeypatch.setattr(searches.engine, "search", held)
        with ThreadPoolExecutor(10) as pool:
            first = pool.submit(post, server, "/text/search", {"query": "cat"})
            assert begun.acquire(timeout=60)

            def ask() -> httpx.Response:
                url = f"{server.url}/v1/collections/text/search"
                return httpx.post(url, json={"query": "cat"}, trust_env=False, timeout=60)

            others = [pool.submit(ask) for _ in range(8)]
            for _ in range(6_000):
                if sum(one.done() for one in others) == 6:
                    break
                time.sleep(0.01)
            refused = [one.result() for one in others if one.done()]
            # The rest of the service goes on, a read of the same collection too.
            assert httpx.get(f"{server.url}/v1/collections/text", trust_env=False).status_code == 200
            release.set()
            assert first.result()["hits"] == []
            answered = [one.result() for one in others]
        assert [one.status_code for one in refused] == [503] * 6
        assert {(one.json()["code"], one.headers["retry-after"]) for one in refused} == {("overloaded", "1")}
        assert sorted(one.status_code for one in answered) == [200] * 2 + [503] * 6
    finally:
        release.set()
        server.stop()


def test_a_lane_refuses_beyond_its_queue() -> None:
    async def main() -> list[str]:
        lane = Lane(CapacityLimiter(1), 1)
        said: list[str] = []
        go = threading.Event()

        async def one(name: str) -> None:
            try:
                await run(lane, go.wait, 60)
                said.append(f"{name} done")
            except Overloaded:
                said.append(f"{name} refused")
                go.set()

        async with anyio.create_task_group() as group:
            for name in ("first", "second", "third"):
                group.start_soon(one, name)
                await anyio.sleep(0.05)
        return said

    assert anyio.run(main) == ["third refused", "first done", "second done"]


def test_a_budget_is_shared_and_given_back() -> None:
    budget = Budget(10, "bytes")
    with budget.share() as one, budget.share() as other:
        one(6)
        with pytest.raises(Overloaded):
            other(5)
        other(4)
    with budget.share() as all_of_it:
        all_of_it(10)


def test_bodies_in_memory_are_limited_together(running: Callable[[Settings], Any], tmp_path: Path) -> None:
    """One body is on its way and takes what there is; when it has gone, there is room again."""
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = running(Settings(indexes=tmp_path, models=models, max_buffered_bytes=20_000, body_timeout_s=30)).opened()
    try:
        post(server, "", {"name": "text", "encoder": {"model": "words"}}, status=201)
        large = {"query": "a" * 9_000}
        with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
            connection.sendall(head("/v1/collections/text/search", length="Content-Length: 30000") + b"a" * 15_000)
            for _ in range(6_000):
                answer = httpx.post(f"{server.url}/v1/collections/text/search", json=large, trust_env=False)
                if answer.status_code == 503:
                    break
                time.sleep(0.01)
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            post(server, "/text/search", {"query": "small"})
        for _ in range(6_000):
            if httpx.post(f"{server.url}/v1/collections/text/search", json=large, trust_env=False).status_code == 200:
                return
            time.sleep(0.01)
        raise AssertionError("what the other took was not given back")
    finally:
        server.stop()


def test_a_search_ends_when_its_time_is_over(
    client: httpx.Client, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.query import reaching

    real = reaching.find_candidates

    def slow(*args: Any) -> Any:
        time.sleep(0.3)
        return real(*args)

    monkeypatch.setattr(reaching, "find_candidates", slow)
    late = client.post(f"{collection}/search", json={"query": "cat", "timeout_ms": 100})
    assert (late.status_code, late.json()["code"]) == (504, "search_timeout")
    batch = client.post(
        f"{collection}/search/batch", json={"searches": [{"query": "cat"}, {"query": "dog", "timeout_ms": 100}]}
    )
    assert batch.status_code == 504
    assert client.post(f"{collection}/search", json={"query": "cat", "timeout_ms": 60_000}).status_code == 200
    assert client.post(f"{collection}/search", json={"query": "cat"}).status_code == 200
    for wrong in (0, -1, 600_001, 1.5, "1", True):
        assert client.post(f"{collection}/search", json={"query": "a", "timeout_ms": wrong}).status_code == 422


def test_the_server_has_a_time_of_its_own(
    running: Callable[[Settings], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.query import reaching

    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = running(Settings(indexes=tmp_path, models=models, search_timeout_ms=100)).opened()
    real = reaching.find_candidates
    try:
        post(server, "", {"name": "text", "encoder": {"model": "words"}}, status=201)
        monkeypatch.setattr(reaching, "find_candidates", lambda *args: time.sleep(0.3) or real(*args))
        post(server, "/text/search", {"query": "cat", "timeout_ms": 60_000}, status=504)
    finally:
        server.stop()
