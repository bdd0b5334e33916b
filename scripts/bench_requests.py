"""What a request costs a server beyond its search: each figure of "Requests" in BENCHMARKS.md by one command.

    python scripts/bench_requests.py small
    python scripts/bench_requests.py arrays FOLDER ... [--size 100000] [--work FOLDER] [--candidates 16]
    python scripts/bench_requests.py clients FOLDER ... [--size 100000] [--work FOLDER]
    python scripts/bench_requests.py writer FOLDER ... [--size 100000] [--work FOLDER]

FOLDER: of BEIR, whose sentences are the vectors (dense_data.py). A server process answers plain sockets of this one.

small: processor time of the server for a dense search on 10 documents, by base64 and by 768 numbers, beside a route of
FastAPI that does nothing, served likewise, and the engine's own search in process; by turns, medians of the rounds.
arrays: queries by arrays of 512, of two clients: a second, recall@10 against every number in float32, processor time.
clients: single searches by base64, of 8 clients.
writer: a searcher's times, alone and beside a client that writes 1,000 documents at a time.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from bench_dense import filled
from bench_serving import Connection, Server, ask_all, idle_s, packed, post, serving, spread
from dense_data import Vectors
from scale_data import unit

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.ingest import write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import F32, Document

WIDE: Final = 768
"""Numbers of a query in ``small``."""
ROUNDS: Final = 7
ASKED: Final = 300
"""Requests of a round."""
AT_ONCE: Final = 512
SECONDS: Final = 15.0

EMPTY: Final = """
import sys, uvicorn
from fastapi import FastAPI
from app.api.edge.connections import patient
from app.settings import Settings
app = FastAPI()

@app.post("/")
async def nothing() -> dict[str, int]:
    return {"hits": 0}

@app.get("/health/ready")
async def ready() -> dict[str, str]:
    return {}

config = uvicorn.Config(app, port=0, http=patient(Settings()), ws="none", log_config=None, access_log=False)
server = uvicorn.Server(config)
config.load()
server.lifespan = config.lifespan_class(config)

async def run() -> None:
    await server.startup()
    print("http://127.0.0.1:%d" % server.servers[0].sockets[0].getsockname()[1], flush=True)
    await server.main_loop()

import asyncio, uvloop
uvloop.run(run())
"""
"""A server of one route that does nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["small", "arrays", "clients", "writer"])
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="where vectors and collections are kept; by default nowhere")
    parser.add_argument("--candidates", type=int, help="of each query of ``arrays``")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        args.work = args.work or Path(temporary)
        args.work.mkdir(parents=True, exist_ok=True)
        if args.figure == "small":
            small(Path(temporary))
            return
        vectors = Vectors.of(args.folders, args.size, args.work / "sentences.npz")
        with catalogue(args.work / "indexes") as opened:
            filled(opened, f"dense-{args.size}", vectors)
        with serving(args.work / "indexes") as server:
            path = f"/v1/collections/dense-{args.size}/search"
            {"arrays": arrays, "clients": clients, "writer": writer}[args.figure](server, path, vectors, args)


def catalogue(folder: Path) -> Catalogue:
    settings = Settings(indexes=folder, threads=1)
    return Catalogue(folder, Encoders({}, settings.converted, 1), settings)


def small(folder: Path) -> None:
    random = np.random.default_rng(0)
    rows, queries = (unit(random.normal(size=(n, WIDE)).astype(np.float32)) for n in (10, ASKED))
    indexes = folder / "indexes"
    own: list[float] = []
    with catalogue(indexes) as opened:
        made = opened.create("small", model=None, kind="dense", dim=WIDE)
        write_documents(made, [Document(str(i), f"text {i}", metadata={"n": i}, vectors=row[None]) for i, row in
            enumerate(rows)])  # fmt: skip
        for _ in range(ROUNDS + 1):
            began = time.process_time()
            for query in queries:
                search(made, Query(vectors=query[None]))
            own.append((time.process_time() - began) / ASKED * 1e3)
    path = "/v1/collections/small/search"
    asked = {
        "base64": [post(path, {"vector": packed(one)}) for one in queries],
        "base64, no documents": [post(path, {"vector": packed(one), "include": []}) for one in queries],
        "768 numbers": [post(path, {"vector": one.tolist()}) for one in queries],
    }
    took: dict[str, list[float]] = {name: [] for name in ("an empty route of FastAPI", *asked)}
    with serving(indexes) as server, serving(folder, ("-c", EMPTY)) as other:
        for _ in range(ROUNDS + 1):
            took["an empty route of FastAPI"].append(cost(other, [post("/", {})] * ASKED))
            for name, requests in asked.items():
                took[name].append(cost(server, requests))
    print(f"{'search() in process':28} {np.median(own[1:]):6.3f} ms of the processor")
    for name, times in took.items():
        print(f"{name:28} {np.median(times[1:]):6.3f} ms of the processor ({min(times[1:]):.3f} at best)")
    both = float(np.median(took["an empty route of FastAPI"][1:]) + np.median(own[1:]))
    print(f"base64 / (empty route + search()): {np.median(took['base64'][1:]) / both:.2f}")


def cost(server: Server, requests: Sequence[bytes]) -> float:
    """Milliseconds of the server's processor time for each."""
    connection = Connection(server.port)
    used = server.used_s()
    for request in requests:
        connection.ask(request)
    used = server.used_s() - used
    connection.close()
    return used / len(requests) * 1e3


