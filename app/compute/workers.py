"""Cores shared among searches: turns, and a pool that works on slices, with one BLAS thread in each worker.

Many small products on a chunk that stays in cache are faster in one thread each than one product over several
threads, and concurrent searches then share the cores instead of fighting for them; so BLAS is held to one thread in
the whole process, and the slices are ours.

A search alone is cut into as many slices as there are cores. Where others have their turn at the same time, each is
cut into its share: as many searches as cores run whole, each on one, and meet neither at the pool nor, more often
than they must, at the interpreter's lock. A later search waits for its turn, first come, first served.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final, TypeVar

from app.compute import deadline
from app.compute.blas import keep_to_one_thread
from app.compute.quota import cores, tell_libraries

T = TypeVar("T")
PATIENT: Final = 2_048
"""The largest slice where there is a deadline, which is looked at between slices."""


class Workers:
    """A pool of threads for parts of one piece of work. Work given to it must not wait for other work in it."""

    def __init__(self, threads: int = 0) -> None:
        """threads: 0 means one a core that this process may use."""
        self.threads = threads or cores()
        keep_to_one_thread()
        tell_libraries()
        self._pool = ThreadPoolExecutor(self.threads, "sheaf-worker")
        self._lock = threading.Lock()
        self._turns = 0
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """As many at once as there are threads; the others wait in the order in which they came. Not to be nested.

        Raises TooSlow where the deadline that is set passes before it is one's turn.
        """
        with self._lock:
            mine = None if self._turns < self.threads else threading.Event()
            if mine is None:
                self._turns += 1
            else:
                self._waiting.append(mine)
        if mine is not None and not mine.wait(deadline.left()):
            with self._lock:
                # It may have become one's turn just now.
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise deadline.over()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._turns -= 1

    def map_slices(self, size: int, work: Callable[[int, int], T], *, smallest: int = 1) -> list[T]:
        """``work(start, stop)`` over consecutive slices of 0 to size, in order; at least ``smallest`` a slice.

        Raises TooSlow where the deadline that is set passes before the last slice has begun.
        The calling thread works too, so it waits for slices that run, never for ones that have not begun.

        >>> with_two = Workers(2)
        >>> with_two.map_slices(5, lambda start, stop: (start, stop))
        [(0, 3), (3, 5)]
        >>> with_two.close()
        """
        threads = max(1, self.threads // max(1, self._turns))
        parts = max(1, min(threads, size // max(smallest, 1)))
        step = -(-size // parts)
        limit = deadline.current()
        if parts == 1 and size > 0 and (limit is None or size <= PATIENT):
            deadline.check(limit)
            return [work(0, size)]
        if limit is not None:
            step = min(step, max(PATIENT, smallest))
        slices = [(start, min(start + step, size)) for start in range(0, size, step)] if size else []
        found: dict[int, T] = {}
        waiting = deque(slices)

        def some() -> None:
            while True:
                try:
                    start, stop = waiting.popleft()
                except IndexError:
                    return
                deadline.check(limit)
                found[start] = work(start, stop)

        # What a slice waits for, it waits for within the deadline too.
        others = [self._pool.submit(copy_context().run, some) for _ in range(min(threads, len(slices)) - 1)]
        try:
            some()
        finally:
            waiting.clear()
            for other in others:
                if not other.cancel():
                    other.result()
        return [found[start] for start, _ in slices]

    def close(self) -> None:
        self._pool.shutdown()
