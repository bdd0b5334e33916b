"""A lock that tells when it is free again, for those who would rather come back than wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Exclusive:
    """Held by one thread at a time, which may take it again. ``freed`` is called after it was let go."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.freed: Callable[[], None] = lambda: None
        self._watching: tuple[Callable[[], object], ...] = ()
        self._changing = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        last = self._depth == 0
        self._lock.release()
        if last:
            for told in (self.freed, *self._watching):
                told()

    @property
    def taken(self) -> bool:
        """Whether another thread holds it."""
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    @contextmanager
    def watched(self, told: Callable[[], object]) -> Iterator[None]:
        """Inside the block ``told`` is called, too, whenever it was let go."""
        with self._changing:
            self._watching += (told,)
        try:
            yield
        finally:
            with self._changing:
                self._watching = tuple(one for one in self._watching if one is not told)

    @contextmanager
    def attempt(self, wait_s: float = 0.0) -> Iterator[bool]:
        """Holds it inside the block if it is to be had within that time; whether it is."""
        if not self._lock.acquire(timeout=wait_s):
            yield False
            return
        self._depth += 1
        try:
            yield True
        finally:
            self.__exit__()