def arrays(server: Server, path: str, vectors: Vectors, args: argparse.Namespace) -> None:
    """Two clients, for one is idle while the server works."""
    queries = drawn(vectors, 8 * AT_ONCE)
    more = f"&candidates={args.candidates}" if args.candidates else ""
    requests = [of_array(f"{path}/vectors?k=10{more}", queries[i * AT_ONCE : (i + 1) * AT_ONCE]) for i in range(8)]
    every, right = [Connection(server.port).ask(one)[1] for one in requests], 0
    for start, content in zip(range(0, len(queries), AT_ONCE), every, strict=True):
        found = np.load(io.BytesIO(content))["id"]
        scores = queries[start : start + AT_ONCE] @ vectors.docs.T
        best = np.argpartition(-scores, 9, axis=1)[:, :10]
        right += sum(
            len(set(map(str, b)) & {one.decode() for one in f}) for b, f in zip(best.tolist(), found, strict=True)
        )
    used, began, done = server.used_s(), time.perf_counter(), [0, 0]

    def client(number: int) -> None:
        connection = Connection(server.port)
        while time.perf_counter() - began < SECONDS:
            connection.ask(requests[(done[number] + number) % len(requests)])
            done[number] += 1
        connection.close()

    together([lambda i=i: client(i) for i in range(2)])  # type: ignore[misc]
    seconds, asked = time.perf_counter() - began, sum(done) * AT_ONCE
    print(f"arrays of {AT_ONCE}: {asked / seconds:,.0f} queries a second, recall@10 {right / len(queries) / 10:.4f}")
    print(f"{(server.used_s() - used) / asked * 1e3:.3f} ms of the server's processor time each")
    one = [post(path, {"vector": packed(query), "include": []}) for query in queries[:200]]
    print(f"one by one: {cost(server, one):.3f} ms of the server's processor time each")


def clients(server: Server, path: str, vectors: Vectors, args: argparse.Namespace) -> None:
    requests = [post(path, {"vector": packed(query)}) for query in drawn(vectors, 400)]
    cost(server, requests)
    for count in (1, 8):
        used, idle, began = server.used_s(), idle_s(), time.perf_counter()
        times, seconds = ask_all(server.port, requests, count, 2_000)
        print(
            f"{count} clients: {len(times) / seconds:,.0f} searches a second, median and 95th percentile "
            f"{spread([total for total, _ in times])} ms, {(server.used_s() - used) / len(times) * 1e3:.3f} ms of the "
            f"server's processor time each, {(idle_s() - idle) / (time.perf_counter() - began):.2f} cores idle"
        )


WRITER: Final = """
import itertools, sys
import numpy as np
from bench_requests import AT_A_TIME
from bench_serving import Connection, packed, post
port, path, kept = sys.argv[1:]
rows, connection = np.load(kept), Connection(int(port))

def request(n):
    some = rows[np.arange(n, n + AT_A_TIME) % len(rows)]
    return post(path, {"documents": [{"id": f"w{n + i}", "vector": packed(row)} for i, row in enumerate(some)]})

ready = [request(n * AT_A_TIME) for n in range(10)]
for n in itertools.count():
    connection.ask(ready[n] if n < len(ready) else request(n * AT_A_TIME))
    print((n + 1) * AT_A_TIME, flush=True)
"""
"""A client that writes until it is ended, in a process of its own: making a body takes as long as a search."""
AT_A_TIME: Final = 1_000


def writer(server: Server, path: str, vectors: Vectors, args: argparse.Namespace) -> None:
    """What was written is deleted at the end."""
    requests = [post(path, {"vector": packed(query)}) for query in drawn(vectors, 400)]
    cost(server, requests)
    documents = path.removesuffix("/search") + "/documents"
    quiet = searched(server, requests)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "rows.npy"
        np.save(kept, vectors.docs[:50_000])
        command = [sys.executable, "-c", WRITER, str(server.port), documents, str(kept)]
        # Its first line says that it writes.
        process = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        beside = searched(server, requests)
        process.terminate()
        lines = process.stdout.read().split()
        process.wait(60)
    # One more may have come before it was ended.
    written = int(lines[-1]) + AT_A_TIME if lines else 2 * AT_A_TIME
    for name, times in (("alone", quiet), ("beside the writer", beside)):
        print(f"{name:18} {np.median(times):7.2f} ms at the median, {np.percentile(times, 99):7.2f} for 1 in 100")
    ratio = np.percentile(beside, 99) / np.percentile(quiet, 99)
    print(f"p99 {ratio:.2f} times the quiet one; {written:,} documents written")
    with httpx.Client(base_url=server.url, timeout=600, trust_env=False) as client:
        for start in range(0, written, 10_000):
            ids = [f"w{i}" for i in range(start, min(start + 10_000, written))]
            client.post(path.removesuffix("/search") + "/delete", json={"ids": ids}).raise_for_status()


def searched(server: Server, requests: Sequence[bytes]) -> list[float]:
    """The times of searches, one after the other, for some seconds."""
    connection, took, began = Connection(server.port), list[float](), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        took.append(connection.ask(requests[len(took) % len(requests)])[0])
    connection.close()
    return took


def together(work: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def drawn(vectors: Vectors, count: int) -> F32:
    """Questions, and others drawn around them as the documents are: moved by a part of the difference of two."""
    random = np.random.default_rng(7)
    asked = vectors.queries
    near = asked[random.integers(len(asked), size=count)]
    one, other = (vectors.docs[random.integers(len(vectors.docs), size=count)] for _ in range(2))
    return np.concatenate([asked[:count], unit(near + np.float32(0.3) * (one - other))])[:count].astype(np.float32)


def of_array(path: str, queries: F32) -> bytes:
    """A request as bytes."""
    file = io.BytesIO()
    np.save(file, queries)
    content = file.getvalue()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-npy\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


if __name__ == "__main__":
    main()
