"""Kinds of vector index side by side: search time (alone and filtered), build time, bytes, recall against exact.

    python scripts/bench_vector_index.py [--sizes 10000 30000 100000] [--dims 384 1024] [--threads 1]
    python scripts/bench_vector_index.py --vectors VECTORS.npy --queries QUERIES.npy

Without files the vectors are a Gaussian mixture: as many centres as the square root of the size, drawn on by a power
law (few large clusters, many small ones), and noise of twice their length; both have a standard deviation of
(1 + j)^-1/2 in direction j, so that few directions hold most of the variance; vectors have length 1. Queries are drawn
like vectors. An inverted file then finds what it finds among means of twelve consecutive token vectors of the built-in
model (30,000 of SciFact's, 384 dims: recall@100 at breadth 1/4, 1/2, 1, 2 is .89 .95 .99 1.00 there, .87 .96 .99 1.00
here).

Medians over single queries, the kinds by turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import app.vector_index as vector_index
from app.types import F32

BREADTHS = (0.25, 0.5, 1.0, 2.0)
SHARES = (0.1, 0.01)
"""Of rows that a filter keeps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[384, 1_024])
    parser.add_argument(
        "--vectors", type=Path, help="(n, dim) float32 in place of the mixture; sizes are drawn from it"
    )
    parser.add_argument("--queries", type=Path, help="(q, dim) float32")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--k", type=int, default=1_600, help="rows asked for: as many as codes find for 400 candidates")
    parser.add_argument("--kinds", nargs="+", default=vector_index.NAMES, choices=vector_index.NAMES)
    args = parser.parse_args()
    vector_index.set_threads(args.threads)
    asked = " ".join(f"{f'ms {share:g}':>7}" for share in (1.0, *SHARES))
    print(f"    size    dim kind       breadth {asked} recall@10  @{args.k // 4:<5}  build s bytes/vector")
    for size in args.sizes:
        if args.vectors and args.queries:
            stored = np.load(args.vectors, mmap_mode="r", allow_pickle=False)
            rows = np.sort(np.random.default_rng(0).permutation(len(stored))[:size])
            compare(stored[rows], np.load(args.queries, allow_pickle=False)[: args.rounds], args.k, args.kinds)
            continue
        for dim in args.dims:
            points = mixture(size + args.rounds, dim)
            compare(points[:size], points[size:], args.k, args.kinds)


def mixture(n: int, dim: int, seed: int = 0) -> F32:
    """(n, dim) float32; see the module's docstring."""
    rng = np.random.default_rng(seed)
    spread = (1 + np.arange(dim, dtype=np.float32)) ** -0.5
    centres = rng.standard_normal((int(n**0.5), dim), np.float32) * spread
    drawn = (len(centres) * rng.random(n) ** 2).astype(np.int64)
    points = centres[drawn]
    for start in range(0, n, 10_000):
        part = points[start : start + 10_000]
        part += 2 * rng.standard_normal(part.shape, np.float32) * spread
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return points


def compare(vectors: F32, queries: F32, k: int, kinds: Sequence[str]) -> None:
    """Build every kind over the vectors, search them by turns, and print a line for each."""
    half = vectors.astype(np.float16)
    exact = vector_index.scan(vectors).search(queries, k).rows
    indexes: dict[str, vector_index.VectorIndex] = {"flat": vector_index.scan(half)}
    built, size = {"flat": 0.0}, {"flat": half.nbytes}
    for name in kinds:
        start = time.perf_counter()
        made = vector_index.build(name, half)
        built[name] = time.perf_counter() - start
        lengths: list[int] = []
        made.write(lambda part, lengths=lengths: lengths.append(len(part)))  # type: ignore[misc]
        indexes[name], size[name] = made, sum(lengths)
    runs = [(name, breadth) for name in indexes for breadth in (BREADTHS if name.startswith("ivf") else (1.0,))]
    masks = {share: np.random.default_rng(1).random(len(vectors)) < share for share in SHARES}
    times: dict[tuple[str, float, float], list[float]] = {(*run, share): [] for run in runs for share in (1.0, *SHARES)}
    for query in queries:
        for name, breadth in runs:
            for share in (1.0, *SHARES):
                allowed = None if share == 1.0 else masks[share]
                start = time.perf_counter()
                indexes[name].search(query[None], k, allowed=allowed, breadth=breadth)
                times[name, breadth, share].append(time.perf_counter() - start)
    for name, breadth in runs:
        rows = indexes[name].search(queries, k, breadth=breadth).rows
        recall = [np.mean([np.isin(a[:n], b).mean() for a, b in zip(exact, rows, strict=True)]) for n in (10, k // 4)]
        spent = " ".join(f"{1e3 * np.median(times[name, breadth, share]):7.2f}" for share in (1.0, *SHARES))
        print(
            f"{len(vectors):8} {vectors.shape[1]:6} {name:10} {breadth:7} {spent} {recall[0]:9.4f} {recall[1]:7.4f}"
            f" {built[name]:8.2f} {size[name] / len(vectors):7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
