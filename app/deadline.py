"""A time by which work must be done: looked at between its steps, never by stopping a thread.

The one who asks sets it around the work; whoever does the work looks at it where a step ends. It travels in a context
variable, because between the two lie functions that have no other business with time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from app.errors import TooSlow

_UNTIL: Final[ContextVar[float | None]] = ContextVar("until", default=None)


@contextmanager
def deadline(until: float | None) -> Iterator[None]:
    """until: of ``time.monotonic()``; None is no limit. Raises TooSlow at once where it is over."""
    token = _UNTIL.set(until)
    try:
        check(until)
        yield
    finally:
        _UNTIL.reset(token)


def current() -> float | None:
    """The time that is set here, to hand it to another thread."""
    return _UNTIL.get()


def left() -> float | None:
    """Seconds until the time that is set, none below 0; None where there is no limit."""
    until = current()
    return None if until is None else max(0.0, until - time.monotonic())


def check(until: float | None) -> None:
    """Raises TooSlow once it is over."""
    if until is not None and time.monotonic() > until:
        raise over()


def over() -> TooSlow:
    """What is raised then."""
    return TooSlow("the search took longer than it may; try fewer candidates, a filter, or a longer timeout_ms")
