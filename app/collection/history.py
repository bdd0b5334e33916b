"""What the generations of a collection were, the last ones and those that changed the first stage: how it came to what
it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from app.collection.view import Published
from app.store.database import find_record, put_meta

HISTORY: Final = "history"
"""The record that has it."""
MOST: Final = 200
"""Generations that are kept."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A generation as it began. documents: that stood then, those in no segment yet among them. sources, encoding, dim,
    candidates, index: of the first stage of its segments; dim: of the encoding, where there is one. learned: whether
    that was fitted to the collection's vectors."""

    generation: int
    created: str
    reason: str
    documents: int
    segments: int
    sources: list[str]
    encoding: str | None
    dim: int | None
    candidates: int
    index: str | None
    learned: bool

    @classmethod
    def of(cls, published: Published) -> Generated:
        now, stage = published.generation, published.stage
        encoding = stage.encoding
        return cls(
            now.number,
            now.created,
            now.reason,
            published.live,
            len(now.segments),
            list(stage.sources),
            None if encoding is None else encoding.to_json()["type"],
            None if encoding is None else encoding.encoded_dim,
            stage.width,
            stage.index,
            now.stage is not None and now.stage.file is not None,
        )

    def same_stage(self, other: Generated) -> bool:
        """Whether it has the first stage of the other."""
        names = ("sources", "encoding", "dim", "candidates", "index", "learned")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def history_of(connection: sqlite3.Connection, name: str) -> list[Generated]:
    """Of a collection of this name, the present generation last; nothing of one that has only begun. Raises Damaged,
    FormatTooNew."""
    return find_record(connection, HISTORY, name, lambda value: [Generated(**one) for one in value]) or []


def add_generation(connection: sqlite3.Connection, name: str, published: Published) -> None:
    """In the transaction that makes it. Raises as ``history_of``."""
    found = followed(history_of(connection, name), Generated.of(published))
    put_meta(connection, {HISTORY: [asdict(one) for one in found]})


def followed(history: Sequence[Generated], new: Generated) -> list[Generated]:
    """With one more, and at most ``MOST``: the oldest one goes whose first stage the one before it had, so that changes
    stay longest; else the oldest.

    >>> from dataclasses import replace
    >>> one = Generated(1, "", "sealed", 9, 1, ["fde"], "muvera", 1024, 100, None, False)
    >>> made = [one]
    >>> for number in range(2, 300):
    ...     made = followed(made, replace(one, generation=number, candidates=100 if number < 50 else 200))
    >>> len(made), made[0].generation, 50 in [each.generation for each in made], made[-1].generation
    (200, 1, True, 299)
    """
    found = [*history, new]
    while len(found) > MOST:
        same = (i for i in range(1, len(found) - 1) if found[i].same_stage(found[i - 1]))
        found.pop(next(same, 0))
    return found
