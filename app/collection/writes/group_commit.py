"""Writers that come together share one commit, where a commit costs a request to a store.

The first one who comes makes the commit of all who wait, and the others wait for its end: nobody is told of a change
before it is known what became of the commit that has it. Whoever comes meanwhile is of the next one. So a lone writer
waits for nobody, and n of them for one request instead of n.

Of writers that each send the next when the last was answered, the first would always be alone, and every second
request be for one change. So where the commits before had several, the next one is begun once as many have come, or
after ``WINDOW_S``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

Change = TypeVar("Change")
Result = TypeVar("Result")

WINDOW_S: Final = 0.02
"""How long a commit waits at most for writers that were of the ones before."""
MOST: Final = 256
"""Changes of one commit."""


class Condition(Protocol):
    """As ``threading.Condition``."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...

    def notify_all(self) -> None: ...


class _Waiting(Generic[Change, Result]):
    def __init__(self, change: Change) -> None:
        self.change = change
        self.outcome: list[Result | BaseException] = []
        """One, once it is known."""


class GroupCommit(Generic[Change, Result]):
    """Of one collection, for any number of threads."""

    def __init__(
        self,
        commit: Callable[[Callable[[], Sequence[Change]]], Sequence[Result | BaseException]],
        size: Callable[[Change], int],
        most_size: int,
        *,
        condition: Condition | None = None,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        """commit: makes one commit of what it takes by its argument, once, when it can begin: a result or an error for
        each. What it raises is every one's error. size: of a change, of which one commit has no more than ``most_size``
        unless it has one change alone. passed: seconds that only go forward.
        """
        self._commit, self._size, self._most_size, self._passed = commit, size, most_size, passed
        self._changed: Condition = threading.Condition() if condition is None else condition
        self._waiting: deque[_Waiting[Change, Result]] = deque()
        self._leading = False
        self._before = (1, 1)
        """Changes of the two commits before."""

    def join(self, change: Change) -> Result:
        """What it came to, once that is known; raises its error."""
        mine = _Waiting[Change, Result](change)
        with self._changed:
            self._waiting.append(mine)
            self._changed.notify_all()
        while True:
            with self._changed:
                while self._leading and not mine.outcome:
                    self._changed.wait()
                if mine.outcome:
                    break
                self._leading = True
                self._wait_for_others()
            self._lead()
        (outcome,) = mine.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _wait_for_others(self) -> None:
        end = self._passed() + WINDOW_S
        while len(self._waiting) < max(self._before) and (left := end - self._passed()) > 0:
            self._changed.wait(left)

    def _lead(self) -> None:
        taken: list[_Waiting[Change, Result]] = []

        def take() -> list[Change]:
            with self._changed:
                size = 0
                while self._waiting and len(taken) < MOST:
                    size += self._size(self._waiting[0].change)
                    if taken and size > self._most_size:
                        break
                    taken.append(self._waiting.popleft())
            return [one.change for one in taken]

        outcomes: Sequence[Result | BaseException] = []
        try:
            outcomes = self._commit(take)
        except BaseException as error:  # noqa: BLE001, each of them raises it
            if not taken:
                take()
            outcomes = [error] * len(taken)
        finally:
            with self._changed:
                for one, outcome in zip(taken, outcomes, strict=True):
                    one.outcome.append(outcome)
                self._before = self._before[1], len(taken)
                self._leading = False
                self._changed.notify_all()
