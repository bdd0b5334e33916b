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


@kernel
def nearest_sentences(products: F32, ends: I64, spans: I64, texts: I64, begins: I64, sentences: I64) -> I64:
    """Of each of n passages the sentence of ``nearest_sentence``, and where in the text its middle token is: (n, 2).

    products: (t, q), of the tokens of all passages; those of passage i begin at ends[i], (n + 1,). spans: (t, 2), of
    each token in what was encoded, -1 for nowhere. texts: (n, 2), where the text begins in what was encoded, and where
    in the text that is. begins, sentences: likewise of the sentences of all passages, where each begins in its text.
    """
    found = np.full((texts.shape[0], 2), -1, np.int64)
    places = np.empty(spans.shape[0], np.int64)
    for i in range(texts.shape[0]):
        own = places[ends[i] : ends[i + 1]]
        for token in range(own.shape[0]):
            start, stop = spans[ends[i] + token, 0], spans[ends[i] + token, 1]
            # Its last character: what is before a text belongs to no sentence.
            own[token] = -1 if start < 0 or stop <= texts[i, 0] else stop - 1 - texts[i, 0] + texts[i, 1]
        sentence, token = nearest_sentence(
            products[ends[i] : ends[i + 1]], own, begins[sentences[i] : sentences[i + 1]]
        )
        if sentence >= 0:
            found[i, 0], found[i, 1] = sentence, own[token]
    return found


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    ends = np.array([0, 1])
    nearest_sentence(np.zeros((1, 1), np.float32), ends[:1], ends[:1])
    yield
    nearest_sentences(np.zeros((1, 1), np.float32), ends, ends[None], ends[None], ends[:1], ends)
    yield
