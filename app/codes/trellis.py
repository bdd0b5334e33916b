"""Four coordinates in five bits: trellis-coded quantisation.

Every four coordinates have a code of five bits, and stand for the four numbers that TABLE has for this code and the
one before it together: 1,024 entries, of which 32 can follow. Codes are chosen together, by Viterbi's algorithm, so
that the squared distance of all coordinates from their numbers is least. That comes near to what any code of this rate
can reach: of coordinates from a normal distribution .204 of their variance is left, where one and a quarter bits allow
.177, and grids of one and of two bits, mixed, leave .302.

Marcellin, Fischer: "Trellis coded quantization of memoryless and Gauss-Markov sources" (IEEE Trans. Comm. 38, 1990);
with entries of several numbers, and the last bits themselves as the state, as in Tseng et al.: "QTIP" (NeurIPS 2024,
arXiv 2406.11235). ``scripts/learn_trellis.py`` made the table, which is part of the format.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from app.compute.native import instruction, kernel
from app.types import F32

COORDINATES: Final = 4
"""Coordinates of one code."""
BITS: Final = 5
"""Of one code."""
CODES: Final = 1 << BITS
UNIT: Final = 32
"""The table's number for one standard deviation."""

_SHA256: Final = "763cfbca5097000b790be844221dce0d23c5e45d3c4d5a7e9d22bc23abb760fd"


def _table() -> NDArray[np.int8]:
    file = Path(__file__).with_name("trellis.npy")
    found: NDArray[np.int8] = np.load(file, allow_pickle=False)
    if hashlib.sha256(found.tobytes()).hexdigest() != _SHA256:
        raise ValueError(f"{file} is not what Sheaf came with: install it again")
    return found


TABLE: Final = _table()
"""(CODES, CODES, COORDINATES): the numbers of a code, by the code before it and itself."""
WORDS: Final = (
    (np.moveaxis(TABLE, 1, 0).astype(np.int16) + 128).astype(np.uint8).reshape(-1, COORDINATES).view("<u4")[:, 0]
)
"""(CODES * CODES,): the same as four bytes, each 128 more, by 32 * code + the code before: as they follow in a row."""


def searched(table: NDArray[Any]) -> tuple[F32, F32]:
    """A table as ``search`` takes it: (CODES, CODES) half the squared lengths of its entries, (COORDINATES, CODES,
    CODES) their numbers.
    """
    numbers = np.ascontiguousarray(np.moveaxis(table, 2, 0), np.float32)
    halves = np.zeros(table.shape[:2], np.float32)
    for part in numbers:
        halves += part * part / np.float32(2)
    return halves, numbers


HALVES, NUMBERS = searched(TABLE)


@instruction
def _least(context: Any, costs: Any, least: Any, came: Any) -> Any:
    """Addresses: of (CODES, CODES) float32; of (CODES,) float32, where the least of each column goes, and of (CODES,)
    uint8, where its row does. Numba's loop would keep what is least so far in memory, which takes three times as long.
    """
    lanes = 16

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        floats, rows = ir.VectorType(ir.FloatType(), lanes), ir.VectorType(ir.IntType(32), lanes)

        def at(base: Any, offset: int, kind: Any) -> Any:
            return builder.inttoptr(builder.add(base, ir.IntType(64)(offset)), kind.as_pointer())

        def lower(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
            """The value and the row of the other where it is less."""
            less = builder.fcmp_ordered("<", other[0], one[0])
            return builder.select(less, other[0], one[0]), builder.select(less, other[1], one[1])

        for first in range(0, CODES, lanes):
            runs = []
            for begin in range(0, CODES, CODES // 4):  # side by side, so that none waits for another
                found = None
                for row in range(begin, begin + CODES // 4):
                    value = builder.load(at(args[0], 4 * (row * CODES + first), floats), align=4)
                    here = value, ir.Constant(rows, [row] * lanes)
                    found = here if found is None else lower(found, here)
                runs.append(found)
            value, row = lower(lower(runs[0], runs[1]), lower(runs[2], runs[3]))  # type: ignore[arg-type]
            builder.store(value, at(args[1], 4 * first, floats), align=4)
            small = ir.VectorType(ir.IntType(8), lanes)
            builder.store(builder.trunc(row, small), at(args[2], first, small), align=1)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(costs, least, came), generate


@kernel
def search(x: F32, halves: F32, numbers: F32, codes: NDArray[np.uint8]) -> None:
    """x: (steps, COORDINATES) float32; its codes: (steps,), written.

    costs[b, c]: the least of half the squared distance so far, less what all have in common, over the codes that end
    with b and c. Before the first comes a 0.
    """
    steps = x.shape[0]
    costs = np.full((CODES, CODES), np.inf, np.float32)
    costs[0, 0] = 0
    least = np.empty(CODES, np.float32)
    came = np.empty((steps, CODES), np.uint8)
    for t in range(steps):
        _least(np.int64(costs.ctypes.data), np.int64(least.ctypes.data), np.int64(came.ctypes.data) + CODES * t)
        x0, x1, x2, x3 = x[t, 0], x[t, 1], x[t, 2], x[t, 3]
        for b in range(CODES):
            before = least[b]
            for c in range(CODES):
                near = (x0 * numbers[0, b, c] + x1 * numbers[1, b, c]) + (x2 * numbers[2, b, c] + x3 * numbers[3, b, c])
                costs[b, c] = before + (halves[b, c] - near)
    b, c = 0, 0
    for i in range(CODES):
        for j in range(CODES):
            if costs[i, j] < costs[b, c]:
                b, c = i, j
    for t in range(steps - 1, -1, -1):
        codes[t] = c
        b, c = came[t, b], b


@kernel
def code_of(row: NDArray[np.uint8], step: int) -> Any:
    """Of a row of codes, counted from the lowest bit of each byte, and at least a byte that follows them."""
    at = step * BITS
    return ((np.int64(row[at >> 3]) | np.int64(row[(at >> 3) + 1]) << 8) >> (at & 7)) & (CODES - 1)


@kernel
def number_of(row: NDArray[np.uint8], i: int) -> Any:
    """The number that coordinate i stands for."""
    step = i // COORDINATES
    before = code_of(row, step - 1) if step > 0 else 0
    return np.int64(TABLE[before, code_of(row, step), i % COORDINATES])
