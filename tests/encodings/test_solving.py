"""Blocked Cholesky and what is solved by it, against LAPACK in float64."""

from __future__ import annotations

import numpy as np
import pytest

from app.compute.workers import Workers
from app.encodings.leading import leading
from app.encodings.solving import Solver, Work
from app.types import F32


def gram(size: int) -> F32:
    """Positive definite, its eigenvalues from 1 to 1e-4."""
    random = np.random.default_rng(size)
    basis = np.linalg.qr(random.standard_normal((size, size)))[0]
    return ((basis * np.geomspace(1, 1e-4, size)) @ basis.T).astype(np.float32)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("threads", [0, 2])
def test_solves_as_lapack_does(size: int, threads: int) -> None:
    work = Work(Workers(threads) if threads else None)
    matrix = gram(size)
    rows = np.random.default_rng(0).standard_normal((33, size)).astype(np.float32)
    given = matrix.copy(), rows.copy()
    solver = Solver(matrix, 0.01, work)
    expected = np.linalg.solve(matrix.astype(np.float64) + float(solver.ridge) * np.eye(size), rows.T).T
    np.testing.assert_allclose(solver(rows, work), expected, atol=2e-5 * np.abs(expected).max())
    assert np.array_equal(matrix, given[0])
    assert np.array_equal(rows, given[1])
    assert solver(rows, work).tobytes() == solver(rows, work).tobytes()


def test_a_matrix_that_is_not_positive_is_not_solved() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        Solver(np.diag(np.array([1, -1], np.float32)), 0.1)


@pytest.mark.parametrize("size", [5, 600])
def test_half_of_a_symmetric_product_is_mirrored(size: int) -> None:
    rows = np.random.default_rng(0).standard_normal((size, 40)).astype(np.float32)
    found = Work(Workers(2)).symmetric(rows, np.ascontiguousarray(rows.T))
    np.testing.assert_allclose(found, rows.astype(np.float64) @ rows.T.astype(np.float64), atol=1e-4)
    assert np.array_equal(found[256:, :256], found[:256, 256:].T)


def test_a_subspace_of_few_directions_is_found_without_the_others() -> None:
    few = np.random.default_rng(0).standard_normal((900, 7)).astype(np.float32)
    values, vectors = leading(few @ few.T, 20)
    assert (values[7:] < values[0] * 1e-6).all()
    np.testing.assert_allclose(vectors[:, :7] @ vectors[:, :7].T @ few, few, atol=1e-3)


def test_a_fit_is_given_up_between_pieces() -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    with pytest.raises(Enough):
        Solver(gram(300), 0.01, Work(None, check))
