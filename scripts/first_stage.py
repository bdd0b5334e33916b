"""The evidence for the default first stage: how much of the exact top 10 each one finds, and what that costs.

    python scripts/first_stage.py BEIR_FOLDER ... [--cache FOLDER] [--fde 20,5,16 20,5,16,fill 20,5,16,2048 ...]

Each collection is encoded with the built-in model, token vectors as float16. For every first stage: recall@w, the
share of the exact MaxSim top 10 among its first w passages, and what nDCG@10 changes by when those w are rescored
exactly. `+ pooled` is the union: passages alternately from both lists until w distinct ones are there. `beside
pooled` is one list by the sum of both scores, where the pooled one has a weight (`--weight`) and is brought to the
scale of the other. First-stage vectors are stored in indexes of kind `--index`.

An FDE is named R_reps, k_sim, d_proj (0: identity) and, where there is one, the final projection; `fill` fills empty
buckets. A cache keeps NAME.npz (pooled, values, offsets and ids; the same with q_ for queries) and NAME.exact.npy
(queries, passages) for the folder's NAME.

Seen with the defaults (recall at 100, 200 and 400):

    first stage              dims     SciFact             Cranfield           a code collection
    pooled                    384     .932 .968 .993      .980 .993 .999      .948 .984 .996
    20,5,16                10,240     .907 .955 .982      .974 .993 .999      .934 .981 .999
    20,5,16,fill           10,240     .897 .947 .978      .959 .987 .999      .928 .977 .998
    20,5,16,2048            2,048     .782 .862 .916      .908 .961 .988      .840 .933 .986
    20,3,32,2048            2,048     .872 .935 .969      .948 .983 .998      .898 .965 .994
    20,2,64,2048            2,048     .892 .948 .981      .950 .987 .998      .928 .971 .994
    20,5,16 + pooled       10,624     .936 .970 .991      .984 .996 1.00      .958 .988 .998
    20,5,16,2048 + pooled   2,432     .916 .957 .984      .980 .994 1.00      .941 .981 .994
    20,3,32,2048 + pooled   2,432     .926 .963 .990      .976 .994 1.00      .942 .979 .996

So the width decides, filling does not help, and before a final projection few hyperplanes do better than five. Beside
this model's pooled vector FDEs add little; they are there for encoders whose pooled vector is worse. On the code
collection single precision in place of half changes none of these figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import app.vector_index as vector_index
from app.encoders.registry import Encoders
from app.encodings.muvera import Muvera, MuveraParameters
from app.errors import SheafError
from app.evaluation.measures import mean
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import F32, I64, Document, TokenVectors

WIDTHS = (50, 100, 200, 300, 400)
FDES = (
    "20,5,8",
    "20,5,16",
    "20,5,16,fill",
    "20,5,16,2048",
    "20,5,16,2048,fill",
    "20,5,16,4096",
    "20,3,32,2048",
    "20,3,64,2048",
    "20,2,64,2048",
)
Ranking: TypeAlias = NDArray[np.int64]
"""(queries, n) rows, best first."""


@dataclass(frozen=True)
class Vectors:
    """A collection's vectors and its queries'. exact: (queries, passages) float32 MaxSim."""

    ids: list[str]
    pooled: F32
    tokens: TokenVectors
    query_ids: list[str]
    query_pooled: F32
    query_tokens: TokenVectors
    exact: F32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BEIR_FOLDER")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings and exact scores")
    parser.add_argument("--fde", nargs="+", default=FDES, metavar="R,K,D[,FINAL][,fill]")
    parser.add_argument("--index", default="flat", choices=("flat", *vector_index.NAMES))
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    vector_index.set_threads(1)
    fdes = {text: parameters(text) for text in args.fde}
    for folder in args.folders:
        try:
            measure(folder, args.cache, fdes, args.index, args.weight, args.threads)
        except SheafError as error:
            raise SystemExit(f"{folder}: {error.message}") from error


def parameters(text: str) -> MuveraParameters:
    """The parameters that ``20,5,16,2048,fill`` names."""
    *numbers, last = text.split(",")
    fill = last == "fill"
    repetitions, hyperplanes, projection, *final = map(int, numbers if fill else [*numbers, last])
    return MuveraParameters(
        repetitions, hyperplanes, projection or None, fill=fill, final_projection=final[0] if final else None
    )


def measure(
    folder: Path, cache: Path | None, fdes: dict[str, MuveraParameters], index: str, weight: float, threads: int
) -> None:
    """Print the table of one collection."""
    vectors = collected(folder, cache)
    qrels = beir_qrels(folder)
    top = np.argsort(-vectors.exact, axis=1, kind="stable")[:, :10]
    goal = ndcg(vectors, top, qrels)
    print(f"\n{folder.name}: {len(vectors.ids)} passages, {len(vectors.query_ids)} queries, exact nDCG@10 {goal:.4f}")
    head = " ".join(f"{'@' + str(w):>6}" for w in WIDTHS)
    print(f"{'first stage':34} {'dims':>6} {'docs/s':>6} {'ms':>5}  recall {head}   nDCG {head}")
    for name, dims, rate, ms, ranking in stages(vectors, fdes, index, weight, threads):
        recalls, changes = [], []
        for width in WIDTHS:
            kept = ranking[:, :width]
            recalls.append(np.mean([np.isin(t, k).mean() for t, k in zip(top, kept, strict=True)]))
            best = np.argsort(-np.take_along_axis(vectors.exact, kept, 1), axis=1, kind="stable")[:, :10]
            changes.append(ndcg(vectors, np.take_along_axis(kept, best, 1), qrels) - goal)
        numbers = " ".join(f"{r:6.3f}" for r in recalls) + "        " + " ".join(f"{c:+6.3f}" for c in changes)
        print(f"{name:34} {dims:6} {rate:>6} {ms:>5}         {numbers}", flush=True)


def stages(
    vectors: Vectors, fdes: dict[str, MuveraParameters], index: str, weight: float, threads: int
) -> Iterator[tuple[str, int, str, str, Ranking]]:
    """Every first stage: its name, numbers a passage, passages encoded a second, ms a search, and its ranking."""
    dim = vectors.pooled.shape[1]
    pooled, ms = ranked(index, vectors.pooled, vectors.query_pooled)
    yield "pooled", dim, "", ms, pooled
    counts = vectors.query_tokens.counts[:, None].astype(np.float32)
    for name, given in fdes.items():
        fde = Muvera(dim, given)
        start = time.perf_counter()
        cuts = np.linspace(0, len(vectors.ids), 4 * threads + 1, dtype=int).tolist()
        pieces = [vectors.tokens.slice(a, b) for a, b in pairwise(cuts)]
        with ThreadPoolExecutor(threads) as pool:
            documents = np.concatenate(list(pool.map(fde.encode_documents, pieces)))
        rate = f"{len(documents) / (time.perf_counter() - start):.0f}"
        queries = fde.encode_queries(vectors.query_tokens)
        ranking, ms = ranked(index, documents, queries)
        yield f"fde {name}", fde.encoded_dim, rate, ms, ranking
        yield "  + pooled", fde.encoded_dim + dim, "", "", union(ranking, pooled)
        # An FDE's inner product is about R_reps times MaxSim, a sum over the query's vectors.
        documents = np.concatenate([documents, vectors.pooled * np.float32(weight * given.repetitions)], axis=1)
        queries = np.concatenate([queries, vectors.query_pooled * counts], axis=1)
        ranking, ms = ranked(index, documents, queries)
        yield f"  beside pooled, weight {weight}", fde.encoded_dim + dim, "", ms, ranking


def ranked(index: str, documents: F32, queries: F32) -> tuple[Ranking, str]:
    """The first rows of each query, and the median time of a search of one query, in ms."""
    vectors = documents.astype(np.float16)
    built = vector_index.scan(vectors) if index == "flat" else vector_index.build(index, vectors)
    k = min(len(documents), max(WIDTHS))
    rows = built.search(queries, k).rows
    times = []
    for i in range(min(21, len(queries))):
        start = time.perf_counter()
        built.search(queries[i : i + 1], min(k, 100))
        times.append(time.perf_counter() - start)
    return rows, f"{1e3 * float(np.median(times)):.1f}"


def union(first: Ranking, second: Ranking) -> Ranking:
    """Alternately from both, each row once.

    >>> union(np.array([[1, 2, 3]]), np.array([[2, 4, 1]])).tolist()
    [[1, 2, 4]]
    """
    both = np.stack([first, second], axis=2).reshape(len(first), -1)
    return np.array([list(dict.fromkeys(rows))[: first.shape[1]] for rows in both.tolist()])


def ndcg(vectors: Vectors, ranking: Ranking, qrels: dict[str, dict[str, int]]) -> float:
    """nDCG@10 of the ranking, over the queries that have judgements."""
    run = {
        query: [vectors.ids[row] for row in rows]
        for query, rows in zip(vectors.query_ids, ranking.tolist(), strict=True)
        if query in qrels
    }
    return mean("nDCG@10", {query: qrels[query] for query in run}, run)


def collected(folder: Path, cache: Path | None) -> Vectors:
    """The collection's vectors and exact scores, from the cache or made and put there."""
    encoded_at, exact_at = (cache / f"{folder.name}{end}" if cache else None for end in (".npz", ".exact.npy"))
    if encoded_at and encoded_at.is_file():
        with np.load(encoded_at, allow_pickle=False) as stored:
            arrays = dict(stored)
    else:
        arrays = encoded(folder)
        if encoded_at:
            np.savez(encoded_at, allow_pickle=False, **arrays)
    tokens = TokenVectors(arrays["values"], arrays["offsets"])
    queries = TokenVectors(arrays["q_values"], arrays["q_offsets"])
    if exact_at and exact_at.is_file():
        exact = np.load(exact_at, allow_pickle=False)
    else:
        exact = maxsim(queries, tokens)
        if exact_at:
            np.save(exact_at, exact)
    return Vectors(
        arrays["ids"].tolist(), arrays["pooled"], tokens, arrays["q_ids"].tolist(), arrays["q_pooled"], queries, exact
    )


