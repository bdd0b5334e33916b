"""Codes of vectors with outlier dimensions, beside int8 with and without a split: what each finds of the true ten best.

    python scripts/bench_outliers.py BEIR_FOLDER [--cache FILE.npz] [--queries 100] [--outliers 6] [--threshold 6]

Dettmers, Lewis, Belkada, Zettlemoyer: "LLM.int8()", 2022 (arXiv 2208.07339): few dimensions of a transformer's hidden
states are many times as large as all others. Its vector-wise int8 (section 2.2) has a scale for each token vector and
for each query vector; its decomposition (section 3) keeps the columns of outliers in float16. Here these are columns
whose root mean square is --threshold times that of the median one. `int8 a column` has one scale for each dimension,
the largest number of it / 127, and queries as they are. `balanced` divides each column of the documents by the root of
its root mean square and multiplies the queries' by it, as SmoothQuant does (arXiv 2211.10438), before the code.

The sets: vectors of the built-in model's passes over the collection's passages and queries, by plain inner product.
  plain         token vectors of length 1, as the product makes them
  documents     --outliers dimensions of the documents' vectors times 20 to 60, drawn once
  both          the same dimensions of the queries' vectors too
  undone        of the documents times, of the queries by that number, so that products stay as they were
  states        what goes into the last LayerNorm, of both: outliers as the model has them
  neurons       what goes into the last feed-forward matrix, every 8th token, by the rows of that matrix (dense alone)

MaxSim is over token vectors, dense over their means, one a passage; all scores of the truth and of the codes' decoded
vectors are float32. `bytes` are of a token vector. `turned` and `not` are the largest coordinate of a vector by its
root mean square, the mean over vectors, with and without the rotation of the codes. Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from first_stage import maxsim

from app.codes.choose import code_for
from app.codes.grid import GridPrecision
from app.codes.rotation import rotated
from app.encoders.builtin import verified_folder
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import F32, Document, TokenVectors

EVERY: Final = 8
STEP: Final = 16_384


@dataclass(frozen=True)
class Kept:
    """Documents as they stand for after a code, queries as they ask them, and bytes of a vector."""

    docs: F32
    queries: F32
    size: float


Way = Callable[[F32, F32], Kept]
"""Documents (n, dim) and queries (q, dim)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--cache", type=Path, help="a file that keeps what the model gave")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--outliers", type=int, default=6)
    parser.add_argument("--threshold", type=float, default=6.0)
    parser.add_argument("--ways", nargs="+", help="of the table's rows, these alone")
    args = parser.parse_args()
    given = passed(args.folder, args.cache)
    ways = {name: coded(name) for name in get_args(GridPrecision)}
    ways |= {f"{name} balanced": balanced(way) for name, way in ways.items()}
    ways["int8"] = vector_wise(np.inf)
    ways["int8, split"] = vector_wise(args.threshold)
    ways["int8 a column"] = by_column
    ways = {name: way for name, way in ways.items() if not args.ways or name in args.ways}
    for title, docs, queries in sets(given, args.queries, args.outliers):
        sizes = np.sqrt(np.square(docs.values).mean(axis=0))
        large = np.sort(sizes / np.median(sizes))[::-1]
        few = docs.values[::101]
        spread = [
            float(np.mean(np.abs(x).max(axis=1) / np.sqrt(np.square(x).mean(axis=1)))) for x in (rotated(few), few)
        ]
        print(
            f"\n{title}: {len(docs.values):,} vectors of {docs.dim} dimensions, {len(docs):,} passages, {len(queries)} "
            f"queries; {int((large >= args.threshold).sum())} columns are {args.threshold:g} times the median, the "
            f"largest {large[0]:.1f} times; turned {spread[0]:.1f}, not {spread[1]:.1f}"
        )
        print(f"{'':17}{'bytes':>8}{'MaxSim':>9}{'dense':>9}")
        whole = len(docs) < len(docs.values)
        means = [mean_of(tokens) for tokens in (docs, queries)]
        dense_truth = best(means[1] @ means[0].T)
        truth = best(maxsim(queries, docs)) if whole else None
        for name, way in ways.items():
            dense = way(*means)
            found = recall(dense_truth, best(dense.queries @ dense.docs.T))
            told = "-"
            if truth is not None:
                kept = way(docs.values, queries.values)
                own = TokenVectors(kept.queries, queries.offsets), TokenVectors(kept.docs, docs.offsets)
                told = f"{recall(truth, best(maxsim(*own))):.3f}"
            print(f"{name:17}{dense.size:8.0f}{told:>9}{found:9.3f}", flush=True)


def coded(precision: GridPrecision) -> Way:
    """The product's code."""

    def way(docs: F32, queries: F32) -> Kept:
        code = code_for(precision, docs.shape[1])
        pieces = [code.decode(code.encode(docs[i : i + STEP])) for i in range(0, len(docs), STEP)]
        return Kept(np.concatenate(pieces), queries, code.bytes_per_vector)

    return way


