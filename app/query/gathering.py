"""Work on parts of a collection, wherever they lie: done here, or by who holds them, all at once.

What a search reads of a part's vectors is asked for by one of a few pieces of work, each of a query's whole stage: it
is the same code in this process and where a part lies (app.shards), and what merges the answers does not know which. So
the order of the documents, and each bit of a score, cannot hang on where parts lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.collection.part import Part
from app.compute.workers import Workers
from app.query.scores import Column, MaxSim, Scores, Share
from app.types import F32, F64, I64

A = TypeVar("A")
R = TypeVar("R")
A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Work(Protocol[A_contra, R_co]):
    """Of one query, on any parts. It travels: a dataclass of arrays and of others of the kind."""

    def of(self, parts: Sequence[Part], asked: Sequence[A_contra], workers: Workers) -> Sequence[R_co]:
        """The answer of each part to what it is asked. Parts that are asked together may answer less than each alone,
        as long as what is made of all answers is the same. Raises Damaged, TooSlow, Invalid."""
        ...


def gather(work: Work[A, R], parts: Sequence[Part], asked: Sequence[A], workers: Workers) -> list[R]:
    """The answer of each part. Raises what the work does, and PartsUnreached."""
    away: dict[int, list[int]] = {}
    for place, part in enumerate(parts):
        if part.elsewhere is not None:
            away.setdefault(id(part.elsewhere), []).append(place)
    if not away:
        return list(work.of(parts, asked, workers))
    waiting: list[tuple[list[int], Callable[[], list[Any]]]] = []
    for places in away.values():
        holders = parts[places[0]].elsewhere
        assert holders is not None, "these parts are elsewhere"
        waiting.append((places, holders.begin(work, [parts[i] for i in places], [asked[i] for i in places])))
    found: dict[int, R] = {}
    # Meanwhile what is here.
    here = [place for place, part in enumerate(parts) if part.elsewhere is None]
    if here:
        found.update(zip(here, work.of([parts[i] for i in here], [asked[i] for i in here], workers), strict=True))
    for places, answers in waiting:
        found.update(zip(places, answers(), strict=True))
    return [found[place] for place in range(len(parts))]


@dataclass(frozen=True, slots=True)
class Fast:
    """The fast pass over rows, ascending."""

    scores: Scores
    rough: bool = False

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[Column]:
        return [
            self.scores.fast(part, rows, workers, rough=self.rough) for part, rows in zip(parts, asked, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class References:
    """THE scores of rows."""

    scores: Scores

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[list[float]]:
        return [self.scores.references(part, rows, workers) for part, rows in zip(parts, asked, strict=True)]


@dataclass(frozen=True, slots=True)
class Explained:
    """What each query vector adds to the scores of rows."""

    scores: Scores

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[list[list[Share]]]:
        return [self.scores.explain(part, rows) for part, rows in zip(parts, asked, strict=True)]


@dataclass(frozen=True, slots=True)
class Products:
    """Of rows the inner products of their token vectors with those of the query."""

    scores: MaxSim

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[list[F32]]:
        return [self.scores.products(part, rows) for part, rows in zip(parts, asked, strict=True)]


@dataclass(frozen=True, slots=True)
class Told:
    """``Products`` and ``Explained``, of vectors that are read once."""

    scores: MaxSim

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[list[tuple[F32, list[Share]]]]:
        return [self.scores.told(part, rows) for part, rows in zip(parts, asked, strict=True)]


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of a layer with one value each, as they are stored."""

    layer: str

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[NDArray[Any]]:
        return [part.flat(self.layer).take(rows) for part, rows in zip(parts, asked, strict=True)]


@dataclass(frozen=True, slots=True)
class Raised:
    """Scores of rows, each with what is added to it; ``more`` says what, of ascending rows of a part. Where texts are
    split, opening and best row both have it, so the document has it once. It does not travel: what is added is found
    here."""

    scores: Scores
    more: Callable[[Part, I64], F64]
    name: str = "raised"

    @property
    def split(self) -> bool:
        return self.scores.split

    def has_rough(self, part: Part) -> bool:
        return self.scores.has_rough(part)

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        (found,) = fast(self, [part], [rows], workers, rough=rough)
        return found

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        (found,) = references(self, [part], [rows], workers)
        return found

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """Without what is added."""
        return self.scores.explain(part, rows)


def fast(
    scores: Scores, parts: Sequence[Part], rows: Sequence[I64], workers: Workers, *, rough: bool = False
) -> list[Column]:
    """Of each part the fast pass over its rows."""
    if not isinstance(scores, Raised):
        return gather(Fast(scores, rough), parts, rows, workers)
    found = []
    for part, own, column in zip(parts, rows, fast(scores.scores, parts, rows, workers, rough=rough), strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            values = column.values.astype(np.float64) + scores.more(part, own)
            # And what float32 rounds them by.
            bounds = column.bounds + np.abs(values) * 2.0**-23
            found.append(Column(values.astype(np.float32), bounds))
    return found


def references(scores: Scores, parts: Sequence[Part], rows: Sequence[I64], workers: Workers) -> list[list[float]]:
    """Of each part THE scores of its rows."""
    if not isinstance(scores, Raised):
        return gather(References(scores), parts, rows, workers)
    return [
        [score + more for score, more in zip(own, scores.more(part, some).tolist(), strict=True)]
        for part, some, own in zip(parts, rows, references(scores.scores, parts, rows, workers), strict=True)
    ]
