"""Which kind of index serves how many vectors; the figures behind it are in scripts/bench_vector_index.py."""

from __future__ import annotations

APPROXIMATE_ABOVE = 2**26
"""Numbers (size x dim) above which the approximate index is faster by enough to be worth what it loses."""


def choose(size: int, dim: int) -> str:
    """The name of the kind of index for ``size`` vectors of ``dim`` dimensions.

    >>> choose(5_183, 384), choose(1_000_000, 384)
    ('flat_f16', 'ivf_f16')
    """
    return "ivf_f16" if size * dim > APPROXIMATE_ABOVE else "flat_f16"
