"""The pass of vectors through a network (``network``): the same bits in any batch, on any machine.

Every output is one float32 sum, from 0, over its inputs in their order; bias, activation and the input again are added
after it, in this order. No multiplication is fused with an addition, and nothing is reordered, so neither the batch nor
the width of a register shows. What keeps it fast all the same is that sixteen outputs of four vectors are summed side
by side, in registers: BLAS, which may reorder, does the same in three quarters of the time (docs/decisions.md).

Means and variances are summed in float64. Exponentials are our own, for those of the C library differ between machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, ldexp, sqrt
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types

from app.compute.native import instruction, kernel
from app.scoring.networks.network import ACTIVATIONS, PANEL, Layer, Network
from app.types import F32, I64

FEW: Final = 4
"""Vectors that are."""
TILE: Final = 64
"""Vectors that go through a layer before the next one: their numbers stay in the second cache."""
EPSILON: Final = 1e-5
"""That is added to a variance, as torch does."""
_NORMS: Final = ("none", "before", "after")

_I64, _F32 = ir.IntType(64), ir.FloatType()
_WIDE = ir.VectorType(_F32, PANEL)


@instruction
def _sums(context: Any, inputs: Any, step: Any, panel: Any, outputs: Any, out_step: Any, size: Any) -> Any:
    """The sums of ``FEW`` vectors with one panel: addresses, and bytes from one vector to the next, int64."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        inputs, step, panel, outputs, out_step, size = args
        rows = [builder.add(inputs, builder.mul(step, _I64(row))) for row in range(FEW)]
        before = builder.block
        test, body, after = (builder.append_basic_block(name) for name in ("panel", "product", "summed"))
        builder.branch(test)
        builder.position_at_end(test)
        place = builder.phi(_I64)
        sums = [builder.phi(_WIDE) for _ in rows]
        builder.cbranch(builder.icmp_signed("<", place, size), body, after)
        builder.position_at_end(body)
        at = builder.add(panel, builder.mul(place, _I64(4 * PANEL)))
        weights = builder.load(builder.inttoptr(at, _WIDE.as_pointer()), align=4)
        new = []
        for row, total in zip(rows, sums, strict=True):
            at = builder.add(row, builder.mul(place, _I64(4)))
            one = builder.load(builder.inttoptr(at, _F32.as_pointer()), align=4)
            first = builder.insert_element(ir.Constant(_WIDE, ir.Undefined), one, ir.IntType(32)(0))
            every = builder.shuffle_vector(
                first, ir.Constant(_WIDE, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), PANEL), [0] * PANEL)
            )
            new.append(builder.fadd(total, builder.fmul(every, weights)))
        following = builder.add(place, _I64(1))
        builder.branch(test)
        place.add_incoming(_I64(0), before)
        place.add_incoming(following, body)
        for total, next_ in zip(sums, new, strict=True):
            total.add_incoming(ir.Constant(_WIDE, [0.0] * PANEL), before)
            total.add_incoming(next_, body)
        builder.position_at_end(after)
        for row, total in enumerate(sums):
            at = builder.add(outputs, builder.mul(out_step, _I64(row)))
            builder.store(total, builder.inttoptr(at, _WIDE.as_pointer()), align=4)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(inputs, step, panel, outputs, out_step, size), generate


@kernel
def _exp(x: float) -> float:
    """e to the x, of float64, to within a few units in the last place."""
    if x > 709.0:
        return float(np.inf)
    if x < -745.0:
        return 0.0
    power = floor(x * 1.4426950408889634 + 0.5)
    rest = (x - power * 0.693147180369123816490) - power * 1.90821492927058770002e-10
    total = 1.0
    for i in range(14, 0, -1):
        total = 1.0 + total * rest / i
    return ldexp(total, int(power))


@kernel
def _tanh(x: float) -> float:
    size = abs(x)
    if size < 1e-2:
        square = x * x
        return x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))))
    found = 1.0 - 2.0 / (_exp(2.0 * size) + 1.0)
    return found if x > 0.0 else -found


@kernel
def _gelu(x: float) -> float:
    """x times the share of a normal distribution below it, to within 1.2e-7 of x (Press et al., Numerical Recipes,
    section 6.2)."""
    size = abs(x) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.5 * size)
    series = t * (-0.82215223 + t * 0.17087277)
    series = t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + series)))
    series = t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + series))))
    outside = 0.5 * t * _exp(-size * size - 1.26551223 + series)
    return x * (1.0 - outside) if x > 0.0 else x * outside


@kernel
def _activate(values: F32, activation: int) -> None:
    """(n,), in place."""
    for i in range(len(values)):
        x = values[i]
        if activation == 0:
            values[i] = x if x > 0 else np.float32(0)
        elif activation == 1:
            values[i] = x if x > 0 else x * np.float32(0.01)
        elif activation == 2:
            values[i] = np.float32(_tanh(np.float64(x)))
        elif activation == 3:
            values[i] = np.float32(1.0 / (1.0 + _exp(-np.float64(x))))
        else:
            values[i] = np.float32(_gelu(np.float64(x)))