def encoded(folder: Path) -> dict[str, NDArray[Any]]:
    """Documents and judged queries through the built-in model."""
    documents = [entry.found for entry in Beir(folder).entries()]
    for found in documents:
        if isinstance(found, SheafError):
            raise found
    kept = [found for found in documents if isinstance(found, Document)]
    judged = beir_qrels(folder)
    queries = {name: text for name, text in beir_queries(folder).items() if name in judged}
    encoder = Encoders({}).get("builtin", "multi_vector")
    print(f"encoding {folder.name}: {len(kept)} documents, {len(queries)} queries")
    texts = encoder.encode_documents([document.passage for document in kept])
    asked = encoder.encode_queries(list(queries.values()))
    assert texts.tokens is not None  # a multi_vector encoder gives them
    assert asked.tokens is not None
    return {
        "pooled": texts.pooled,
        "values": texts.tokens.values.astype(np.float16),
        "offsets": texts.tokens.offsets,
        "ids": np.array([document.id for document in kept]),
        "q_pooled": asked.pooled,
        "q_values": asked.tokens.values,
        "q_offsets": asked.tokens.offsets,
        "q_ids": np.array(list(queries)),
    }


def maxsim(queries: TokenVectors, tokens: TokenVectors, step: int = 64) -> F32:
    """All queries against all passages, (queries, passages) float32, ``step`` passages at a time."""
    scores = np.empty((len(queries), len(tokens)), np.float32)
    wanted = np.ascontiguousarray(queries.values, np.float32).T
    for start in range(0, len(tokens), step):
        part = tokens.slice(start, min(start + step, len(tokens)))
        starts: I64 = part.offsets[:-1]
        best = np.maximum.reduceat(part.values.astype(np.float32) @ wanted, starts, axis=0)
        scores[:, start : start + step] = np.add.reduceat(best, queries.offsets[:-1], axis=1).T
    return scores


if __name__ == "__main__":
    main()
