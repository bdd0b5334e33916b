"""A rotation that needs no data: random signs, then Hadamard transforms of the first and the last block, four times.

Turned so, the coordinates of any vector are spread alike, which is what grids of few bits need. It is the FhtKac
rotator of RaBitQ (Gao, Long: "RaBitQ", SIGMOD 2024, arXiv 2405.12497; github.com/VectorDB-NTU/RaBitQ-Library) without
padding: where the dimensions are no power of two, the two blocks of the largest power overlap, and every round takes
the other one. Signs come from SHAKE-128, sums are float32 in one order: the same bits everywhere.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types

from app.compute.native import instruction, kernel
from app.types import F32

ROUNDS: Final = 4
LANES: Final = 16
"""Vectors that are turned together, side by side: a row of a tile is one coordinate of 16 vectors, one register."""


@lru_cache(maxsize=16)
def signs(dim: int) -> F32:
    """(ROUNDS, dim) of 1 and -1, read-only; always the same for one dim.

    >>> signs(4)[0].tolist() == signs(4)[0].tolist(), set(np.abs(signs(99)).ravel().tolist())
    (True, {1.0})
    """
    size = -(-ROUNDS * dim // 8)
    stream = hashlib.shake_128(f"sheaf rotation 1, {dim}".encode()).digest(size)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[: ROUNDS * dim]
    found = (1 - 2 * bits.astype(np.float32)).reshape(ROUNDS, dim)
    found.flags.writeable = False
    return found


def block_size(dim: int) -> int:
    """The largest power of two that is no larger."""
    return 1 << (dim.bit_length() - 1)


def rotated(vectors: F32) -> F32:
    """(n, dim) -> (n, dim): each row turned; lengths and inner products stay, up to rounding."""
    rows = np.ascontiguousarray(vectors, np.float32)
    dim = rows.shape[1]
    block = block_size(dim)
    out = np.empty_like(rows)
    _rotate_all(rows, signs(dim), block, np.float32(1 / math.sqrt(block)), out)
    return out


@instruction
def _butterfly(context: Any, a: Any, b: Any) -> Any:
    """Two rows of a tile at addresses a and b become their sum and their difference."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        rows = ir.VectorType(ir.FloatType(), LANES).as_pointer()
        first, second = (builder.inttoptr(arg, rows) for arg in args)
        x, y = builder.load(first, align=4), builder.load(second, align=4)
        builder.store(builder.fadd(x, y), first, align=4)
        builder.store(builder.fsub(x, y), second, align=4)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(a, b), generate


@kernel
def _hadamard(tile: F32, start: int, size: int, scale: np.float32) -> None:
    """The block of coordinates start to start + size of a tile in place, scaled to keep lengths."""
    base = np.int64(tile.ctypes.data)
    half = 1
    while half < size:
        for first in range(start, start + size, 2 * half):
            for i in range(first, first + half):
                _butterfly(base + i * 4 * LANES, base + (i + half) * 4 * LANES)
        half *= 2
    flat = tile.reshape(-1)
    for i in range(start * LANES, (start + size) * LANES):
        flat[i] *= scale


@kernel
def _flip(tile: F32, flips: F32) -> None:
    for i in range(tile.shape[0]):
        for lane in range(LANES):
            tile[i, lane] *= flips[i]


@kernel
def rotate(tile: F32, flips: F32, block: int, scale: np.float32) -> None:
    """A tile (dim, LANES) in place."""
    for turn in range(flips.shape[0]):
        _flip(tile, flips[turn])
        _hadamard(tile, 0 if turn % 2 == 0 else tile.shape[0] - block, block, scale)


@kernel
def rotate_back(tile: F32, flips: F32, block: int, scale: np.float32) -> None:
    """The inverse of ``rotate``, up to rounding."""
    for turn in range(flips.shape[0] - 1, -1, -1):
        _hadamard(tile, 0 if turn % 2 == 0 else tile.shape[0] - block, block, scale)
        _flip(tile, flips[turn])


@kernel
def _rotate_all(rows: F32, flips: F32, block: int, scale: np.float32, out: F32) -> None:
    tile = np.zeros((rows.shape[1], LANES), np.float32)
    for first in range(0, rows.shape[0], LANES):
        lanes = min(LANES, rows.shape[0] - first)
        for lane in range(lanes):
            for i in range(rows.shape[1]):
                tile[i, lane] = rows[first + lane, i]
        rotate(tile, flips, block, scale)
        for lane in range(lanes):
            for i in range(rows.shape[1]):
                out[first + lane, i] = tile[i, lane]
