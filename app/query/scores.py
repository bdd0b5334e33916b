"""Exact scores of rows: a fast pass within a bound, the reference that decides, and the reasons of one row.

A collection has one scored layer: its token vectors by MaxSim, or else its dense vectors by their inner product, or
in their order by an alignment. A similarity that is a distance adds a number of the query to these, or is computed
from the points (``Geodesic``); a query may bring a network that dense vectors go through (``Networked``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol, TypeVar

import numpy as np

from app.codes.protocol import Code
from app.collection.layers import POOLED, TOKENS, scored
from app.collection.part import Part
from app.collection.spec import CollectionSpec
from app.compute.rounding import norms_up
from app.compute.workers import Workers
from app.query.encoded import Column as Column
from app.query.encoded import EncodedQuery
from app.query.encoded import Networked as Networked
from app.query.encoded import Share as Share
from app.scoring import inner_product, maxsim
from app.scoring.choose import has_rough, scorer
from app.scoring.networks import forward
from app.scoring.protocol import Scorer
from app.scoring.similarities import alignment, hyperbolic
from app.scoring.similarities.kernels import Kernel
from app.scoring.similarity import Similarity
from app.types import F32, F64, I64, TokenVectors

SLICE = 16
"""The fewest rows worth a thread of their own."""
FEW = 4
"""The same for references."""
ALONE: Final = 2**17
"""Numbers that one thread multiplies before another would have begun (docs/decisions.md)."""
ROUGHLY: Final = 64
"""References from which the rough pass looks for the tokens that decide. They have the same bits after either pass."""
OPENING: Final = 4
"""Rows of a text that its opening's score stands for; half of them at most."""

_S = TypeVar("_S", float, F64)


def of_document(opening: _S, row: _S, rows: int) -> _S:
    """The score of a document by one of its rows, where texts are split: partly its opening's, else the row's own.

    The best row of a long text is good by chance: it is the largest of many. With half of the opening's score beside
    it, which says what a text is about, no collection that was measured loses (docs/decisions.md). Of a text of more
    than eight rows the opening says less, and has less weight.

    >>> of_document(1.0, 1.0, 1), of_document(0.5, 1.0, 8), of_document(0.5, 1.0, 16)
    (1.0, 0.75, 0.875)
    """
    weight = opening_weight(rows)
    return opening * weight + row * (1 - weight)


def opening_weight(rows: int) -> float:
    """The weight of the opening of a document of so many rows."""
    return min(0.5, OPENING / rows)


class Scores(Protocol):
    """One way to score rows, for one query; used from any thread. Raises Damaged."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> bool:
        """Whether texts were split into rows, so that a document's score is ``of_document`` of its best row; else it is
        its best row's."""
        ...

    def has_rough(self, part: Part) -> bool:
        """Whether there is a pass of half the work and a bound a hundred times as wide."""
        ...

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        """Of the rows, ascending, on all workers."""
        ...

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        """THE scores of the rows."""
        ...

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """Of each row what each query vector adds to its reference; they add up to it within rounding."""
        ...


def scores_of(spec: CollectionSpec, query: EncodedQuery) -> Scores:
    """The exact scores of a collection for a query."""
    if query.scorer is not None:
        return Networked(query.scorer, spec.splits)
    measure = spec.measure
    if measure.geodesic:
        return Geodesic(query.vectors, measure, scored(spec), spec.splits)
    if spec.ordered:
        return Aligned(query.vectors)
    offsets = measure.offsets(query.vectors)
    if scored(spec) != TOKENS:
        return Dense(query.vectors, spec.splits, offsets=offsets)
    more = MaxSim(query.vectors, spec.splits, offsets=offsets)
    if spec.options.kernel is not None:
        return Kernelled(more, spec.options.kernel)
    return more if query.less is None else Contrast(more, MaxSim(query.less, spec.splits))


