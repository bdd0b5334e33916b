"""Speed of encoding and of exact scores, from ready token vectors: medians, on this machine.

    python scripts/bench_encodings.py [--documents 200] [--tokens 240] [--dim 384] [--threads 2]

Documents are random vectors of length 1 around a shared mean, as float16; they are split over the threads.
The figure for a CPU second is of one thread, and holds on a machine that is busy with other work too.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from app.encodings.muvera import Muvera, MuveraParameters
from app.scoring import maxsim
from app.types import TokenVectors

SHAPES = {
    "(20, 5, 16)": MuveraParameters(20, 5, 16),
    "(20, 5, 16), no filling": MuveraParameters(20, 5, 16, fill=False),
    "(20, 5, 8)": MuveraParameters(20, 5, 8),
    "(20, 5, 16) -> 2,560": MuveraParameters(20, 5, 16, final_projection=2_560),
    "(10, 4, identity) -> 10,240": MuveraParameters(10, 4, None, final_projection=10_240),
}


def seconds(call: Callable[[], object], rounds: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The median over the rounds, after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=240, help="vectors of each document")
    parser.add_argument("--query-tokens", type=int, default=20)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()

    random = np.random.default_rng(0)
    values = random.standard_normal((args.documents * args.tokens, args.dim), np.float32) + np.float32(0.5)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    tokens = TokenVectors(values.astype(np.float16), np.arange(args.documents + 1, dtype=np.int64) * args.tokens)
    query = TokenVectors.join([values[: args.query_tokens]])
    cuts = np.linspace(0, args.documents, args.threads + 1, dtype=int)
    shares = [tokens.slice(int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    with ThreadPoolExecutor(args.threads) as pool:
        print(f"{args.documents} documents of {args.tokens} x {args.dim} float16, {args.threads} threads")
        for name, parameters in SHAPES.items():
            encoding = Muvera(args.dim, parameters)
            many = seconds(lambda e=encoding: list(pool.map(e.encode_documents, shares)), args.rounds)  # type: ignore[misc]
            alone = seconds(lambda e=encoding: e.encode_documents(tokens), 3, time.process_time)  # type: ignore[misc]
            one = seconds(lambda e=encoding: e.encode_queries(query), args.rounds)  # type: ignore[misc]
            print(
                f"{name:30} {args.documents / many:7.0f} documents/s   {args.documents / alone:7.0f} a CPU second"
                f"   a query {one * 1e3:6.2f} ms"
            )
        fast = seconds(lambda: list(pool.map(lambda s: maxsim.fast_scores(query.values, s), shares)), args.rounds)
        print(f"{'MaxSim, float32':30} {fast * 1e3:7.1f} ms for all")
        slow = seconds(lambda: [maxsim.reference(query.values, passage) for passage in tokens], args.rounds)
        print(f"{'MaxSim, reference, one thread':30} {slow / args.documents * 1e3:7.3f} ms a document")


if __name__ == "__main__":
    main()
