"""Locks by name: what concerns one thing keeps nobody waiting who is about another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Turn:
    def __init__(self) -> None:
        self.lock, self.wanted = threading.RLock(), 0


class Turns:
    """One lock for each name, there for as long as somebody wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Held inside the block, by one thread at a time, which may take it again.

        >>> turns = Turns()
        >>> with turns.of("a"), turns.of("b"), turns.of("a"):
        ...     len(turns)
        2
        >>> len(turns)
        0
        """
        with self._lock:
            turn = self._turns.setdefault(name, _Turn())
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[name]

    def __len__(self) -> int:
        """Of names that somebody wants now."""
        return len(self._turns)
