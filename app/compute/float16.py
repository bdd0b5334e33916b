"""float16 to float32, fast.

NumPy widens halves one at a time (1.6 ns each, measured), which is two thirds of the time of scoring 200 passages of
token vectors. Here the bits are moved as integers, in wide registers: 0.35 ns each, and exact for every half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.types import F32

_BLOCK = 1 << 19
"""Values widened at a time: 2 MiB of float32. Smaller blocks stay in a nearer cache, but let threads that work side by
side meet at the interpreter lock too often (see app.scoring.maxsim)."""

_KEPT = np.int32(-0x70002000)  # 0x8FFFE000: the sign, and the 15 bits from bit 13 up
_RESCALE = np.float32(2.0**112)  # the difference of the exponents' biases: 127 - 15
_POSITIVE_INFINITY, _NEGATIVE_INFINITY = 0x7C00, 0xFC00


def widen(values: NDArray[Any], out: F32) -> F32:
    """Copy ``values`` (float16 or float32, any shape) to ``out`` (float32, the same shape, contiguous); gives ``out``.

    >>> widen(np.array([1.5, -2.0, 6e-8, -np.inf], np.float16), np.empty(4, np.float32)).tolist()
    [1.5, -2.0, 5.960464477539063e-08, -inf]
    """
    if values.dtype != np.float16 or not values.flags.c_contiguous:
        np.copyto(out, values)
        return out
    halves, floats = values.reshape(-1), out.reshape(-1)
    for start in range(0, halves.size, _BLOCK):
        part, result = halves[start : start + _BLOCK], floats[start : start + _BLOCK]
        if part.view(np.int16).max() >= _POSITIVE_INFINITY or part.view(np.uint16).max() >= _NEGATIVE_INFINITY:
            np.copyto(result, part)  # the rescaling below would make infinities and NaN finite
            continue
        bits = result.view(np.int32)
        # Extended by its sign and moved up by 13, a half has its exponent and fraction where a float has them; the
        # exponent's bias alone is off, for subnormals too.
        np.copyto(bits, part.view(np.int16))
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _KEPT, out=bits)
        np.multiply(result, _RESCALE, out=result)
    return out
