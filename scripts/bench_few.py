"""Few vectors a document: nDCG@10 by how many, with and without words, of short and of long documents.

    python scripts/bench_few.py BEIR_FOLDER ... [--cache FOLDER] [--vectors 1 2 4 8 16 32]

Each collection is encoded with the built-in model and made anew for each number, with `"token_pooling": {"vectors": m}`
and vectors in float32; 0 stands for all vectors. Every query is searched exactly, by MaxSim alone and beside BM25 (a
hybrid search with the weights that a new collection has). short and long: among the documents of the shorter or of the
longer half of the collection by tokens alone, for the queries that have a relevant one there. ME-BERT (arXiv
2005.00181) finds that longer documents need more vectors, and that few of them with BM25 beside are as good as many. A
cache keeps the encodings of scripts/first_stage.py. Figures seen are in docs/papers.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from first_stage import Vectors, collected

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.evaluation.measures import mean
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.settings import Settings
from app.sources.beir import Beir, beir_qrels, beir_queries
from app.types import Document, Few

DEEP: Final = 200
"""Hits of a search, of which those of a half are taken."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BEIR_FOLDER")
    parser.add_argument("--cache", type=Path, help="a folder that keeps encodings")
    parser.add_argument("--vectors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 0])
    return parser


def searched(folder: Path, vectors: Vectors, few: int) -> dict[str, dict[str, list[str]]]:
    """By way, the hits of each query."""
    texts = {text.id: text for entry in Beir(folder).entries() if isinstance(text := entry.found, Document)}
    asked = beir_queries(folder)
    found: dict[str, dict[str, list[str]]] = {"MaxSim": {}, "with BM25": {}}
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(indexes=Path(place))
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            collection = catalogue.create(
                "c",
                model=None,
                kind="multi_vector",
                dim=vectors.tokens.dim,
                precision="float32",
                keep_vectors=False,
                token_pooling=Few(few) if few else 1,
            )
            for start in range(0, len(vectors.ids), 500):
                some = range(start, min(start + 500, len(vectors.ids)))
                write_documents(
                    collection,
                    [
                        Document(
                            vectors.ids[i],
                            texts[vectors.ids[i]].text,
                            texts[vectors.ids[i]].title,
                            vectors=vectors.tokens[i].astype(np.float32),
                        )
                        for i in some
                    ],
                )
            seal(collection)
            for query, matrix in zip(vectors.query_ids, vectors.query_tokens, strict=True):
                own = np.ascontiguousarray(matrix, np.float32)
                ways = {
                    "MaxSim": Query(vectors=own, k=DEEP, exact=True, include=frozenset()),
                    "with BM25": Query(
                        text=asked[query],
                        vectors=own,
                        mode="hybrid",
                        weights="learned",
                        exact=True,
                        include=frozenset(),
                    ),
                }
                for way, one in ways.items():
                    found[way][query] = [hit.id for hit in search(collection, one).hits]
    return found


def halves(vectors: Vectors) -> dict[str, set[str]]:
    """All documents, and those of the shorter and the longer half."""
    counts = vectors.tokens.counts
    short = {name for name, few in zip(vectors.ids, counts <= np.median(counts), strict=True) if few}
    return {"all": set(vectors.ids), "short": short, "long": set(vectors.ids) - short}


def worth(found: Mapping[str, list[str]], qrels: Mapping[str, Mapping[str, int]], among: set[str]) -> tuple[float, int]:
    """nDCG@10 among some documents, and of how many queries."""
    grades = {query: {one: grade for one, grade in own.items() if one in among} for query, own in qrels.items()}
    asked = {query: own for query, own in grades.items() if query in found and max(own.values(), default=0) > 0}
    runs = {query: [one for one in found[query] if one in among] for query in asked}
    return mean("nDCG@10", asked, runs), len(asked)


def main() -> None:
    """A table of each collection."""
    args = parser().parse_args()
    for folder in args.folders:
        vectors, qrels = collected(folder, args.cache), beir_qrels(folder)
        groups = halves(vectors)
        print(f"\n{folder.name}: {len(vectors.ids):,} documents, median {np.median(vectors.tokens.counts):.0f} tokens")
        for few in args.vectors:
            found = searched(folder, vectors, few)
            told = [
                (way, name, *worth(own, qrels, among)) for way, own in found.items() for name, among in groups.items()
            ]
            cells = [f"{way}, {name} ({count}): {value:.4f}" for way, name, value, count in told]
            print(f"{few or 'all':>4}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
