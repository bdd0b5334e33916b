"""The cost of pooling token vectors: vectors and bytes a document, nDCG@10, recall@10 of the exact float32 order.

    python scripts/bench_token_pooling.py [BEIR_FOLDER ...] [--pages VECTORS ...] [--cache FOLDER] [--dim 0]
        [--factors 1 2 4 8] [--precision float32]

Each collection is encoded with the built-in model, token vectors as float16; with --dim they are projected as
scripts/bench_first_stage.py does. --pages: pages of the standard library's documentation, of so many vectors and more
each (scripts/long_pages.py). For each factor the documents' vectors are pooled as a collection with that
`token_pooling` stores them, coded in --precision, and searched exactly by MaxSim. recall@10 is the share of the exact
top 10 of all vectors in float32. `ms/doc` is the time to pool a document of the first 32, all in turn, and beside it
with two threads, as a write does it; `ms/100` the time of one thread to score 100 documents with a query as a search
scores them (median). A cache keeps what scripts/bench_first_stage.py keeps.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

import numpy as np
from bench_first_stage import Projection, projected
from first_stage import Ranking, Vectors, collected, maxsim, ndcg
from long_pages import collected_pages

from app.codes.choose import code_for
from app.codes.protocol import Code
from app.codes.token_pooling import pool_tokens
from app.compute.workers import Workers
from app.errors import SheafError
from app.scoring.choose import scorer
from app.scoring.similarity import Cosine
from app.sources.beir import beir_qrels
from app.types import Precision, TokenVectors

POOLED: Final = 32
"""Documents whose pooling is timed."""
TIMED: Final = 15
"""Queries whose scoring is timed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="BEIR_FOLDER")
    parser.add_argument("--pages", type=int, nargs="+", default=[], metavar="VECTORS")
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
            measure(folder.name, vectors, beir_qrels(folder), args.factors, args.precision)
        except SheafError as error:
            raise SystemExit(f"{folder}: {error.message}") from error
    for least in args.pages:
        vectors, qrels = collected_pages(least, args.cache)
        if args.dim:
            vectors = projected(vectors, Projection.fitted(vectors.tokens, args.dim), None)
        else:
            vectors = replace(vectors, exact=maxsim(vectors.query_tokens, vectors.tokens))
        measure(f"pages of {least} vectors and more", vectors, qrels, args.factors, args.precision)


def measure(
    name: str, vectors: Vectors, qrels: dict[str, dict[str, int]], factors: list[int], precision: Precision
) -> None:
    """Print the table of one collection."""
    tokens, code = vectors.tokens, code_for(precision, vectors.tokens.dim)
    top = np.argsort(-vectors.exact, axis=1, kind="stable")[:, :10]
    print(
        f"\n{name}: {len(vectors.ids)} passages, {len(vectors.query_ids)} queries, {tokens.dim} dims, "
        f"{precision}; all vectors in float32: nDCG@10 {ndcg(vectors, top, qrels):.4f}, "
        f"MRR@10 {reciprocal_rank(vectors, top, qrels):.4f}"
    )
    print(
        f"{'factor':>6} {'vectors/doc':>11} {'bytes/doc':>9} {'ms/doc':>7} {'by two':>7} {'ms/100':>7} {'nDCG@10':>8} "
        f"{'MRR@10':>7} {'recall@10':>9}"
    )
    workers = Workers(2)
    for factor in factors:
        some = tokens.slice(0, min(POOLED, len(tokens)))
        start = time.perf_counter()
        pool_tokens(some, factor)
        middle = time.perf_counter()
        pool_tokens(some, factor, workers)
        alone, shared = middle - start, time.perf_counter() - middle
        means = pool_tokens(tokens, factor, workers)
        coded = TokenVectors(code.encode(Cosine().document(means.values.astype(np.float32))), means.offsets)
        scores = maxsim(vectors.query_tokens, TokenVectors(code.decode(coded.values), means.offsets))
        found = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        recall = np.mean([np.isin(t, f).mean() for t, f in zip(top, found, strict=True)])
        count = len(coded.values) / len(tokens)
        print(
            f"{factor:6} {count:11.1f} {count * code.bytes_per_vector:9,.0f} {1e3 * alone / len(some):7.2f} "
            f"{1e3 * shared / len(some):7.2f} {scoring_ms(vectors.query_tokens, coded, code):7.2f} "
            f"{ndcg(vectors, found, qrels):8.4f} {reciprocal_rank(vectors, found, qrels):7.4f} {recall:9.3f}",
            flush=True,
        )
    workers.close()


def reciprocal_rank(vectors: Vectors, ranking: Ranking, qrels: dict[str, dict[str, int]]) -> float:
    """MRR@10 over the queries that have judgements."""
    found = []
    for query, rows in zip(vectors.query_ids, ranking.tolist(), strict=True):
        if query in qrels:
            places = [place for place, row in enumerate(rows[:10], 1) if qrels[query].get(vectors.ids[row], 0) > 0]
            found.append(1 / places[0] if places else 0.0)
    return float(np.mean(found))


def scoring_ms(queries: TokenVectors, coded: TokenVectors, code: Code) -> float:
    """Of 100 documents, or all, with one query."""
    some = coded.slice(0, min(100, len(coded)))
    times = []
    for row in range(min(TIMED + 1, len(queries))):
        given = scorer(np.ascontiguousarray(queries[row], np.float32), code)
        start = time.perf_counter()
        given.scores(some)
        times.append(time.perf_counter() - start)
    # The first compiles, or loads what was compiled.
    return 1e3 * float(np.median(times[1:])) * 100 / len(some)


if __name__ == "__main__":
    main()