def balanced(way: Way) -> Way:
    """The same of documents divided by the roots of their columns' sizes, of queries multiplied by them: products are
    what they were, and what a code leaves of a small column is no longer measured by the large ones."""

    def made(docs: F32, queries: F32) -> Kept:
        factor = np.maximum(np.square(docs).mean(axis=0), 1e-30) ** np.float32(0.25)
        return way(docs / factor, queries * factor)

    return made


def vector_wise(threshold: float) -> Way:
    """LLM.int8() over columns below the threshold, the others in float16; their own scale as float32."""

    def way(docs: F32, queries: F32) -> Kept:
        size = np.sqrt(np.square(docs).mean(axis=0))
        apart = size >= threshold * np.median(size)
        kept = []
        for rows in (docs, queries):
            out = np.empty_like(rows)
            out[:, apart] = rows[:, apart].astype(np.float16)
            rest = rows[:, ~apart]
            scale = np.maximum(np.abs(rest).max(axis=1, keepdims=True), 1e-30) / np.float32(127)
            out[:, ~apart] = np.rint(rest / scale) * scale
            kept.append(out)
        return Kept(kept[0], kept[1], docs.shape[1] + int(apart.sum()) + 4)

    return way


def by_column(docs: F32, queries: F32) -> Kept:
    """One scale a dimension, of all documents."""
    scale = np.maximum(np.abs(docs).max(axis=0), 1e-30) / np.float32(127)
    return Kept(np.rint(docs / scale) * scale, queries, docs.shape[1])


def sets(given: dict[str, Any], count: int, outliers: int) -> Iterator[tuple[str, TokenVectors, TokenVectors]]:
    docs, queries = (
        TokenVectors(unit(given[name].astype(np.float32)), given[offsets])
        for name, offsets in (("last", "offsets"), ("q_last", "q_offsets"))
    )
    queries = queries.slice(0, min(count, len(queries)))
    random = np.random.default_rng(0)
    factor = np.ones(docs.dim, np.float32)
    factor[random.choice(docs.dim, outliers, replace=False)] = random.uniform(20, 60, outliers)
    more = TokenVectors(docs.values * factor, docs.offsets)
    yield "plain", docs, queries
    yield "documents", more, queries
    yield "both", more, TokenVectors(queries.values * factor, queries.offsets)
    yield "undone", more, TokenVectors(queries.values / factor, queries.offsets)
    states = TokenVectors(given["q_states"], given["q_offsets"]).slice(0, len(queries))
    yield "states", TokenVectors(given["states"].astype(np.float32), docs.offsets), states
    neurons, rows = given["neurons"].astype(np.float32), given["matrix"]
    yield "neurons", TokenVectors(neurons, np.arange(len(neurons) + 1)), TokenVectors(rows, np.arange(len(rows) + 1))


def passed(folder: Path, file: Path | None) -> dict[str, Any]:
    """What the model's passes gave, from the file or made and put there. Token vectors of texts, one text a pass."""
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    where = str(verified_folder())
    model, tokenizer = AutoModel.from_pretrained(where).eval(), AutoTokenizer.from_pretrained(where)
    layer = model.encoder.layer[-1].output
    seen: dict[str, Any] = {}
    layer.LayerNorm.register_forward_hook(lambda _, given, __: seen.update(states=given[0][0].numpy()))
    layer.dense.register_forward_hook(lambda _, given, __: seen.update(neurons=given[0][0].numpy()))
    made: dict[str, Any] = {"matrix": layer.dense.weight.detach().numpy()}
    documents = [entry.found.passage for entry in Beir(folder).entries() if isinstance(entry.found, Document)]
    judged = beir_qrels(folder)
    asked = [text for name, text in beir_queries(folder).items() if name in judged]
    for prefix, texts in (("", documents), ("q_", asked)):
        parts: dict[str, list[Any]] = {"last": [], "states": [], "neurons": []}
        with torch.inference_mode():
            for text in texts:
                encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
                parts["last"].append(model(**encoded).last_hidden_state[0].numpy())
                parts["states"].append(seen["states"])
                parts["neurons"].append(seen["neurons"][::EVERY])
        made[f"{prefix}offsets"] = np.cumsum([0, *map(len, parts["last"])])
        made |= {f"{prefix}{name}": np.concatenate(found) for name, found in parts.items()}
    if file is not None:
        np.savez(file, allow_pickle=False, **made)
    return made


def unit(rows: F32) -> F32:
    found: F32 = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def mean_of(tokens: TokenVectors) -> F32:
    """(passages, dim): the mean of each."""
    sums = np.add.reduceat(tokens.values, tokens.offsets[:-1], axis=0, dtype=np.float64)
    return (sums / tokens.counts[:, None]).astype(np.float32)


def best(scores: F32) -> Any:
    """(q, 10)."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


def recall(truth: Any, found: Any) -> float:
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(truth, found, strict=True)]))


if __name__ == "__main__":
    main()
