"""How well a document finds those that are relevant to the same query, and by how many of its vectors.

    SHEAF_INDEXES=indexes python scripts/bench_like.py BEIR_FOLDER --collection NAME [--documents 40]

The collection holds the folder's corpus. Documents are drawn that are relevant to a query of 2 to 50 relevant ones, and
each is searched with as the only positive example; the others are what it is to find. nDCG@10 of each mode, without and
with a negative example, which is the best hit by meaning that is not relevant, taken out of the list it is compared
with; recall@10 of the exact list; the median time. Then the exact order by sums of the opening's token vectors over
clusters (app.query.alike.few): rank-biased overlap of the first 20 (Webber, Moffat, Zobel 2010; p = .9) with that by
all token vectors of the document, and nDCG@10.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.layers import TOKENS, scored
from app.collection.part import tokens
from app.encoders.registry import Encoders
from app.query.alike import READ, few
from app.query.examples import Example, Like
from app.query.ranking import rank_all
from app.query.scores import MaxSim
from app.search import Mode, Query, search
from app.settings import Settings
from app.sources.beir import beir_qrels
from app.types import F32

MODES: Final[Sequence[Mode]] = ("semantic", "dense", "lexical", "hybrid")
WEIGHTS: Final = (0.2, 0.5)
CLUSTERS: Final = (16, 32, 64, 128)
P: Final = 0.9
DEPTH: Final = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--collection", required=True)
    parser.add_argument("--documents", type=int, default=40)
    args = parser.parse_args()
    settings = Settings()
    with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
        collection = catalogue.get(args.collection)
        wanted = companions(beir_qrels(args.folder))
        with collection.snapshot() as snapshot:
            there = sorted(one for one in wanted if len(snapshot.versions([one])))
        drawn = np.random.default_rng(0).permutation(there)[: args.documents].tolist()
        table: dict[str, list[float]] = defaultdict(list)
        for one in drawn:
            by_modes(collection, one, wanted[one], table)
            if scored(collection.spec) == TOKENS:
                by_vectors(collection, one, wanted[one], table)
    print(f"{args.collection}: {len(drawn)} documents")
    for name, values in table.items():
        print(f"{name:40s}{np.median(values) if name.endswith('ms') else np.mean(values):9.3f}  of {len(values)}")


def companions(qrels: dict[str, dict[str, int]]) -> dict[str, set[str]]:
    """Of each document those that are relevant to a query that it is relevant to."""
    found: dict[str, set[str]] = defaultdict(set)
    for judged in qrels.values():
        relevant = {name for name, grade in judged.items() if grade > 0}
        if 2 <= len(relevant) <= 50:
            for name in relevant:
                found[name] |= relevant - {name}
    return found


def by_modes(collection: Collection, name: str, wanted: set[str], table: dict[str, list[float]]) -> None:
    query = Query(like=Like([Example(name)]), include=frozenset(), k=11)
    exact = [hit.id for hit in search(collection, replace(query, exact=True)).hits[:10]]
    result = search(collection, query)
    table["recall@10"].append(len({*exact} & {hit.id for hit in result.hits[:10]}) / max(len(exact), 1))
    bad = next((hit.id for hit in result.hits if hit.id not in wanted), None)
    for mode in MODES:
        result = search(collection, replace(query, mode=mode))
        ids = [hit.id for hit in result.hits]
        table[f"{mode}, nDCG@10"].append(ndcg(ids, wanted))
        table[f"{mode}, ms"].append(result.took_ms)
        if bad is not None:
            table[f"{mode} without the negative, nDCG@10"].append(ndcg([one for one in ids if one != bad], wanted))
            for weight in WEIGHTS:
                less = Like([Example(name)], [Example(bad)], weight)
                hits = search(collection, replace(query, mode=mode, like=less)).hits
                table[f"{mode} less {weight} of it, nDCG@10"].append(ndcg([hit.id for hit in hits], wanted))


def by_vectors(collection: Collection, name: str, wanted: set[str], table: dict[str, list[float]]) -> None:
    spec = collection.spec
    with collection.snapshot() as snapshot:
        ((view, place),) = snapshot.published.locate(snapshot.versions([name]).tolist()).values()
        own = tokens(view.part, *view.part.owners.span(place, place + 1))
        opening = spec.measure.query(own[0][:READ])

        def order(query: F32) -> list[str]:
            scores = MaxSim(query, spec.splits)
            found = rank_all(snapshot.views, scores, DEPTH + 1, collection.resources.workers, snapshot.identify)
            names = snapshot.identify([one.seq for one in found])
            return [one for one in (names[item.seq].decode() for item in found) if one != name][:DEPTH]

        whole = order(spec.measure.query(own.values))
        for said, query in (
            ("opening", opening),
            *((f"opening in {most} clusters", few(opening, most)) for most in CLUSTERS),
        ):
            ids = order(query)
            table[f"{said}, overlap"].append(overlap(whole, ids))
            table[f"{said}, nDCG@10"].append(ndcg(ids, wanted))
    table["all vectors, nDCG@10"].append(ndcg(whole, wanted))


def ndcg(ids: Sequence[str], wanted: set[str]) -> float:
    """At 10, of grades 0 and 1."""
    gains = [1 / np.log2(rank + 2) for rank in range(10)]
    found = sum(gain for gain, one in zip(gains, ids, strict=False) if one in wanted)
    return float(found / sum(gains[: len(wanted)]))


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Rank-biased, of lists that are cut, as a share of what equal lists have.

    >>> overlap(["a", "b"], ["a", "b"]), round(overlap(["a", "b"], ["b", "a"]), 3)
    (1.0, 0.474)
    """
    depths = range(1, min(len(one), len(other)) + 1)
    shares = [P**depth * len({*one[:depth]} & {*other[:depth]}) / depth for depth in depths]
    return sum(shares) / sum(P**depth for depth in depths)


if __name__ == "__main__":
    main()
