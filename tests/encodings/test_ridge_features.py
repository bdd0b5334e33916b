"""The parts of learned encodings, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from app.encodings.features import Gaussian, MaxSims, directions, draw, mean_of, stream, windows
from app.encodings.leading import leading
from app.encodings.mapping import WholeMap, mapped
from app.types import TokenVectors


def tokens(seed: int, *lengths: int) -> TokenVectors:
    random = np.random.default_rng(seed)
    return TokenVectors.join([random.standard_normal((n, 4), np.float32) for n in lengths])


@pytest.mark.parametrize(("mean", "planes"), [(0.0, 1), (0.0, 2), (20.0, 2)])
def test_max_sims_less_what_the_origin_gives(mean: float, planes: int) -> None:
    passages, samples = tokens(0, 40_000, 1, 17, 9), directions(tokens(1, 150).values + np.float32(mean))[0]
    moved = TokenVectors(passages.values + np.float32(mean), passages.offsets)
    origin = mean_of(moved)
    np.testing.assert_allclose(origin, moved.values.astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6)
    found = MaxSims(samples, origin, planes)(moved)
    less = moved.values.astype(np.float64) - origin
    for row, (start, stop) in enumerate(zip(moved.offsets[:-1], moved.offsets[1:], strict=True)):
        expected = (less[start:stop] @ samples.T.astype(np.float64)).max(axis=0)
        np.testing.assert_allclose(found[row], expected, atol=0.03)
        # Its purpose: to tell passages apart, where they differ by one or more.
        assert np.abs(expected).max() > 0.5


def test_a_passage_meets_the_samples_alone() -> None:
    given = tokens(3, *range(1, 40), 35_000)
    sims = MaxSims(directions(tokens(1, 70).values)[0], np.ones(4, np.float32), 1)
    together = sims(given)
    for row in range(len(given)):
        assert sims(given.slice(row, row + 1)).tobytes() == together[row].tobytes()


def test_a_row_times_a_matrix_is_the_same_in_any_batch() -> None:
    random = np.random.default_rng(0)
    rows, matrix = (random.standard_normal(shape).astype(np.float32) for shape in ((21, 300), (300, 37)))
    found = mapped(rows, matrix)
    np.testing.assert_allclose(found, rows.astype(np.float64) @ matrix, rtol=1e-4, atol=1e-4)
    for row in range(21):
        assert mapped(rows[row : row + 1], matrix).tobytes() == found[row].tobytes()


@pytest.mark.parametrize("height", [1, 3, 4, 303])
def test_a_matrix_in_whole_numbers_is_off_by_half_a_step(height: int) -> None:
    random = np.random.default_rng(0)
    rows, matrix = (random.standard_normal(shape).astype(np.float32) for shape in ((9, height), (height, 37)))
    matrix[:, 3], matrix[:, 4] = 0, 1e-20 * matrix[:, 4]
    whole = WholeMap(matrix)
    found, exact = whole(rows), rows.astype(np.float64) @ matrix
    steps = np.abs(matrix).max(axis=0) / 32_767
    allowed = np.abs(rows).sum(axis=1)[:, None] * (steps / 2 + 1e-5 * np.abs(matrix).max(axis=0))
    assert (np.abs(found - exact) <= allowed).all()
    for row in range(9):
        assert whole(rows[row : row + 1]).tobytes() == found[row].tobytes()


def test_columns_too_small_for_whole_numbers_count_as_zero() -> None:
    matrix = np.array([[1e-40, 6e-41, 1e-44, 1e-30]] * 5, np.float32)
    found = WholeMap(matrix)(np.ones((1, 5), np.float32))
    assert found[0, :3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(found[0, 3], 5e-30, rtol=1e-4)


@pytest.mark.parametrize("rank", [5, 40])
def test_leading_eigenvectors_of_a_large_matrix(rank: int) -> None:
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((900, 900)))[0]
    spectrum = 1 / np.arange(1, 901) ** 1.5
    matrix = ((basis * spectrum) @ basis.T).astype(np.float32)
    values, vectors = leading(matrix, rank)
    np.testing.assert_allclose(values, spectrum[:rank], rtol=2e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-4)
    kept = np.linalg.norm(vectors.T @ basis[:, :rank])
    assert kept**2 == pytest.approx(rank, rel=5e-3)


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
