"""What a dense search costs beside FAISS, hnswlib and usearch: recall, and milliseconds of the processor.

    python scripts/bench_dense.py FOLDER ... [--size 100000] [--queries 200] [--work FOLDER] [--peers PYTHON]

FOLDER: of BEIR, whose sentences and queries are encoded (dense_data.py); vectors beyond them are drawn around them.
A search is a whole ``search()`` with the ids of its hits, the embedding given, without HTTP, on one thread; a peer's is
its own call, one query at a time (peers/dense.py), with `--peers`, a Python that has faiss-cpu, hnswlib, usearch and
numpy. All answer the same queries, what is compared by turns in one run; figures are medians over queries. `part < n`
keeps n thousandths of the documents.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from dense_data import Vectors
from progress import Progress

from app import filters
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.errors import NotFound, RequestError
from app.load.bulk import fill
from app.search import Query, search
from app.settings import Settings
from app.sources.protocol import Entry
from app.types import Document

SHARES: Final = (500, 100, 10, 1)
"""Thousandths that a filter keeps."""
WARM: Final = 10
"""Searches that are not counted."""


class Given:
    """Vectors as a source of documents."""

    name: str = "vectors"
    unit: Literal["bytes", "documents"] = "documents"
    skipped = 0

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self.total: int | None = len(vectors.docs)
        self.done = 0

    def entries(self) -> Iterator[Entry]:
        for i, (vector, part) in enumerate(zip(self._vectors.docs, self._vectors.part.tolist(), strict=True)):
            self.done += 1
            yield Entry(i + 1, Document(str(i), metadata={"part": part}, vectors=vector[None]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument(
        "--work", type=Path, help="where vectors and collections are kept; a temporary folder by default"
    )
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of an environment that has them")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="peers that are asked; all by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        args.work = args.work or Path(temporary)
        args.work.mkdir(parents=True, exist_ok=True)
        vectors = Vectors.of(args.folders, args.size, args.work / "sentences.npz")
        vectors = Vectors(vectors.docs, vectors.queries[: args.queries], vectors.part, vectors.real)
        print(f"{args.size:,} x {vectors.docs.shape[1]}: {vectors.real:,} sentences, the others drawn around them")
        truths = {(share, k): vectors.nearest(k, share) for share, k in asked()}
        settings = Settings(indexes=args.work / "indexes", threads=1)
        with Catalogue(settings.indexes, Encoders({}, settings.converted, 1), settings) as catalogue:
            made = filled(catalogue, f"dense-{args.size}", vectors)
            for share, k in asked():
                ours(made, vectors, share, k, truths[share, k])
            ours(made, vectors, None, 10, truths[None, 10], exact=True)
        if args.peers:
            data = args.work / f"{args.size}.npz"
            named: dict[str, Any] = {f"truth_{share or 0}_{k}": truth for (share, k), truth in truths.items()}
            np.savez(data, docs=vectors.docs, queries=vectors.queries, part=vectors.part, **named)
            script = Path(__file__).parent / "peers" / "dense.py"
            subprocess.run([str(args.peers), str(script), str(data), *(args.only or [])], check=True)


def asked() -> list[tuple[int | None, int]]:
    """Thousandths of a filter, None without one, and how many hits."""
    return [(None, 10), (None, 100), *((share, 10) for share in SHARES)]


def filled(catalogue: Catalogue, name: str, vectors: Vectors) -> Collection:
    """The collection with all of them in it; one that is there already is taken as it is."""
    with suppress(NotFound):
        return catalogue.get(name)
    made = catalogue.create(name, model=None, kind="dense", dim=vectors.docs.shape[1], keep_vectors=False)
    source, began, wall = Given(vectors), time.process_time(), time.perf_counter()
    with Progress(name, "documents", source.total) as bar:
        fill(made, source, on_error="stop", bad_line=refuse, progress=lambda summary: bar.update(
            source.done, source.total, summary.phase))  # fmt: skip
    took, wall = time.process_time() - began, time.perf_counter() - wall
    kinds = [f"{view.part.size:,} {view.part.kinds}" for view in made.published.segments]
    print(f"built in {took:.1f} s of processor time, {wall:.1f} s, {made.nbytes / 1e6:,.0f} MB; {'; '.join(kinds)}")
    return made


def refuse(line: str, error: RequestError) -> None:
    raise SystemExit(f"{line}: {error.message}")


def ours(made: Collection, vectors: Vectors, share: int | None, k: int, truth: Any, *, exact: bool = False) -> None:
    condition = None if share is None else filters.parse({"part": {"lt": share}}, "")
    queries = [
        Query(vectors=one[None], k=k, filter=condition, exact=exact, include=frozenset()) for one in vectors.queries
    ]
    took, wall, found = list[float](), list[float](), list[float]()
    for query in queries[:WARM]:
        search(made, query)
    for query, wanted in zip(queries, truth, strict=True):
        began, at = time.process_time(), time.perf_counter()
        hits = [hit.id for hit in search(made, query).hits]
        took.append((time.process_time() - began) * 1e3)
        wall.append((time.perf_counter() - at) * 1e3)
        there = {str(one) for one in wanted.tolist() if one >= 0}
        found.append(len(there.intersection(hits)) / max(1, len(there)))
    said = "exact" if exact else "all" if share is None else f"{share / 10:g} %"
    print(json.dumps({"peer": "sheaf", "asked": said, "k": k, "recall": round(float(np.mean(found)), 4), "ms": round(
        float(np.median(took)), 3), "wall_ms": round(float(np.median(wall)), 3)}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
