"""What a home in an object store costs: a write, a reader's first answer from an empty folder, a reader's lag.

    python scripts/bench_cluster.py                        10,000 passages, a folder as the store
    python scripts/bench_cluster.py --passages 100000      more of them
    python scripts/bench_cluster.py --cache-bytes 2000000  readers with a bound for what they have of vectors
    python scripts/bench_cluster.py --store s3://bucket/x  a real one (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...)
    python scripts/bench_cluster.py --shards 4             what it costs to ask shards of this machine, on Ray

Each is measured with no time added and with 63 ms added to each request (--delay-ms), which is what a store in the next
region takes. Collections are of callers' vectors, 128 numbers each, one a document.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from app.catalogue import stored
from app.catalogue.catalogue import Catalogue
from app.collection.reading import Holders
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.main import HANDLERS
from app.objects.opening import open_objects
from app.objects.persistent import Persistent
from app.search import Query, search
from app.settings import Settings
from app.types import Document

DIM = 128
BATCH = 2_000
WRITES = 40
TOKENS = 16
"""Vectors of a document, where shards are asked."""
SHARES = [0.3, 0.25, 0.2, 0.1, 0.08, 0.07]
"""Of the passages, in each segment there."""
SEARCHES = 60


class Slow:
    """A store's requests, each of which takes so much longer; and how many there were."""

    def __init__(self, requests: Any, delay_s: float) -> None:
        self._requests, self._delay_s = requests, delay_s
        self.count, self.commits, self._lock = 0, 0, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._requests, name)
        if name in ("get", "read", "put_new", "replace", "put", "list", "remove"):
            return lambda *given: self._later(name, found, *given)
        return found

    def _later(self, name: str, call: Callable[..., Any], *given: Any) -> Any:
        with self._lock:
            self.count += 1
            self.commits += name == "put_new"
        time.sleep(self._delay_s)
        return call(*given)


class Stores:
    """Opens stores whose requests are delayed and counted."""

    def __init__(self) -> None:
        self.delay_s, self.opened = 0.0, list[Slow]()

    def open(self, url: str) -> Any:
        found: Any = open_objects(url)
        assert isinstance(found, Persistent)
        slow = Slow(found._requests, self.delay_s)
        found._requests = slow
        self.opened.append(slow)
        return found

    @property
    def count(self) -> int:
        return sum(slow.count for slow in self.opened)

    @property
    def commits(self) -> int:
        return sum(slow.commits for slow in self.opened)


def opened(
    folder: Path,
    store: str | None,
    role: str = "writer",
    holders: Holders | None = None,
    **how: int | None,
) -> Catalogue:
    settings = Settings(indexes=folder, store=store, role=role, models={}, **how)  # type: ignore[arg-type]
    catalogue = Catalogue(folder, Encoders({}), settings, HANDLERS, holders)
    catalogue.serve("http://bench")
    return catalogue


def documents(first: int, count: int) -> list[Document]:
    values = np.random.default_rng(first).normal(size=(count, 1, DIM)).astype(np.float32)
    return [Document(f"d{first + i}", f"document {first + i}", vectors=one) for i, one in enumerate(values)]


def median_ms(times: list[float]) -> float:
    return round(1e3 * statistics.median(times), 1)


def timed_writes(catalogue: Catalogue, name: str, first: int) -> list[float]:
    """Writes of one document each."""
    times, collection = [], catalogue.get(name)
    for i in range(WRITES):
        one = documents(first + i, 1)
        started = time.perf_counter()
        write_documents(collection, one)
        times.append(time.perf_counter() - started)
    return times


