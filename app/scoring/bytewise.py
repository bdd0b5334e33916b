"""The innermost loop of MaxSim over codes: bytes of tokens times bytes of queries, in registers.

One call multiplies T unpacked tokens with G groups of 16 query lanes and keeps the sums in registers. A step takes 4
dimensions: loads of 16 lanes x 4 bytes, T broadcasts of a token's 4 bytes, and for each pair of the two

- with AVX-512 VNNI one VPDPBUSD (64 multiplications and additions; two a cycle on Zen 5) into one of 32 registers,
- with AVX2 for each half of a group VPMADDUBSW, which adds the products of neighbours up in 16 bits, VPMADDWD, which
  adds these up in 32, and VPADDD into one of 16 registers (32 multiplications; one a cycle on Zen 3). Sums of 16 bits
  hold 255 * 63 and 255 * -64 twice, so nothing is cut off as long as a lane is no further from 0 (app.scoring.planes).

Both give the same sums. T is what keeps all sums in registers, and enough to hide the cycles that an instruction takes.
Numba cannot write this loop, so it is built of LLVM's instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types

from app.compute.native import byte_instructions, instruction

TOKENS: Final = (12, 12, 8, 6) if byte_instructions() == "avx512_vnni" else (4, 2, 1, 1)
"""T for 1 to 4 groups."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
Sum = Callable[[Any, Any, Any], Any]
"""Sums in a register with the products of a token's bytes and lanes' added to them."""


def _vnni(builder: Any) -> Sum:
    sums, content = ir.VectorType(_I32, 16), ir.VectorType(_I8, 64)
    product = _named(builder, "llvm.x86.avx512.vpdpbusd.512", sums, sums, content, content)
    return lambda before, token, lanes: builder.call(product, [before, token, lanes])


def _avx2(builder: Any) -> Sum:
    sums, words, content = ir.VectorType(_I32, 8), ir.VectorType(ir.IntType(16), 16), ir.VectorType(_I8, 32)
    pairs = _named(builder, "llvm.x86.avx2.pmadd.ub.sw", words, content, content)
    fours = _named(builder, "llvm.x86.avx2.pmadd.wd", sums, words, words)
    ones = ir.Constant(words, [1] * 16)

    def add(before: Any, token: Any, lanes: Any) -> Any:
        return builder.add(before, builder.call(fours, [builder.call(pairs, [token, lanes]), ones]))

    return add


def _named(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _generate(groups: int) -> Any:
    tokens = TOKENS[groups - 1]

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        kind = byte_instructions()
        if kind is None:  # never called then
            return ir.Constant(_I8.as_pointer(), None)
        token, stride, query, steps, start, out = args
        # Lanes of a register, and registers of a token.
        wide = 16 if kind == "avx512_vnni" else 8
        count = 16 * groups // wide
        kept, content = ir.VectorType(_I32, wide), ir.VectorType(_I8, 4 * wide)
        add = _vnni(builder) if kind == "avx512_vnni" else _avx2(builder)

        def at(address: Any, offset: Any, kind: Any) -> Any:
            return builder.inttoptr(builder.add(address, offset), kind.as_pointer())

        first = [builder.load(at(start, _I64(4 * wide * i), kept), align=4 * wide) for i in range(count)]
        before = builder.block
        loop, after = builder.append_basic_block("steps"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_I64)
        sums = [[builder.phi(kept) for _ in range(count)] for _ in range(tokens)]
        place = builder.mul(step, _I64(64 * groups))
        lanes = [
            builder.load(at(query, builder.add(place, _I64(4 * wide * i)), content), align=4 * wide)
            for i in range(count)
        ]
        new = []
        for t in range(tokens):
            offset = builder.add(builder.mul(stride, _I64(t)), builder.mul(step, _I64(4)))
            four = builder.load(at(token, offset, _I32), align=4)
            one = builder.insert_element(ir.Constant(kept, ir.Undefined), four, _I32(0))
            zeros = ir.Constant(ir.VectorType(_I32, wide), [0] * wide)
            same = builder.bitcast(builder.shuffle_vector(one, ir.Constant(kept, ir.Undefined), zeros), content)
            new.append([add(sums[t][i], same, lanes[i]) for i in range(count)])
        following = builder.add(step, _I64(1))
        step.add_incoming(_I64(0), before)
        step.add_incoming(following, loop)
        for t in range(tokens):
            for i in range(count):
                sums[t][i].add_incoming(first[i], before)
                sums[t][i].add_incoming(new[t][i], loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for t in range(tokens):
            for i in range(count):
                builder.store(new[t][i], at(out, _I64(256 * t + 4 * wide * i), kept), align=4 * wide)
        return ir.Constant(_I8.as_pointer(), None)

    return generate


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
