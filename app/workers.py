"""Both cores on one query: a pool that works on slices, with one BLAS thread in each worker.

Many small products on a chunk that stays in cache are faster in one thread each than one product over several
threads, and concurrent searches then share the cores instead of fighting for them; so BLAS is held to one thread in
the whole process, and the slices are ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from app import deadline
from app.blas import keep_to_one_thread

T = TypeVar("T")
PATIENT: Final = 2_048
"""The largest slice where there is a deadline, which is looked at between slices."""


class Workers:
    """A pool of threads for parts of one piece of work. Work given to it must not wait for other work in it."""

    def __init__(self, threads: int = 0) -> None:
        """threads: 0 means one a core that this process may use."""
        self.threads = threads or len(os.sched_getaffinity(0))
        keep_to_one_thread()
        self._pool = ThreadPoolExecutor(self.threads, "sheaf-worker")

    def map_slices(self, size: int, work: Callable[[int, int], T], *, smallest: int = 1) -> list[T]:
        """``work(start, stop)`` over consecutive slices of 0 to size, in order; at least ``smallest`` a slice.

        Raises TooSlow where the deadline that is set passes before the last slice has begun.

        >>> with_two = Workers(2)
        >>> with_two.map_slices(5, lambda start, stop: (start, stop))
        [(0, 3), (3, 5)]
        >>> with_two.close()
        """
        parts = max(1, min(self.threads, size // max(smallest, 1)))
        step = -(-size // parts)
        until = deadline.current()
        if until is not None:
            step = min(step, max(PATIENT, smallest))
        slices = [(start, min(start + step, size)) for start in range(0, size, step)] if size else []

        def timely(piece: tuple[int, int]) -> T:
            deadline.check(until)
            return work(*piece)

        if len(slices) <= 1:
            return [timely(piece) for piece in slices]
        return list(self._pool.map(timely, slices))

    def close(self) -> None:
        self._pool.shutdown()
