"""The costs of a search's steps, timed on this machine.

Useful for: comparing first stages before one is built. Not useful for: what users wait for, which the built collection
is measured for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from app import vector_index
from app.collection.collection import Collection
from app.query.encoded import EncodedQuery
from app.query.ranking import rank
from app.query.scores import scores_of
from app.tuning.options import Option
from app.tuning.trials import TrialSet
from app.types import F32
from app.vector_index.protocol import VectorIndex

TIMED: Final = 15
"""Repetitions of what is timed; the median counts."""
FEW, MANY = 50, 250
"""Candidates whose rescoring is timed; the difference is what one costs."""


def median_ms(work: Callable[[int], object]) -> float:
    """Of ``TIMED`` calls, which are told their number."""
    times = []
    for i in range(TIMED):
        start = time.perf_counter()
        work(i)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def query_ms(option: Option, trial: TrialSet) -> float:
    """Of encoding a query for the first stage."""
    encoding = option.stage.encoding
    if encoding is None:
        return 0.0
    singly = [trial.queries.slice(i, i + 1) for i in range(min(TIMED, len(trial.queries)))]
    return median_ms(lambda i: encoding.encode_queries(singly[i % len(singly)]))


def scan_ms(index: VectorIndex, queries: F32, depth: int, size: int) -> float:
    """Of a search for ``depth`` rows of a collection of ``size``, of which the index holds a part."""
    vector_index.set_threads(1)
    deep = min(depth, index.size)
    return median_ms(lambda i: index.search(queries[i % len(queries)][None], deep)) * max(1.0, size / index.size)


def candidate_ms(collection: Collection, query: EncodedQuery) -> float:
    """The cost of rescoring one more candidate."""
    scores, workers = scores_of(collection.spec, query), collection.resources.workers
    random = np.random.default_rng(0)
    took = {}
    with collection.snapshot() as snapshot:
        view = max(snapshot.views, key=lambda view: view.part.size)
        for count in (FEW, MANY):
            drawn = [
                np.sort(random.choice(view.part.size, min(count, view.part.size), replace=False)) for _ in range(TIMED)
            ]
            took[count] = median_ms(
                lambda i: rank([view], [drawn[i]], scores, 10, workers, snapshot.identify)  # noqa: B023 - called here
            )
    return max(0.0, took[MANY] - took[FEW]) / (MANY - FEW)
