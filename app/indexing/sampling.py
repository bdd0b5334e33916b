"""The findings of an encoding among some passages, against their exact order: a check that costs a fraction of a
second.

Useful for: saying how well a first stage fits these passages beside those. Not useful for: the recall of a collection
(``app.measure.recall``): among few passages there are few rivals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from app.codes.grid import GridCode
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.scoring.maxsim_codes import CodeScorer
from app.types import F32, I64, TokenVectors

BEST: Final = 10
SLICE: Final = 16
"""The fewest passages or queries worth a thread of their own."""
SHARE: Final = 20
"""The best ``BEST`` are looked for among one in so many of the passages."""


def exact_best(tokens: TokenVectors, queries: TokenVectors, mean: F32, workers: Workers | None = None) -> I64:
    """(q, BEST): the rows of largest MaxSim, by codes of 8 bits of the vectors without their mean."""
    code = GridCode("8bit", tokens.dim)
    coded = TokenVectors(code.encode(tokens.values.astype(np.float32) - mean), tokens.offsets)

    def asked(start: int, stop: int) -> F32:
        return np.stack([CodeScorer(q.astype(np.float32), code).scores(coded) for q in queries.slice(start, stop)])

    scores = _sliced(workers, len(queries), asked)
    best: I64 = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
    return best


def width_of(passages: int) -> int:
    """How many of so many passages the best are looked for among."""
    return max(BEST, passages // SHARE)


def share_found(
    encoding: Encoding, tokens: TokenVectors, queries: TokenVectors, best: I64, workers: Workers | None = None
) -> float:
    """The share of ``best`` among the ``width_of`` best by the encoding; the mean over queries."""
    documents = _sliced(workers, len(tokens), lambda a, b: encoding.encode_documents(tokens.slice(a, b)))
    near = encoding.encode_queries(queries) @ documents.T
    first = np.argsort(-near, axis=1, kind="stable")[:, : width_of(len(tokens))]
    return float((best[:, :, None] == first[:, None, :]).any(axis=2).mean())


def _sliced(workers: Workers | None, size: int, work: Callable[[int, int], F32]) -> F32:
    """The joined results of ``work(start, stop)`` for all of 0 to size."""
    return work(0, size) if workers is None else np.concatenate(workers.map_slices(size, work, smallest=SLICE))
