"""Requests that were applied: one that comes again under the same key is answered as the first time, and not applied.

The answer is written in the transaction of the write itself, so that after any stop either both are there or
neither. A key is forgotten after a time, and when many later ones have come. The table is made at its first use:
collections that were made before it, and those that never see a key, do without.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from app.errors import Conflict, Invalid, Problem
from app.store.database import Database
from app.store.rows import row_sum

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, applied INTEGER NOT NULL, body TEXT NOT NULL, "
    "crc INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS requests_by_time ON requests (applied)",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    content: str
    status: int
    headers: Mapping[str, str]


class Requests:
    """Of one collection; safe from any thread. One process writes a collection, so it alone knows what is running."""

    def __init__(self, database: Database, kept: int, hours: float) -> None:
        self._database, self._kept, self._seconds = database, kept, hours * 3_600
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, key: str, digest: str) -> Answer | None:
        """The answer to an earlier request with this key; else None, and the key is the caller's until ``end``.

        digest: of all that makes the request what it is. Raises Conflict (request_running) while the first is under
        way, Invalid (idempotency_key_reused) where the first was another request.
        """
        with self._lock:
            if key in self._running:
                raise Conflict("a request with this Idempotency-Key is under way: try again", code="request_running")
            self._running.add(key)
        try:
            found = self._find(key)
        except BaseException:
            self.end(key)
            raise
        if found is None:
            return None
        self.end(key)
        if found[0] != digest:
            message = "this Idempotency-Key was used for another request"
            raise Invalid(message, [Problem("/Idempotency-Key", message)], code="idempotency_key_reused")
        return found[1]

    def end(self, key: str) -> None:
        """The request with this key has ended, well or not."""
        with self._lock:
            self._running.discard(key)

    def note(self, txn: sqlite3.Connection, key: str, digest: str, answer: Answer) -> None:
        """Keeps the answer, in the transaction of the write."""
        note_first(txn, key, digest, answer)
        txn.execute("DELETE FROM requests WHERE applied < ?", (int(time.time()) - self._seconds,))
        late = "SELECT key FROM requests ORDER BY applied DESC LIMIT -1 OFFSET ?"
        txn.execute(f"DELETE FROM requests WHERE key IN ({late})", (self._kept,))

    def _find(self, key: str) -> tuple[str, Answer] | None:
        with self._database.read() as connection:
            if not _made(connection):
                return None
            row = connection.execute("SELECT * FROM requests WHERE key = ?", (key,)).fetchone()
        if row is None or row[1] < time.time() - self._seconds:
            return None
        if row_sum(*row[:3]) != row[3]:
            raise self._database.damaged("what a request was answered")
        found = json.loads(row[2])
        return found["digest"], Answer(found["content"], found["status"], found["headers"])


def note_first(txn: sqlite3.Connection, key: str, digest: str, answer: Answer) -> None:
    """``Requests.note`` for a collection that is just being made."""
    for statement in SCHEMA:
        txn.execute(statement)
    now = int(time.time())
    body = json.dumps({"digest": digest, **asdict(answer)})
    txn.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)", (key, now, body, row_sum(key, now, body)))


def check_answers(connection: sqlite3.Connection, database: Database) -> int:
    """Reads all that requests were answered; how many there are. Raises Damaged."""
    rows = 0
    for *row, crc in connection.execute("SELECT * FROM requests") if _made(connection) else ():
        if row_sum(*row) != crc:
            raise database.damaged("what a request was answered")
        rows += 1
    return rows


def _made(connection: sqlite3.Connection) -> bool:
    """The table is made with its first row."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'requests'").fetchone() is not None
