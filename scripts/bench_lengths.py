"""How many candidates queries of each length need, where the exact best are ranked by the first stage.

    SHEAF_INDEXES=indexes python scripts/bench_lengths.py NAME ... [--words 1 2 3 5 12] [--queries 100]

Queries are drawn from each collection (app.measure.drawing). For each length: vectors and candidates of a query,
recall@10 and median times of the search as it is. With `--ranks` in their place the share of the exact ten that stand
among the first so many candidates, by the collection's own first stage, and by it and pooled vectors in turn
(`pooled`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, Source
from app.encoders.registry import Encoders
from app.measure.drawing import draw_runs
from app.measure.recall import recall_of_length
from app.query.candidates import find_candidates
from app.query.encoded import EncodedQuery
from app.query.preparing import encode_queries
from app.query.ranking import rank_all
from app.query.reaching import ALIKE
from app.query.scores import scores_of
from app.settings import Settings

WIDTHS: Final = (200, 400, 800, 1_200, 1_600, 2_400, 3_200)
BEST: Final = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", metavar="NAME")
    parser.add_argument("--words", type=int, nargs="+", default=[1, 3, 12])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--ranks", action="store_true", help="where the first stage ranks the exact best")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write ranks of each query there")
    args = parser.parse_args()
    settings, every = Settings(), list[dict[str, Any]]()
    with Catalogue(settings.indexes, Encoders(settings.models, settings.converted), settings) as catalogue:
        for name in args.collections:
            collection = catalogue.get(name)
            now = collection.published
            print(f"{name}: {now.live:,} documents, {now.passages:,} passages, width {now.stage.width}", flush=True)
            for words in args.words:
                if args.ranks:
                    every += tell_ranks(collection, words, args.queries)
                elif (one := recall_of_length(collection, words, args.queries, BEST, None)) is not None:
                    said = f"  {words:2d} words, {one.vectors:4.1f} vectors, {one.candidates:5.0f} candidates"
                    times = f"{one.approximate_ms:.1f} ms, exact {one.exact_ms:.1f} ms"
                    print(f"{said}: recall {one.recall:.4f} (worst {one.worst:.1f}), {times}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(every))


def tell_ranks(collection: Collection, words: int, count: int) -> list[dict[str, Any]]:
    found = ranks(collection, words, count)
    for source in ("own", "pooled"):
        shares = [np.mean([rank < width for one in found for rank in one[source]]) for width in WIDTHS]
        told = (f"{width:,}: {share:.3f}" for width, share in zip(WIDTHS, shares, strict=True))
        print(f"  {words:2d} words, {len(found)} queries, {source:6s}", *told, flush=True)
    return found


def ranks(collection: Collection, words: int, count: int) -> list[dict[str, Any]]:
    """Of each query where each of its exact best is among the candidates, by the first stage and with pooled ones."""
    drawn = draw_runs(collection, count, words)
    made = []
    for owner, query, encoded in zip(
        drawn.owners, drawn.queries, encode_queries(collection, drawn.queries), strict=True
    ):
        best = _best(collection, encoded, owner or "")
        found: dict[str, Any] = {"collection": collection.name, "words": words, "text": query.text}
        found["vectors"] = len(encoded.vectors)
        stage = collection.published.stage
        found["own"] = _places(collection, encoded, best, stage)
        sources: tuple[Source, ...] = (*(one for one in stage.sources if one != "pooled"), "pooled")
        found["pooled"] = _places(collection, encoded, best, replace(stage, sources=sources))
        made.append(found)
    return made


def _best(collection: Collection, query: EncodedQuery, owner: str) -> set[int]:
    with collection.snapshot() as snapshot:
        scores, workers = scores_of(collection.spec, query), collection.resources.workers
        found = rank_all(snapshot.views, scores, BEST + 1, workers, snapshot.identify)
        names = snapshot.identify([one.seq for one in found])
    return set([one.seq for one in found if names[one.seq].decode() != owner][:BEST])


def _places(collection: Collection, query: EncodedQuery, best: set[int], stage: FirstStage) -> list[int]:
    """Of each of the best the place of its best row in the ranking of all."""
    with collection.snapshot() as snapshot:
        views = snapshot.views
        masks = [view.part.owners.spread(view.alive) for view in views]
        every = sum(int(np.count_nonzero(mask)) for mask in masks)
        stages, workers = [replace(stage, width=every - 1)] * len(views), collection.resources.workers
        chosen = find_candidates(views, masks, stages, query, 1, None, workers, ALIKE)
        places = dict.fromkeys(best, every)
        for view, one in zip(views, chosen, strict=True):
            owned = view.part.seqs[view.part.owners.of(one.rows)]
            for seq, place in zip(owned.tolist(), one.places.tolist(), strict=True):
                if seq in places:
                    places[seq] = min(places[seq], place)
    return sorted(places.values())


if __name__ == "__main__":
    main()
