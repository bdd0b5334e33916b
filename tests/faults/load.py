"""8 writers, 32 readers, deletes and a rebuild at once: no error, no answer of two generations, memory flat, readers
not much slower than alone.

Readers ask with vectors at a stated rate, so that what is measured is the service and not how fast it can be asked.
Each document's metadata and vector name the same version; an answer whose vector is of another version than its
metadata would be a mixture.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from report import Report
from servers import Server, follow, serving

DIM, DOCUMENTS = 32, 4_000
WRITERS, READERS = 8, 32
RATE = 40.0
"""Searches a second, by all readers together."""
WRITES = 8.0
"""Writes a second, by all writers together; each of 5 documents."""
SLOWER = 3.0
GROWTH = 1.35
"""Of the resident memory, from the first third of the load to the last."""


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: seconds of load, after a fifth of that of readers alone."""
    report = Report("load", seed)
    report.trials = trials
    with serving(folder / "indexes", SHEAF_SEAL_DOCUMENTS="1000", SHEAF_LOG_LEVEL="warning") as server:
        with server.client() as client:
            encoder = {"model": None, "kind": "dense", "dim": DIM}
            assert client.post("/v1/collections", json={"name": "c", "encoder": encoder}).status_code == 201
            for start in range(0, DOCUMENTS, 500):
                documents = [_document(i, 0) for i in range(start, start + 500)]
                assert client.post("/v1/collections/c/documents", json={"documents": documents}).status_code == 200
        quiet = _phase(server, report, max(2.0, trials / 5), random.Random(seed), loaded=False)
        memory: list[int] = []
        loaded = _phase(server, report, trials, random.Random(seed + 1), loaded=True, memory=memory)
        if server.process.poll() is not None:
            report.fail("the server ended")
    figures = report.figures
    figures["quiet p50 / p99, ms"] = f"{_at(quiet, 50):.1f} / {_at(quiet, 99):.1f}"
    figures["loaded p50 / p99, ms"] = f"{_at(loaded, 50):.1f} / {_at(loaded, 99):.1f}"
    figures["p99 ratio"] = round(_at(loaded, 99) / _at(quiet, 99), 2)
    figures["rate"] = RATE
    if trials >= 60:
        # A shorter run says nothing of either.
        if figures["p99 ratio"] > SLOWER:
            report.fail(f"the readers' p99 is {figures['p99 ratio']} times the quiet one")
        third = len(memory) // 3
        first, last = statistics.median(memory[third : 2 * third]), statistics.median(memory[-third:])
        figures["memory, MiB"] = f"{first / 2**20:.0f} -> {last / 2**20:.0f}"
        if last > GROWTH * first:
            report.fail(f"memory grew: {figures['memory, MiB']}")
    return report.done()


def _at(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0


def _vector(number: int, version: int) -> list[float]:
    return [float(x) for x in np.random.default_rng([number, version]).normal(size=DIM).astype(np.float32)]


def _document(number: int, version: int) -> dict[str, Any]:
    return {"id": f"d{number}", "metadata": {"v": version, "n": number}, "vector": _vector(number, version)}


def _phase(
    server: Server,
    report: Report,
    seconds: float,
    chance: random.Random,
    *,
    loaded: bool,
    memory: list[int] | None = None,
) -> list[float]:
    """The readers' times in milliseconds."""
    end = time.monotonic() + seconds
    times: list[float] = []
    work = [(_read, RATE / READERS)] * READERS
    if loaded:
        work += [(_write, WRITES / WRITERS)] * WRITERS + [(_rebuild, 0.2)]
    threads = [
        threading.Thread(target=_paced, args=(act, rate, server, report, times, random.Random(chance.random()), end))
        for act, rate in work
    ]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(0.5)
        if memory is not None:
            memory.append(_resident(server.process.pid))
    for thread in threads:
        thread.join()
    return times


def _paced(
    act: Any, rate: float, server: Server, report: Report, times: list[float], chance: random.Random, end: float
) -> None:
    """Acts at its rate: each at its own time, whether the one before was slow or not."""
    due = time.monotonic() + chance.random() / rate
    with server.client() as client:
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + 1 / rate, time.monotonic())
            try:
                act(client, report, times, chance)
            except Exception as error:  # noqa: BLE001  what ends a thread must not end unseen
                report.fail(f"{act.__name__}: {type(error).__name__}: {error}")
                return


def _good(report: Report, answer: httpx.Response) -> bool:
    report.counts[f"{answer.status_code}"] += 1
    if answer.status_code >= 500:
        report.fail(f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
    return answer.status_code < 300


def _read(client: httpx.Client, report: Report, times: list[float], chance: random.Random) -> None:
    number = chance.randrange(DOCUMENTS)
    body = {"vector": _vector(number, chance.randrange(3)), "k": 10, "include": ["metadata", "vectors"]}
    started = time.perf_counter()
    answer = client.post("/v1/collections/c/search", json=body)
    times.append((time.perf_counter() - started) * 1e3)
    if not _good(report, answer):
        return
    hits = answer.json()["hits"]
    if len({hit["id"] for hit in hits}) != len(hits):
        report.fail("an answer with one document twice")
    for hit in hits:
        expected = np.array(_vector(hit["metadata"]["n"], hit["metadata"]["v"]))
        found = np.array(hit["vector"])
        if float(expected @ found) / (np.linalg.norm(expected) * np.linalg.norm(found)) < 0.999:
            report.fail(f"{hit['id']}: vector and metadata are of two versions")


def _write(client: httpx.Client, report: Report, times: list[float], chance: random.Random) -> None:
    numbers = chance.sample(range(DOCUMENTS), 5)
    if chance.random() < 0.2:
        _good(report, client.post("/v1/collections/c/delete", json={"ids": [f"d{n}" for n in numbers]}))
        return
    documents = [_document(number, chance.randrange(1, 1_000)) for number in numbers]
    _good(report, client.post("/v1/collections/c/documents", json={"documents": documents}))


def _rebuild(client: httpx.Client, report: Report, times: list[float], chance: random.Random) -> None:
    answer = client.post("/v1/collections/c/rebuild")
    if _good(report, answer):
        task = follow(client, answer.headers["location"])
        report.counts[f"rebuild {task['state']}"] += 1
        if task["state"] != "succeeded":
            report.fail(f"a rebuild: {task}")


def _resident(process: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4_096
