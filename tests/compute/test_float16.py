"""Widening is exact: held against NumPy's own conversion, over every half there is."""

from __future__ import annotations

import numpy as np
import pytest

from app.compute.float16 import widen

EVERY_HALF = np.arange(65_536, dtype=np.uint16).view(np.float16)
FINITE_HALVES = EVERY_HALF[np.isfinite(EVERY_HALF)]


def same_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("halves", [EVERY_HALF, FINITE_HALVES, FINITE_HALVES[::-1].copy()])
def test_every_half_keeps_its_value(halves: np.ndarray) -> None:
    out = np.full(halves.shape, 7, np.float32)
    assert widen(halves, out) is out
    assert same_bits(out, halves.astype(np.float32))


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, -np.nan])
@pytest.mark.parametrize("place", [0, 65_535, 65_536, 140_000])
def test_one_special_value_among_many(special: float, place: int) -> None:
    halves = np.resize(FINITE_HALVES, 150_000)
    halves[place] = special
    assert same_bits(widen(halves, np.empty(halves.shape, np.float32)), halves.astype(np.float32))


def test_strided_and_wider_values_are_copied() -> None:
    halves = np.resize(FINITE_HALVES, (200, 30))
    assert same_bits(widen(halves[:, ::3], np.empty((200, 10), np.float32)), halves[:, ::3].astype(np.float32))
    floats = np.linspace(-1, 1, 50, dtype=np.float32).reshape(5, 10)
    assert same_bits(widen(floats, np.empty((5, 10), np.float32)), floats)


def test_no_values() -> None:
    assert widen(np.empty((0, 4), np.float16), np.empty((0, 4), np.float32)).shape == (0, 4)
