"""Which kind of index serves how many vectors.

Measured by ``python scripts/bench_vector_index.py --sizes 10000 100000 --dims 384 2048 --rounds 30``, one thread, on a
busy machine (two cores of an AMD EPYC; when quiet, 100,000 x 384 in `flat_f16` took 3.3 ms): ms a query for 100 rows,
and the share of the exact 100 that is found.

    size x dim       flat_f32       flat_f16       ivf_f16 at breadth 1/4, 1/2 and 1
     10,000 x   384    0.8            0.6  1.00      0.5  .98     0.4 1.00     0.8 1.00
     10,000 x 2,048   14.5            6.9  1.00      1.2  .97     1.6 1.00     6.5 1.00
    100,000 x   384   20.1            8.7  1.00      1.0  .94     1.3  .98     2.6 1.00
    100,000 x 2,048  132.5           59.0  1.00     12.0  .91    19.0  .97    29.0  .99

Float16 finds what float32 does, in half the bytes and half the time. An exact index is never wrong, so the approximate
one waits until reading all vectors takes about as long as rescoring a few hundred candidates.
"""

from __future__ import annotations

APPROXIMATE_ABOVE = 2**27
"""Numbers (size x dim) above which the index is approximate: 256 MiB of float16, about 12 ms for one core."""


def choose(size: int, dim: int) -> str:
    """The name of the kind of index for ``size`` vectors of ``dim`` dimensions.

    >>> choose(5_183, 384), choose(1_000_000, 384)
    ('flat', 'ivf_sq8')
    """
    return "ivf_sq8" if size * dim > APPROXIMATE_ABOVE else "flat"
