"""Whether a number from 0 to 1 tells of a hit how relevant it is, whatever the query, better than its score does.

    SHEAF_INDEXES=indexes python scripts/bench_relevance.py NAME=BEIR_FOLDER ... [--queries 60]

Each multi-vector collection NAME holds its folder's corpus. The best 20 hits of each judged query, in a hybrid search,
are told by: the fused score; MaxSim as a mean over query tokens; the cosine of the pooled vectors; each side between
what an unrelated document reaches (the mean of 64 documents of the collection; no word) and what the text of the query
itself would (1; every word, as often as counts); and the fused score between what these two would be fused to. Of the
hits together, and of the first ones alone: the area under the ROC curve, which is a half of what tells nothing. And of
the probabilities that a logistic curve makes of each, fitted on the other collections: the expected calibration error
(ten bins of equal numbers), and the Brier score.

With `--taught`, of each collection alone: what `PUT .../relevance` learns from every second of the judged queries (it
is not kept), and the same figures of hits' `relevance` over the others.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.layers import POOLED
from app.encoders.registry import Encoders
from app.evaluation.judged import Judged
from app.evaluation.relevance import learned_from
from app.lexical.bm25 import K1, Bm25
from app.query.preparing import encode_queries
from app.query.scores import scores_of
from app.query.wording import clauses_of
from app.search import Query, search, search_encoded
from app.settings import Settings
from app.sources.beir import beir_qrels, beir_queries
from app.types import F64, I64

HITS: Final = 20
SAMPLE: Final = 64
SIDES: Final = ("words", "tokens", "pooled")

Told = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", metavar="NAME=BEIR_FOLDER")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--taught", action="store_true", help="only what judgements of the collection itself teach")
    args = parser.parse_args()
    settings, tables = Settings(), dict[str, Told]()
    with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
        for named in args.collections:
            name, _, folder = named.partition("=")
            if args.taught:
                print(f"{name}: {taught(catalogue.get(name), Path(folder))}", flush=True)
                continue
            tables[name] = told_of(catalogue.get(name), Path(folder), args.queries)
            labels = np.array(tables[name]["relevant"])
            print(f"{name}: {len(labels):,} hits, {labels.mean():.3f} of them relevant", flush=True)
    if args.taught:
        return
    print(f"{'':16s}" + "".join(f"{name[:18]:>32s}" for name in tables))
    print(f"{'':16s}" + f"{'AUC   first    ECE  Brier':>32s}" * len(tables))
    for kind in tables[next(iter(tables))]:
        if kind in ("relevant", "rank"):
            continue
        row = ""
        for name, own in tables.items():
            labels, values = np.array(own["relevant"]), np.array(own[kind])
            first = np.array(own["rank"]) == 0
            others = [other for other in tables if other != name]
            curve = fitted(
                np.concatenate([tables[other][kind] for other in others]),
                np.concatenate([tables[other]["relevant"] for other in others]),
                np.concatenate([np.full(len(tables[other][kind]), 1 / len(tables[other][kind])) for other in others]),
            )
            made = 1 / (1 + np.exp(-(curve[0] + curve[1] * values)))
            brier = float(np.mean((made - labels) ** 2))
            row += f"{area(values, labels):14.3f}{area(values[first], labels[first]):6.3f}"
            row += f"{error(made, labels):6.3f}{brier:6.3f}"
        print(f"{kind:16s}{row}", flush=True)


def taught(collection: Collection, folder: Path) -> str:
    """What every second judged query teaches, and how it holds of the others."""
    qrels, texts = beir_qrels(folder), beir_queries(folder)
    query = Query(mode="hybrid", k=HITS, include=frozenset(), relevance=True)
    asked = [
        (Judged(name, qrels[name], texts[name]), replace(query, text=texts[name]))
        for name in sorted(name for name in qrels if name in texts)
    ]
    learned = learned_from(collection, folder.name, asked[::2])
    chances, relevant, first = list[float](), list[float](), list[bool]()
    for judged, one in asked[1::2]:
        (encoded,) = encode_queries(collection, [one])
        found = search_encoded(collection, one, encoded, chances=learned.curve.along)
        for rank, hit in enumerate(found.hits):
            chances.append(hit.relevance or 0.0)
            relevant.append(float(judged.grades.get(hit.id, 0) > 0))
            first.append(not rank)
    made, labels, top = np.array(chances), np.array(relevant), np.array(first)
    brier, share = float(np.mean((made - labels) ** 2)), float(labels.var())
    return (
        f"{learned.queries} queries taught, error {learned.error:.3f}, AUC {learned.area:.3f}; of {len(asked[1::2])} "
        f"others, {labels.mean():.3f} of whose hits are relevant: AUC {area(made, labels):.3f}, of first hits "
        f"{area(made[top], labels[top]):.3f}; ECE {error(made, labels):.3f}; Brier {brier:.3f}, of the share "
        f"{share:.3f}"
    )


def told_of(collection: Collection, folder: Path, most: int) -> Told:
    qrels, texts = beir_qrels(folder), beir_queries(folder)
    table: Told = defaultdict(list)
    for name in sorted(name for name in qrels if name in texts)[:most]:
        query = Query(text=texts[name], mode="hybrid", k=HITS, explain=True, include=frozenset())
        unrelated, own = ends(collection, texts[name])
        for rank, hit in enumerate(search(collection, query).hits):
            explanation: Any = hit.explanation
            sides = {one.side: one for one in explanation.sides}
            table["relevant"].append(float(qrels[name].get(hit.id, 0) > 0))
            table["rank"].append(rank)
            table["score"].append(hit.score)
            table["MaxSim"].append(sides["tokens"].score / own["tokens"])
            table["pooled"].append(sides["pooled"].score)
            for side in SIDES:
                between = (sides[side].score - unrelated[side]) / (own[side] - unrelated[side])
                table[f"{side} between"].append(between)
            table["mean between"].append(float(np.mean([table[f"{side} between"][-1] for side in SIDES])))
            low, high = (
                sum(one.weight * (end[side] - one.mean) / (one.deviation or 1) for side, one in sides.items())
                for end in (unrelated, own)
            )
            table["score between"].append((hit.score - low) / (high - low))
    return table


def ends(collection: Collection, text: str) -> tuple[dict[str, float], dict[str, float]]:
    """What an unrelated document reaches by each side, and the query itself."""
    (encoded,) = encode_queries(collection, [Query(text=text)])
    with collection.snapshot() as snapshot:
        view = max(snapshot.views, key=lambda one: one.live)
        alive = np.flatnonzero(view.alive)
        documents: I64 = alive[np.linspace(0, len(alive) - 1, SAMPLE).astype(int)].astype(np.int64)
        rows = view.part.owners.firsts[documents] if view.part.owners.starts is not None else documents
        rows = np.unique(rows)
        workers = collection.resources.workers
        tokens = float(np.mean(scores_of(collection.spec, encoded).references(view.part, rows, workers)))
        pooled = float(np.mean(view.part.flat(POOLED).take(rows) @ encoded.pooled[0]))
        clauses, lexical = clauses_of(collection.spec, Query(text=text, mode="hybrid"))
        words = Bm25([one.lexical() for one in snapshot.views], clauses, lexical.fields)
        said = sum(worth for worth, df in zip(words.worth, words.frequencies, strict=True) if df) * (K1 + 1)
    return (
        {"words": 0.0, "tokens": tokens, "pooled": pooled},
        {"words": said or 1.0, "tokens": float(len(encoded.vectors)), "pooled": 1.0},
    )


def fitted(values: F64, labels: F64, weights: F64) -> F64:
    """(2,): intercept and slope of a logistic curve, by Newton's method."""
    inputs, found = np.stack([np.ones(len(values)), values], axis=1), np.zeros(2)
    for _ in range(50):
        made = 1 / (1 + np.exp(-inputs @ found))
        slope = inputs.T @ (weights * (labels - made)) - 1e-6 * found
        curve = (inputs * (weights * made * (1 - made))[:, None]).T @ inputs + 1e-6 * np.eye(2)
        found = found + np.linalg.solve(curve, slope)
    return found


def area(values: F64, labels: F64) -> float:
    """Under the ROC curve: how often a relevant hit has the larger value; half where equal."""
    more, less = values[labels > 0], values[labels == 0]
    if not len(more) or not len(less):
        return float("nan")
    return float(np.mean((more[:, None] > less) + 0.5 * (more[:, None] == less)))


def error(made: F64, labels: F64, bins: int = 10) -> float:
    """The expected calibration error: how far the mean probability is from the share that is relevant, by bins of equal
    numbers of hits."""
    parts = np.array_split(np.argsort(made, kind="stable"), bins)
    return float(sum(len(part) * abs(made[part].mean() - labels[part].mean()) for part in parts) / len(made))


if __name__ == "__main__":
    main()
