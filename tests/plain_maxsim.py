"""MaxSim of stored vectors in plain NumPy: the oracle of every fast path, to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.codes.trellis import TABLE
from app.types import F32, F64


def numbers(rows: NDArray[np.uint8], code: GridCode) -> NDArray[np.int64]:
    """(n, dim): what the codes stand for, read bit by bit from the format's definition."""
    if code.precision == "1.25bit":
        steps = -(-code.dim // 4)
        bits = np.unpackbits(rows[:, : code.width - 4], axis=1, bitorder="little")[:, : 5 * steps]
        fives = (bits.reshape(len(rows), steps, 5) << np.arange(5)).sum(axis=2)
        before = np.concatenate([np.zeros((len(rows), 1), np.int64), fives[:, :-1]], axis=1)
        return TABLE[before, fives].astype(np.int64).reshape(len(rows), -1)[:, : code.dim]
    bits = np.unpackbits(rows[:, : code.width - 4], axis=1, bitorder="little")[:, : code.dim * code.bits]
    codes = (bits.reshape(len(rows), code.dim, code.bits) << np.arange(code.bits)).sum(axis=2).astype(np.int64)
    return codes - 128 if code.bits == 8 else 2 * codes + 1 - 2**code.bits


def factors(rows: NDArray[Any], code: Code) -> tuple[F64, F64]:
    """Stored vectors in the code's own coordinates: numbers (n, dim), scales (n,), both float64."""
    if isinstance(code, GridCode):
        return numbers(rows, code).astype(np.float64), code.scales(rows).astype(np.float64)
    return rows.astype(np.float64), np.ones(len(rows))


def reference(query: F32, rows: NDArray[Any], code: Code) -> float:
    """Every inner product in float64: coordinate i in lane i % 8, lanes in order; then scale, largest, exact sum."""
    values, scales = factors(rows, code)
    turned = code.turn(query).astype(np.float64)
    products = turned[:, None, :] * values[None, :, :]
    lanes = np.zeros((*products.shape[:2], 8))
    for i in range(products.shape[2]):
        lanes[:, :, i % 8] += products[:, :, i]
    total = lanes[:, :, 0].copy()
    for lane in range(1, 8):
        total += lanes[:, :, lane]
    with np.errstate(over="ignore"):
        return float(np.float32(math.fsum((total * scales).max(axis=1).tolist())))
