"""Which passages can still be in the top k, when each score is known up to a bound."""

from __future__ import annotations

import numpy as np

from app.errors import Invalid
from app.types import F32, F64, I64


def keep_for_top(scores: F32 | F64, bounds: F64, k: int) -> I64:
    """Rows that could be among the k best, ties included, given that each true score is within its bound; ascending.

    scores, bounds: (n,). A row is kept when its highest possible score, s + e, reaches the k-th largest of the lowest
    possible ones, s - e: k rows are certain to reach that. A score that is NaN could be anything, so it is kept.

    >>> keep_for_top(np.array([5, 3.9, 4, 1], np.float32), np.full(4, 0.1), 2).tolist()
    [0, 1, 2]
    """
    if k < 1:
        raise Invalid(f"k: expected at least 1, got {k}")
    if k >= len(scores):
        return np.arange(len(scores), dtype=np.int64)
    wide = scores.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # These are rounded too, but rounding never turns an order round: what reaches the cut still does.
        lowest: F64 = wide - bounds
        highest: F64 = wide + bounds
    lowest[np.isnan(lowest)] = -np.inf
    highest[np.isnan(highest)] = np.inf
    certain = np.partition(lowest, len(lowest) - k)[len(lowest) - k]
    return np.flatnonzero(highest >= certain).astype(np.int64)
