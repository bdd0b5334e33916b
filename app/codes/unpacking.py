"""Codes of b bits spread to bytes, as the integer kernels read them.

Byte i of an unpacked row is the number that code i stands for, plus ``GridCode.zero``: never negative. Bytes after the
last code have no meaning; what they are multiplied with is 0.

Rows are given by their addresses: a slice of an array in a compiled loop counts references, which took longer (40 ns a
row) than the work. Built of LLVM's instructions, 64 codes at a time; 64 single bits become bytes in two of AVX-512.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from app.codes.trellis import BITS as TRELLIS
from app.codes.trellis import COORDINATES, WORDS
from app.compute.native import instruction, kernel

_I8 = ir.IntType(8)
_NOTHING = ir.Constant(_I8.as_pointer(), None)


def _bytes(count: int) -> Any:
    return ir.VectorType(_I8, count)


def _splat(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


@instruction
def _spread8(context: Any, source: Any, target: Any) -> Any:
    """64 bytes, as they are."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        _store(builder, _load(builder, args[0], _bytes(64)), args[1])
        return _NOTHING

    return types.void(source, target), generate


@instruction
def _spread4(context: Any, source: Any, target: Any) -> Any:
    """32 bytes to 64: twice each half of a byte."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        pairs = ir.VectorType(ir.IntType(16), 32)
        both = builder.zext(_load(builder, args[0], _bytes(32)), pairs)
        apart = builder.or_(both, builder.shl(both, _splat(pairs, 4)))
        _store(builder, builder.shl(builder.and_(apart, _splat(pairs, 0x0F0F)), _splat(pairs, 1)), args[1])
        return _NOTHING

    return types.void(source, target), generate


@instruction
def _spread2(context: Any, source: Any, target: Any) -> Any:
    """16 bytes to 64: twice each quarter of a byte."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        fours = ir.VectorType(ir.IntType(32), 16)
        apart = four = builder.zext(_load(builder, args[0], _bytes(16)), fours)
        for shift in (6, 12, 18):
            apart = builder.or_(apart, builder.shl(four, _splat(fours, shift)))
        _store(builder, builder.shl(builder.and_(apart, _splat(fours, 0x03030303)), _splat(fours, 1)), args[1])
        return _NOTHING

    return types.void(source, target), generate


@instruction
def _spread1(context: Any, source: Any, target: Any) -> Any:
    """8 bytes to 64: twice each bit."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        bits = builder.bitcast(_load(builder, args[0], ir.IntType(64)), ir.VectorType(ir.IntType(1), 64))
        _store(builder, builder.select(bits, _splat(_bytes(64), 2), _splat(_bytes(64), 0)), args[1])
        return _NOTHING

    return types.void(source, target), generate


@instruction
def byte_at(context: Any, address: Any) -> Any:
    """The byte at an address, as int64."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.zext(_load(builder, args[0], _I8), ir.IntType(64))

    return types.int64(address), generate


@instruction
def _long_at(context: Any, address: Any) -> Any:
    """The eight bytes from an address on, as int64."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return _load(builder, args[0], ir.IntType(64))

    return types.int64(address), generate


@instruction
def _put_word(context: Any, value: Any, address: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        _store(builder, builder.trunc(args[0], ir.IntType(32)), args[1])
        return _NOTHING

    return types.void(value, address), generate


@instruction
def float_at(context: Any, address: Any) -> Any:
    """The float32 at an address, aligned or not."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return _load(builder, args[0], ir.FloatType())

    return types.float32(address), generate


@instruction
def _put_byte(context: Any, value: Any, address: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        _store(builder, builder.trunc(args[0], _I8), args[1])
        return _NOTHING

    return types.void(value, address), generate


@kernel
def unpack(row: Any, dim: int, bits: int, out: Any) -> None:
    """Addresses, int64, of a row of codes and of ``dim`` bytes."""
    if bits == TRELLIS:
        _follow(row, dim, out)
        return
    whole = dim >> 6
    if bits == 8:
        for j in range(whole):
            _spread8(row + 64 * j, out + 64 * j)
    elif bits == 4:
        for j in range(whole):
            _spread4(row + 32 * j, out + 64 * j)
    elif bits == 2:
        for j in range(whole):
            _spread2(row + 16 * j, out + 64 * j)
    else:
        for j in range(whole):
            _spread1(row + 8 * j, out + 64 * j)
    mask = (1 << bits) - 1
    twice = 0 if bits == 8 else 1
    for i in range(whole << 6, dim):
        at = i * bits
        code = (byte_at(row + (at >> 3)) >> (at & 7)) & mask
        _put_byte(np.int64(code << twice), out + i)


@kernel
def _follow(row: Any, dim: int, out: Any) -> None:
    """As ``unpack``, of a trellis: eight codes of five bits at a time, and the last bits before them."""
    whole = dim // (8 * COORDINATES)
    for j in range(whole):
        word = _long_at(row + 5 * j - 1) if j > 0 else _long_at(row) << 8
        word >>= 3
        for i in range(8):
            _put_word(np.int64(WORDS[(word >> (TRELLIS * i)) & 1023]), out + 32 * j + 4 * i)
    for step in range(8 * whole, -(-dim // COORDINATES)):
        window = byte_at(row) << TRELLIS
        if step > 0:
            at = TRELLIS * (step - 1)
            byte = row + (at >> 3)
            window = (byte_at(byte) | byte_at(byte + 1) << 8 | byte_at(byte + 2) << 16) >> (at & 7)
        word = np.int64(WORDS[window & 1023])
        for i in range(COORDINATES * step, min(COORDINATES * (step + 1), dim)):
            _put_byte(word >> (8 * (i % COORDINATES)), out + i)
