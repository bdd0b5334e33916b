"""What diversity makes of the first ten hits: how alike they are, how relevant, and what it costs.

    SHEAF_INDEXES=indexes python scripts/bench_diversity.py BEIR_FOLDER --collection NAME [--queries 100]

The collection, a multi-vector one, holds the folder's corpus. Each judged query is searched exactly by meaning; its
best 50 are ordered anew by several weights of likeness and several kinds of it: by pooled vectors (app.diversity), and
by 16 or 64 token vectors of a passage. Of the first ten: nDCG@10, and the mean similarity of two of them by 64 token
vectors and by pooled vectors, whichever they were ordered by; the time is that of a page of ten.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.part import View, scored_vectors
from app.diversity.likeness import Likeness
from app.diversity.order import AMONG, diverse, scaled
from app.encoders.registry import Encoders
from app.evaluation.measures import mean
from app.query.preparing import encode_queries
from app.query.ranking import Ranked, rank_all
from app.query.scores import scores_of
from app.scoring.similarity import lengths
from app.search import Query
from app.settings import Settings
from app.sources.beir import beir_qrels, beir_queries
from app.types import F32, F64

WEIGHTS: Final = (0.1, 0.3, 0.5, 0.7)
FIRST: Final = 10
MEASURED: Final = 64

Similarities = Callable[[int], F64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--collection", required=True)
    parser.add_argument("--queries", type=int, default=100)
    args = parser.parse_args()
    settings = Settings()
    qrels = beir_qrels(args.folder)
    texts = {name: text for name, text in beir_queries(args.folder).items() if name in qrels}
    names = sorted(texts)[: args.queries]
    runs: dict[str, dict[str, list[str]]] = defaultdict(dict)
    alike: dict[str, list[tuple[float, float]]] = defaultdict(list)
    took: dict[str, list[float]] = defaultdict(list)
    with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
        collection = catalogue.get(args.collection)
        kinds = {"pooled": 0, "16": 16, "64": 64}
        for name in names:
            (encoded,) = encode_queries(collection, [Query(text=texts[name])])
            with collection.snapshot() as snapshot:
                workers, views = collection.resources.workers, snapshot.views
                hits = rank_all(views, scores_of(collection.spec, encoded), AMONG, workers, snapshot.identify)
                ids = [snapshot.identify([hit.seq])[hit.seq].decode() for hit in hits]
                truth = [
                    matrix(of_tokens(views, hits, MEASURED), len(hits)),
                    matrix(Likeness(views, hits, collection.spec.measure, workers).to, len(hits)),
                ]
                relevance = scaled([hit.score for hit in hits])
                for kind, tokens in kinds.items():
                    for weight in (0.0, *WEIGHTS):
                        began = time.perf_counter()
                        made = (
                            of_tokens(views, hits, tokens)
                            if tokens
                            else Likeness(views, hits, collection.spec.measure, workers).to
                        )
                        places = [one.place for one in diverse(relevance, made, weight, FIRST)]
                        label = f"{kind:7s}{weight:.1f}"
                        took[label].append((time.perf_counter() - began) * 1e3)
                        runs[label][name] = [ids[place] for place in places]
                        alike[label].append((pairs(truth[0], places), pairs(truth[1], places)))
    judged = {name: qrels[name] for name in names}
    print(f"{args.collection}: {len(names)} queries, {collection.published.live:,} documents")
    print(f"{'by':7s}weight  nDCG@10  alike by tokens  by pooled  ms")
    for label, run in runs.items():
        quality = mean("nDCG@10", judged, run)
        tokens, pooled = np.mean(alike[label], axis=0)
        print(f"{label}  {quality:10.4f}{tokens:14.4f}{pooled:14.4f}{np.median(took[label]):9.1f}", flush=True)


def of_tokens(views: Sequence[View], hits: Sequence[Ranked], most: int) -> Similarities:
    """MaxSim as a mean over tokens, in both directions, by as many token vectors of a passage, evenly spaced."""
    vectors = [unit(scored_vectors(views[hit.view].part, hit.row)) for hit in hits]
    vectors = [own[np.arange(most) * len(own) // most] if len(own) > most else own for own in vectors]
    counts = np.array([len(own) for own in vectors])
    starts, joined = np.cumsum(counts) - counts, np.concatenate(vectors)

    def similarities(place: int) -> F64:
        products = joined @ vectors[place].T
        there = np.add.reduceat(products.max(axis=1).astype(np.float64), starts) / counts
        back = np.maximum.reduceat(products, starts, axis=0).mean(axis=1, dtype=np.float64)
        return np.asarray((there + back) / 2, np.float64)

    return similarities


def unit(vectors: F32) -> F32:
    return (vectors / lengths(vectors)[:, None]).astype(np.float32)


def matrix(similarities: Similarities, count: int) -> F64:
    return np.stack([similarities(place) for place in range(count)])


def pairs(similarities: F64, places: Sequence[int]) -> float:
    """The mean similarity of two of them."""
    chosen = similarities[np.ix_(places, places)]
    return float(chosen[np.triu_indices(len(places), 1)].mean()) if len(places) > 1 else 1.0


if __name__ == "__main__":
    main()
