"""MaxSim over codes in whole numbers: tokens unpacked to bytes, a few dozen at a time, times planes of bytes.

The sums are exact in 32 bits (16,384 dimensions of 255 * 127 and a start below 2^28), so all loops give the same
bits. The value of a sum, scale * (128 * high + low), is float32 in one
order.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codes.unpacking import float_at, unpack
from app.compute.native import kernel
from app.scoring import pairs
from app.scoring.bytewise import TOKENS, products1, products2, products3, products4
from app.scoring.lanes import dot, widen
from app.types import F32, F64, I64

HELD: Final = 24
"""Tokens that are unpacked at a time: a multiple of every T of app.scoring.bytewise and pairs; 9 KiB at 384
dimensions."""

Bytes = NDArray[np.uint8]


@kernel
def _room(size: int) -> Bytes:
    """Zeroed bytes from a multiple of 64 on."""
    room = np.zeros(size + 64, np.uint8)
    first = -np.int64(room.ctypes.data) % 64
    return room[first : first + size]


@kernel
def padded(steps: int) -> Any:
    """Bytes of a row that the loop of pairs takes, for steps of 4 dimensions."""
    return (4 * steps + pairs.STEP - 1) // pairs.STEP * pairs.STEP


@kernel
def _multiply(
    held: Bytes,
    tokens: int,
    block: I64,
    steps: int,
    content: NDArray[np.int8],
    starts: NDArray[np.int32],
    planes: int,
    native: bool,
    sums: NDArray[np.int32],
) -> None:
    """Sums of the first tokens of ``held``, (HELD, stride), with the lanes of a block: sums (HELD, 64)."""
    groups, first, start = block[2], block[3], block[4]
    if native:
        lanes = np.int64(content.ctypes.data) + first
        begin = np.int64(starts.ctypes.data) + 4 * start
        stride = np.int64(held.shape[1])
        at = TOKENS[groups - 1]
        for t in range(0, tokens, at):
            token = np.int64(held.ctypes.data) + t * stride
            out = np.int64(sums.ctypes.data) + 256 * t
            if groups == 1:
                products1(token, stride, lanes, np.int64(steps), begin, out)
            elif groups == 2:
                products2(token, stride, lanes, np.int64(steps), begin, out)
            elif groups == 3:
                products3(token, stride, lanes, np.int64(steps), begin, out)
            else:
                products4(token, stride, lanes, np.int64(steps), begin, out)
        return
    size = padded(steps)
    for t in range(0, tokens, pairs.TOKENS):
        token, out = np.int64(held.ctypes.data) + t * held.shape[1], np.int64(sums.ctypes.data) + 256 * t
        for lane in range(0, planes * block[1], pairs.LANES):
            lanes = np.int64(content.ctypes.data) + first + lane * size
            begin = np.int64(starts.ctypes.data) + 4 * (start + lane)
            pairs.products(token, np.int64(held.shape[1]), lanes, np.int64(size), begin, out + 4 * lane)


@kernel
def _value(sums: NDArray[np.int32], t: int, q: int, lanes: int, scale: np.float32, planes: int) -> np.float32:
    """Of a token and a query vector of a block, in the vector's units. lanes: of a plane."""
    value = np.float32(sums[t, q])
    if planes == 2:
        value = np.float32(128) * value + np.float32(sums[t, lanes + q])
    return scale * value


@kernel
def maxima(
    codes: Bytes,
    dim: int,
    bits: int,
    begins: I64,
    ends: I64,
    blocks: I64,
    content: NDArray[np.int8],
    starts: NDArray[np.int32],
    planes: int,
    native: bool,
    out: F32,
) -> None:
    """Of passages codes[begins[i]:ends[i]] the largest value with each query vector, in its units: out (n, q) float32.

    codes: rows of a GridCode, C-contiguous, read-only. The rest is of ``Planes``.
    """
    steps = (dim + 3) >> 2
    stride = padded(steps)
    held = _room(HELD * stride).reshape(HELD, stride)
    sums = _room(HELD * 256).view(np.int32).reshape(HELD, 64)
    scales = np.empty(HELD, np.float32)
    owners = np.empty(HELD, np.int64)
    width = codes.shape[1]
    source, target = np.int64(codes.ctypes.data), np.int64(held.ctypes.data)
    out[:] = -np.inf
    filled = 0
    for i in range(begins.shape[0]):
        for j in range(begins[i], ends[i]):
            unpack(source + j * width, dim, bits, target + filled * stride)
            scales[filled] = float_at(source + (j + 1) * width - 4)
            owners[filled] = i
            filled += 1
            if filled == HELD or (i == begins.shape[0] - 1 and j == ends[i] - 1):
                for number in range(blocks.shape[0]):
                    block = blocks[number]
                    _multiply(held, filled, block, steps, content, starts, planes, native, sums)
                    _raise(sums, filled, owners, scales, block[0], block[1], planes, out)
                filled = 0