def pooled_scores(spec: CollectionSpec, query: EncodedQuery) -> Scores:
    """Those of the pooled vectors."""
    if query.scorer is not None:
        return Networked(query.scorer, spec.splits)
    if spec.measure.geodesic:
        return Geodesic(query.pooled, spec.measure, POOLED, spec.splits, "pooled")
    return Pooled(query.pooled, spec.splits, offsets=spec.measure.offsets(query.pooled))


def scores_in_float32(spec: CollectionSpec, query: EncodedQuery, tokens: TokenVectors) -> F32:
    """(n,): of passages that are not coded, (total, stored_dim) float32, by the fast pass."""
    if query.scorer is not None:
        return forward.scores(query.scorer.network, spec.measure.given(tokens.values.astype(np.float32)))
    if spec.measure.geodesic:
        far: F32 = -hyperbolic.nearest(spec.measure, query.vectors, tokens)[0].sum(axis=1).astype(np.float32)
        return far
    if spec.options.kernel is not None:
        by = Kernelled(MaxSim(query.vectors, offsets=spec.measure.offsets(query.vectors)), spec.options.kernel)
        best = maxsim.FloatScorer(query.vectors).maxima(tokens).astype(np.float64)
        sums: F32 = by.added(best).sum(axis=1).astype(np.float32)
        return sums
    found = maxsim.fast_scores(query.vectors, tokens)
    offset = _sum(spec.measure.offsets(query.vectors))
    return found if not offset else (found + offset).astype(np.float32)


def _sum(offsets: F64 | None) -> float:
    return 0.0 if offsets is None else math.fsum(offsets.tolist())


def _moved(column: Column, offset: float) -> Column:
    """With a number added to its values, and what it is rounded by to the bounds, here and in the reference."""
    if not offset:
        return column
    wide = column.values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values = (wide + offset).astype(np.float32)
        more = (np.abs(wide) + np.abs(wide + offset) + column.bounds) * 2.0**-22
    return Column(values, column.bounds + more)


