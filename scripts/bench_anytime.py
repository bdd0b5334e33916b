"""An anytime ten best: what of MaxSim's products is saved where documents are given up after some of a query's tokens.

    python scripts/bench_anytime.py BEIR_FOLDER ... [--cache FOLDER] [--precision 1.25bit] [--candidates 400]

Documents are scored one token of the query after the other, those first that tell the first --k documents apart best,
and given up as soon as what they have and a bound of what the other tokens can add is less than the --k th best score
so far (multilevel estimates, as Col-Bandit has them; arXiv 2602.02827). Candidates come by pooled vectors, best first;
the first --k are scored whole. Scores are those of the fast pass, whose own bound of error is left out. The bounds:

  norms    the length of the query's vector times the longest one of the document (Cauchy and Schwarz): proven
  centre   the product with the mean of the document's vectors, and the length times the farthest from it: proven,
           costs one product a token of the query, which is counted, and a mean and a distance for each document
  limit    the largest of all candidates: known only after all was scored. No bound of the token alone can save more
  seen     the largest so far, of documents that were scored whole: proves nothing

`products` is the share of inner products made, of candidates' tokens by the query's, `same` the share of queries whose
ten best are the same in the same order. Then the time of the proven one in practice: the kernels take 16 tokens of the
query at the price of one (app.scoring.bytewise), so a level is 16 of them in one plane; what it leaves is scored as the
product scores it, beside the product's own passes over all candidates (app.query.ranking). Processor time, medians over
queries, side by side. Figures seen are in docs/decisions.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

import numpy as np
from first_stage import collected

from app.codes.choose import code_for
from app.codes.protocol import Code
from app.query.ranking import MANY
from app.scoring.choose import has_rough, scorer
from app.scoring.select import keep_for_top
from app.scoring.similarity import Cosine
from app.types import F32, F64, I64, Precision, TokenVectors

LEVEL: Final = 16
"""Tokens of the query."""
STEP: Final = 65_536
Found = list[tuple[int, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BEIR_FOLDER")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings")
    parser.add_argument("--precision", choices=get_args(Precision), default="1.25bit")
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args()
    for folder in args.folders:
        vectors = collected(folder, args.cache)
        unit, code = Cosine(), code_for(args.precision, vectors.tokens.dim)
        given = vectors.tokens.values
        pieces = [
            code.encode(unit.document(given[i : i + STEP].astype(np.float32))) for i in range(0, len(given), STEP)
        ]
        tokens = TokenVectors(np.concatenate(pieces), vectors.tokens.offsets)
        queries = [unit.query(one.astype(np.float32)) for one in vectors.query_tokens]
        order = np.argsort(-(vectors.query_pooled @ vectors.pooled.T), axis=1, kind="stable")[:, : args.candidates]
        measure(folder.name, tokens, queries, order, code, args.k)


def measure(name: str, tokens: TokenVectors, queries: list[F32], candidates: I64, code: Code, k: int) -> None:
    norms = np.maximum.reduceat(code.norms(tokens.values), tokens.offsets[:-1])
    shares: dict[str, list[tuple[float, bool]]] = {one: [] for one in ("norms", "centre", "limit", "seen")}
    middles, radii = balls(tokens, code)
    times, left = [], []
    for query, rows in zip(queries, candidates, strict=True):
        maxima = scorer(query, code).maxima(tokens, rows).astype(np.float64)
        counts = tokens.counts[rows]
        lengths = np.linalg.norm(query, axis=1)
        whole = maxima[:k].std(axis=0).argsort()[::-1]
        bounds = {
            "norms": norms[rows][:, None] * lengths,
            "centre": middles[rows] @ query.T + radii[rows][:, None] * lengths,
            "limit": np.broadcast_to(maxima.max(axis=0), maxima.shape),
            "seen": None,
        }
        truth = np.lexsort((rows, -maxima.sum(axis=1)))[:k]
        for bound, most in bounds.items():
            made, kept = walked(maxima[:, whole], None if most is None else most[:, whole], k)
            share = float((made * counts).sum()) + (len(rows) * len(query) if bound == "centre" else 0)
            best = kept[np.lexsort((rows[kept], -maxima[kept].sum(axis=1)))[:k]]
            shares[bound].append((share / float(counts.sum() * len(query)), best.tolist() == truth.tolist()))
        ordered = np.sort(rows)
        ways: list[Callable[[], tuple[Found, int]]] = [
            lambda q=query, r=ordered: usual(q, code, tokens, r, norms, k),  # type: ignore[misc]
            lambda q=query, r=ordered, f=rows: by_levels(q, code, tokens, r, norms, k, f[:k]),  # type: ignore[misc]
        ]
        found, took = [], []
        for way in ways:
            start = time.process_time()
            found.append(way())
            took.append(time.process_time() - start)
        assert found[0][0] == found[1][0]
        times.append(took)
        left.append([one[1] / len(rows) for one in found])
    print(
        f"\n{name}: {len(tokens):,} documents, {len(queries)} queries, half of them of more than "
        f"{np.median([len(query) for query in queries]):.0f} tokens"
    )
    for bound, told in shares.items():
        share, same = np.array(told).mean(axis=0)
        print(f"{bound:8} products {share:.3f}  same {same:.3f}")
    ours, levels = 1e3 * np.median(np.array(times), axis=0)
    print(
        f"processor ms, {candidates.shape[1]} candidates: the product's passes {ours:.2f}, by levels {levels:.2f} "
        f"({levels / ours:.2f}); documents left after the first level {np.mean(left, axis=0)[1]:.3f}",
        flush=True,
    )


def walked(maxima: F64, most: F64 | None, k: int) -> tuple[I64, I64]:
    """(n,): tokens of the query that each document is scored by, and the places of those that were scored whole.

    maxima: (n, q), documents best first, tokens in the order of levels. most: (n, q) bounds; None for what was seen.
    """
    count, width = maxima.shape
    made = np.full(count, width)
    whole = list(range(min(k, count)))
    scores = np.sort(maxima[:k].sum(axis=1)).tolist()
    seen = maxima[:k].max(axis=0)
    for i in range(len(whole), count):
        bound = seen if most is None else most[i]
        rest = bound.sum() - np.cumsum(bound)
        below = np.flatnonzero(np.cumsum(maxima[i]) + rest < scores[0])
        if len(below) and below[0] + 1 < width:
            made[i] = below[0] + 1
            continue
        whole.append(i)
        seen = np.maximum(seen, maxima[i])
        if (score := float(maxima[i].sum())) > scores[0]:
            scores = sorted([*scores[1:], score])
    return made, np.array(whole)


def balls(tokens: TokenVectors, code: Code) -> tuple[F32, F32]:
    """(n, dim) and (n,): the mean of each document's vectors as they are stored, and how far from it they lie."""
    middles, sizes = np.empty((len(tokens), code.dim), np.float32), np.empty(len(tokens), np.float32)
    for i in range(len(tokens)):
        own = code.decode(tokens[i])
        middles[i] = own.mean(axis=0)
        sizes[i] = np.linalg.norm(own - middles[i], axis=1).max()
    return middles, sizes


