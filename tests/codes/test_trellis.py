"""The trellis against every path there is, and against what theory says of its rate."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from app.codes import trellis
from app.codes.choose import code_for
from app.codes.trellis import CODES, COORDINATES, HALVES, NUMBERS, TABLE, UNIT, search
from app.types import F32


def distance(x: F32, codes: tuple[int, ...]) -> float:
    """The squared distance of x, (steps, COORDINATES), from what the codes stand for."""
    before = (0, *codes[:-1])
    near = TABLE[list(before), list(codes)].astype(np.float64)
    return float(np.square(x - near).sum())


def test_no_other_codes_are_nearer() -> None:
    rng = np.random.default_rng(1)
    every = list(product(range(CODES), repeat=2))
    for _ in range(20):
        x = (rng.standard_normal((2, COORDINATES)) * UNIT).astype(np.float32)
        codes = np.empty(2, np.uint8)
        search(x, HALVES, NUMBERS, codes)
        assert distance(x, tuple(codes.tolist())) == pytest.approx(min(distance(x, one) for one in every), rel=1e-5)


def test_no_single_change_of_a_long_path_comes_nearer() -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((96, COORDINATES)) * UNIT).astype(np.float32)
    codes = np.empty(96, np.uint8)
    search(x, HALVES, NUMBERS, codes)
    found = codes.tolist()
    least = distance(x, tuple(found))
    for step in range(96):
        for other in range(CODES):
            changed = (*found[:step], other, *found[step + 1 :])
            assert distance(x, changed) >= least * (1 - 1e-6)


def test_it_leaves_what_its_rate_allows_and_little_more() -> None:
    """Of numbers from a normal distribution: rate and distortion allow 2^-2.5; the best grids of one and two bits leave
    .302 (Max, 1960: .3634 and .1175).
    """
    vectors = np.random.default_rng(3).standard_normal((400, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    code = code_for("1.25bit", 384)
    assert code.bytes_per_vector == 64
    stored = code.decode(code.encode(vectors))
    cosines = (stored * vectors).sum(axis=1) / np.linalg.norm(stored, axis=1)
    left = float(1 - np.square(cosines).mean())
    assert 2**-2.5 < left < 0.21


def test_another_table_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = TABLE.copy()
    changed[3, 4, 1] += 1
    np.save(tmp_path / "trellis.npy", changed)
    monkeypatch.setattr(trellis, "__file__", str(tmp_path / "trellis.py"))
    with pytest.raises(ValueError, match=r"trellis\.npy is not what Sheaf came with"):
        trellis._table()
