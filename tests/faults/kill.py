"""``kill -9`` of a real server at random moments, while documents are written, deleted, imported, indexed and rebuilt.

Every document's text names its version in each word, so a search for it scores two with vectors of the same write, and
less with others.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import httpx
from report import Report
from servers import Server, everything

ENVIRONMENT = {"SHEAF_SEAL_DOCUMENTS": "60", "SHEAF_LOG_LEVEL": "warning"}
DOCUMENTS = 300
READY_S = 10.0
"""After a kill the server must be ready again within this."""


TIMED = 20
"""Kills from which that is held: a short run may share the machine with others."""


class Book:
    """What must stand. sure: acknowledged text by id, None for a deletion. maybe: what was sent and not answered."""

    def __init__(self) -> None:
        self.sure: dict[str, str | None] = {}
        self.maybe: dict[str, list[str | None]] = {}
        self.lock = threading.Lock()

    def sent(self, changes: dict[str, str | None]) -> None:
        with self.lock:
            for key, text in changes.items():
                self.maybe.setdefault(key, []).append(text)

    def answered(self, changes: dict[str, str | None]) -> None:
        with self.lock:
            for key, text in changes.items():
                self.sure[key] = text
                self.maybe[key] = []

    def hold(self, found: dict[str, str], report: Report, where: str) -> None:
        for key in sorted(self.sure.keys() | self.maybe.keys() | found.keys()):
            allowed = [self.sure.get(key), *self.maybe.get(key, [])]
            if found.get(key) not in allowed:
                what = "lost" if found.get(key) is None else "a phantom, or an older version"
                report.fail(f"{where}: {key}: {what}: expected one of {allowed}, found {found.get(key)}")
                report.counts["lost or phantom"] += 1
        self.sure, self.maybe = dict(found), {}


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: kills."""
    report = Report("kill", seed)
    chance = random.Random(seed)
    indexes, books = folder / "indexes", {name: Book() for name in ("a", "b")}
    slowest, acknowledged = 0.0, 0
    server = Server(indexes, **ENVIRONMENT)
    with server.client() as client:
        for name in books:
            made = client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}})
            assert made.status_code == 201, made.text
    for version in range(1, trials + 1):
        report.trials = version
        writers = [
            threading.Thread(target=_write, args=(server, name, book, version, random.Random(chance.random()), report))
            for name, book in books.items()
        ]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.02, 2.0))
        server.kill()
        for writer in writers:
            writer.join()
        acknowledged = report.counts["writes acknowledged"]
        server = Server(indexes, **ENVIRONMENT)
        slowest = max(slowest, server.ready_s)
        where = f"kill {report.trials}"
        if server.ready_s > READY_S and trials >= TIMED:
            report.fail(f"{where}: ready after {server.ready_s:.1f} s")
        with server.client() as client:
            _check(client, books, report, where)
    server.kill()
    report.figures["slowest start, s"] = round(slowest, 2)
    report.figures["acknowledged"] = acknowledged
    return report.done()


def _text(key: str, version: int) -> str:
    return f"{key}v{version} {key}w{version}"


def _write(server: Server, name: str, book: Book, version: int, chance: random.Random, report: Report) -> None:
    """Until the server is gone."""
    at = f"/v1/collections/{name}"
    try:
        with server.client() as client:
            while True:
                version += 1_000
                keys = [f"d{i}" for i in chance.sample(range(DOCUMENTS), chance.randint(1, 40))]
                kind = chance.choice(["upsert", "upsert", "delete", "import", "rebuild", "snapshot"])
                if kind in ("rebuild", "snapshot"):
                    made = client.post(f"{at}/{'rebuild' if kind == 'rebuild' else 'snapshots'}")
                    assert made.status_code in (201, 202, 507), made.text
                    report.counts[kind] += 1
                    continue
                changes = {key: None if kind == "delete" else _text(key, version) for key in keys}
                book.sent(changes)
                documents = [{"id": key, "text": text} for key, text in changes.items()]
                if kind == "delete":
                    answer = client.post(f"{at}/delete", json={"ids": keys})
                elif kind == "upsert":
                    answer = client.post(f"{at}/documents", json={"documents": documents})
                else:
                    lines = "".join(json.dumps(one) + "\n" for one in documents)
                    headers = {"content-type": "application/x-ndjson"}
                    answer = client.post(f"{at}/import", content=lines.encode(), headers=headers)
                if answer.status_code >= 300:
                    report.fail(f"{kind}: {answer.status_code} {answer.text[:300]}")
                    return
                report.counts[kind] += 1
                if kind == "import":
                    # Accepted: it stands once the task has ended, and what is written meanwhile may come before it.
                    location = answer.headers["location"]
                    while client.get(location).json()["finished"] is None:
                        time.sleep(0.01)
                book.answered(changes)
                report.counts["writes acknowledged"] += 1
    except (httpx.TransportError, OSError):
        return


def _check(client: httpx.Client, books: dict[str, Book], report: Report, where: str) -> None:
    ready = client.get("/health/ready").json()
    if ready["quarantined"]:
        report.fail(f"{where}: quarantined: {ready['quarantined']}")
        return
    # What was accepted is applied, or goes on: then it is waited for, so that what stands is known.
    deadline = time.monotonic() + 60
    while any(task["finished"] is None for task in client.get("/v1/tasks").json()["tasks"]):
        if time.monotonic() > deadline:
            report.fail(f"{where}: a task does not end")
            return
        time.sleep(0.05)
    for name, book in books.items():
        try:
            found = everything(client, name)
        except AssertionError as error:
            report.fail(f"{where}: {error}")
            continue
        book.hold(found, report, f"{where}, {name}")
        told = client.get(f"/v1/collections/{name}").json()["documents"]
        if told != len(found):
            report.fail(f"{where}: {name} says {told} documents, and lists {len(found)}")
        keys = sorted(found)[:: max(1, len(found) // 12)]
        for exact in (False, True):
            asked = [{"query": found[key], "k": 1, "exact": exact} for key in keys]
            for start in range(0, len(asked), 20):
                answer = client.post(
                    f"/v1/collections/{name}/search/batch", json={"searches": asked[start : start + 20]}
                )
                for key, result in zip(keys[start : start + 20], answer.json()["results"], strict=True):
                    hit = result["hits"][0]
                    if (hit["id"], hit["text"]) != (key, found[key]) or hit["score"] < 1.99:
                        report.fail(f"{where}: {name}: a search for {key} finds {hit}")
