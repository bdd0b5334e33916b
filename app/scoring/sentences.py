"""The sentence of a passage that MaxSim finds nearest to a query."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.compute.native import kernel
from app.types import F32, I64


@kernel
def nearest_sentence(products: F32, places: I64, begins: I64) -> tuple[int, int]:
    """Of the sentences that have a token the first with the largest sum of each query vector's best product, and the
    token that is the middle one of those which are the best there; -1 and -1 where none has one.

    products: (n, q) of the tokens. places: (n,) ascending, where in the text each is; -1 for nowhere. begins: where
    each sentence begins, ascending; no token is before the first.

    >>> products = np.array([[9, 9], [1, 0], [0, 2], [2, 2]], np.float32)
    >>> nearest_sentence(products, np.array([-1, 0, 4, 9]), np.array([0, 8]))
    (1, 3)
    """
    tokens, queries = products.shape
    best = np.empty(queries, np.float32)
    nearest, most = -1, -np.inf
    token = 0
    for sentence in range(len(begins)):
        found = False
        best[:] = -np.inf
        while token < tokens and (sentence == len(begins) - 1 or places[token] < begins[sentence + 1]):
            if places[token] >= 0:
                found = True
                for query in range(queries):
                    best[query] = max(best[query], products[token, query])
            token += 1
        if found:
            total = 0.0
            for query in range(queries):
                total += np.float64(best[query])
            if total > most:
                nearest, most = sentence, total
    if nearest < 0:
        return -1, -1
    chosen = np.full(queries, -1, np.int64)
    for token in range(tokens):
        inside = places[token] >= 0 and places[token] >= begins[nearest]
        if inside and (nearest == len(begins) - 1 or places[token] < begins[nearest + 1]):
            for query in range(queries):
                if chosen[query] < 0 or products[token, query] > products[chosen[query], query]:
                    chosen[query] = token
    chosen.sort()
    return nearest, chosen[queries // 2]


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    nearest_sentence(np.zeros((1, 1), np.float32), np.zeros(1, np.int64), np.zeros(1, np.int64))
    yield
