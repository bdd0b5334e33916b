"""A collection's experience of queries: whether their words tell more than their meaning, or less.

For each query, how far its best document by words stands out from its candidates, and how far its best by the pooled
vector does (app.fusion.formulas). The sums begin with ``PRIOR`` queries that have the ratio ``USUAL``, so that the
first query is answered well too.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PRIOR: Final = 20
USUAL: Final = 1.3


@dataclass(frozen=True, slots=True)
class Asked:
    """A collection's experience of queries. words, pooled: sums of what their best documents stand out by."""

    queries: int = 0
    words: float = 0.0
    pooled: float = 0.0

    @property
    def rho(self) -> float:
        """With the prior, whose queries count like the mean of those seen.

        >>> round(Asked().rho, 2), round(Asked(20, 20 * 4.2, 20 * 3.0).rho, 2)
        (1.3, 1.35)
        """
        usual = self.pooled / self.queries if self.pooled else 1.0
        return (self.words + PRIOR * USUAL * usual) / (self.pooled + PRIOR * usual)

    def and_one(self, words: float, pooled: float) -> Asked:
        return Asked(self.queries + 1, self.words + words, self.pooled + pooled)

    def and_since(self, seen: Asked, kept: Asked) -> Asked:
        """With what was seen beyond ``kept``.

        >>> Asked(10, 40.0, 30.0).and_since(Asked(7, 21.0, 14.0), Asked(5, 15.0, 10.0))
        Asked(queries=12, words=46.0, pooled=34.0)
        """
        return Asked(
            self.queries + seen.queries - kept.queries,
            self.words + max(0.0, seen.words - kept.words),
            self.pooled + max(0.0, seen.pooled - kept.pooled),
        )

    def to_json(self) -> dict[str, Any]:
        return {"queries": self.queries, "words": self.words, "pooled": self.pooled}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Asked:
        """Raises KeyError, TypeError, ValueError."""
        found = cls(int(value["queries"]), float(value["words"]), float(value["pooled"]))
        if not (found.queries >= 0 and 0 <= found.words < math.inf and 0 <= found.pooled < math.inf):
            raise ValueError(f"expected sums of at least 0, got {found}")
        return found


class Learned:
    """A collection's experience so far; of any thread."""

    def __init__(self, kept: Asked) -> None:
        self._lock = threading.Lock()
        self.asked = self.kept = kept
        """kept: what was written last."""

    def follow(self, kept: Asked) -> None:
        """Another writer has kept this: what was seen here since the last is added to it."""
        with self._lock:
            if kept != self.kept:
                self.asked, self.kept = kept.and_since(self.asked, self.kept), kept

    def note(self, words: float, pooled: float) -> None:
        """One more query."""
        with self._lock:
            self.asked = self.asked.and_one(words, pooled)
