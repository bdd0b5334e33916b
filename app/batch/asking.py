"""What many queries ask of parts, wherever these lie (app.query.gathering): one message a step for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.layers import POOLED
from app.collection.part import Part
from app.compute import deadline
from app.compute.workers import Workers
from app.scoring.inner_product import references_of_pairs
from app.scoring.many import Crowded, Pairs, could_be_best
from app.scoring.similarity import lengths
from app.types import F32, F64, I64, Mask
from app.vector_index.protocol import Candidates

NUMBERS: Final = 1 << 22
"""Numbers of the vectors that references are made of at a time: 16 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """Of the documents that are allowed the best rows of each query (q, dim). wide: as of ``Part.nearest``."""

    queries: F32
    width: int
    wide: int

    def of(self, parts: Sequence[Part], asked: Sequence[Mask], workers: Workers) -> list[Candidates]:
        return [
            part.nearest_many(POOLED, self.queries, self.width, mask, self.wide)
            for part, mask in zip(parts, asked, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Scanned:
    """Of all documents that are allowed what could be among the k best of each query (q, dim), in rows of the part;
    None where these are so many that fewer queries are to be asked. offsets: (q,), what is added to products."""

    queries: F32
    offsets: F64
    k: int

    def of(self, parts: Sequence[Part], asked: Sequence[Mask], workers: Workers) -> list[Pairs | None]:
        found = list[Pairs | None]()
        for part, mask in zip(parts, asked, strict=True):
            found.append(self._of(part, mask))
            if found[-1] is None:
                # Then nothing is taken of any part.
                return [None] * len(parts)
        return found

    def _of(self, part: Part, allowed: Mask) -> Pairs | None:
        rows = np.flatnonzero(allowed).astype(np.int64)
        whole, layer = len(rows) == len(allowed), part.flat(POOLED)

        def some(start: int, stop: int) -> F32:
            found: F32 = layer.range(start, stop) if whole else layer.take(rows[start:stop])
            return found

        # What adding a number and rounding it may bring together.
        longest = float(part.norms.max(initial=0)) * lengths(self.queries)
        more = np.where(self.offsets == 0, 0.0, (2 * longest + 2 * np.abs(self.offsets)) * 2.0**-20)
        try:
            found = could_be_best(self.queries, some, len(rows), self.k, more)
        except Crowded:
            return None
        return Pairs(found.starts, rows[found.rows], found.scores)


@dataclass(frozen=True, slots=True)
class Norms:
    """The lengths of rows."""

    def of(self, parts: Sequence[Part], asked: Sequence[I64], workers: Workers) -> list[F32]:
        return [part.norms[rows] for part, rows in zip(parts, asked, strict=True)]


@dataclass(frozen=True, slots=True)
class PairScores:
    """The references of pairs: places of queries (q, dim), and rows. offsets: as of ``Scanned``."""

    queries: F32
    offsets: F64

    def of(self, parts: Sequence[Part], asked: Sequence[tuple[I64, I64]], workers: Workers) -> list[F64]:
        return [self._of(part, *pairs) for part, pairs in zip(parts, asked, strict=True)]

    def _of(self, part: Part, which: I64, rows: I64) -> F64:
        found, layer = np.empty(len(rows)), part.flat(POOLED)
        step = max(1, NUMBERS // self.queries.shape[1])
        for start in range(0, len(rows), step):
            deadline.check(deadline.current())
            some = slice(start, start + step)
            found[some] = references_of_pairs(self.queries, which[some], layer.take(rows[some]), self.offsets)
        return found
