"""The time that HTTP adds to a search, how many searches a second a server answers, and whether its memory stays flat.

    python scripts/bench_serving.py scifact/ [--documents 1000] [--searches 200] [--clients 1 2 4 8] [--soak 5000]

Starts ``python -m app`` on a free port of 127.0.0.1 over a folder of its own, and loads two collections: `text`, the
first documents of a BEIR folder by the built-in encoder, and `vectors`, as many documents of 384-d vectors drawn
around common directions. Requests are made before the clock starts and sent over kept connections by plain sockets,
so that the client costs next to nothing. Printed for each kind of request: the engine's own ``took_ms``, the client's
time from the first byte sent to the last received, and the difference of the two, one client at a time; then
searches a second and latency for several clients at once, with the processor time that a search costs the server and
how many cores of the machine had nothing to do; then the server's resident memory.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from app.sources.beir import Beir, beir_queries
from app.types import F32, Document

DIM: Final = 384
TOKENS: Final = 120
"""Vectors of a document in the collection of callers' vectors."""
QUERY_TOKENS: Final = 32
WRITE: Final = 50
"""Documents in one write."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="BEIR_FOLDER")
    parser.add_argument("--documents", type=int, default=1_000, help="in each collection (default: 1000)")
    parser.add_argument("--searches", type=int, default=200, help="of each kind and number of clients (default: 200)")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--kinds", nargs="*", help="of requests; default: all")
    parser.add_argument("--indexes", type=Path, help="a folder that keeps the collections for the next run")
    parser.add_argument("--soak", type=int, default=0, help="more searches by 8 clients, memory shown ten times")
    return parser


class Server:
    """A server process with collections in a temporary folder."""

    def __init__(self, folder: Path, command: Sequence[str] = ("-m", "app")) -> None:
        """command: of Python, whose first line ends with the URL."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
        environment |= {"SHEAF_PORT": "0", "SHEAF_INDEXES": str(folder), "SHEAF_LOG_LEVEL": "warning"}
        began = time.perf_counter()
        self._process = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        self.started_s = time.perf_counter() - began
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def resident_mib(self) -> tuple[float, float]:
        """All, and the part that is no file: what a leak would grow."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if "kB" in line}
        return int(found["VmRSS"]) / 1024, int(found["RssAnon"]) / 1024

    def used_s(self) -> float:
        """Seconds of processor time since its start."""
        found = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(found[11]) + int(found[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@contextmanager
def serving(folder: Path, command: Sequence[str] = ("-m", "app")) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(folder, command)
    try:
        yield server
    finally:
        server.stop()


class Connection:
    """One kept connection that sends ready bytes and reads one answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[float, bytes]:
        """(milliseconds, the body of the answer). Raises RuntimeError where the status is not 200."""
        began = time.perf_counter()
        self._socket.sendall(request)
        content = bytearray()
        while (end := content.find(b"\r\n\r\n")) < 0:
            content += self._more()
        head = content[:end].lower()
        start = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[start : head.find(b"\r\n", start) if b"\r\n" in head[start:] else len(head)])
        while len(content) < end + 4 + length:
            content += self._more()
        took = (time.perf_counter() - began) * 1e3
        if b" 200 " not in head[:20]:
            raise RuntimeError(bytes(content).decode())
        return took, bytes(content[end + 4 :])

    def _more(self) -> bytes:
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise RuntimeError("the server closed the connection")
        return piece

    def close(self) -> None:
        self._socket.close()


