"""Codes of token vectors: what each precision holds a token in, what it loses, and how fast it is rescored.

    python scripts/bench_codes.py BEIR_FOLDER [--vectors FILE.npz] [--dim 128] [--precision 8bit 1bit ...]
        [--candidates 400] [--queries 0] [--threads 2]

The collection is encoded with the built-in model in float32; with --dim its token vectors are projected by uncentred
PCA fitted on every 37th, and renormalised. For every precision, with exact search over what it stores: nDCG@10, and the
share of the exact top 10 in float32 that is found. `encode` is the microseconds of one thread for a token vector.

Rescoring is timed side by side, query by query: the --candidates best passages by float32, in the order of their rows,
by BLAS over float32 vectors (app.scoring.maxsim, the plain version) and over the codes, each with the threads given, up
to the exact scores of the best 10. Medians over queries.

FILE keeps pooled, values (float32, normalised), offsets and ids, and the same with q_ for queries. --queries: so many
of the collection's only, 0 for all.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from bench_first_stage import Projection
from first_stage import Vectors, ndcg

from app.codes.choose import code_for
from app.compute.native import prepare
from app.compute.workers import Workers
from app.encoders.registry import Encoders
from app.errors import SheafError
from app.scoring.choose import loops, scorer
from app.scoring.protocol import Scorer
from app.scoring.select import keep_for_top
from app.scoring.similarity import Cosine
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import F32, I64, Document, Precision, TokenVectors

STEP = 65_536
"""Token vectors coded at a time."""
SLICE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--vectors", type=Path, help="a file that keeps the encoding")
    parser.add_argument("--dim", type=int, default=0)
    parser.add_argument("--precision", nargs="+", choices=get_args(Precision), default=get_args(Precision))
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    try:
        vectors = collected(args.folder, args.vectors)
    except SheafError as error:
        raise SystemExit(f"{args.folder}: {error.message}") from error
    projection = Projection.fitted(vectors.tokens, args.dim)
    vectors = replace(vectors, tokens=projection(vectors.tokens), query_tokens=projection(vectors.query_tokens))
    if args.queries:
        few = np.arange(min(args.queries, len(vectors.query_ids)))
        vectors = replace(
            vectors,
            query_ids=[vectors.query_ids[i] for i in few],
            query_tokens=vectors.query_tokens.take(few),
        )
    prepare(loops())
    workers = Workers(args.threads)
    measure(vectors, args.folder, args.precision, args.candidates, workers)
    workers.close()


def measure(vectors: Vectors, folder: Path, precisions: list[Precision], width: int, workers: Workers) -> None:
    """Print the table."""
    qrels = {query: found for query, found in beir_qrels(folder).items() if query in vectors.query_ids}
    dim = vectors.tokens.dim
    plain = [scorer(query, code_for("float32", dim)) for query in vectors.query_tokens]
    exact = np.stack([on_all(made, vectors.tokens, None, workers) for made in plain])
    best = np.argsort(-exact, axis=1, kind="stable")
    goal = ndcg(vectors, best[:, :10], qrels)
    print(
        f"{folder.name}: {len(vectors.ids)} passages, {len(vectors.tokens.values)} token vectors of {dim} dimensions, "
        f"{len(plain)} queries; exact nDCG@10 in float32 {goal:.4f}"
    )
    head = f"{'precision':9} {'bytes':>6} {'encode us':>9} {'nDCG@10':>8} {'change':>7} {'recall@10':>9}"
    print(f"{head}  {f'rescoring {width}, ms':>20} {'BLAS float32':>12} {'ratio':>6}")
    wanted = np.sort(best[:, :width], axis=1)
    for precision in precisions:
        code = code_for(precision, dim)
        values = np.empty((len(vectors.tokens.values), code.width), code.dtype)
        start = time.thread_time()
        for first in range(0, len(values), STEP):
            values[first : first + STEP] = code.encode(vectors.tokens.values[first : first + STEP])
        cost = (time.thread_time() - start) / len(values)
        stored = TokenVectors(values, vectors.tokens.offsets)
        norms = np.maximum.reduceat(code.norms(values), stored.offsets[:-1])
        ranking, own, blas = [], [], []
        for number, query in enumerate(vectors.query_tokens):
            scores = on_all(scorer(query, code), stored, None, workers)
            ranking.append(np.argsort(-scores, kind="stable")[:10])
            rows = wanted[number]
            start = time.perf_counter()
            on_all(scorer(query, code_for("float32", dim)), vectors.tokens, rows, workers)
            middle = time.perf_counter()
            rescore(scorer(query, code), stored, rows, norms, workers)
            own.append(time.perf_counter() - middle)
            blas.append(middle - start)
        found = np.array(ranking)
        value = ndcg(vectors, found, qrels)
        recall = np.mean([np.isin(t, f).mean() for t, f in zip(best[:, :10], found, strict=True)])
        ms, plain_ms = 1e3 * float(np.median(own)), 1e3 * float(np.median(blas))
        print(
            f"{precision:9} {code.bytes_per_vector:6} {1e6 * cost:9.2f} {value:8.4f} {value - goal:+7.4f} {recall:9.3f}"
            f"  {ms:20.2f} {plain_ms:12.2f} {plain_ms / ms:6.1f}",
            flush=True,
        )


def on_all(made: Scorer, tokens: TokenVectors, rows: I64 | None, workers: Workers) -> F32:
    """Fast scores of the rows, or of all passages, on all workers."""
    whole = np.arange(len(tokens)) if rows is None else rows
    pieces = workers.map_slices(len(whole), lambda a, b: made.scores(tokens, whole[a:b]), smallest=SLICE)
    return np.concatenate(pieces)


def rescore(made: Scorer, tokens: TokenVectors, rows: I64, norms: F32, workers: Workers) -> list[float]:
    """As app.query.ranking does: fast scores, what can be among the best 10, their exact scores."""
    scores = on_all(made, tokens, rows, workers)
    kept = rows[keep_for_top(scores, made.error_bound(norms[rows]), 10)]
    pieces = workers.map_slices(
        len(kept), lambda a, b: made.references(tokens, kept[a:b], norms[kept[a:b]]), smallest=SLICE
    )
    return [score for piece in pieces for score in piece]


def collected(folder: Path, file: Path | None) -> Vectors:
    """The collection's vectors, from the file or made and put there."""
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    else:
        found = [entry.found for entry in Beir(folder).entries()]
        documents = [document for document in found if isinstance(document, Document)]
        judged = beir_qrels(folder)
        queries = {name: text for name, text in beir_queries(folder).items() if name in judged}
        encoder = Encoders({}).get("builtin", "multi_vector")
        texts = encoder.encode_documents([document.passage for document in documents])
        asked = encoder.encode_queries(list(queries.values()))
        assert texts.tokens is not None  # a multi_vector encoder gives them
        assert asked.tokens is not None
        arrays = {
            "pooled": texts.pooled,
            "values": Cosine().document(texts.tokens.values),
            "offsets": texts.tokens.offsets,
            "ids": np.array([document.id for document in documents]),
            "q_pooled": asked.pooled,
            "q_values": Cosine().document(asked.tokens.values),
            "q_offsets": asked.tokens.offsets,
            "q_ids": np.array(list(queries)),
        }
        if file is not None:
            np.savez(file, allow_pickle=False, **arrays)
    return Vectors(
        arrays["ids"].tolist(),
        arrays["pooled"],
        TokenVectors(arrays["values"], arrays["offsets"]),
        arrays["q_ids"].tolist(),
        arrays["q_pooled"],
        TokenVectors(arrays["q_values"], arrays["q_offsets"]),
        np.zeros((0, 0), np.float32),
    )


if __name__ == "__main__":
    main()
