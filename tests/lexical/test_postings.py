"""Postings are looked up as they are read from end to end."""

from __future__ import annotations

import numpy as np
import pytest

from app.lexical.postings import BLOCK, among, posting


@pytest.mark.parametrize("seed", range(12))
def test_a_documents_posting_is_found_wherever_it_stands_in_its_block(seed: int):
    made = np.random.default_rng(seed)
    documents = np.sort(made.choice(4 * BLOCK, int(made.integers(0, 400)), replace=False))
    pairs = np.stack([documents, made.integers(1, 9, len(documents))], axis=1).astype(np.int32)
    for block in range(4):
        own = np.flatnonzero(documents // BLOCK == block)
        pairs[own] = pairs[made.permutation(own)]
    asked = [0, BLOCK - 1, BLOCK, 4 * BLOCK - 1, *made.integers(0, 4 * BLOCK, 50).tolist(), *documents.tolist()]
    for document in asked:
        (there,) = np.nonzero(pairs[:, 0] == document)
        assert [posting(pairs, document)] == (there.tolist() or [-1])


@pytest.mark.parametrize("seed", range(12))
def test_words_among_those_asked_for(seed: int):
    made = np.random.default_rng(seed)
    ids = made.integers(0, 30, int(made.integers(0, 60))).astype(np.int32)
    asked = np.sort(made.choice(30, int(made.integers(0, 12)), replace=False)).astype(np.int32)
    assert among(ids, asked).tolist() == np.flatnonzero(np.isin(ids, asked)).tolist()
