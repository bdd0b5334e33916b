"""The innermost loop of MaxSim over codes where a CPU has no instruction for it (app.scoring.bytewise).

One call multiplies 4 unpacked tokens with 2 query lanes. A step takes 16 dimensions: bytes widened to 16 bits,
multiplied, and the sums of neighbours added to 8 sums of 32 bits, which x86 does in one instruction from SSE2 on
(PMADDWD) and LLVM finds for other machines. Numba makes of the plain loop one of 32-bit products, a third as fast.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types

from app.compute.native import instruction

TOKENS: Final = 4
LANES: Final = 2
STEP: Final = 16
"""Dimensions; rows of tokens and of lanes are padded to a multiple."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES, _WORDS = ir.VectorType(_I8, STEP), ir.VectorType(ir.IntType(16), STEP)
_PRODUCTS, _SUMS = ir.VectorType(_I32, STEP), ir.VectorType(_I32, STEP // 2)
_EVEN, _ODD = (ir.Constant(_SUMS, [2 * i + odd for i in range(STEP // 2)]) for odd in (0, 1))
_REDUCE: Final = "llvm.vector.reduce.add.v8i32"


@instruction
def products(context: Any, token: Any, stride: Any, lanes: Any, size: Any, start: Any, out: Any) -> Any:
    """Addresses and sizes, all int64: 4 unpacked tokens, ``stride`` bytes apart; 2 lanes' bytes, (2, size); what sums
    start from, 2 int32; and where they go, 4 rows of 64 int32, the first 2 written. size: a multiple of STEP, not 0.
    """

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        token, stride, lanes, size, start, out = args

        def at(address: Any, offset: Any, kind: Any) -> Any:
            return builder.inttoptr(builder.add(address, offset), kind.as_pointer())

        def paired(one: Any, other: Any) -> Any:
            product = builder.mul(builder.sext(one, _PRODUCTS), builder.sext(other, _PRODUCTS))
            nothing = ir.Constant(_PRODUCTS, ir.Undefined)
            even, odd = (builder.shuffle_vector(product, nothing, places) for places in (_EVEN, _ODD))
            return builder.add(even, odd)

        before = builder.block
        loop, after = builder.append_basic_block("steps"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        place = builder.phi(_I64)
        sums = [[builder.phi(_SUMS) for _ in range(LANES)] for _ in range(TOKENS)]
        signed = [
            builder.sext(
                builder.load(at(lanes, builder.add(place, builder.mul(size, _I64(lane))), _BYTES), align=1), _WORDS
            )
            for lane in range(LANES)
        ]
        new = []
        for t in range(TOKENS):
            row = builder.load(at(token, builder.add(place, builder.mul(stride, _I64(t))), _BYTES), align=1)
            wide = builder.zext(row, _WORDS)
            new.append([builder.add(sums[t][lane], paired(wide, signed[lane])) for lane in range(LANES)])
        following = builder.add(place, _I64(STEP))
        place.add_incoming(_I64(0), before)
        place.add_incoming(following, loop)
        for t in range(TOKENS):
            for lane in range(LANES):
                sums[t][lane].add_incoming(ir.Constant(_SUMS, [0] * (STEP // 2)), before)
                sums[t][lane].add_incoming(new[t][lane], loop)
        builder.cbranch(builder.icmp_signed("<", following, size), loop, after)
        builder.position_at_end(after)
        reduce = builder.module.globals.get(_REDUCE) or ir.Function(
            builder.module, ir.FunctionType(_I32, [_SUMS]), _REDUCE
        )
        for t in range(TOKENS):
            for lane in range(LANES):
                begin = builder.load(at(start, _I64(4 * lane), _I32), align=4)
                total = builder.add(begin, builder.call(reduce, [new[t][lane]]))
                builder.store(total, at(out, _I64(256 * t + 4 * lane), _I32), align=4)
        return ir.Constant(_I8.as_pointer(), None)

    return types.void(token, stride, lanes, size, start, out), generate