def usual(query: F32, code: Code, tokens: TokenVectors, rows: I64, norms: F32, k: int) -> tuple[Found, int]:
    """As app.query.ranking does it, in one thread."""
    for rough in (True, False) if has_rough(code) and len(rows) >= MANY else (False,):
        by = scorer(query, code, rough=rough)
        rows = rows[keep_for_top(by.scores(tokens, rows), by.error_bound(norms[rows]), k)]
    return exact(query, code, tokens, rows, norms, k), len(rows)


def by_levels(
    query: F32, code: Code, tokens: TokenVectors, rows: I64, norms: F32, k: int, first: I64
) -> tuple[Found, int]:
    """The same after a level. first: documents that are scored whole, for the score that the others have to reach."""
    by = scorer(query, code, rough=True)
    least = np.min(by.scores(tokens, first).astype(np.float64) - by.error_bound(norms[first]))
    some, rest = query[:LEVEL], query[LEVEL:]
    if len(rest):
        part = scorer(some, code, rough=True)
        most = part.scores(tokens, rows) + part.error_bound(norms[rows])
        rows = rows[most + np.linalg.norm(rest, axis=1).sum() * norms[rows] * (1 + 1e-6) >= least]
    return usual(query, code, tokens, rows, norms, k)[0], len(rows)


def exact(query: F32, code: Code, tokens: TokenVectors, rows: I64, norms: F32, k: int) -> Found:
    scores = scorer(query, code).references(tokens, rows, norms[rows])
    return sorted(zip(rows.tolist(), scores, strict=True), key=lambda one: (-one[1], one[0]))[:k]


if __name__ == "__main__":
    main()
