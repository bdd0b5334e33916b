"""Which rows can still decide the top k, when each score is known up to a bound."""

from __future__ import annotations

import numpy as np

from app.errors import Invalid
from app.types import F32, F64, I64


def keep_for_top(scores: F32 | F64, bounds: F64, k: int, firsts: I64 | None = None) -> I64:
    """Rows that could be the best row of one of the k best documents, ties included, given that each true score is
    within its bound; ascending.

    scores, bounds: (n,). firsts: the place of the first row of each document, from 0; None where each has one. A row is
    kept when its highest possible score, s + e, reaches the k-th largest of what documents are certain to reach, the
    largest s - e of their rows, and what its own document is certain to reach. A score that is NaN could be anything,
    so it is kept.

    >>> keep_for_top(np.array([5, 3.9, 4, 1], np.float32), np.full(4, 0.1), 2).tolist()
    [0, 1, 2]
    >>> keep_for_top(np.array([5, 4.9, 3, 1], np.float32), np.full(4, 0.1), 2, np.array([0, 2, 3])).tolist()
    [0, 1, 2]
    >>> keep_for_top(np.array([5, 4, 3, 1], np.float32), np.full(4, 0.1), 9, np.array([0, 2, 3])).tolist()
    [0, 2, 3]
    """
    if k < 1:
        raise Invalid(f"k: expected at least 1, got {k}")
    documents = len(scores) if firsts is None else len(firsts)
    if k >= documents and firsts is None:
        return np.arange(len(scores), dtype=np.int64)
    wide = scores.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # These are rounded too, but rounding never turns an order round: what reaches the cut still does.
        lowest: F64 = wide - bounds
        highest: F64 = wide + bounds
    lowest[np.isnan(lowest)] = -np.inf
    highest[np.isnan(highest)] = np.inf
    could = np.ones(len(scores), bool)
    if firsts is not None and documents:
        lowest = np.maximum.reduceat(lowest, firsts)
        could = highest >= np.repeat(lowest, np.diff(firsts, append=len(scores)))
    if k < documents:
        could &= highest >= np.partition(lowest, documents - k)[documents - k]
    return np.flatnonzero(could).astype(np.int64)
