"""Searches by sparse vectors beside SciPy's product of the same matrix, in one run.

    python scripts/bench_sparse.py [--documents 100000] [--queries 200] [--folder FOLDER]

No learned weights are at hand, so vectors are drawn: of 30,522 indices (BERT's vocabulary) with the frequencies of
words (Zipf), 120 a document and 30 a query, as SPLADE's have. Each contender answers the ten best of a query: Sheaf by
`search` with ids, in one process; SciPy by a sparse product and a partition, without ids. Medians, processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from scipy.sparse import csc_matrix
from tqdm import tqdm

from app.catalogue.catalogue import Catalogue
from app.collection.spec import SparseSpec
from app.encoders.registry import Encoders
from app.indexing.sealing import merge, seal
from app.ingest import write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import Document, SparseVector

INDICES: Final = 30_522
OF_DOCUMENT: Final = 120
OF_QUERY: Final = 30
K: Final = 10
WRITTEN: Final = 2_000


def drawn(random: np.random.Generator, count: int, size: int) -> list[SparseVector]:
    usual = 1 / np.arange(10, INDICES + 10)
    ends = np.cumsum(usual / usual.sum())
    found = []
    for _ in range(count):
        indices = np.unique(np.searchsorted(ends, random.random(size)).clip(max=INDICES - 1)).astype(np.int32)
        found.append(SparseVector(indices, random.gamma(2.0, 0.4, len(indices)).astype(np.float32) + np.float32(0.01)))
    return found


def timed(work: Callable[[SparseVector], object], queries: list[SparseVector]) -> tuple[float, float]:
    """Median milliseconds of the clock and of the processor."""
    took = []
    for query in queries:
        clock, processor = time.perf_counter(), time.process_time()
        work(query)
        took.append((time.perf_counter() - clock, time.process_time() - processor))
    return tuple(float(np.median(column)) * 1e3 for column in zip(*took, strict=True))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the collection is made; a temporary one by default")
    args = parser.parse_args()
    random = np.random.default_rng(1)
    vectors, queries = (
        drawn(random, count, size) for count, size in ((args.documents, OF_DOCUMENT), (args.queries, OF_QUERY))
    )
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(indexes=args.folder or Path(temporary) / "indexes", threads=1)
        with Catalogue(settings.indexes, Encoders({}), settings) as catalogue:
            made = catalogue.create("c", model=None, kind="dense", dim=1, sparse=SparseSpec(), lexical=None)
            one = np.ones((1, 1), np.float32)
            started = time.process_time()
            for start in tqdm(range(0, len(vectors), WRITTEN), unit=f"{WRITTEN} documents"):
                write_documents(
                    made,
                    [
                        Document(f"d{start + i}", vectors=one, sparse=vector)
                        for i, vector in enumerate(vectors[start : start + WRITTEN])
                    ],
                )
            seal(made)
            while merge(made):
                pass
            wrote = time.process_time() - started
            weights = sum(map(len, vectors))
            rows = np.repeat(np.arange(len(vectors)), [len(vector) for vector in vectors])
            columns = np.concatenate([vector.indices for vector in vectors])
            values = np.concatenate([vector.values for vector in vectors]).astype(np.float64)
            matrix = csc_matrix((values, (rows, columns)), (len(vectors), INDICES))

            def by_scipy(query: SparseVector) -> list[tuple[int, float]]:
                asked = csc_matrix((query.values.astype(np.float64), query.indices, [0, len(query)]), (INDICES, 1))
                scores = (matrix @ asked).toarray()[:, 0]
                best = np.argpartition(-scores, K)[:K]
                return sorted(((int(i), float(scores[i])) for i in best), key=lambda one: -one[1])

            def by_sheaf(query: SparseVector) -> list[tuple[int, float]]:
                hits = search(made, Query(sparse=query, mode="sparse", k=K, include=frozenset())).hits
                return [(int(hit.id[1:]), hit.score) for hit in hits]

            for query in queries[:20]:
                mine, theirs = by_sheaf(query), by_scipy(query)
                assert np.allclose([s for _, s in mine], [s for _, s in theirs], rtol=1e-9), (mine, theirs)
            figures = {"Sheaf": timed(by_sheaf, queries), "SciPy": timed(by_scipy, queries)}
            each, asked = weights / len(vectors), sum(map(len, queries)) / len(queries)
            print(f"{len(vectors):,} documents of {each:.0f} weights, {len(queries)} queries of {asked:.0f}")
            print(f"written, sealed and merged in {wrote:.1f} s of processor time")
            print(f"{made.nbytes / len(vectors):,.0f} bytes a document, of which {16 * each:,.0f} weights")
            for name, (clock, processor) in figures.items():
                print(f"{name}: {clock:.2f} ms, {processor:.2f} ms of processor")
            print(f"Sheaf / SciPy: {figures['Sheaf'][1] / figures['SciPy'][1]:.2f} of its processor time")


if __name__ == "__main__":
    main()