@dataclass(frozen=True, slots=True)
class Dense:
    """Inner products with the dense vectors. query: (1, dim). offsets: (1,), what is added to them."""

    query: F32
    split: bool = False
    name: str = "dense"
    offsets: F64 | None = None

    def has_rough(self, part: Part) -> bool:
        return False

    @property
    def _fewest(self) -> int:
        return max(SLICE, ALONE // int(self.query.shape[1]))

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        layer, whole = part.flat(POOLED), len(rows) == part.size

        def work(start: int, stop: int) -> F32:
            return inner_product.fast_scores(
                self.query[0], layer.range(start, stop) if whole else layer.take(rows[start:stop])
            )

        values = _joined(workers.map_slices(len(rows), work, smallest=self._fewest))
        return _moved(Column(values, inner_product.error_bound(self.query[0], part.norms[rows])), _sum(self.offsets))

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        offset = _sum(self.offsets)

        def work(start: int, stop: int) -> list[float]:
            return inner_product.references(self.query[0], part.flat(POOLED).take(rows[start:stop]), offset)

        return [score for piece in workers.map_slices(len(rows), work, smallest=self._fewest) for score in piece]

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        vectors = part.flat(POOLED).take(rows).astype(np.float64)
        products = vectors @ self.query[0].astype(np.float64) + _sum(self.offsets)
        return [[Share(0, 0, product)] for product in products.tolist()]


@dataclass(frozen=True, slots=True)
class Pooled(Dense):
    """The same in a collection that is scored by its token vectors, whose norms say nothing of the pooled ones."""

    name: str = "pooled"

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        def work(start: int, stop: int) -> tuple[F32, F64]:
            vectors = part.flat(POOLED).take(rows[start:stop])
            found = inner_product.fast_scores(self.query[0], vectors)
            return found, inner_product.error_bound(self.query[0], norms_up(vectors))

        pieces = workers.map_slices(len(rows), work, smallest=self._fewest)
        bounds = np.concatenate([np.zeros(0), *(bound for _, bound in pieces)])
        return _moved(Column(_joined([values for values, _ in pieces]), bounds), _sum(self.offsets))


@dataclass(frozen=True, slots=True)
class Aligned:
    """Sums of inner products along an alignment (app.scoring.similarities.alignment). query: (m, dim), its segments in
    their order. A row is a segment, and its score that of the offset at which the query begins there."""

    query: F32
    split: bool = False
    name: str = "alignment"

    def has_rough(self, part: Part) -> bool:
        return False

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        def work(start: int, stop: int) -> Column:
            values, bounds = np.empty(stop - start, np.float32), np.empty(stop - start)
            for piece, made in self._windows(part, rows[start:stop]):
                own = segments_of(part, made)
                values[piece], bounds[piece] = alignment.fast_scores(self.query, own, part.norms[made.read], made)
            return Column(values, bounds)

        pieces = workers.map_slices(len(rows), work, smallest=max(SLICE, len(self.query)))
        bounds = np.concatenate([np.zeros(0), *(own.bounds for own in pieces)])
        return Column(_joined([own.values for own in pieces]), bounds)

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        def work(start: int, stop: int) -> list[float]:
            found: list[float] = []
            for _, made in self._windows(part, rows[start:stop]):
                found += alignment.references(self.query, segments_of(part, made), part.norms[made.read], made)
            return found

        return [score for piece in workers.map_slices(len(rows), work, smallest=FEW) for score in piece]

    def place(self, part: Part, row: int) -> tuple[int, int]:
        """The best offset that the row stands for, and how many segments lie on one of the document's there."""
        ((_, made),) = self._windows(part, np.array([row], np.int64))
        begin, end = part.owners.span(document := int(part.owners.of(made.read[:1])[0]), document + 1)
        offset = row - begin
        if not offset:
            _, offset = alignment.first_reference(self.query, segments_of(part, made), part.norms[made.read])
        return offset, min(len(self.query), end - begin - offset) - max(0, -offset)

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """Of the segments of the query that lie on one; ``row`` is that one's place in the document."""
        found = []
        for row in rows.tolist():
            offset, count = self.place(part, row)
            first = max(0, -offset)
            vectors = part.flat(POOLED).range(row, row + count).astype(np.float64)
            products = np.einsum("ij,ij->i", vectors, self.query[first : first + count].astype(np.float64)).tolist()
            found.append([Share(first + i, first + i + offset, product) for i, product in enumerate(products)])
        return found

    def _windows(self, part: Part, rows: I64) -> Iterator[tuple[slice, alignment.Windows]]:
        documents = part.owners.of(rows)
        begins = part.owners.firsts[documents]
        return alignment.windows(rows, begins, begins + part.owners.counts_of(documents), len(self.query))


def segments_of(part: Part, made: alignment.Windows) -> F32:
    """The segments that windows read, in place where they lie together."""
    first, last = int(made.read[0]), int(made.read[-1])
    layer = part.flat(POOLED)
    found: F32 = layer.range(first, last + 1) if last - first < len(made.read) else layer.take(made.read)
    return found


@dataclass(frozen=True, slots=True)
class MaxSim:
    """MaxSim over the token vectors as they are stored. query: (q, dim). offsets: (q,), what is added to the largest
    inner product of each query vector."""

    query: F32
    split: bool = False
    name: str = "maxsim"
    offsets: F64 | None = None
    _made: dict[tuple[Code, bool], Scorer] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[type[MaxSim], tuple[F32, bool, str, F64 | None]]:
        """It travels without what was made of it."""
        return MaxSim, (self.query, self.split, self.name, self.offsets)

    def has_rough(self, part: Part) -> bool:
        return has_rough(part.code)

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        layer, whole, by = part.ragged(TOKENS), len(rows) == part.size, self.scorer(part.code, rough=rough)

        def work(start: int, stop: int) -> F32:
            if whole:
                return by.scores(layer.range(start, stop))
            piece = rows[start:stop]
            return by.scores(layer.of(piece), piece)

        values = _joined(workers.map_slices(len(rows), work, smallest=SLICE))
        return _moved(Column(values, by.error_bound(part.norms[rows])), _sum(self.offsets))

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        rough = len(rows) >= ROUGHLY and self.has_rough(part)
        layer, by, offset = part.ragged(TOKENS), self.scorer(part.code, rough=rough), _sum(self.offsets)

        def work(start: int, stop: int) -> list[float]:
            piece = rows[start:stop]
            return by.references(layer.of(piece), piece, part.norms[piece], offset)

        return [score for piece in workers.map_slices(len(rows), work, smallest=FEW) for score in piece]

    def products(self, part: Part, rows: I64) -> list[F32]:
        """Of each row (n, q): the inner products of its vectors with those of the query, by the fast pass."""
        tokens = part.ragged(TOKENS).take(rows)
        return _apart(self.scorer(part.code).products(tokens), tokens)

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        return [shares for _, shares in self.told(part, rows)]

    def told(self, part: Part, rows: I64) -> list[tuple[F32, list[Share]]]:
        """``products`` and ``explain`` of each row, whose vectors are read once."""
        tokens = part.ragged(TOKENS).take(rows)
        by = self.scorer(part.code)
        products = by.products(tokens)
        places, values = by.best(tokens, products, part.norms[rows])
        if self.offsets is not None:
            values = values + self.offsets
        each = zip(_apart(products, tokens), places.tolist(), values.tolist(), strict=True)
        return [(own, [Share(i, *one) for i, one in enumerate(zip(*best, strict=True))]) for own, *best in each]

    def scorer(self, code: Code, *, rough: bool = False) -> Scorer:
        """For passages of one code."""
        made = self._made.get((code, rough))
        if made is None:
            made = self._made[code, rough] = scorer(self.query, code, rough=rough)
        return made


@dataclass(frozen=True, slots=True)
class Geodesic:
    """Minus the distance of each query's point to the nearest of a row, summed: app.scoring.similarities.hyperbolic.
    query: (q, stored_dim). layer: TOKENS or POOLED. Points are float32, and every pass computes the same numbers."""

    query: F32
    measure: Similarity
    layer: str
    split: bool = False
    name: str = "geodesic"

    def has_rough(self, part: Part) -> bool:
        return False

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        def work(start: int, stop: int) -> F32:
            found: F32 = -self._nearest(part, rows[start:stop])[0].sum(axis=1).astype(np.float32)
            return found

        values = _joined(workers.map_slices(len(rows), work, smallest=SLICE))
        # Of a sum in float64 and of its rounding; nothing of the distances.
        return Column(values, np.abs(values.astype(np.float64)) * 2.0**-22)

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        def work(start: int, stop: int) -> list[float]:
            found = self._nearest(part, rows[start:stop])[0]
            return [-float(np.float32(math.fsum(row))) for row in found.tolist()]

        return [score for piece in workers.map_slices(len(rows), work, smallest=FEW) for score in piece]

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        found, places = self._nearest(part, rows)
        return [
            [Share(i, place, -distance) for i, (distance, place) in enumerate(zip(one, own, strict=True))]
            for one, own in zip(found.tolist(), places.tolist(), strict=True)
        ]

    def _nearest(self, part: Part, rows: I64) -> tuple[F64, I64]:
        if self.layer == POOLED:
            vectors = part.flat(POOLED).take(rows)
            tokens = TokenVectors(vectors, np.arange(len(vectors) + 1))
        else:
            tokens = part.ragged(TOKENS).take(rows)
        return hyperbolic.nearest(self.measure, self.query, tokens)


@dataclass(frozen=True, slots=True)
class Kernelled:
    """MaxSim of a kernel of distances (app.scoring.similarities.kernels), of vectors of length 1 or by their squared
    distances, which are what ``maxsim`` finds with its offsets."""

    maxsim: MaxSim
    kernel: Kernel
    name: str = "kernel"

    @property
    def split(self) -> bool:
        return self.maxsim.split

    def has_rough(self, part: Part) -> bool:
        return False

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        layer, by = part.ragged(TOKENS), self.maxsim.scorer(part.code)
        errors = by.error_bound(part.norms[rows])

        def work(start: int, stop: int) -> tuple[F64, F64]:
            piece = rows[start:stop]
            best = by.maxima(layer.of(piece), piece).astype(np.float64)
            # The kernel falls with the distance: what a product is off by is at its two ends. That of a sum is more.
            off = errors[start:stop, None] * (1 + 2.0**-20)
            values, low, high = (self.added(one).sum(axis=1) for one in (best, best - off, best + off))
            return values, np.maximum(high - values, values - low) + (1 - values) * 2.0**-22

        pieces = workers.map_slices(len(rows), work, smallest=SLICE)
        values = np.concatenate([np.zeros(0), *(own for own, _ in pieces)])
        bounds = np.concatenate([np.zeros(0), *(own for _, own in pieces)])
        return Column(values.astype(np.float32), bounds)

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        def work(start: int, stop: int) -> list[float]:
            _, values = self._best(part, rows[start:stop])
            return [float(np.float32(math.fsum(row))) for row in values.tolist()]

        return [score for piece in workers.map_slices(len(rows), work, smallest=FEW) for score in piece]

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        places, values = (found.tolist() for found in self._best(part, rows))
        return [
            [Share(i, *one) for i, one in enumerate(zip(*of_row, strict=True))]
            for of_row in zip(places, values, strict=True)
        ]

    def added(self, products: F64) -> F64:
        """(n, q), of the largest inner products."""
        offsets = self.maxsim.offsets
        return self.kernel.of(2 - 2 * products if offsets is None else -(products + offsets))

    def _best(self, part: Part, rows: I64) -> tuple[I64, F64]:
        """(n, q) each: the place of the best vector, and what it adds, of products as references have them."""
        products = np.concatenate(self.maxsim.products(part, rows))
        by = self.maxsim.scorer(part.code)
        places, values = by.best(part.ragged(TOKENS).take(rows), products, part.norms[rows])
        return places, self.added(values)


@dataclass(frozen=True, slots=True)
class Contrast:
    """One MaxSim less another, of the same row, rounded once to float32."""

    more: MaxSim
    less: MaxSim
    name: str = "maxsim"

    @property
    def split(self) -> bool:
        return self.more.split

    def has_rough(self, part: Part) -> bool:
        return self.more.has_rough(part)

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        more, less = (one.fast(part, rows, workers, rough=rough) for one in (self.more, self.less))
        with np.errstate(invalid="ignore", over="ignore"):
            values = more.values - less.values
            # And what the difference is rounded by, here and in the reference.
            return Column(values, more.bounds + less.bounds + np.abs(values.astype(np.float64)) * 2.0**-22)

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        pairs = zip(*(one.references(part, rows, workers) for one in (self.more, self.less)), strict=True)
        with np.errstate(over="ignore"):
            return [float(np.float32(more - less)) for more, less in pairs]

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """The vectors of what is taken off come after the others, and their products are negative."""
        after = len(self.more.query)
        pairs = zip(self.more.explain(part, rows), self.less.explain(part, rows), strict=True)
        return [[*more, *(Share(after + one.query, one.row, -one.product) for one in less)] for more, less in pairs]


def _apart(products: F32, tokens: TokenVectors) -> list[F32]:
    return [products[start:stop] for start, stop in pairwise(tokens.offsets.tolist())]


def _joined(pieces: Sequence[F32]) -> F32:
    return np.concatenate([np.zeros(0, np.float32), *pieces])
