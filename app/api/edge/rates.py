"""How often each key may ask: a token bucket a key, which holds a second's worth and fills as time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable


class Rates:
    """Used on the event loop alone. Keys are the operator's, so there are never more buckets than those."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """per_s: requests a second; 0 is no limit."""
        self.per_s, self._clock = per_s, clock
        self._size = max(1.0, per_s)
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> float | None:
        """None where the request may go on, else the seconds after which one may.

        >>> moments = iter([0.0, 0.0, 0.0, 0.25, 0.5])
        >>> rates = Rates(2, lambda: next(moments))
        >>> [rates.take("a") for _ in range(5)]
        [None, None, 0.5, 0.25, None]
        """
        if not self.per_s:
            return None
        now = self._clock()
        level, since = self._buckets.get(name, (self._size, now))
        level = min(self._size, level + (now - since) * self.per_s)
        wait = None if level >= 1 else (1 - level) / self.per_s
        self._buckets[name] = (level - 1 if wait is None else level, now)
        return wait
