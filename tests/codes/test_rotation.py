"""The rotation is one: lengths and angles stay, it can be undone, and it spreads what was in one place."""

from __future__ import annotations

import numpy as np
import pytest

from app.codes.rotation import block_size, rotated


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 64, 96, 100, 384, 768, 1536, 16_384])
def test_inner_products_stay(dim: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((12, dim)).astype(np.float32)
    turned = rotated(vectors).astype(np.float64)
    before = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.testing.assert_allclose(turned @ turned.T, before, atol=1e-5 * dim)


@pytest.mark.parametrize("dim", [96, 100, 384, 1000])
def test_one_coordinate_is_spread_over_all(dim: int) -> None:
    """No vector of an axis, nor a run of equal coordinates, keeps a coordinate far larger than the rest."""
    axes = rotated(np.eye(dim, dtype=np.float32))
    runs = rotated(np.ones((1, dim), np.float32) / np.float32(np.sqrt(dim)))
    for vectors in (axes, runs):
        assert np.abs(vectors).max() < 6 / np.sqrt(dim)
        assert (np.abs(vectors) > 0.1 / np.sqrt(dim)).mean() > 0.7


def test_the_block_is_the_largest_power_of_two() -> None:
    assert [block_size(dim) for dim in (1, 2, 3, 127, 128, 384)] == [1, 2, 2, 64, 128, 256]
