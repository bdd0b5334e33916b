"""Rows and postings of sparse vectors: both give the inner product of plain dictionaries, to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import reference
from app.sparse import postings
from app.sparse.postings import Forward, Inverted, invert
from app.sparse.rows import are_vectors, of_documents, only_of, packed, unpacked
from app.store.files import InMemory
from app.types import Owners, SparseVector

WEIGHTS = st.floats(2.0**-20, 2.0**20, width=32)
VECTORS = st.dictionaries(st.integers(0, 12) | st.integers(0, 2**31 - 1), WEIGHTS, max_size=8)


def made(weights: dict[int, float]) -> SparseVector:
    indices = sorted(weights)
    return SparseVector(np.array(indices, np.int32), np.array([weights[i] for i in indices], np.float32))


@settings(deadline=None)
@given(st.lists(VECTORS, max_size=12), VECTORS)
def test_both_ways_to_a_score_are_the_one_page_and_each_other(documents: list[dict[int, float]], query: dict):
    rows = packed([made(one) for one in documents])
    inverted = Inverted(len(rows), *invert(InMemory(rows.values), rows.offsets)[:2], InMemory(_pairs(rows)))
    by_postings, by_rows = inverted.scores(made(query)), Forward(rows).scores(made(query))
    assert by_postings.tobytes() == by_rows.tobytes()
    assert by_rows.tolist() == [reference.sparse_product(query, one) for one in documents]


def _pairs(rows):
    pairs = invert(InMemory(rows.values), rows.offsets)[2]
    pairs.flags.writeable = False
    return pairs


@settings(deadline=None)
@given(st.lists(VECTORS, max_size=12))
def test_inverting_in_pieces_is_inverting_at_once(documents: list[dict[int, float]]):
    rows = packed([made(one) for one in documents])
    whole = invert(InMemory(rows.values), rows.offsets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "_PIECE", 3)
        pieces = invert(InMemory(rows.values), rows.offsets)
    assert all(np.array_equal(one, other) for one, other in zip(whole, pieces, strict=True))
    indices, starts, pairs = whole
    said = {
        (int(index), int(row), weight)
        for index, start, stop in zip(indices, starts, starts[1:], strict=False)
        for row, weight in zip(pairs[start:stop, 0], pairs[start:stop, 1].copy().view(np.float32).tolist(), strict=True)
    }
    assert said == {(i, row, w) for row, one in enumerate(documents) for i, w in one.items()}


@settings(deadline=None)
@given(st.lists(VECTORS, min_size=1, max_size=8))
def test_rows_hold_what_was_given_to_the_bit(documents: list[dict[int, float]]):
    vectors = [made(one) if one else None for one in documents]
    owners = Owners.of_counts(np.arange(1, len(vectors) + 1) % 3 + 1)
    rows = of_documents(vectors, owners)
    assert len(rows) == owners.rows
    for i, vector in enumerate(vectors):
        found = only_of(rows, owners, i)
        assert (found is None) == (vector is None)
        assert vector is None or vector.same(found)
    assert are_vectors(rows.values, rows.offsets)


@pytest.mark.parametrize(
    ("indices", "weights"),
    [([3, 3], [1, 1]), ([5, 2], [1, 1]), ([-1], [1]), ([1], [0]), ([1], [-1]), ([1], [np.nan]), ([1], [np.inf])],
)
def test_a_strangers_rows_are_held_to_what_a_write_takes(indices: list[int], weights: list[float]):
    good = SparseVector(np.array([1, 4], np.int32), np.ones(2, np.float32))
    bad = SparseVector(np.array(indices, np.int32), np.array(weights, np.float32))
    rows = packed([None, good, bad, None])
    assert not are_vectors(rows.values, rows.offsets)
    fine = packed([good, good, None, good])
    assert are_vectors(fine.values, fine.offsets)
    assert unpacked(fine[0]).same(good)
