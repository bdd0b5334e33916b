"""Code that Sheaf has written for itself, beside the library that does the same: is it worth its lines?

    python scripts/bench_own.py [--rounds 15]

Each pair runs in turn, round for round, on the same data; printed are the medians of wall and processor time, library
to own, so that more than 1 is what the own code saves. ``threads`` is the same work on as many threads as there are
cores, where an own loop lets go of the interpreter's lock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import squareform
from threadpoolctl import threadpool_limits

from app.codes import ward
from app.compute.float16 import widen
from app.compute.quota import cores
from app.compute.workers import Workers
from app.encodings.solving import Solver, Work

CORES = cores()
TOKENS = 180
"""Of a passage."""
FEATURES = 4_096
"""Of a fit: rows of a Gram matrix."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="of each pair (default: 15)")
    return parser


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(wall, processor) milliseconds."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - used) * 1e3


def beside(name: str, own: Callable[[], Any], library: Callable[[], Any], rounds: int) -> None:
    """Both once unmeasured, then in turn."""
    own(), library()
    pairs = [(timed(own), timed(library)) for _ in range(rounds)]
    wall, used = ([median(side[i] for side in sides) for sides in zip(*pairs, strict=True)] for i in (0, 1))
    print(
        f"{name:34} own {wall[0]:8.2f} ms wall {used[0]:8.2f} ms processor   "
        f"library/own {wall[1] / wall[0]:5.2f} wall {used[1] / used[0]:5.2f} processor",
        flush=True,
    )


def on_threads(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(lambda _: work(), range(CORES * 8)))

    return run


def main() -> None:
    """Every pair."""
    rounds = parser().parse_args().rounds
    random = np.random.default_rng(0)
    vectors = random.normal(size=(TOKENS, 384)).astype(np.float32)
    distances = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None], axis=2)

    def own_ward() -> Any:
        return ward.merges(distances.copy())

    def scipy_ward() -> Any:
        return linkage(squareform(distances, checks=False), "ward")

    beside(f"Ward, {TOKENS} vectors", own_ward, scipy_ward, rounds)
    beside("Ward, threads", on_threads(own_ward), on_threads(scipy_ward), rounds)

    halves = random.normal(size=(200 * TOKENS, 384)).astype(np.float16)
    out = np.empty(halves.shape, np.float32)
    beside("float16, 200 passages", lambda: widen(halves, out), lambda: np.copyto(out, halves), rounds)

    features = random.normal(size=(2 * FEATURES, FEATURES)).astype(np.float32)
    gram = features.T @ features
    rows = random.normal(size=(FEATURES, FEATURES)).astype(np.float32)
    ridge = 0.01 * float(np.trace(gram)) / FEATURES
    work = Work(Workers(CORES))

    def own_solution() -> Any:
        return Solver(gram, ridge, work)(rows, work)

    def scipy_solution(threads: int = CORES) -> Any:
        with threadpool_limits(threads, "blas"):
            ready = gram.copy()
            ready[np.diag_indices(FEATURES)] += np.float32(ridge)
            return cho_solve(cho_factor(ready, lower=True, overwrite_a=True), rows.T).T

    beside(f"Cholesky and solution, {FEATURES:,}", own_solution, scipy_solution, max(rounds // 5, 3))
    beside("Cholesky, the library on one thread", own_solution, lambda: scipy_solution(1), max(rounds // 5, 3))


if __name__ == "__main__":
    main()
