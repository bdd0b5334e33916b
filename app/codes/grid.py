"""Vectors as whole numbers of few bits, with a float32 scale each: what is stored is scale * numbers.

All are on rotated axes (app.codes.rotation), where coordinates are alike.

*8 bits*: numbers from -127 to 127, scale = largest coordinate / 127.

*4, 2 and 1 bits*: odd numbers (-15 to 15, -3 to 3, -1 and 1). Numbers are chosen as extended RaBitQ does (Gao et al.:
"Practical and Asymptotically Optimal Quantization of High-Dimensional Vectors ...", SIGMOD 2025, arXiv 2409.09913):
those of the largest cosine with the vector, here among ``STEPS`` widths of the grid rather than all. scale = |x|^2 /
<x, numbers>, RaBitQ's unbiased estimator (arXiv 2405.12497, theorem 3.2): inner products with other vectors are right
on average, and x's own with what is stored is exactly |x|^2; so stored vectors are a little longer than x (by a quarter
at 1 bit).

*1.25 bits*: four numbers in five bits (app.codes.trellis), with the same scale.

A row is the codes, then the scale, little-endian. Code i lies in bits i * b to i * b + b of the row, counted from the
lowest bit of each byte; code u of b bits stands for u - 128 where b = 8, else for 2u + 1 - 2^b. (In a trellis b is 5,
and a code stands for four numbers.) Sums over coordinates are of integers, and a trellis is searched in one order, so a
row has the same bits on every machine, whatever is coded beside it.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from app.codes.rotation import LANES, block_size, rotate, rotate_back, rotated, signs
from app.codes.trellis import BITS as TRELLIS
from app.codes.trellis import COORDINATES, HALVES, NUMBERS, UNIT, number_of, search
from app.compute.native import kernel
from app.types import F32, I64

STEPS: Final = 16
"""Widths of the grid that are tried for a vector, from .25 of what its largest coordinate would need to all of it."""
_FIXED: Final = 2.0**20
"""Coordinates are taken to sums as integers, the largest about this: 2^40 * 16,384 fits 63 bits."""
_COARSE: Final = 2.0**15
"""The same while the width of the grid is chosen, for 32 bits."""

GridPrecision = Literal["8bit", "4bit", "2bit", "1.25bit", "1bit"]
BITS: Final[dict[GridPrecision, float]] = {"8bit": 8, "4bit": 4, "2bit": 2, "1.25bit": 1.25, "1bit": 1}
"""Of a dimension; from the most to the fewest."""
Rows = NDArray[np.uint8]


class GridCode:
    """
    >>> code = GridCode("8bit", 2)
    >>> rows = code.encode(np.array([[3, -1.5]], np.float32))
    >>> rows.shape, code.decode(rows).round(2).tolist()
    ((1, 6), [[3.0, -1.4900000095367432]])
    """

    def __init__(self, precision: GridPrecision, dim: int) -> None:
        self.precision: GridPrecision = precision
        self.dim = dim
        trellis = precision == "1.25bit"
        self.bits = TRELLIS if trellis else int(BITS[precision])
        """Of a code, which the loops are told."""
        self.dtype = np.dtype(np.uint8)
        codes = -(-dim // COORDINATES) if trellis else dim
        self.width = self.bytes_per_vector = -(-codes * self.bits // 8) + 4
        self._block = block_size(dim)
        self._norm = np.float32(1 / math.sqrt(self._block))

    @property
    def zero(self) -> int:
        """The number taken off an unpacked byte (app.codes.unpacking) to give the number."""
        return 128 if self.bits in (8, TRELLIS) else 2**self.bits - 1

    def encode(self, vectors: F32) -> Rows:
        vectors = np.ascontiguousarray(vectors, np.float32)
        out = np.zeros((len(vectors), self.width), np.uint8)
        turning = signs(self.dim), self._block, self._norm
        _encode(vectors, *turning, self.bits, HALVES, NUMBERS, out)
        return out

    def decode(self, rows: NDArray[Any]) -> F32:
        out = np.empty((len(rows), self.dim), np.float32)
        _decode(readable(rows), signs(self.dim), self._block, self._norm, self.bits, out)
        return out

    def turn(self, vectors: F32) -> F32:
        return rotated(vectors)

    def norms(self, rows: NDArray[Any]) -> F32:
        sizes = np.empty(len(rows), np.int64)
        _squares(readable(rows), self.dim, self.bits, sizes)
        exact = self.scales(rows).astype(np.float64) * np.sqrt(sizes.astype(np.float64))
        return np.nextafter(exact.astype(np.float32), np.float32(np.inf))

    def scales(self, rows: NDArray[Any]) -> F32:
        """(n,) float32."""
        found: F32 = np.ascontiguousarray(rows[:, self.width - 4 :]).view("<f4")[:, 0]
        return found


def readable(rows: NDArray[Any]) -> NDArray[Any]:
    """The same rows as a plain, contiguous, read-only array: kernels are compiled for that alone."""
    plain = np.ascontiguousarray(np.asarray(rows)).view()
    plain.flags.writeable = False
    return plain


@kernel
def code_at(row: Rows, i: int, bits: int) -> Any:
    """Code i of a row."""
    at = i * bits
    return (row[at >> 3] >> (at & 7)) & ((1 << bits) - 1)


@kernel
def number_at(row: Rows, i: int, bits: int) -> Any:
    """The number of coordinate i."""
    if bits == TRELLIS:
        return number_of(row, i)
    code = np.int64(code_at(row, i, bits))
    return code - 128 if bits == 8 else 2 * code + 1 - (1 << bits)


@kernel
def _largest(x: F32) -> Any:
    """The largest coordinate without its sign, as float64."""
    largest = np.float32(0)
    for i in range(x.shape[0]):
        largest = max(largest, abs(x[i]))
    return np.float64(largest)


@kernel
def _put_scale(row: Rows, scale: Any) -> None:
    place = np.empty(1, np.float32)
    place[0] = scale
    content = place.view(np.uint8)
    for i in range(4):
        row[row.shape[0] - 4 + i] = content[i]


@kernel
def _encode(
    vectors: F32,
    flips: F32,
    block: int,
    norm: np.float32,
    bits: int,
    halves: F32,
    numbers: F32,
    out: Rows,
) -> None:
    dim = vectors.shape[1]
    tile = np.zeros((dim, LANES), np.float32)
    x = np.empty(dim, np.float32)
    exponents = np.zeros(LANES, np.int64)
    for first in range(0, vectors.shape[0], LANES):
        lanes = min(LANES, vectors.shape[0] - first)
        for lane in range(lanes):
            # By powers of two, so that nothing is lost and nothing too small or too large for the sums.
            row = vectors[first + lane]
            exponents[lane] = math.frexp(_largest(row))[1]
            factor = math.ldexp(1.0, -exponents[lane])
            for i in range(dim):
                tile[i, lane] = np.float32(np.float64(row[i]) * factor)
        rotate(tile, flips, block, norm)
        for lane in range(lanes):
            for i in range(dim):
                x[i] = tile[i, lane]
            if bits == 8:
                _encode8(x, exponents[lane], out[first + lane])
            elif bits == TRELLIS:
                _encode_along(x, exponents[lane], halves, numbers, out[first + lane])
            else:
                _encode_one(x, exponents[lane], bits, out[first + lane])


@kernel
def _encode8(x: F32, exponent: int, out: Rows) -> None:
    """x: one vector, turned where it is to be, divided by 2^exponent."""
    largest = _largest(x)
    scale = np.float32(math.ldexp(largest / 127, exponent))
    _put_scale(out, scale)
    inverse = 0.0 if scale == 0 else 1 / math.ldexp(np.float64(scale), -exponent)
    for i in range(x.shape[0]):
        number = np.rint(x[i] * inverse)
        out[i] = np.uint8(128 + min(max(number, -127.0), 127.0))


@kernel
def _encode_one(x: F32, exponent: int, bits: int, out: Rows) -> None:
    """As _encode8, in 4, 2 or 1 bits."""
    dim, best = x.shape[0], np.int32((1 << (bits - 1)) - 1)
    largest = _largest(x)
    if largest == 0:
        return
    inverse = np.float32(best + 1) if bits > 1 else np.float32(0)
    if bits > 1:
        coarse = np.empty(dim, np.int32)
        for i in range(dim):
            coarse[i] = np.int32(abs(x[i]) * np.float32(_COARSE / largest))
        chosen_cosine = -1.0
        for step in range(STEPS):
            tried = np.float32((best + 1) / (_COARSE * (0.25 + 0.75 * (step + 1) / STEPS)))
            product, size = np.int64(0), np.int32(0)
            for i in range(dim):
                number = np.int32(2) * min(np.int32(np.float32(coarse[i]) * tried), best) + np.int32(1)
                product += np.int32(number * coarse[i])
                size += np.int32(number * number)
            cosine = np.float64(product) * np.float64(product) / np.float64(size)
            if cosine > chosen_cosine:
                inverse, chosen_cosine = tried, cosine
        inverse *= np.float32(_COARSE)
    unit = _FIXED / largest
    codes = np.empty(dim, np.uint8)
    square, product = np.int64(0), np.int64(0)
    for i in range(dim):
        fixed = np.int64(np.rint(abs(np.float64(x[i])) * unit))
        index = min(np.int64(np.float64(fixed) * (inverse / _FIXED)), np.int64(best))
        square += fixed * fixed
        product += (2 * index + 1) * fixed
        codes[i] = best + 1 + index if x[i] >= 0 else best - index
    for i in range(dim):
        out[(i * bits) >> 3] |= np.uint8(codes[i] << ((i * bits) & 7))
    _put_scale(out, math.ldexp(np.float64(square) / np.float64(product) / unit, exponent))


@kernel
def _encode_along(x: F32, exponent: int, halves: F32, numbers: F32, out: Rows) -> None:
    """As _encode_one, by a trellis."""
    dim, largest = x.shape[0], _largest(x)
    if largest == 0:
        return
    unit = _FIXED / largest
    fixed = np.empty(dim, np.int64)
    square = np.int64(0)
    for i in range(dim):
        fixed[i] = np.int64(np.rint(np.float64(x[i]) * unit))
        square += fixed[i] * fixed[i]
    spread = math.sqrt(np.float64(square) / dim)
    steps = -(-dim // COORDINATES)
    wanted = np.zeros((steps, COORDINATES), np.float32)
    for i in range(dim):
        wanted[i // COORDINATES, i % COORDINATES] = np.float32(np.float64(fixed[i]) / spread * UNIT)
    codes = np.empty(steps, np.uint8)
    search(wanted, halves, numbers, codes)
    for step in range(steps):
        at = step * TRELLIS
        shifted = np.int64(codes[step]) << (at & 7)
        out[at >> 3] |= np.uint8(shifted & 255)
        out[(at >> 3) + 1] |= np.uint8(shifted >> 8)
    product = np.int64(0)
    for i in range(dim):
        product += fixed[i] * number_of(out, i)
    _put_scale(out, math.ldexp(np.float64(square) / np.float64(product) / unit, exponent))


@kernel
def _decode(rows: Rows, flips: F32, block: int, norm: np.float32, bits: int, out: F32) -> None:
    place = np.empty(4, np.uint8)
    scale = place.view(np.float32)
    tile = np.zeros((out.shape[1], LANES), np.float32)
    for first in range(0, rows.shape[0], LANES):
        lanes = min(LANES, rows.shape[0] - first)
        for lane in range(lanes):
            for i in range(out.shape[1]):
                tile[i, lane] = number_at(rows[first + lane], i, bits)
        rotate_back(tile, flips, block, norm)
        for lane in range(lanes):
            n = first + lane
            for i in range(4):
                place[i] = rows[n, rows.shape[1] - 4 + i]
            for i in range(out.shape[1]):
                out[n, i] = tile[i, lane] * scale[0]


@kernel
def _squares(rows: Rows, dim: int, bits: int, out: I64) -> None:
    for n in range(rows.shape[0]):
        total = np.int64(0)
        for i in range(dim):
            number = np.int64(number_at(rows[n], i, bits))
            total += number * number
        out[n] = total
