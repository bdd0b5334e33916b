"""What a share of the pooled vector does to the order of MaxSim: a search by meaning without words.

    SHEAF_INDEXES=indexes python scripts/bench_blend.py BEIR_FOLDER --collection NAME [--shares .1 .2 .3 .5]

The collection holds the folder's corpus. The best hundred documents of a `semantic` search and of a `dense` one get
both scores, by searches among their ids, and are ordered by (1 - share) * MaxSim / query vectors + share * pooled.
nDCG@10 of the judged queries, less that of the semantic search, with twice its standard error.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.evaluation.measures import measure, measured
from app.query.preparing import encode_queries
from app.search import Mode, Query, search_encoded
from app.settings import Settings
from app.sources.beir import beir_qrels, beir_queries
from app.types import F64

DEPTH: Final = 100
MEASURE: Final = measure("nDCG@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--collection", required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.5])
    args = parser.parse_args()
    settings = Settings()
    queries, qrels = beir_queries(args.folder), beir_qrels(args.folder)
    runs: dict[str, dict[str, list[str]]] = defaultdict(dict)
    with Catalogue(settings.indexes, Encoders(settings.models, settings.converted), settings) as catalogue:
        collection = catalogue.get(args.collection)
        for identifier in qrels:
            for name, order in orders(collection, queries[identifier], args.shares).items():
                runs[name][identifier] = order
    found = {name: worth(qrels, run) for name, run in runs.items()}
    usual = found["semantic"]
    print(f"{args.collection}: {len(usual)} queries, semantic {usual.mean():.4f}, dense {found['dense'].mean():.4f}")
    for share in args.shares:
        more = found[f"share {share}"] - usual
        print(f"  share {share}: {more.mean():+.4f} +- {2 * more.std() / len(more) ** 0.5:.4f}")


def orders(collection: Collection, text: str, shares: list[float]) -> dict[str, list[str]]:
    """By name the documents, best first."""
    (encoded,) = encode_queries(collection, [Query(text=text)])

    def scores(mode: Mode, among: list[str] | None = None) -> dict[str, float]:
        query = Query(text, k=DEPTH if among is None else len(among), mode=mode, ids=among, include=frozenset())
        return {hit.id: hit.score for hit in search_encoded(collection, query, encoded).hits}

    lists = {"semantic": [*scores("semantic")], "dense": [*scores("dense")]}
    ids = [*dict.fromkeys(lists["semantic"] + lists["dense"])]
    tokens, pooled = scores("semantic", ids), scores("dense", ids)
    for share in shares:
        blended = {one: (1 - share) * tokens[one] / len(encoded.vectors) + share * pooled[one] for one in ids}
        lists[f"share {share}"] = sorted(ids, key=lambda one: (-blended[one], one.encode()))
    return lists


def worth(qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, list[str]]) -> F64:
    """Of each query, in the order of the judgements."""
    return np.array([*measured([MEASURE], qrels, run)[MEASURE.name].values()])


if __name__ == "__main__":
    main()
