"""Inner products of references, eight lanes of float64 at a time.

Numba makes of the plain loop one of single numbers: four times as long. Each lane is summed in its own order and no
multiplication is fused with an addition, so every machine gives the same bits, whatever the width of its registers.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types

from app.compute.native import instruction

LANES: Final = 8

_I8, _I32, _I64, _F64 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_BYTES, _WHOLE, _WIDE = (ir.VectorType(kind, LANES) for kind in (_I8, _I32, _F64))


def _at(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


def _steps(builder: Any, size: Any, start: Any, step: Any) -> Any:
    """What ``step`` makes of ``start`` when it was called with it and with the places 0, LANES, ... below size."""
    before = builder.block
    test, body, after = (builder.append_basic_block(name) for name in ("lanes", "step", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    place, value = builder.phi(_I64), builder.phi(start.type)
    builder.cbranch(builder.icmp_signed("<", place, size), body, after)
    builder.position_at_end(body)
    following, new = builder.add(place, _I64(LANES)), step(place, value)
    builder.branch(test)
    for phi, first, next_ in ((place, _I64(0), following), (value, start, new)):
        phi.add_incoming(first, before)
        phi.add_incoming(next_, body)
    builder.position_at_end(after)
    return value


@instruction
def dot(context: Any, one: Any, other: Any, size: Any) -> Any:
    """THE inner product of a reference: coordinate i in lane i % 8, in float64, then the lanes in order.

    Addresses of float64, and how many there are, int64, a multiple of LANES.
    """

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        one, other, size = args

        def step(place: Any, sums: Any) -> Any:
            at = builder.mul(place, _I64(8))
            left, right = (builder.load(_at(builder, row, at, _WIDE), align=8) for row in (one, other))
            return builder.fadd(sums, builder.fmul(left, right))

        sums = _steps(builder, size, ir.Constant(_WIDE, [0.0] * LANES), step)
        total = builder.extract_element(sums, _I32(0))
        for lane in range(1, LANES):
            total = builder.fadd(total, builder.extract_element(sums, _I32(lane)))
        return total

    return types.float64(one, other, size), generate


@instruction
def widen(context: Any, source: Any, zero: Any, target: Any, size: Any) -> Any:
    """Addresses of bytes and of float64, what every byte is less, and how many there are, int64, a multiple of LANES.

    Where the bytes end earlier, numbers that stand for nothing are read and written.
    """

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        source, zero, target, size = args
        every = builder.shuffle_vector(
            builder.insert_element(ir.Constant(_WHOLE, ir.Undefined), builder.trunc(zero, _I32), _I32(0)),
            ir.Constant(_WHOLE, ir.Undefined),
            ir.Constant(_WHOLE, [0] * LANES),
        )

        def step(place: Any, counted: Any) -> Any:
            numbers = builder.zext(builder.load(_at(builder, source, place, _BYTES), align=1), _WHOLE)
            wide = builder.sitofp(builder.sub(numbers, every), _WIDE)
            builder.store(wide, _at(builder, target, builder.mul(place, _I64(8)), _WIDE), align=8)
            return counted

        _steps(builder, size, _I64(0), step)
        return ir.Constant(_I8.as_pointer(), None)

    return types.void(source, zero, target, size), generate
