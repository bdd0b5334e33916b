"""The final projection keeps inner products: without bias, with the variance of its kind, whatever the parts."""

from __future__ import annotations

import numpy as np
import pytest

from app.encodings.sketch import CountSketch
from app.types import F32


def sketched(vectors: F32, size: int, seed: int, parts: tuple[int, ...] = ()) -> F32:
    sketch = CountSketch(vectors.shape[1], size, np.random.RandomState(seed))
    result = np.zeros((len(vectors), size), np.float32)
    for start, stop in zip((0, *parts), (*parts, vectors.shape[1]), strict=True):
        sketch.add(vectors[:, start:stop], start, result)
    return result


@pytest.mark.parametrize("size", [10, 48, 130])
def test_inner_products_are_right_on_average(size: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 130), np.float32)
    y += x / 2
    rounds = 1_500
    pairs = (sketched(np.stack([x, y]), size, seed) for seed in range(rounds))
    products = np.array([float(a @ b) for a, b in pairs])
    expected_variance = (float(x @ x) * float(y @ y) + float(x @ y) ** 2) / size
    assert abs(products.mean() - float(x @ y)) < 4 * np.sqrt(expected_variance / rounds) + 1e-4
    assert products.var() < 1.3 * expected_variance


def test_parts_of_any_size_give_the_same_bits() -> None:
    vectors = np.random.default_rng(1).standard_normal((3, 100), np.float32)
    whole = sketched(vectors, 7, 5)
    for parts in [(1,), (7, 14), (50,), (3, 4, 5, 99), tuple(range(1, 100))]:
        assert np.array_equal(sketched(vectors, 7, 5, parts), whole)


@pytest.mark.parametrize(("wide", "size"), [(100, 7), (12, 12), (5, 9), (64, 16)])
def test_places_are_balanced(wide: int, size: int) -> None:
    """Each coordinate goes to one place, with a sign; no place has more than one more than another."""
    columns = sketched(np.eye(wide, dtype=np.float32), size, 3)
    assert (np.abs(columns).sum(axis=1) == 1).all()
    held = np.abs(columns).sum(axis=0)
    assert held.max() - held.min() <= 1
    assert {-1.0, 1.0} <= set(np.unique(columns).tolist())