@kernel
def products(
    codes: Bytes,
    dim: int,
    bits: int,
    blocks: I64,
    content: NDArray[np.int8],
    starts: NDArray[np.int32],
    planes: int,
    native: bool,
    units: F64,
    out: F32,
) -> None:
    """Of all tokens the value with each query vector, times its unit in float64, rounded once: out (t, q) float32.

    units: (q,). The rest is of ``maxima``.
    """
    steps = (dim + 3) >> 2
    stride = padded(steps)
    held = _room(HELD * stride).reshape(HELD, stride)
    sums = _room(HELD * 256).view(np.int32).reshape(HELD, 64)
    width = codes.shape[1]
    source, target = np.int64(codes.ctypes.data), np.int64(held.ctypes.data)
    for begin in range(0, codes.shape[0], HELD):
        filled = min(HELD, codes.shape[0] - begin)
        for t in range(filled):
            unpack(source + (begin + t) * width, dim, bits, target + t * stride)
        for number in range(blocks.shape[0]):
            block = blocks[number]
            first, lanes = block[0], block[1]
            _multiply(held, filled, block, steps, content, starts, planes, native, sums)
            for t in range(filled):
                scale = float_at(source + (begin + t + 1) * width - 4)
                for q in range(lanes):
                    value = _value(sums, t, q, lanes, scale, planes)
                    out[begin + t, first + q] = np.float32(np.float64(value) * units[first + q])


@kernel
def _raise(
    sums: NDArray[np.int32], filled: int, owners: I64, scales: F32, first: int, count: int, planes: int, out: F32
) -> None:
    """Each sum's value where it is more than what its passage has."""
    for t in range(filled):
        best = out[owners[t], first : first + count]
        for q in range(count):
            best[q] = max(best[q], _value(sums, t, q, count, scales[t], planes))


@kernel
def reference_maxima(
    codes: Bytes,
    dim: int,
    bits: int,
    begins: I64,
    ends: I64,
    blocks: I64,
    content: NDArray[np.int8],
    starts: NDArray[np.int32],
    planes: int,
    native: bool,
    zero: int,
    query: F64,
    slack: F64,
    out: F64,
) -> None:
    """As ``maxima``, by ``dot`` in float64: out (n, q).

    zero: of the GridCode. query: (q, d) float64, zeros from dim on. slack: (n, q), in the units of the planes: what a
    value can be below the largest one while its real inner product is the largest. Only these are computed.
    """
    steps = (dim + 3) >> 2
    stride = padded(steps)
    held = _room(HELD * stride).reshape(HELD, stride)
    sums = _room(HELD * 256).view(np.int32).reshape(HELD, 64)
    width = codes.shape[1]
    source, target = np.int64(codes.ctypes.data), np.int64(held.ctypes.data)
    longest = 0
    for i in range(begins.shape[0]):
        longest = max(longest, ends[i] - begins[i])
    queries = out.shape[1]
    values = np.empty((longest, queries), np.float32)
    largest, least = np.empty(queries, np.float32), np.empty(queries, np.float64)
    row = np.zeros(query.shape[1], np.float64)
    asked, wide, size = np.int64(query.ctypes.data), np.int64(row.ctypes.data), np.int64(query.shape[1])
    out[:] = -np.inf
    for i in range(begins.shape[0]):
        count = ends[i] - begins[i]
        largest[:] = -np.inf
        for begin in range(0, count, HELD):
            filled = min(HELD, count - begin)
            for t in range(filled):
                unpack(source + (begins[i] + begin + t) * width, dim, bits, target + t * stride)
            for number in range(blocks.shape[0]):
                block = blocks[number]
                _multiply(held, filled, block, steps, content, starts, planes, native, sums)
                first, lanes = block[0], block[1]
                for t in range(filled):
                    scale = float_at(source + (begins[i] + begin + t + 1) * width - 4)
                    for q in range(lanes):
                        value = _value(sums, t, q, lanes, scale, planes)
                        values[begin + t, first + q] = value
                        largest[first + q] = max(largest[first + q], value)
        for q in range(queries):
            least[q] = np.float64(largest[q]) - slack[i, q]
        for t in range(count):
            near = 0
            for q in range(queries):
                near += np.float64(values[t, q]) >= least[q]
            if near:
                at = source + (begins[i] + t) * width
                unpack(at, dim, bits, target)
                widen(target, np.int64(zero), wide, size)
                scale = float_at(at + width - 4)
                for q in range(queries):
                    if np.float64(values[t, q]) >= least[q]:
                        out[i, q] = max(out[i, q], np.float64(scale) * dot(asked + 8 * q * size, wide, size))
    # An array of which only the address is used is given back after its last use.
    row[0] = 0


