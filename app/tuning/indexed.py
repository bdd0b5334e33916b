"""The recall and cost of each kind of vector index over an option's vectors, tried on a trial's passages.

A code gives a neighbour another rank than its vector does. In the cascade it is found at width w if its code is among
the ``widening * w`` best and its vector among the w best; so its rank is the larger of its vector's and its code's
divided by ``widening``. Both are estimated from the sample, as in ``app.tuning.trials``, codes trained on it.

Useful for: codes, which are read whole, so that a part tells of the whole. Not useful for: inverted files, whose lists
are as many as a collection needs; ``app.tuning.tune`` tries those on the collection itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import vector_index
from app.collection.first_stage import WIDENING, Source
from app.scoring.inner_product import fast_scores
from app.tuning.costs import median_ms, scan_ms
from app.tuning.options import STORED, Option
from app.tuning.trials import WIDTHS, TrialSet, in_turn, narrowest, ranks, recall_at
from app.types import F32, F64
from app.vector_index.protocol import VectorIndex

FLAT: Final = "flat"
KINDS: Final = ("pq1", "pq2")
"""Codes that are tried, the one that is read fastest first."""
WIDENINGS: Final = (WIDENING // 2, WIDENING, 2 * WIDENING)
LAID: Final = 2**15
"""Rows of an index that is timed, if the collection has as many: the sample's, repeated."""
ENCODED_BYTES: Final = np.dtype(STORED).itemsize
POOLED_BYTES: Final = 4
"""Of a stored number."""


@dataclass(frozen=True, slots=True)
class Found:
    """An option behind a kind of index. width: the smallest that reaches the target, else the widest tried. recall:
    there. ms: of the first stage and of rescoring. memory: bytes a passage that each search reads whole.
    """

    kind: str
    widening: int
    width: int
    recall: float
    reaches: bool
    ms: float
    memory: float


class Indexed:
    """One option on one trial. query_ms, candidate_ms: measured before, of ``app.tuning.costs``."""

    def __init__(self, option: Option, trial: TrialSet, target: float, query_ms: float, candidate_ms: float) -> None:
        self._trial, self._target = trial, target
        self._query_ms, self._candidate_ms = query_ms, candidate_ms
        self._reading_ms = 0.0
        self._vectors = {
            source: (np.ascontiguousarray(documents, STORED if source == "fde" else np.float32), queries)
            for source, (documents, queries) in option.vectors.items()
        }
        self._ranks = {
            source: _ranks(trial, queries @ documents.T) for source, (documents, queries) in option.vectors.items()
        }

    def flat(self) -> Found:
        """All vectors are read."""
        width, recall, reaches = self._narrowest(list(self._ranks.values()))
        ms = self._floor(width)
        for documents, queries in self._vectors.values():
            index = vector_index.scan(_laid(documents[: self._trial.sampled], self._trial.size))
            ms += scan_ms(index, queries, width, self._trial.size)
        sizes: dict[Source, int] = {"fde": ENCODED_BYTES, "pooled": POOLED_BYTES}
        memory = sum(documents.shape[1] * sizes[source] for source, (documents, _) in self._vectors.items())
        return Found(FLAT, WIDENING, width, recall, reaches, ms, memory)

    def floor_ms(self) -> float:
        """The floor of every kind of index: their candidates are never better ordered than by the vectors. Once the
        first of ``KINDS`` was tried, what reading its codes took counts, too.
        """
        return self._floor(self._narrowest(list(self._ranks.values()))[0]) + self._reading_ms

    def coded(self) -> Iterator[Found]:
        """Each kind, with the widening that is fastest among those that reach the target, else with the widest."""
        for kind in KINDS:
            indexes = {
                source: vector_index.build(kind, _laid(documents, self._trial.size))
                for source, (documents, _) in self._vectors.items()
            }
            coded = {
                source: _ranks(self._trial, _scores(index, self._vectors[source][1], len(self._trial.passages)))
                for source, index in indexes.items()
            }
            memory = sum(_file_bytes(index) / index.size for index in indexes.values())
            found = [self._at(kind, widening, indexes, coded, memory) for widening in WIDENINGS]
            yield min([one for one in found if one.reaches] or found[-1:], key=lambda one: one.ms)

    def _at(
        self, kind: str, widening: int, indexes: dict[Source, Any], coded: dict[Source, list[F64]], memory: float
    ) -> Found:
        both = [
            [np.maximum(full, rough / widening) for full, rough in zip(self._ranks[source], coded[source], strict=True)]
            for source in indexes
        ]
        width, recall, reaches = self._narrowest(both)
        ms, reading = self._floor(width), 0.0
        for source, index in indexes.items():
            documents, queries = self._vectors[source]
            reading += scan_ms(index, queries, widening * width, self._trial.size)
            ms += _ordering_ms(documents, queries, widening * width)
        if kind == KINDS[0] and widening == WIDENINGS[0]:
            self._reading_ms = reading
        return Found(kind, widening, width, recall, reaches, ms + reading, memory)

    def _floor(self, width: int) -> float:
        return self._query_ms + width * self._candidate_ms

    def _narrowest(self, ranked: list[list[F64]]) -> tuple[int, float, bool]:
        found = ranked[0]
        if len(ranked) == 2:
            found = [in_turn(first, second) for first, second in zip(*ranked, strict=True)]
        recalls = recall_at(found, WIDTHS)
        width = narrowest(recalls, WIDTHS, self._target)
        at = WIDTHS[-1] if width is None else width
        return at, recalls[WIDTHS.index(at)], width is not None


def _ranks(trial: TrialSet, scores: F32) -> list[F64]:
    return [ranks(trial, query, scores[query]) for query in range(len(scores))]


def _laid(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """The rows, repeated to as many as are timed."""
    count = max(len(rows), min(size, LAID))
    return np.ascontiguousarray(np.resize(rows, (count, rows.shape[1])))


def _scores(index: VectorIndex, queries: F32, rows: int) -> F32:
    """(q, rows): of the first rows of an index, by its codes."""
    scores = np.full((len(queries), index.size), -np.inf, np.float32)
    for place, query in enumerate(queries):
        found = index.search(query[None], index.size)
        scores[place, found.rows[0]] = found.scores[0]
    return scores[:, :rows]


def _ordering_ms(documents: NDArray[Any], queries: F32, wide: int) -> float:
    """Of reading the vectors of ``wide`` rows and taking the best."""
    random = np.random.default_rng(0)
    rows = np.sort(random.integers(0, len(documents), wide))
    return median_ms(lambda i: np.argsort(-fast_scores(queries[i % len(queries)], documents[rows]), kind="stable"))


def _file_bytes(index: Any) -> int:
    total = 0

    def count(part: bytes) -> None:
        nonlocal total
        total += len(part)

    index.write(count)
    return total
