"""A time by which work must be done: looked at between its steps, never by stopping a thread.

The one who asks sets it around the work; whoever does the work looks at it where a step ends. It travels in a context
variable, because between the two lie functions that have no other business with time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from app.errors import TooSlow


@dataclass(frozen=True, slots=True)
class Deadline:
    """until: as ``clock`` tells the time, in seconds."""

    until: float
    clock: Callable[[], float] = time.monotonic

    def passed(self) -> bool:
        return self.clock() > self.until

    def left(self) -> float:
        """Seconds, none below 0."""
        return max(0.0, self.until - self.clock())


_DEADLINE: Final[ContextVar[Deadline | None]] = ContextVar("deadline", default=None)


@contextmanager
def deadline(given: Deadline | float | None) -> Iterator[None]:
    """given: a number is of ``time.monotonic()``; None is no limit. Raises TooSlow at once where it is over."""
    made = Deadline(given) if isinstance(given, int | float) else given
    token = _DEADLINE.set(made)
    try:
        check(made)
        yield
    finally:
        _DEADLINE.reset(token)


def current() -> Deadline | None:
    """The deadline set here, to hand it to another thread."""
    return _DEADLINE.get()


def left() -> float | None:
    """Seconds until what is set, none below 0; None where there is no limit."""
    found = current()
    return None if found is None else found.left()


def check(given: Deadline | None) -> None:
    """Raises TooSlow once it is over."""
    if given is not None and given.passed():
        raise over()


def over() -> TooSlow:
    """The error raised then."""
    return TooSlow("the search took longer than it may; try fewer candidates, a filter, or a longer timeout_ms")


class _Stage:
    """A block whose time is added where it ends well. Raises TooSlow at its beginning where the time is over."""

    __slots__ = ("_name", "_stages", "_start")

    def __init__(self, stages: dict[str, float], name: str) -> None:
        self._stages, self._name = stages, name

    def __enter__(self) -> None:
        check(current())
        self._start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            took = (time.perf_counter() - self._start) * 1e3
            self._stages[self._name] = self._stages.get(self._name, 0.0) + took


@dataclass
class Clock:
    """Adds up the time of named stages."""

    started: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str) -> _Stage:
        return _Stage(self.stages, f"{name}_ms")

    def took_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1e3
