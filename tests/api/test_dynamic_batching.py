"""Requests that stand in line together: one call answers them, and each has its own answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from anyio import CapacityLimiter
from running import Running

from app.api import dynamic_batching
from app.api.dynamic_batching import DynamicBatching
from app.batch import together
from app.errors import Damaged, NotFound, TooSlow

LONG = time.monotonic() + 3_600


class Doubling:
    """Twice a number. The first call waits until it may go on."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, asked: Sequence[Any]) -> list[Any]:
        self.calls.append(list(asked))
        if len(self.calls) == 1:
            self.begun.set()
            assert self.go_on.wait(60)
        if "damage" in asked:
            raise Damaged("a block is not what was written")
        return [NotFound(one) if isinstance(one, str) else 2 * one for one in asked]


async def in_line(line: DynamicBatching, work: Doubling, asked: Sequence[Any]) -> list[asyncio.Task[Any]]:
    """A call that runs, for 0, and what came meanwhile."""
    first = asyncio.ensure_future(line.ask("a", 0, work))
    assert await asyncio.to_thread(work.begun.wait, 60)
    tasks = [asyncio.ensure_future(line.ask("a", one, work)) for one in asked]
    await asyncio.sleep(0)
    return [first, *tasks]


def played(steps: Callable[[DynamicBatching, Doubling], Any]) -> Doubling:
    work = Doubling()
    asyncio.run(steps(DynamicBatching(CapacityLimiter(4), 1), work))
    return work


def test_what_comes_while_a_call_runs_is_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_batching, "MOST", 3)

    async def steps(line: DynamicBatching, work: Doubling) -> None:
        tasks = await in_line(line, work, [1, 2, "none", 3, 4])
        # Another line does not wait for this one.
        assert await line.ask("b", 7, lambda asked: [one + 1 for one in asked]) == 8
        work.go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(one) for one in found] == ["0", "2", "4", "none", "6", "8"]
        assert isinstance(found[3], NotFound)

    assert played(steps).calls == [[0], [1, 2, "none"], [3, 4]]


def test_an_error_of_the_call_is_of_all_in_it_and_the_line_goes_on() -> None:
    async def steps(line: DynamicBatching, work: Doubling) -> None:
        tasks = await in_line(line, work, [1, "damage"])
        work.go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [int, Damaged, Damaged]
        assert await line.ask("a", 5, work) == 10

    assert played(steps).calls == [[0], [1, "damage"], [5]]


def test_who_gives_up_is_left_out_and_takes_nobody_along() -> None:
    async def steps(line: DynamicBatching, work: Doubling) -> None:
        first, second, third = await in_line(line, work, [1, 2])
        first.cancel()
        second.cancel()
        await asyncio.sleep(0)
        work.go_on.set()
        assert await third == 4
        assert first.cancelled()
        assert second.cancelled()

    assert played(steps).calls == [[0], [2]]


def test_who_has_less_time_is_told_so_in_line_and_in_a_call() -> None:
    async def steps(line: DynamicBatching, work: Doubling) -> None:
        first = asyncio.ensure_future(line.ask("a", 0, work))
        assert await asyncio.to_thread(work.begun.wait, 60)
        others = [asyncio.ensure_future(line.ask("a", 1, work)), asyncio.ensure_future(line.ask("a", 2, work, LONG))]
        # The call that it waits for has not ended.
        with pytest.raises(TooSlow):
            await line.ask("a", 3, work, time.monotonic() + 0.01)
        assert not first.done()
        work.go_on.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4]

    assert played(steps).calls == [[0], [1, 2]]


def test_searches_over_http_are_ranked_together_and_answered_as_alone(
    serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = httpx.Client(base_url=serve(threads=2).url, trust_env=False, timeout=60)
    address, encoder = "/v1/collections/line", {"model": None, "kind": "dense", "dim": 3}
    assert client.post("/v1/collections", json={"name": "line", "encoder": encoder}).status_code == 201
    rows = [[1, 0.1 * i, -0.2 * i] for i in range(30)]
    documents = [{"id": str(i), "text": f"text {i}", "vector": row} for i, row in enumerate(rows)]
    assert client.post(f"{address}/documents", json={"documents": documents}).status_code == 200
    bodies = [{"vector": row, "k": 4} for row in rows[:12]]
    bodies[7] = {"vector": [1, 2], "k": 4}
    keys, line = list[Any](), DynamicBatching.ask

    async def noted(self: DynamicBatching, key: Any, *rest: Any) -> Any:
        keys.append(key)
        return await line(self, key, *rest)

    monkeypatch.setattr(DynamicBatching, "ask", noted)
    alone = [answer_of(client.post(f"{address}/search", json=body)) for body in bodies]
    calls: list[int] = []
    begun, go_on, original = threading.Event(), threading.Event(), together.search_each

    def waits(collection: Any, waiting: Sequence[together.Waiting]) -> Any:
        calls.append(len(waiting))
        if len(calls) == 1:
            begun.set()
            assert go_on.wait(60)
        return original(collection, waiting)

    monkeypatch.setattr("app.api.routes.searches.search_each", waits)
    with ThreadPoolExecutor(len(bodies)) as pool:
        first = pool.submit(client.post, f"{address}/search", json=bodies[0])
        assert begun.wait(60)
        others = [pool.submit(client.post, f"{address}/search", json=body) for body in bodies[1:]]
        while waiting_in(client) < len(bodies):
            pass
        go_on.set()
        found = [answer_of(one.result()) for one in (first, *others)]
    assert found == alone
    # The first alone, then all that waited for it.
    assert calls == [1, len(bodies) - 1]
    calls.clear()
    for k in (4, 5, 5):
        assert client.post(f"{address}/search", json={"vector": rows[0], "k": k, "offset": 1}).status_code == 200
    assert keys[len(bodies) :] == [*[("line", 4, None)] * len(bodies), ("line", 5, None), *[("line", 6, None)] * 2]
    # Those that have no pass together stand in no line: each has a thread, and none holds another one's answer.
    encoder["dim"] = 2
    ball = {"name": "ball", "encoder": encoder, "similarity": "poincare"}
    assert client.post("/v1/collections", json=ball).status_code == 201
    some = [{"id": "a", "vector": [0.1, 0.2]}]
    assert client.post("/v1/collections/ball/documents", json={"documents": some}).status_code == 200
    keys.clear()
    found = [answer_of(client.post("/v1/collections/ball/search", json={"vector": [0.1, 0.2]}))]
    assert [hit["id"] for hit in found[0][1]["hits"]] == ["a"]
    assert not keys
    client.close()


def answer_of(answer: httpx.Response) -> Any:
    """Without times and ids of requests."""
    body = answer.json()
    return answer.status_code, {name: body.get(name) for name in ("hits", "total", "next", "errors", "code")}


def waiting_in(client: httpx.Client) -> float:
    """Searches that work or wait, by the server's own figures."""
    figures = client.get("/metrics").text
    inside = [line.split()[-1] for line in figures.splitlines() if 'lane="search"' in line and "threads" not in line]
    return sum(map(float, inside))
