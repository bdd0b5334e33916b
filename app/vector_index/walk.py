"""Walks along a graph and reads of all codes, compiled: inner products of 16-bit queries with 8-bit codes, in integers.

faiss's own walk takes 1.5 to 1.7 times as long over such codes: it makes floats of each number of a code, and waits for
each code to come from memory, where this one asks for all that a step will read before it reads the first. A product
in integers is exact, so its bits are the same on every machine, alone or among others. Of a query's numbers 16 bits are
kept, or fewer of very many dimensions, so that a sum fits into 32: a hundredth of what codes of 8 bits are off by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from app.compute.native import instruction, kernel
from app.types import F32, F64, I64

LANES: Final = 16
LINE: Final = 64
"""Bytes that come from memory at once."""
LOW: Final = 2**32 - 1
"""The bits of a key that tell the row; above them is the score."""
FIRST: Final = LOW - 1
"""What tells row 0, each next row one less: larger keys are better, equal scores by row. None is -1, of any score."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_NOTHING = ir.Constant(_I8.as_pointer(), None)


def _declared(builder: Any, name: str, kind: Any) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _sums(builder: Any, first: Any, size: Any, lanes: int, start: list[Any], addresses: Any) -> list[Any]:
    """``start`` and the products at the places from ``first`` as long as all of a step's lie below size, the lanes of
    each sum side by side."""
    before = builder.block
    test, body, after = (builder.append_basic_block(name) for name in ("products", "step", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    place, sums = builder.phi(_I64), [builder.phi(one.type) for one in start]
    following = builder.add(place, _I64(lanes * len(start)))
    builder.cbranch(builder.icmp_signed("<=", following, size), body, after)
    builder.position_at_end(body)
    new = []
    for i, total in enumerate(sums):
        at, numbers = builder.add(place, _I64(i * lanes)), []
        for address, kind, bytes_, widen in (
            (addresses[0], _I8, 1, builder.zext),
            (addresses[1], _I16, 2, builder.sext),
        ):
            there = builder.add(address, builder.mul(at, _I64(bytes_)))
            read = kind if lanes == 1 else ir.VectorType(kind, lanes)
            numbers.append(widen(builder.load(builder.inttoptr(there, read.as_pointer()), align=bytes_), total.type))
        new.append(builder.add(total, builder.mul(*numbers)))
    builder.branch(test)
    for phi, begin, then in ((place, first, following), *zip(sums, start, new, strict=True)):
        phi.add_incoming(begin, before)
        phi.add_incoming(then, body)
    builder.position_at_end(after)
    return sums


@instruction
def _product(context: Any, codes: Any, weights: Any, size: Any) -> Any:
    """The sum of the products, int32. Addresses of uint8 and int16, and how many there are of each, int64."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        *addresses, size = args
        wide = ir.VectorType(_I32, LANES)
        zero = ir.Constant(wide, [0] * LANES)
        # Two side by side, so that none waits for the other.
        one, other = _sums(builder, _I64(0), size, LANES, [zero, zero], addresses)
        add = _declared(builder, f"llvm.vector.reduce.add.v{LANES}i32", ir.FunctionType(_I32, [wide]))
        total = builder.call(add, [builder.add(one, other)])
        rest = builder.sub(size, builder.srem(size, _I64(2 * LANES)))
        (total,) = _sums(builder, rest, size, 1, [total], addresses)
        return total

    return types.int32(codes, weights, size), generate


@instruction
def _fetch(context: Any, address: Any) -> Any:
    """Has what lies there brought from memory, without waiting for it."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        place = builder.inttoptr(args[0], _I8.as_pointer())
        builder.call(_declared(builder, "llvm.prefetch.p0i8", kind), [place, _I32(0), _I32(3), _I32(1)])
        return _NOTHING

    return types.void(address), generate


@kernel
def asked(queries: F32, least: F32, widths: F32) -> tuple[NDArray[np.int16], F64, F64]:
    """Queries (q, dim) as products take them: (q, dim) int16, and of each query (q,) what a product is divided by, and
    what is added then, to be its inner product with a row. A row's number is least + widths (code + .5) / 255.
    """
    count, dim = queries.shape
    weights, divisors, added = np.empty((count, dim), np.int16), np.empty(count), np.empty(count)
    numbers = np.empty(dim)
    for q in range(count):
        largest, size, base = 0.0, 0.0, 0.0
        for i in range(dim):
            number = np.float64(queries[q, i]) * np.float64(widths[i]) / 255.0
            numbers[i] = number
            largest = max(largest, abs(number))
            size += abs(number)
            base += np.float64(queries[q, i]) * np.float64(least[i]) + 0.5 * number
        divisor = 1.0
        if largest > 0.0:
            # The sum stays below 2**31, though each number is rounded up by a half.
            divisor = min(32_766.0 / largest, (2.0**31 / 255.0 - dim) / size)
        divisors[q], added[q] = divisor, base
        for i in range(dim):
            weights[q, i] = np.int16(np.rint(numbers[i] * divisor))
    return weights, divisors, added


@kernel
def _raise(heap: I64, size: int, key: int, sign: int) -> None:
    """A key more in a heap of so many; the largest times sign is its first."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        if sign * heap[above] >= sign * key:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = key


@kernel
def _lower(heap: I64, size: int, key: int, sign: int) -> None:
    """A key in the place of the first, in a heap of so many."""
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and sign * heap[below + 1] > sign * heap[below]:
            below += 1
        if sign * heap[below] <= sign * key:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = key


@kernel
def _descended(
    codes: int, links: NDArray[np.int32], offsets: I64, starts: I64, entry: int, asks: int, dim: int
) -> np.int64:
    """The key of the row where the highest levels lead to, from the entry always on to the best neighbour."""
    at, score = np.int64(entry), np.int64(_product(codes + np.int64(entry) * dim, asks, dim))
    for level in range(len(starts) - 2, 0, -1):
        moved = True
        while moved:
            moved = False
            first = offsets[at] + starts[level]
            last = min(offsets[at] + starts[level + 1], offsets[at + 1])
            for place in range(first, last):
                row = np.int64(links[place])
                if row < 0:
                    break
                other = np.int64(_product(codes + row * dim, asks, dim))
                if other > score:
                    at, score, moved = row, other, True
    return (score << 32) | (FIRST - at)


@kernel
def walk(
    codes: int,
    size: int,
    links: NDArray[np.int32],
    offsets: I64,
    starts: I64,
    entry: int,
    weights: NDArray[np.int16],
    depth: int,
    reach: int,
) -> tuple[I64, int]:
    """(q, depth) keys of the best rows that a walk of each query meets, best first, -1 where there is none, and how
    many codes all walks read below the highest levels.

    codes: the address of (size, dim) uint8. links: of all rows; those of a row on a level lie from its offset
    (size + 1,) and the level's start (levels + 1,) on, -1 behind their end. weights: (q, dim) of ``asked``. A walk goes
    on from the best row that it has not gone on from, until ``reach`` (at least depth) rows are better (algorithm 2 of
    arXiv 1603.09320).
    """
    dim = weights.shape[1]
    found = np.full((len(weights), depth), -1, np.int64)
    seen = np.empty((size + 63) >> 6, np.uint64)
    best, ahead, fresh = np.empty(reach, np.int64), np.empty(1_024, np.int64), np.empty(starts[1], np.int64)
    read = 0
    for q in range(len(weights)):
        asks = weights[q].ctypes.data
        key = _descended(codes, links, offsets, starts, entry, asks, dim)
        seen[:] = 0
        at = FIRST - (key & LOW)
        seen[at >> 6] |= np.uint64(1) << np.uint64(at & 63)
        best[0] = ahead[0] = key
        held = going = 1
        while going:
            key = ahead[0]
            if held == reach and key < best[0]:
                break
            going -= 1
            _lower(ahead, going, ahead[going], 1)
            at, count = FIRST - (key & LOW), 0
            for place in range(offsets[at], min(offsets[at] + starts[1], offsets[at + 1])):
                row = np.int64(links[place])
                if row < 0:
                    break
                bit = np.uint64(1) << np.uint64(row & 63)
                if seen[row >> 6] & bit:
                    continue
                seen[row >> 6] |= bit
                fresh[count] = row
                count += 1
                for line in range(codes + row * dim, codes + (row + 1) * dim, LINE):
                    _fetch(line)
            if going + count > len(ahead):
                more = np.empty(2 * len(ahead) + count, np.int64)
                more[:going] = ahead[:going]
                ahead = more
            read += count
            for i in range(count):
                row = fresh[i]
                key = (np.int64(_product(codes + row * dim, asks, dim)) << 32) | (FIRST - row)
                if held < reach:
                    _raise(best, held, key, -1)
                    held += 1
                elif key > best[0]:
                    _lower(best, held, key, -1)
                else:
                    continue
                _raise(ahead, going, key, 1)
                going += 1
                links_of = links.ctypes.data + offsets[row] * 4
                _fetch(links_of)
                _fetch(links_of + LINE)
        ordered = np.sort(best[:held])
        for i in range(min(depth, held)):
            found[q, i] = ordered[held - 1 - i]
    return found, read


@kernel
def keys_of(codes: int, rows: I64, weights: NDArray[np.int16]) -> I64:
    """(n,): the keys of rows (n,) for one query, (dim,) of ``asked``."""
    found, dim, asks = np.empty(len(rows), np.int64), len(weights), weights.ctypes.data
    for i in range(len(rows)):
        found[i] = (np.int64(_product(codes + rows[i] * dim, asks, dim)) << 32) | (FIRST - rows[i])
    return found


def told(keys: I64, divisors: F64, added: F64) -> tuple[F32, I64]:
    """The scores and rows of keys (q, n); a row is -1 where the key is, for no row has this one."""
    rows = np.where(keys == -1, -1, FIRST - (keys & LOW))
    return ((keys >> 32) / divisors[:, None] + added[:, None]).astype(np.float32), rows


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    codes, one = np.zeros((1, 1), np.uint8), np.zeros(1, np.float32)
    weights, _, _ = asked(one[None], one, one)
    yield
    links, offsets = np.full(32, -1, np.int32), np.array([0, 32])
    walk(codes.ctypes.data, 1, links, offsets, np.array([0, 32]), 0, weights, 1, 1)
    yield
    keys_of(codes.ctypes.data, np.zeros(1, np.int64), weights[0])
    yield
