"""``kill -9`` of a real server at random moments, while documents are written, deleted, imported, indexed and rebuilt,
snapshots taken and restored, aliases swapped and a first stage tuned; at times once more while it starts.

Every document's text names its version in each word, so a search for it scores two with vectors of the same write, and
less with others.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from report import Report
from servers import Server, everything

ENVIRONMENT = {"SHEAF_SEAL_DOCUMENTS": "60", "SHEAF_LOG_LEVEL": "warning"}
DOCUMENTS = 300
READY_S = 10.0
"""After a kill the server must be ready again within this."""


NAMES = ("a", "b")
KINDS = {
    "upsert": 24, "delete": 12, "import": 12, "rebuild": 10, "snapshot": 6, "awaited snapshot": 6, "restore": 4,
    "restore anew": 4, "discard": 2, "alias": 6, "tune": 0.5,
}  # fmt: skip
"""The operations, and how often each is done beside the others."""

TIMED = 20
"""Kills from which that is held: a short run may share the machine with others."""


class Book:
    """State that must stand. sure: acknowledged text by id, None for a deletion. maybe: what was sent and not answered.
    whole: what a restore that was not answered would make of all. there: whether the collection must be.
    saved: what each snapshot holds. alias: what the alias of it may stand for, the last of it acknowledged."""

    def __init__(self, *, there: bool = True) -> None:
        self.sure: dict[str, str | None] = {}
        self.maybe: dict[str, list[str | None]] = {}
        self.whole: dict[str, str] | None = None
        self.there = there
        self.saved: dict[str, dict[str, str]] = {}
        self.alias: list[str | None] = [None]
        self.lock = threading.Lock()

    @property
    def stands(self) -> dict[str, str]:
        return {key: text for key, text in self.sure.items() if text is not None}

    def restored(self) -> None:
        assert self.whole is not None
        with self.lock:
            self.sure, self.maybe, self.whole, self.there = dict(self.whole), {}, None, True

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
        if self.whole is not None and found == self.whole:
            self.restored()
        self.whole = None
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
    indexes, books = folder / "indexes", {name: Book() for name in NAMES}
    books |= {_again(name): Book(there=False) for name in NAMES}
    slowest, acknowledged = 0.0, 0
    cold = trials >= TIMED
    server = Server(indexes, cold=cold, **ENVIRONMENT)
    with server.client() as client:
        for name in NAMES:
            made = client.post("/v1/collections", json={"name": name, "encoder": {"model": "words"}})
            assert made.status_code == 201, made.text
    for version in range(1, trials + 1):
        report.trials = version
        writers = [
            threading.Thread(target=_write, args=(server, name, books, version, random.Random(chance.random()), report))
            for name in NAMES
        ]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.02, 2.0))
        server.kill()
        for writer in writers:
            writer.join()
        acknowledged = report.counts["writes acknowledged"]
        if chance.random() < 0.2:
            # Once more, before it is ready.
            Server(indexes, wait=False, cold=cold, **ENVIRONMENT).kill(after=chance.uniform(0.05, 1.5))
            report.counts["killed while it started"] += 1
        server = Server(indexes, cold=cold, **ENVIRONMENT)
        slowest = max(slowest, server.ready_s)
        where = f"kill {report.trials}"
        if server.ready_s > READY_S and cold:
            report.fail(f"{where}: ready after {server.ready_s:.1f} s")
        with server.client() as client:
            _check(client, books, report, where)
    server.kill()
    report.figures["slowest start, s"] = round(slowest, 2)
    report.figures["acknowledged"] = acknowledged
    return report.done()


def _text(key: str, version: int) -> str:
    return f"{key}v{version} {key}w{version}"


def _again(name: str) -> str:
    return f"{name}-again"


def _write(
    server: Server, name: str, books: dict[str, Book], version: int, chance: random.Random, report: Report
) -> None:
    """Until the server is gone. The only one that writes to this collection."""
    at, book = f"/v1/collections/{name}", books[name]
    try:
        with server.client() as client:
            while True:
                version += 1_000
                keys = [f"d{i}" for i in chance.sample(range(DOCUMENTS), chance.randint(1, 40))]
                kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
                if kind not in ("upsert", "delete", "import"):
                    if _other(client, kind, name, books, chance, report):
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
                    _ended(client, answer.headers["location"])
                book.answered(changes)
                report.counts["writes acknowledged"] += 1
    except (httpx.TransportError, OSError):
        return
    except AssertionError as error:
        report.fail(f"{name}, {kind}: {error}")


def _ended(client: httpx.Client, location: str) -> Any:
    while True:
        answer = client.get(location)
        assert answer.status_code == 200, answer.text
        if answer.json()["finished"] is not None:
            return answer.json()
        time.sleep(0.01)


def _other(
    client: httpx.Client, kind: str, name: str, books: dict[str, Book], chance: random.Random, report: Report
) -> bool:
    """An operation that changes no document by itself. Whether it was done."""
    at, book, again = f"/v1/collections/{name}", books[name], books[_again(name)]
    match kind:
        case "rebuild" | "tune":
            body = {"target_recall": 0.9, "queries": 5} if kind == "tune" else None
            answer = client.post(f"{at}/{kind}", json=body)
        case "snapshot" | "awaited snapshot":
            answer = client.post(f"{at}/snapshots")
            if answer.status_code == 202 and kind == "awaited snapshot":
                holds = book.stands
                task = _ended(client, answer.headers["location"])
                if task["state"] == "succeeded":
                    book.saved[task["id"]] = holds
        case "restore" | "restore anew":
            if not book.saved:
                return False
            target = name if kind == "restore" else _again(name)
            identifier = chance.choice(sorted(book.saved))
            books[target].whole = book.saved[identifier]
            body = {"collection": name, "snapshot": identifier, "replace": True}
            answer = client.post(f"/v1/collections/{target}/restore", json=body)
            if answer.status_code < 300:
                books[target].restored()
            elif answer.status_code == 409 and answer.json()["code"] == "task_running":
                # What an accepted task is about to do is not replaced: nothing is done, and said so.
                books[target].whole = None
                report.counts["restores refused while a task ran"] += 1
                return True
        case "discard":
            if not book.saved:
                return False
            identifier = chance.choice(sorted(book.saved))
            del book.saved[identifier]
            answer = client.delete(f"{at}/snapshots/{identifier}")
        case "alias":
            meant = chance.choice([name, *([_again(name)] if again.there else [])])
            book.alias.append(meant)
            answer = client.put(f"/v1/aliases/{name}-live", json={"collection": meant})
            if answer.status_code < 300:
                book.alias = [meant]
        case _:
            raise AssertionError(kind)
    if answer.status_code >= 300:
        report.fail(f"{kind}: {answer.status_code} {answer.text[:300]}")
    return True


def _check(client: httpx.Client, books: dict[str, Book], report: Report, where: str) -> None:
    ready = client.get("/health/ready").json()
    if ready["quarantined"]:
        report.fail(f"{where}: quarantined: {ready['quarantined']}")
        return
    # An accepted task is applied, or goes on: then it is waited for, so that what stands is known.
    deadline = time.monotonic() + 60
    while any(task["finished"] is None for task in client.get("/v1/tasks").json()["tasks"]):
        if time.monotonic() > deadline:
            report.fail(f"{where}: a task does not end")
            return
        time.sleep(0.05)
    there = {one["name"] for one in client.get("/v1/collections").json()["collections"]}
    aliases = {one["alias"]: one["collection"] for one in client.get("/v1/aliases").json()["aliases"]}
    for name in NAMES:
        book = books[name]
        if aliases.get(f"{name}-live") not in book.alias:
            report.fail(f"{where}: the alias of {name} is {aliases.get(f'{name}-live')}, of {book.alias}")
        book.alias = [aliases.get(f"{name}-live")]
        kept = client.get(f"/v1/collections/{name}/snapshots").json()["snapshots"]
        if wrong := [one for one in kept if one.get("error")] or book.saved.keys() - {one["id"] for one in kept}:
            report.fail(f"{where}: snapshots of {name} are lost or damaged: {wrong}")
    for name, book in books.items():
        if not book.there and name not in there:
            continue
        book.there = True
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
