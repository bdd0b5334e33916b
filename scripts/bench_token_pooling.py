"""What pooling of token vectors costs: vectors and bytes a document, nDCG@10, recall@10 of the exact float32 order.

    python scripts/bench_token_pooling.py BEIR_FOLDER ... [--cache FOLDER] [--dim 0] [--factors 1 2 4 8]
        [--precision float32]

Each collection is encoded with the built-in model, token vectors as float16; with --dim they are projected as
scripts/bench_first_stage.py does. For each factor the documents' vectors are pooled as a collection with that
`token_pooling` stores them, coded in --precision, and searched exactly by MaxSim. recall@10 is the share of the exact
top 10 of all vectors in float32. `ms/doc` is the time to pool a document, all in turn. A cache keeps what
scripts/bench_first_stage.py keeps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

import numpy as np
from bench_first_stage import Projection, projected
from first_stage import Vectors, collected, maxsim, ndcg

from app.codes.choose import code_for
from app.collection.passages import normalise
from app.collection.token_pooling import pool_tokens
from app.errors import SheafError
from app.sources.beir import beir_qrels
from app.types import Precision, TokenVectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BEIR_FOLDER")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings and exact scores")
    parser.add_argument("--dim", type=int, default=0)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    args = parser.parse_args()
    for folder in args.folders:
        try:
            vectors = collected(folder, args.cache)
            exact_at = args.cache / f"{folder.name}.{args.dim}.exact.npy" if args.cache else None
            vectors = projected(vectors, Projection.fitted(vectors.tokens, args.dim), exact_at)
            measure(folder, vectors, args.factors, args.precision)
        except SheafError as error:
            raise SystemExit(f"{folder}: {error.message}") from error


def measure(folder: Path, vectors: Vectors, factors: list[int], precision: Precision) -> None:
    """Print the table of one collection."""
    qrels = beir_qrels(folder)
    tokens, code = vectors.tokens, code_for(precision, vectors.tokens.dim)
    top = np.argsort(-vectors.exact, axis=1, kind="stable")[:, :10]
    print(
        f"\n{folder.name}: {len(vectors.ids)} passages, {len(vectors.query_ids)} queries, {tokens.dim} dims, "
        f"{precision}; all vectors in float32: nDCG@10 {ndcg(vectors, top, qrels):.4f}"
    )
    print(f"{'factor':>6} {'vectors/doc':>11} {'bytes/doc':>9} {'ms/doc':>7} {'nDCG@10':>8} {'recall@10':>9}")
    for factor in factors:
        start = time.perf_counter()
        means = pool_tokens(tokens, factor)
        each = 1e3 * (time.perf_counter() - start) / len(tokens)
        stored = code.decode(code.encode(normalise(means.values.astype(np.float32), "cosine")))
        scores = maxsim(vectors.query_tokens, TokenVectors(stored, means.offsets))
        found = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        recall = np.mean([np.isin(t, f).mean() for t, f in zip(top, found, strict=True)])
        count = len(stored) / len(tokens)
        print(
            f"{factor:6} {count:11.1f} {count * code.bytes_per_vector:9,.0f} {each:7.2f} "
            f"{ndcg(vectors, found, qrels):8.4f} {recall:9.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
