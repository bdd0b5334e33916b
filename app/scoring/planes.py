"""Query vectors as small whole numbers, for the integer kernels: one or two planes of bytes.

A coordinate is about unit * (128 * high + low), |high| at most 63, low from -64 to 63: 14 bits, so that what is left
of a coordinate is at most 1/16,254 of the largest one. With one plane it is unit * high. No byte is further from 0 than
64, which AVX2 has room for (app.scoring.bytewise); a full plane has |high| at most 127, and needs VNNI or ``pairs``.

Lanes: queries are cut into blocks; a block of n queries has 2n lanes (its high bytes, then its low ones) or n, filled
with zeros to G groups of 16. In memory a block is (steps, 16 G, 4) bytes where the machine multiplies bytes; steps is a
quarter of the dimensions, rounded up. Where it does not, it is (16 G, d), the dimensions rounded up to what ``pairs``
takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.codes.grid import GridCode
from app.compute.native import byte_instructions
from app.scoring.pairs import STEP
from app.types import F32, F64, I64

GROUPS = 4
"""The most groups of 16 lanes in a block."""
HIGH, FULL = 63, 127
"""The largest number of a high plane, and of a full one."""


@dataclass(frozen=True, slots=True)
class Planes:
    """blocks: (b, 5) int64: first query, queries, groups, first byte of its lanes, first of its starts. content: int8.
    starts: int32, a sum's start for each lane: minus what the code's zero adds to it. units: (q,) float64. left: (q,)
    float64, at least the length of what the planes leave of each vector. sizes: (q,) float64, at least the sum of the
    lengths of what each plane holds, in the vector's own measure.
    """

    blocks: I64
    content: NDArray[np.int8]
    starts: NDArray[np.int32]
    units: F64
    left: F64
    sizes: F64
    planes: Literal[1, 2]
    native: bool


def planes_of(
    query: F32, code: GridCode, planes: Literal[1, 2] = 2, native: bool | None = None, *, full: bool = False
) -> Planes:
    """query: (q, dim) float32, finite, in the code's own coordinates. native: by ``bytewise``; None where it can. full:
    of one plane."""
    able = ("avx512_vnni",) if full else ("avx512_vnni", "avx2")
    native = byte_instructions() in able if native is None else native
    high = FULL if full else HIGH
    wide = query.astype(np.float64)
    largest = np.abs(wide).max(axis=1)
    units = np.where(largest > 0, largest / (high if planes == 1 else 128 * high + 63), 1.0)
    whole = np.rint(wide / units[:, None])
    upper = whole if planes == 1 else np.floor((whole + 64) / 128)
    parts = [upper] if planes == 1 else [upper, whole - 128 * upper]
    measures = [units] if planes == 1 else [128 * units, units]
    left = _lengths(wide - whole * units[:, None]) * (1 + 1e-9) + largest * 1e-14 * math.sqrt(query.shape[1])
    sizes = np.zeros(len(query))
    for part, measure in zip(parts, measures, strict=True):
        sizes += _lengths(part) * measure * (1 + 1e-9)
    steps = -(-query.shape[1] // 4)
    blocks: list[list[int]] = []
    content: list[NDArray[np.int8]] = []
    starts: list[NDArray[np.int32]] = []
    most = GROUPS * 16 // planes
    count = len(query)
    for block in np.array_split(np.arange(count), -(-count // most)):
        lanes = np.concatenate([part[block] for part in parts])
        groups = -(-len(lanes) // 16)
        padded = np.zeros((16 * groups, 4 * steps if native else -(-4 * steps // STEP) * STEP), np.int8)
        padded[: len(lanes), : query.shape[1]] = lanes
        blocks.append([block[0], len(block), groups, sum(map(len, content)), sum(map(len, starts))])
        starts.append((-code.zero * padded.astype(np.int32).sum(axis=1, dtype=np.int32)).astype(np.int32))
        if native:
            padded = padded.reshape(16 * groups, steps, 4).transpose(1, 0, 2)
        content.append(np.ascontiguousarray(padded).reshape(-1))
    return Planes(np.array(blocks, np.int64), _aligned(content), _aligned(starts), units, left, sizes, planes, native)


def _lengths(rows: F64) -> F64:
    found: F64 = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return found


def _aligned(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    """The pieces, each a multiple of 64 bytes long, one after the other from a multiple of 64 on."""
    joined = np.concatenate(pieces)
    room = np.empty(joined.nbytes + 64, np.uint8)
    first = -room.ctypes.data % 64
    found = room[first : first + joined.nbytes].view(joined.dtype)
    found[:] = joined
    return found
