"""Which kind of index serves how many vectors.

Measured on 100,000 made passages (scripts/scale_data.py) with one thread of a busy machine: the share of the exact
MaxSim top 10 among the best 400 by the full vectors of 1,600 that the codes found, ms for both, ms for 1,600 by codes
under a filter that keeps a tenth, and bytes a vector.

                 ridge, 256 numbers         pooled, 128 numbers
    flat         .978   3.5 to 6.5   512    .939   5.2 to 5.7   512
    sq8          .978   9.1  10.0    264    .939   6.7   2.0    136
    sq4          .978  12.1   9.8    136    .939   6.3   1.6     72
    pq2          .977   3.5  11.8     72    .937   1.6   1.5     40
    pq1          .973   1.7   6.3     40    .914   1.3   1.4     24
    rabitq       .797   3.4   1.3     51    .928   1.7   1.0     33
    ivf_sq8      .917   2.0   9.2    271    .911   1.3   1.9    139
    ivf_pq1      .913   2.0  25.0     50    .899   1.5   6.2     29

Scalar codes (`sq8`, `sq4`) saved memory and no time: faiss widens them one vector at a time. Product quantisation is
summed from registers, a hundred thousand vectors in a millisecond, and with variance shared among its groups it loses
next to nothing. So scalar codes and RaBitQ (arXiv 2405.12497) are kinds no more. Lists lose much: a learned encoding
weighs directions for queries, not for distances, so neighbours of a query lie in many lists. So all codes are read as
long as that takes less than about 30 ms, and lists come after it.
"""

from __future__ import annotations

EXACT_ROWS = 2**14
"""Vectors up to which an index is exact whatever their dim: training codes would take longer than it saves."""
EXACT_NUMBERS = 2**23
"""Numbers (size x dim) up to which it is: 16 MiB of float16, read in about 2 ms."""
WALKED_NUMBERS = 2**22
"""The same where vectors are found along a graph: 16 MiB of float32, read in a millisecond."""
TWO_BITS = 2**27
"""Numbers up to which codes have two bits each: 32 MiB of codes."""
ONE_LIST = 2**30
"""Numbers up to which every code is read: 128 MiB of one bit each."""


def codes_pay(size: int) -> bool:
    """Whether a segment of so many vectors may be searched by codes at all."""
    return size > EXACT_ROWS


def choose(size: int, dim: int, tuned: str | None = None, *, walked: bool = False) -> str:
    """The name of the kind of index for ``size`` vectors of ``dim`` dimensions.

    tuned: the kind that tuning chose for the collection; few vectors are searched exactly all the same. walked: whether
    a walk finds the best of them: unit vectors, whose inner products are the scores.

    >>> [choose(size, 256) for size in (5_183, 100_000, 2_000_000, 10_000_000)]
    ['flat', 'pq2', 'pq1', 'ivf_pq1']
    >>> [choose(size, 256, "pq1") for size in (5_183, 100_000)]
    ['flat', 'pq1']
    >>> [choose(size, 256, walked=True) for size in (5_183, 100_000)]
    ['flat', 'hnsw']
    """
    if tuned is not None:
        return tuned if codes_pay(size) else "flat"
    if walked and codes_pay(size) and size * dim > WALKED_NUMBERS:
        return "hnsw"
    if size <= EXACT_ROWS or size * dim <= EXACT_NUMBERS:
        return "flat"
    if size * dim <= TWO_BITS:
        return "pq2"
    return "pq1" if size * dim <= ONE_LIST else "ivf_pq1"