@kernel
def best_tokens(
    codes: Bytes, dim: int, bits: int, zero: int, offsets: I64, fast: F32, slack: F64, query: F64, places: I64, out: F64
) -> None:
    """Of passages codes[offsets[i]:offsets[i + 1]] the largest ``dot`` with each query vector, and which of its
    tokens has it, the first of equal ones: out and places, (n, q).

    fast: (t, q), products of all tokens. slack: (n, q), what one of these can be below the largest one of its passage
    while its real inner product is the largest. The rest is of ``reference_maxima``.
    """
    held = _room(padded((dim + 3) >> 2))
    width = codes.shape[1]
    source, target = np.int64(codes.ctypes.data), np.int64(held.ctypes.data)
    row = np.zeros(query.shape[1], np.float64)
    asked, wide, size = np.int64(query.ctypes.data), np.int64(row.ctypes.data), np.int64(query.shape[1])
    least = np.empty(out.shape[1], np.float64)
    out[:] = -np.inf
    for i in range(out.shape[0]):
        for q in range(out.shape[1]):
            largest = -np.inf
            for t in range(offsets[i], offsets[i + 1]):
                largest = max(largest, np.float64(fast[t, q]))
            least[q] = largest - slack[i, q]
        for t in range(offsets[i], offsets[i + 1]):
            ready = False
            scale = float_at(source + (t + 1) * width - 4)
            for q in range(out.shape[1]):
                if np.float64(fast[t, q]) >= least[q]:
                    if not ready:
                        unpack(source + t * width, dim, bits, target)
                        widen(target, np.int64(zero), wide, size)
                        ready = True
                    value = np.float64(scale) * dot(asked + 8 * q * size, wide, size)
                    if value > out[i, q]:
                        out[i, q] = value
                        places[i, q] = t - offsets[i]
    # As above.
    row[0], held[0] = 0, 0


@kernel
def float_maxima(rows: F32, fast: F32, slack: F64, query: F64, places: I64, out: F64) -> None:
    """For each query vector the largest ``dot`` with a row, and the first row that has it: out (q,) float64 and
    places (q,).

    rows: (t, dim). fast: (t, q), their inner products in float32. slack: (q,), what one of these can be below the
    largest one while its real inner product is the largest. query: (q, d) float64, zeros from dim on.
    """
    row = np.zeros(query.shape[1], np.float64)
    asked, wide, size = np.int64(query.ctypes.data), np.int64(row.ctypes.data), np.int64(query.shape[1])
    out[:] = -np.inf
    best = np.empty(query.shape[0], np.float64)
    for q in range(query.shape[0]):
        largest = -np.inf
        for t in range(rows.shape[0]):
            largest = max(largest, np.float64(fast[t, q]))
        best[q] = largest
    for t in range(rows.shape[0]):
        ready = False
        for q in range(query.shape[0]):
            # So that NaN, and the difference of infinities, count as near.
            if not np.float64(fast[t, q]) < best[q] - slack[q]:
                if not ready:
                    for d in range(rows.shape[1]):
                        row[d] = rows[t, d]
                    ready = True
                value = dot(asked + 8 * q * size, wide, size)
                if value > out[q]:
                    out[q] = value
                    places[q] = t
