"""Cost against size: collections of made passages are built and asked, and what that takes is drawn.

    python scripts/scale.py --folder FOLDER [--sizes 10000 100000 1000000] [--width 400 800 1600 3200]
        [--model builtin] [--texts 2000] [--dim 128] [--queries 100] [--stage ridge] [--precision 4bit]
        [--picture scale.svg] [--step truth|build|ask]

For each size: `truth` scores every passage exactly in float32 and keeps the top 10 of each query, alone and under
filters that keep .1, 1, 10 and 50 %; `build` writes the passages through the collection (bulk write, seal, merge);
`ask` searches, with each width, without and with the filters. Every step is a process of its own, so that its memory
is its own, and leaves a JSON file in the folder: what is there already is not done again. Peak memory is the largest
that was seen ten times a second, anonymous and shared (mapped files) by themselves; that of `build` includes the
passages being made, its time does not. Latencies are of searches one after the other, the query's vectors given.

--stage ridge: the segments' first stage is a ridge encoding, fitted on the first passages (its time is part of the
build), with pooled vectors; `default` leaves the collection as it makes itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import scale_data
from scale_data import CHUNK, QUERY_TOKENS, SHARES, TOKENS, Pool
from scale_picture import draw

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, StageChoice
from app.collection.part import tokens
from app.compute.blas import keep_to_one_thread
from app.encoders.registry import Encoders
from app.encodings.features import windows
from app.encodings.ridge import Ridge, RidgeParameters
from app.errors import RequestError
from app.filters import Condition
from app.indexing.restaging import restage
from app.load.bulk import fill
from app.query.preparing import encode_queries
from app.search import Query, search_encoded
from app.settings import Settings
from app.sources.protocol import Entry
from app.types import F32, I64, TokenVectors

KEPT: Final = (SHARES, 1, 10, 100, 500)
"""Thousandths of the passages that a filter keeps; all of them first."""
TOP: Final = 10
FITTED: Final = 4 * CHUNK
"""Passages that a learned encoding is fitted on: the first ones."""
RIDGE: Final = RidgeParameters(rank=256, samples=4_096, landmarks=1_024, probes=4_096)
WARM: Final = 20
"""Searches that are not counted."""
STEPS: Final = ("truth", "build", "ask")


def main() -> None:
    args = parser().parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.step:
        pool = Pool.load(args.folder / "pool.npz", args.texts, args.dim, args.model)
        size = args.sizes[0]
        done = {"truth": truth, "build": build, "ask": ask}[args.step](args, pool, size)
        result_of(args, size, args.step).write_text(json.dumps(done, indent=1))
        return
    for size in args.sizes:
        for step in STEPS:
            if not result_of(args, size, step).is_file():
                print(f"{size:,} passages: {step}", flush=True)
                command = [sys.executable, __file__, *sys.argv[1:], "--sizes", str(size), "--step", step]
                if subprocess.run(command, check=False).returncode:
                    raise SystemExit(f"{step} of {size:,} passages failed")
    results = [
        {"size": size} | {step: json.loads(result_of(args, size, step).read_text()) for step in STEPS}
        for size in args.sizes
    ]
    report(results, args.target)
    if args.picture:
        args.picture.write_text(draw(results, args.target))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--folder", type=Path, required=True, help="for the collections and the results")
    made.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    made.add_argument("--width", type=int, nargs="+", default=[200, 400, 800, 1_600, 3_200], help="passages rescored")
    made.add_argument("--model", default="builtin", help="the encoder of the real texts")
    made.add_argument("--texts", type=int, default=2_000, help="real texts, at most")
    made.add_argument("--dim", type=int, default=128)
    made.add_argument("--queries", type=int, default=100)
    made.add_argument("--stage", choices=("ridge", "default"), default="ridge")
    made.add_argument("--precision", default=None, help="of the stored token vectors")
    made.add_argument("--target", type=float, default=0.95, help="recall@10 that the narrowest width must reach")
    made.add_argument("--picture", type=Path, help="an SVG file to write")
    made.add_argument("--step", choices=STEPS, help="one step of the first size, in this process")
    return made


def result_of(args: argparse.Namespace, size: int, step: str) -> Path:
    name: Path = args.folder / f"{size}.{step}.json"
    return name


def truth(args: argparse.Namespace, pool: Pool, size: int) -> dict[str, Any]:
    """The exact top 10 of every query under every filter: (filters, queries, 10) passages, best first."""
    keep_to_one_thread()
    queries = scale_data.queries(pool, size, args.queries)
    columns = np.ascontiguousarray(queries.reshape(-1, pool.tokens.dim).T)

    def best(number: int) -> tuple[F32, I64]:
        chunk = scale_data.chunk(pool, number, size)
        scores = np.empty((args.queries, len(chunk.vectors)), np.float32)
        for start in range(0, len(chunk.vectors), 256):
            part = chunk.vectors[start : start + 256]
            similar = (part.reshape(-1, pool.tokens.dim) @ columns).reshape(len(part), TOKENS, args.queries, -1)
            scores[:, start : start + len(part)] = similar.max(axis=1).sum(axis=2).T
        found = [_top(np.where(chunk.part < kept, scores, -np.inf), TOP) for kept in KEPT]
        rows = np.stack([rows for _, rows in found])
        return np.stack([values for values, _ in found]), rows + chunk.start

    top = np.full((len(KEPT), args.queries, TOP), -np.inf, np.float32)
    rows = np.full(top.shape, -1, np.int64)
    numbers = range(-(-size // CHUNK))
    with ThreadPoolExecutor(2) as threads:
        # By turns, so that no more chunks wait than threads make.
        for first in range(0, len(numbers), 2):
            for values, places in threads.map(best, numbers[first : first + 2]):
                joined, every = np.concatenate([top, values], axis=2), np.concatenate([rows, places], axis=2)
                order = np.argsort(-joined, axis=2, kind="stable")[:, :, :TOP]
                top, rows = np.take_along_axis(joined, order, 2), np.take_along_axis(every, order, 2)
    rows[np.isneginf(top)] = -1
    return {"kept": list(KEPT), "top": rows.tolist()}


def _top(scores: F32, k: int) -> tuple[F32, I64]:
    """The k best of each row, in no order; fewer than k of -inf where there are not as many."""
    k = min(k, scores.shape[1])
    places = np.argpartition(-scores, k - 1, axis=1)[:, :k].astype(np.int64)
    return np.take_along_axis(scores, places, 1), places


class Made:
    """Made passages as a source of documents. making_s: the time that it took to make them."""

    name: str = "made"
    unit: Literal["bytes", "documents"] = "documents"
    skipped = 0

    def __init__(self, pool: Pool, size: int, first: int, last: int) -> None:
        """Passages of the chunks ``first`` to ``last`` of a collection of ``size``."""
        self.total: int | None = None
        self.done, self.making_s = 0, 0.0
        self._pool, self._size, self._chunks = pool, size, range(first, last)

    def entries(self) -> Iterator[Entry]:
        for number in self._chunks:
            start = time.perf_counter()
            chunk = scale_data.chunk(self._pool, number, self._size)
            self.making_s += time.perf_counter() - start
            for document in chunk.documents():
                self.done += 1
                yield Entry(self.done, document)


class Peak:
    """The most memory that this process was seen to hold, in bytes: anonymous, and shared with files."""

    def __enter__(self) -> Peak:
        self.anonymous, self.shared = 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            held = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":", 1) for line in lines)
                    if name in ("RssAnon", "RssFile", "RssShmem")}  # fmt: skip
            self.anonymous = max(self.anonymous, held["RssAnon"])
            self.shared = max(self.shared, held["RssFile"] + held["RssShmem"])
            if self._stop.wait(0.1):
                return

    def to_json(self) -> dict[str, int]:
        return {"anonymous": self.anonymous, "shared": self.shared}


def opened(args: argparse.Namespace) -> Catalogue:
    # With a stage of its own a collection is not to fit another.
    settings = Settings(indexes=args.folder / "indexes")
    if args.stage == "ridge":
        settings = settings.model_copy(update={"learn_documents": 0})
    settings.indexes.mkdir(exist_ok=True)
    return Catalogue(settings.indexes, Encoders({}), settings)


def build(args: argparse.Namespace, pool: Pool, size: int) -> dict[str, Any]:
    """The collection, by bulk writes. A collection that is there is gone on with."""
    chunks = -(-size // CHUNK)
    name = f"made-{size}"
    with opened(args) as catalogue, Peak() as peak:
        start, making = time.perf_counter(), 0.0
        steps: dict[str, float] = {}
        if name in [path.name for path in catalogue.folder.iterdir()]:
            collection = catalogue.get(name)
        else:
            stage = FirstStage(("pooled",), None, args.width[0]) if args.stage == "ridge" else None
            collection = catalogue.create(
                name,
                model=None,
                kind="multi_vector",
                dim=pool.tokens.dim,
                keep_vectors=False,
                precision=args.precision,
                stage=stage,
            )
        # The part after the fit is empty where all is fitted on.
        cuts = sorted({0, min(FITTED // CHUNK, chunks), chunks})
        for first, last in pairwise(cuts):
            source = Made(pool, size, first, last)
            began = time.perf_counter()
            fill(collection, source, on_error="stop", bad_line=refuse, progress=lambda summary: None)
            making += source.making_s
            steps["write_s"] = steps.get("write_s", 0.0) + time.perf_counter() - began - source.making_s
            if first == 0 and args.stage == "ridge":
                began = time.perf_counter()
                learn(collection, args.width[0])
                steps["learn_s"] = time.perf_counter() - began
        seconds = time.perf_counter() - start - making
        files: dict[str, int] = {}
        for path in (args.folder / "indexes" / name).rglob("*"):
            if path.is_file():
                files[path.name] = files.get(path.name, 0) + path.stat().st_size
        return {
            "seconds": seconds, "steps": steps, "making_s": making, "bytes": collection.nbytes, "files": files,
            "segments": [view.part.size for view in collection.published.segments], "memory": peak.to_json(),
        }  # fmt: skip


def learn(collection: Collection, width: int) -> None:
    """Fits a ridge encoding on what is there, for all segments to come."""
    decoded_parts = [tokens(view.part, 0, view.part.size) for view in collection.published.segments]
    sample = TokenVectors.join([matrix.astype(np.float32) for part in decoded_parts for matrix in part])
    ridge = Ridge.fit(sample, windows(sample, RIDGE.probes, width=QUERY_TOKENS), RIDGE)
    restage(collection, StageChoice(FirstStage(("fde", "pooled"), ridge, width), "learned for a measurement"))


def refuse(place: str, error: RequestError) -> None:
    raise SystemExit(f"{place}: {error.message}")


def ask(args: argparse.Namespace, pool: Pool, size: int) -> dict[str, Any]:
    """Recall and latency for every width and filter, and the memory of a process that only searches."""
    known = json.loads(result_of(args, size, "truth").read_text())
    asked = scale_data.queries(pool, size, args.queries)
    rows = []
    with opened(args) as catalogue, Peak() as peak:
        start = time.perf_counter()
        collection = catalogue.get(f"made-{size}")
        ready_s = time.perf_counter() - start
        ready = encode_queries(collection, [Query(vectors=vectors, k=TOP, include=frozenset()) for vectors in asked])
        for width in args.width:
            for kept, top in zip(known["kept"], known["top"], strict=True):
                condition = None if kept == SHARES else Condition("part", "lt", kept)
                times, shares, candidates = [], [], []
                for number in (*range(-min(WARM, len(ready)), 0), *range(len(ready))):
                    query = Query(k=TOP, filter=condition, candidates=width, include=frozenset())
                    result = search_encoded(collection, query, ready[number])
                    if number >= 0:
                        wanted = {f"{row:08}" for row in top[number] if row >= 0}
                        found = {hit.id for hit in result.hits}
                        shares.append(len(wanted & found) / len(wanted) if wanted else 1.0)
                        times.append(result.took_ms)
                        candidates.append(result.stages["candidates_ms"])
                rows.append({
                    "width": width, "kept": kept / SHARES, "recall": float(np.mean(shares)),
                    "median_ms": float(np.median(times)), "p95_ms": float(np.percentile(times, 95)),
                    "candidates_ms": float(np.median(candidates)),
                })  # fmt: skip
        return {"open_s": ready_s, "rows": rows, "memory": peak.to_json()}


def report(results: list[dict[str, Any]], target: float) -> None:
    """A table of each size at the narrowest width that reaches the target without a filter."""
    print(
        "    size  build s  GB disk  GB anonymous, shared: build    search   width  kept  recall@10  median ms  p95 ms"
    )
    for result in results:
        built, asked = result["build"], result["ask"]
        chosen = width_of(asked, target)
        memory = " ".join(f"{m['anonymous'] / 1e9:6.2f} {m['shared'] / 1e9:5.2f}  " for m in
                          (built["memory"], asked["memory"]))  # fmt: skip
        left = f"{result['size']:8} {built['seconds']:8.1f} {built['bytes'] / 1e9:8.2f}          {memory}"
        for row in asked["rows"]:
            if row["width"] == chosen:
                print(
                    f"{left:70} {chosen:6} {row['kept']:5g} {row['recall']:10.3f} {row['median_ms']:10.2f}"
                    f" {row['p95_ms']:7.2f}"
                )
                left = ""


def width_of(asked: dict[str, Any], target: float) -> int:
    """The narrowest width whose recall without a filter reaches the target; the widest where none does."""
    plain = [row for row in asked["rows"] if row["kept"] == 1]
    return int(next((row["width"] for row in plain if row["recall"] >= target), plain[-1]["width"]))


if __name__ == "__main__":
    main()
