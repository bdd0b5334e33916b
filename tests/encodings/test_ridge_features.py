"""What learned encodings are made of, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from app.encodings.features import Gaussian, directions, draw, max_sims, stream, windows
from app.types import TokenVectors


def tokens(seed: int, *lengths: int) -> TokenVectors:
    random = np.random.default_rng(seed)
    return TokenVectors.join([random.standard_normal((n, 4), np.float32) for n in lengths])


def test_max_sims_of_many_vectors_and_samples() -> None:
    passage, samples = tokens(0, 2100).values, tokens(1, 1500).values
    expected = (passage.astype(np.float64) @ samples.T).max(axis=0)
    np.testing.assert_allclose(max_sims(passage, samples), expected, rtol=1e-5)


def test_directions_of_any_length() -> None:
    units, lengths = directions(np.array([[3, 4], [0, 0], [3e30, 4e30], [0, 1e-30]], np.float32))
    np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0], [0.6, 0.8], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(lengths, [5, 0, 5e30, 1e-30], rtol=1e-6)


def test_the_kernel_by_hand() -> None:
    samples = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    kernel = Gaussian(samples, np.array([0.5, 0], np.float32), spread=2.0, bandwidth=0.5)
    assert kernel.gram().tolist()[0] == pytest.approx([1, np.exp(-1), np.exp(-2)], rel=1e-6)
    total = kernel.total(np.array([[7, 0], [0, -2]], np.float32))
    assert total.tolist() == pytest.approx(
        [7 + 2 * np.exp(-1), 7 * np.exp(-1) + 2 * np.exp(-2), 7 * np.exp(-2) + 2 * np.exp(-1)], rel=1e-5
    )


def test_half_the_samples_are_of_queries_as_far_as_there_are_so_many() -> None:
    documents, queries = tokens(0, 30, 30), tokens(1, 5, 5)
    for count, of_queries in ((8, 4), (40, 10), (100, 10)):
        drawn = draw(documents, queries, count, stream(0, 0)).tolist()
        assert len(drawn) == min(count, 70)
        assert len({tuple(row) for row in drawn}) == len(drawn)
        assert sum(row in queries.values.tolist() for row in drawn) == of_queries
    assert len(draw(queries, documents, 60, stream(0, 0))) == 60


def test_windows_are_runs_of_documents() -> None:
    documents = tokens(0, 100, 3, 24, 50)
    found = windows(documents, 9)
    assert sorted(found.counts.tolist()) == [3, 24, 24, 24]
    whole = documents.values.tolist()
    for run in found:
        first = whole.index(run[0].tolist())
        assert whole[first : first + len(run)] == run.tolist()
        assert (
            first in documents.offsets
            or first + len(run) - 1 < documents.offsets[np.searchsorted(documents.offsets, first)]
        )
    assert len(windows(documents, 2)) == 2
    assert (
        windows(documents, 9).values.tobytes()
        == found.values.tobytes()
        != windows(documents, 9, seed=1).values.tobytes()
    )