@kernel
def _normalise(values: F32) -> None:
    """(n,), in place: to mean 0 and variance 1."""
    total = 0.0
    for i in range(len(values)):
        total += np.float64(values[i])
    mean = total / len(values)
    squares = 0.0
    for i in range(len(values)):
        off = np.float64(values[i]) - mean
        squares += off * off
    scale = 1.0 / sqrt(squares / len(values) + EPSILON)
    for i in range(len(values)):
        values[i] = np.float32((np.float64(values[i]) - mean) * scale)


@kernel
def _pass(vectors: F32, panels: F32, biases: F32, widths: I64, adds: I64, activation: int, norm: int, out: F32) -> None:
    """(n, inputs) -> (n, outputs). widths: (layers + 1,). adds: (layers,), whether a layer's input is added to its
    outputs."""
    widest = 0
    for width in widths:
        widest = max(widest, (width + PANEL - 1) // PANEL * PANEL)
    here, there = np.zeros((TILE, widest), np.float32), np.zeros((TILE, widest), np.float32)
    stride = widest * 4
    for start in range(0, len(vectors), TILE):
        count = min(TILE, len(vectors) - start)
        rows = (count + FEW - 1) // FEW * FEW
        for row in range(rows):
            # The rest of a last few has numbers of others; nothing of it is taken.
            if row < count:
                here[row, : widths[0]] = vectors[start + row]
        weights_from, bias_from = 0, 0
        for layer in range(len(widths) - 1):
            size, width = widths[layer], widths[layer + 1]
            for panel in range((width + PANEL - 1) // PANEL):
                address = np.int64(panels.ctypes.data) + 4 * weights_from
                for row in range(0, rows, FEW):
                    source = np.int64(here.ctypes.data) + row * stride
                    target = np.int64(there.ctypes.data) + row * stride + 4 * PANEL * panel
                    _sums(source, np.int64(stride), address, target, np.int64(stride), size)
                weights_from += size * PANEL
            last = layer == len(widths) - 2
            for row in range(count):
                made = there[row, :width]
                for i in range(width):
                    made[i] += biases[bias_from + i]
                if last:
                    continue
                _activate(made, activation)
                if norm == 1:
                    _normalise(made)
                if adds[layer]:
                    for i in range(width):
                        made[i] += here[row, i]
                if norm == 2:
                    _normalise(made)
            bias_from += width
            here, there = there, here
        for row in range(count):
            out[start + row] = here[row, : widths[-1]]


@kernel
def _directions(values: F32) -> None:
    """(n, dim), in place: each row with length 1; zeros stay."""
    for row in range(len(values)):
        squares = 0.0
        for i in range(values.shape[1]):
            squares += np.float64(values[row, i]) * np.float64(values[row, i])
        if squares > 0.0:
            length = sqrt(squares)
            for i in range(values.shape[1]):
                values[row, i] = np.float32(np.float64(values[row, i]) / length)


def scores(network: Network, vectors: F32) -> F32:
    """(n, inputs) float32 -> (n,) float32: THE scores. The interpreter's lock is free meanwhile.

    >>> weights = np.array([[1, -1], [1, 1]], np.float32)
    >>> found = scores(Network((Layer(weights), Layer(np.ones((2, 1), np.float32)))), np.eye(2, dtype=np.float32))
    >>> found.tolist()
    [1.0, 2.0]
    """
    return outputs(network, vectors)[:, 0]


def outputs(network: Network, vectors: F32) -> F32:
    """(n, inputs) float32 -> (n, outputs) float32: all that the last layer gives. The interpreter's lock is free
    meanwhile.

    >>> outputs(Network((Layer(np.array([[1, 2]], np.float32)),)), np.array([[3]], np.float32)).tolist()
    [[3.0, 6.0]]
    """
    out = np.empty((len(vectors), network.outputs), np.float32)
    vectors = np.ascontiguousarray(vectors, np.float32)
    _pass(vectors, *network.packed, ACTIVATIONS.index(network.activation), _NORMS.index(network.norm), out)
    return out


def directions(vectors: F32) -> F32:
    """(n, dim) float32 -> a copy, each row with length 1, by a sum in float64 in the order of the numbers; zeros stay.

    >>> directions(np.array([[3, 4], [0, 0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    found = np.array(vectors, np.float32, order="C")
    _directions(found)
    return found


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    vectors = np.eye(2, dtype=np.float32)
    mapped = vectors.copy()
    mapped.flags.writeable = False
    layers = tuple(Layer(vectors[:, :width]) for width in (2, 1))
    for one in (vectors, mapped):
        scores(Network(layers), one)
        yield
    directions(vectors)
    yield
