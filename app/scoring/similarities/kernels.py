"""Kernels of distances in MaxSim: score(Q, D) = sum over query vectors q of k(the least distance of q to one of D).

The kernels are KERPLE's conditionally positive definite ones (Chi, Fan, Ramadge, Rudnicky: "KERPLE: Kernelized Relative
Positional Embedding for Length Extrapolation", 2022, arXiv 2205.09921, equations 4 and 5): -|x|^p, and
-log(1 + b |x|^p), without their scale, which orders nothing. Each falls with the distance, so the best vector of D for
q is the same as without; but a sum of them counts near matches for more, where that of squared distances, which is
MaxSim's, counts all steps alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from app.errors import Invalid
from app.types import F64

KernelType: TypeAlias = Literal["power", "log"]
MOST: float = 1e6
"""Of b."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """power: -x^p. log: -log(1 + b x^p). p: above 0, 2 at most, where the kernels are conditionally positive definite.

    >>> Kernel("power", p=1.0).of(np.array([0.0, 4.0])).tolist()
    [-0.0, -2.0]
    >>> Kernel("log", b=8.0).of(np.array([0.0, 1.0])).round(4).tolist()
    [-0.0, -2.1972]
    """

    type: KernelType
    p: float = 1.0
    b: float = 1.0

    def of(self, squares: F64) -> F64:
        """Of squared distances, any shape; below 0, as rounding leaves them, they are 0."""
        far = np.maximum(squares, 0.0) ** (self.p / 2)
        return -far if self.type == "power" else -np.log1p(self.b * far)

    def check(self, at: str) -> None:
        """Raises Invalid."""
        if self.type not in get_args(KernelType):
            raise Invalid.at(f"{at}/type", f"expected {', '.join(get_args(KernelType))}, got {self.type!r}")
        if not 0 < self.p <= 2:
            raise Invalid.at(f"{at}/p", f"expected above 0, and 2 at most, got {self.p:g}")
        if not 0 < self.b <= MOST:
            raise Invalid.at(f"{at}/b", f"expected above 0, and {MOST:g} at most, got {self.b:g}")
