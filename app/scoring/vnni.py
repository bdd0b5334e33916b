"""The innermost loop of MaxSim over codes: bytes of tokens times bytes of queries, in registers.

One call multiplies T unpacked tokens with G groups of 16 query lanes and keeps T x G registers of 16 sums. A step
takes 4 dimensions: G loads of 16 lanes x 4 bytes, T broadcasts of a token's 4 bytes, T x G VPDPBUSD (64
multiplications and additions each; two a cycle on Zen 5). T x G is 24 or less, so that all sums stay in the 32
registers, and enough to hide the cycles that an instruction takes. Numba cannot write this loop, so it is built of
LLVM's instructions.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types

from app.compute.native import has_vnni, instruction

TOKENS: Final = {1: 12, 2: 12, 3: 8, 4: 6}
"""T for each G."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SUMS, _BYTES = ir.VectorType(_I32, 16), ir.VectorType(_I8, 64)


def _generate(groups: int) -> Any:
    tokens = TOKENS[groups]

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        if not has_vnni():  # never called then
            return ir.Constant(_I8.as_pointer(), None)
        token, stride, query, steps, start, out = args
        product = builder.module.globals.get(_NAME) or ir.Function(
            builder.module, ir.FunctionType(_SUMS, [_SUMS, _BYTES, _BYTES]), _NAME
        )

        def at(address: Any, offset: Any, kind: Any) -> Any:
            return builder.inttoptr(builder.add(address, offset), kind.as_pointer())

        first = [builder.load(at(start, _I64(64 * g), _SUMS), align=64) for g in range(groups)]
        before = builder.block
        loop, after = builder.append_basic_block("steps"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_I64)
        sums = [[builder.phi(_SUMS) for _ in range(groups)] for _ in range(tokens)]
        place = builder.mul(step, _I64(64 * groups))
        lanes = [
            builder.bitcast(builder.load(at(query, builder.add(place, _I64(64 * g)), _BYTES), align=64), _BYTES)
            for g in range(groups)
        ]
        new = []
        for t in range(tokens):
            offset = builder.add(builder.mul(stride, _I64(t)), builder.mul(step, _I64(4)))
            four = builder.load(at(token, offset, _I32), align=4)
            one = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), four, _I32(0))
            zeros = ir.Constant(_SUMS, [0] * 16)
            same = builder.bitcast(builder.shuffle_vector(one, ir.Constant(_SUMS, ir.Undefined), zeros), _BYTES)
            new.append([builder.call(product, [sums[t][g], same, lanes[g]]) for g in range(groups)])
        following = builder.add(step, _I64(1))
        step.add_incoming(_I64(0), before)
        step.add_incoming(following, loop)
        for t in range(tokens):
            for g in range(groups):
                sums[t][g].add_incoming(first[g], before)
                sums[t][g].add_incoming(new[t][g], loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for t in range(tokens):
            for g in range(groups):
                builder.store(new[t][g], at(out, _I64(256 * t + 64 * g), _SUMS), align=64)
        return ir.Constant(_I8.as_pointer(), None)

    return generate


_NAME: Final = "llvm.x86.avx512.vpdpbusd.512"


@instruction
def products1(context: Any, token: Any, stride: Any, query: Any, steps: Any, start: Any, out: Any) -> Any:
    """Addresses and sizes, all int64: T unpacked tokens, ``stride`` bytes apart; the lanes' bytes, (steps, 16 G, 4);
    what sums start from, 16 G int32; and where they go, T rows of 64 int32, the first 16 G written. steps: at least 1.
    """
    return types.void(token, stride, query, steps, start, out), _generate(1)


@instruction
def products2(context: Any, token: Any, stride: Any, query: Any, steps: Any, start: Any, out: Any) -> Any:
    """As products1."""
    return types.void(token, stride, query, steps, start, out), _generate(2)


@instruction
def products3(context: Any, token: Any, stride: Any, query: Any, steps: Any, start: Any, out: Any) -> Any:
    """As products1."""
    return types.void(token, stride, query, steps, start, out), _generate(3)


@instruction
def products4(context: Any, token: Any, stride: Any, query: Any, steps: Any, start: Any, out: Any) -> Any:
    """As products1."""
    return types.void(token, stride, query, steps, start, out), _generate(4)
