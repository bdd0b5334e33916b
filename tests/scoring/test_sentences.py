"""The sentence that is shown is the one that MaxSim finds nearest."""

from __future__ import annotations

import numpy as np
import pytest

from app.scoring.sentences import nearest_sentence


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_sentence_is_the_one_of_the_plain_sums(seed: int):
    made = np.random.default_rng(seed)
    length, tokens, queries = 60, int(made.integers(1, 20)), int(made.integers(1, 5))
    # Small whole numbers, so that sums are exact and ties are many.
    products = made.integers(-2, 3, (tokens, queries)).astype(np.float32)
    places = np.sort(made.choice(length, tokens, replace=False))
    places[made.random(tokens) < 0.2] = -1
    begins = np.array([0, *np.sort(made.choice(np.arange(1, length), int(made.integers(0, 6)), replace=False))])
    of_token = np.where(places < 0, -1, np.searchsorted(begins, places, side="right") - 1)
    sums = {
        sentence: products[of_token == sentence].max(axis=0).sum() for sentence in sorted({*of_token.tolist()} - {-1})
    }
    if not sums:
        assert nearest_sentence(products, places, begins) == (-1, -1)
        return
    best = max(sums, key=lambda one: sums[one])
    (own,) = np.nonzero(of_token == best)
    chosen = sorted(own[products[own].argmax(axis=0)].tolist())
    assert nearest_sentence(products, places, begins) == (best, chosen[queries // 2])
