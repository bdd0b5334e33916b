"""Requests that stand in line together are worked on by one call in one thread; a lone one waits for nothing.

There is no window of time, as for the texts of queries (app.encoders.together): one that comes while fewer calls run
than may is worked on at once; what comes meanwhile is the next call as soon as one ends. So the busier the server, the
more requests share what a call costs: a thread is woken once, and so is the event loop, and what their work has in
common is done once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import anyio.to_thread
from anyio import CapacityLimiter

from app.compute import deadline

MOST: Final = 32
"""Requests of one call."""

Work: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""Of several requests each its answer, or the error that is one. It may raise what concerns all of them."""


@dataclass(slots=True)
class _Line:
    """calls: that run. waiting: what is asked, and where the answer goes."""

    calls: int = 0
    waiting: deque[tuple[Any, asyncio.Future[Any]]] = field(default_factory=deque)


class DynamicBatching:
    """Lines of requests, one a key, such as a collection and what they all ask of it. Used on the event loop alone."""

    def __init__(self, threads: CapacityLimiter, at_once: int) -> None:
        """at_once: calls of one line that may run at a time."""
        self._threads, self._at_once = threads, at_once
        self._lines: dict[Hashable, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, key: Hashable, asked: Any, work: Work, until: float | None = None) -> Any:
        """The answer to one request. work: the same for all of a key. until: when it stands in line no longer, of
        ``time.monotonic()``. Raises the request's own error, what ``work`` raises, and TooSlow."""
        line = self._lines.setdefault(key, _Line())
        if line.calls < self._at_once:
            line.calls += 1
            try:
                (found,) = await anyio.to_thread.run_sync(partial(work, [asked]), limiter=self._threads)
            finally:
                self._go_on(key, line, work)
            if isinstance(found, Exception):
                raise found
            return found
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        line.waiting.append((asked, answer))
        if until is None:
            return await answer
        # Also of one that is asked with others: these may have more time, and are answered with it.
        over = loop.call_later(max(0.0, until - time.monotonic()), _give_up, answer)
        try:
            return await answer
        finally:
            over.cancel()

    def _go_on(self, key: Hashable, line: _Line, work: Work) -> None:
        """At the end of a call that was one request's own."""
        if not line.waiting:
            line.calls -= 1
            if not line.calls:
                self._lines.pop(key, None)
            return
        # Of no request: one that is given up must not take the others with it.
        task = asyncio.ensure_future(self._work_off(key, line, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off(self, key: Hashable, line: _Line, work: Work) -> None:
        """Calls until nothing waits."""
        try:
            while line.waiting:
                group = [line.waiting.popleft() for _ in range(min(MOST, len(line.waiting)))]
                await self._call([one for one in group if not one[1].done()], work)
        finally:
            line.calls -= 1
            if not line.calls:
                self._lines.pop(key, None)
                for _, answer in line.waiting:
                    answer.cancel()

    async def _call(self, group: Sequence[tuple[Any, asyncio.Future[Any]]], work: Work) -> None:
        if not group:
            return
        try:
            found = await anyio.to_thread.run_sync(partial(work, [asked for asked, _ in group]), limiter=self._threads)
            answers = list(zip((answer for _, answer in group), found, strict=True))
        except Exception as error:  # noqa: BLE001 - it is raised in each of the requests
            answers = [(answer, error) for _, answer in group]
        except BaseException:
            for _, answer in group:
                answer.cancel()
            raise
        for answer, one in answers:
            if answer.done():
                continue
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(deadline.over())