def together(catalogue: Catalogue, stores: Stores, first: int, writers: int) -> tuple[float, float]:
    """So many, each of which sends a document when its last was answered: (documents a second, commits for each)."""
    collection = catalogue.get("c")
    before, started = stores.commits, time.perf_counter()

    def write(writer: int) -> None:
        for i in range(WRITES // 4):
            write_documents(collection, documents(first + writer * WRITES + i, 1))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = writers * (WRITES // 4)
    return count / (time.perf_counter() - started), (stores.commits - before) / count


def first_answer(folder: Path, store: str, query: Query, cache_bytes: int | None) -> tuple[Catalogue, float]:
    started = time.perf_counter()
    catalogue = opened(folder, store, "reader", cache_bytes=cache_bytes)
    assert search(catalogue.get("c"), query).hits
    return catalogue, time.perf_counter() - started


def lags(writer: Catalogue, reader: Catalogue, first: int) -> list[float]:
    """From a write's answer to the reader's having it."""
    times = []
    for i in range(WRITES // 4):
        write_documents(writer.get("c"), documents(first + i, 1))
        started, wanted = time.perf_counter(), writer.get("c").published.live
        while reader.get("c").count() < wanted:
            time.sleep(0.002)
        times.append(time.perf_counter() - started)
    return times


def routed(root: Path, passages: int, shards: int) -> None:
    """Searches of one machine and by shards, in turn: what the second take beyond the work of the slowest shards."""
    from app.shards.router import open_router

    # Else Ray takes another address of this machine than loopback's.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    store, random = f"file://{root}/store", np.random.default_rng(0)
    with ExitStack() as stack:
        # Segments of sizes that are left as they are.
        size = max(1, passages // 40)
        writer = stack.enter_context(opened(root / "writer", store, seal_documents=size, learn_documents=0))
        collection = writer.create("c", model=None, kind="multi_vector", dim=DIM)
        for share in SHARES:
            first = collection.published.live
            vectors = random.normal(size=(int(share * passages), TOKENS, DIM)).astype(np.float32)
            write_documents(collection, [Document(f"d{first + i}", "", vectors=one) for i, one in enumerate(vectors)])
            seal(collection)
        router = open_router("local", store, str(root / "held"), shards, 1, 10.0)
        stack.callback(router.close)
        reader = stack.enter_context(opened(root / "router", store, "reader", router))
        while reader.get("c").published.generation != collection.published.generation:
            time.sleep(0.1)
        worked: list[float] = []
        router.on_round = worked.append
        print(f"{passages:,} passages, {len(collection.published.segments)} segments, {shards} shards", flush=True)
        for exact in (False, True):
            one, by, slowest, rounds = list[float](), list[float](), list[float](), list[int]()
            for _ in range(SEARCHES):
                query = Query(vectors=random.normal(size=(8, DIM)).astype(np.float32), k=10, exact=exact)
                for times, own in ((one, collection), (by, reader.get("c"))):
                    worked.clear()
                    started = time.perf_counter()
                    hits = search(own, query).hits
                    times.append(time.perf_counter() - started)
                    assert len(hits) == 10
                slowest.append(sum(worked))
                rounds.append(len(worked))
            beyond = [took - work for took, work in zip(by, slowest, strict=True)]
            print(
                f"{'exact' if exact else 'approximate'}: one machine {median_ms(one)} ms, by shards {median_ms(by)}, "
                f"the slowest of each of {statistics.median(rounds):g} rounds {median_ms(slowest)}: "
                f"{median_ms(beyond)} ms beyond",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--delay-ms", type=float, default=63.0)
    parser.add_argument("--cache-bytes", type=int, help="SHEAF_CACHE_BYTES of readers; without it they have everything")
    parser.add_argument("--store", help="instead of a temporary folder; what is there stays")
    parser.add_argument("--shards", type=int, default=0, help="measure searches by so many processes instead")
    args = parser.parse_args()
    if args.shards:
        with tempfile.TemporaryDirectory() as place:
            routed(Path(place), args.passages, args.shards)
        return 0
    stores = Stores()
    setattr(stored, "open_objects", stores.open)  # noqa: B010
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        root = Path(place)
        store = args.store or f"file://{root}/store"
        local = stack.enter_context(opened(root / "local", None))
        local.create("c", model=None, kind="dense", dim=DIM)
        print(f"write of one document, local disk alone: {median_ms(timed_writes(local, 'c', 0))} ms", flush=True)

        writer = stack.enter_context(opened(root / "writer", store))
        writer.create("c", model=None, kind="dense", dim=DIM)
        before = stores.count
        print(f"write of one document, store: {median_ms(timed_writes(writer, 'c', 0))} ms, ", end="")
        print(f"{(stores.count - before) / WRITES:.1f} requests", flush=True)
        started = time.perf_counter()
        for start in range(WRITES, args.passages, BATCH):
            write_documents(writer.get("c"), documents(start, min(BATCH, args.passages - start)))
        print(f"{args.passages:,} passages written in {time.perf_counter() - started:.1f} s", flush=True)
        collection = writer.get("c")
        while len(collection.published.tail.part.seqs) >= 4_096:
            time.sleep(0.1)
        query = Query(vectors=documents(0, 1)[0].vectors, k=10)
        for delay in (0.0, args.delay_ms / 1e3):
            stores.delay_s, before = delay, stores.count
            folder = root / f"reader-{delay}"
            reader, took = first_answer(folder, store, query, args.cache_bytes)
            with reader:
                size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
                print(
                    f"reader's first answer from nothing, {1e3 * delay:.0f} ms a request: {took:.2f} s, "
                    f"{stores.count - before} requests, {size / 1e6:.1f} MB",
                    flush=True,
                )
                again = lags(writer, reader, 10**7 + int(delay * 1e6))
                print(f"a reader's lag behind an acknowledged write: median {median_ms(again)} ms, ", end="")
                print(f"longest {1e3 * max(again):.0f} ms", flush=True)
        with opened(root / "slow", store) as slow:
            print(
                f"write of one document, store, {args.delay_ms:g} ms a request: "
                f"{median_ms(timed_writes(slow, 'c', 2 * 10**7))} ms"
            )
            for writers in (1, 4, 16):
                rate, puts = together(slow, stores, (3 + writers) * 10**7, writers)
                print(f"{writers} writers of one document at a time: {rate:.1f} a second, {puts:.2f} puts each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