def post(path: str, body: Any) -> bytes:
    """A request as bytes."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def drawn(count: int, tokens: int, seed: int) -> Iterator[F32]:
    """Unit vectors (tokens, DIM) around a few of 256 common directions, one matrix a document."""
    common = np.random.default_rng(0).standard_normal((256, DIM)).astype(np.float32)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        near = common[rng.integers(0, 256, 8)[rng.integers(0, 8, tokens)]]
        vectors = near + rng.standard_normal((tokens, DIM)).astype(np.float32) * 0.7
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def packed(vectors: F32) -> dict[str, Any]:
    """As base64."""
    return {"base64": base64.b64encode(vectors.tobytes()).decode(), "dtype": "float32", "shape": list(vectors.shape)}


def load(server: Server, documents: Sequence[Document]) -> None:
    """Makes both collections and waits until what is due is sealed."""
    with httpx.Client(base_url=server.url, timeout=600, trust_env=False) as client:

        def write(name: str, some: list[dict[str, Any]]) -> None:
            client.post(f"/v1/collections/{name}/documents", json={"documents": some}).raise_for_status()

        client.post("/v1/collections", json={"name": "text"}).raise_for_status()
        encoder = {"model": None, "kind": "multi_vector", "dim": DIM}
        client.post("/v1/collections", json={"name": "vectors", "encoder": encoder}).raise_for_status()
        texts = [{"id": one.id, "title": one.title, "text": one.text, "metadata": one.metadata} for one in documents]
        vectors = drawn(len(documents), TOKENS, 1)
        for start in range(0, len(texts), WRITE):
            some = texts[start : start + WRITE]
            write("text", some)
            own = zip(some, islice(vectors, len(some)), strict=True)
            write("vectors", [{**one, "vectors": packed(matrix)} for one, matrix in own])
        for name in ("text", "vectors"):
            task = client.post(f"/v1/collections/{name}/rebuild").raise_for_status().headers["location"]
            while client.get(task).json()["finished"] is None:
                time.sleep(0.2)


def requests(folder: Path, count: int) -> dict[str, list[bytes]]:
    """Ready requests by kind."""
    texts = list(beir_queries(folder).values())[:count]
    vectors = list(drawn(count, QUERY_TOKENS, 2))
    own, text = "/v1/collections/vectors/search", "/v1/collections/text/search"
    return {
        "text": [post(text, {"query": one}) for one in texts],
        "base64": [post(own, {"vectors": packed(one)}) for one in vectors],
        "numbers": [post(own, {"vectors": one.tolist()}) for one in vectors],
        "no documents": [post(own, {"vectors": packed(one), "include": []}) for one in vectors],
    }


def ask_all(port: int, asked: Sequence[bytes], clients: int, count: int) -> tuple[list[tuple[float, float]], float]:
    """(client's milliseconds, engine's milliseconds) of ``count`` searches by several clients, and the seconds."""
    found: list[tuple[float, float]] = []
    numbers, lock = iter(range(count)), threading.Lock()

    def client() -> None:
        connection = Connection(port)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            took, content = connection.ask(asked[number % len(asked)])
            found.append((took, json.loads(content)["took_ms"]))
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != count:
        raise SystemExit(f"{count - len(found)} searches were not answered")
    return found, time.perf_counter() - began


def idle_s() -> float:
    """Seconds that processors of this machine had nothing to do, since its start."""
    found = Path("/proc/stat").read_text().split(maxsplit=6)
    return (int(found[4]) + int(found[5])) / os.sysconf("SC_CLK_TCK")


def spread(values: Sequence[float]) -> str:
    """Median and 95th percentile."""
    return f"{np.median(values):7.2f} {np.percentile(values, 95):7.2f}"


def run(args: argparse.Namespace, server: Server) -> None:
    """Measures and prints."""
    kinds = {k: v for k, v in requests(args.folder, args.searches).items() if not args.kinds or k in args.kinds}
    print(f"{args.documents} documents in each collection; milliseconds, median and 95th percentile")
    for asked in kinds.values():
        ask_all(server.port, asked, 1, min(30, len(asked)))
    print(f"resident MiB when warm: {server.resident_mib()[0]:.0f}")
    print(f"{'one client':14} {'engine':>15} {'client':>15} {'difference':>15}")
    for kind, asked in kinds.items():
        times, _ = ask_all(server.port, asked, 1, args.searches)
        columns = [[own for _, own in times], [total for total, _ in times], [total - own for total, own in times]]
        print(f"{kind:14} {' '.join(spread(column) for column in columns)}", flush=True)
    print(f"{'clients':14} {'searches/s':>10} {'client':>15} {'server cpu':>10} {'idle cores':>10}")
    for kind, asked in kinds.items():
        for clients in args.clients:
            used, idle = server.used_s(), idle_s()
            times, seconds = ask_all(server.port, asked, clients, args.searches)
            rate = f"{len(times) / seconds:10.1f}"
            cost = f"{(server.used_s() - used) / len(times) * 1e3:10.2f} {(idle_s() - idle) / seconds:10.2f}"
            print(f"{kind:11} {clients:2} {rate} {spread([total for total, _ in times])} {cost}", flush=True)
    every = [request for asked in kinds.values() for request in asked]
    for number in range(10 if args.soak else 0):
        ask_all(server.port, every, 8, args.soak // 10)
        total, own = server.resident_mib()
        print(f"after {args.soak // 10 * (number + 1):7,} searches: {total:.0f} MiB, {own:.0f} of them no file")
    print(f"resident MiB at the end: {server.resident_mib()[0]:.0f}")


def main() -> None:
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.indexes or Path(temporary)
        if not (folder / "vectors").exists():
            found = (entry.found for entry in Beir(args.folder).entries())
            with serving(folder) as server:
                load(server, list(islice((one for one in found if isinstance(one, Document)), args.documents)))
        # Another process: converting the model has loaded torch into that one.
        with serving(folder) as server:
            print(f"ready after {server.started_s:.2f} s, resident MiB: {server.resident_mib()[0]:.0f}")
            run(args, server)


if __name__ == "__main__":
    main()
