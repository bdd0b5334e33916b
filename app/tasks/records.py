"""A task, and how it lies in its collection's database: a row each, and one for each line that was refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from app.errors import Conflict, Damaged
from app.ingest import beyond_the_limit
from app.store.layout import of_this_version
from app.store.rows import row_sum

State: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
LISTED: Final = 1_000
"""Errors of lines that a task keeps, its first ones; all are counted."""


@dataclass(frozen=True, slots=True)
class TaskError:
    """The error of one line; line 0 is the task as a whole."""

    line: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it stands. done and total count lines (import), documents (rebuild) or what the phase is about (tune);
    rate is per second. result: what came out, where that is more than a change of the collection.
    """

    id: str
    collection: str
    kind: str
    state: State = "queued"
    phase: str = "queued"
    done: int = 0
    total: int | None = None
    params: Mapping[str, Any] | None = None
    created: str = ""
    finished: str | None = None
    errors_total: int = 0
    errors: tuple[TaskError, ...] = ()
    rate: float = 0.0
    eta_s: float | None = None
    result: Mapping[str, Any] | None = None

    @property
    def file(self) -> str | None:
        """The name of an import's file, where whoever sent it told."""
        name = (self.params or {}).get("source") if self.kind == "import" else None
        return None if name is None else str(name)

    @property
    def warnings(self) -> list[str]:
        """Problems that ended no task and refused no line, and should be known."""
        found = []
        if self.errors_total > LISTED:
            found.append(f"{self.errors_total:,} errors: the first {LISTED:,} are listed, more were not kept")
        if self.kind == "import" and self.result is not None and "truncated" in self.result:
            found.append(beyond_the_limit(self.result["truncated"], self.result["truncated_ids"]))
        return found


def not_ended(identifier: str, collection: str, kind: str, state: State) -> Conflict:
    """The error for what has to wait for a task."""
    return Conflict(
        f"task {identifier} of collection {collection} ({kind}) is {state}: wait for its end, or cancel it",
        code="task_running",
    )


def now() -> str:
    """As tasks have it: fine enough to order those of several collections."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def insert_task(txn: sqlite3.Connection, task: Task) -> int:
    """The number that it has from now on; they ascend."""
    body = _body(task)
    row = task.id, body, row_sum(task.id, body)
    number = txn.execute("INSERT INTO tasks (id, body, crc) VALUES (?, ?, ?)", row).lastrowid
    assert number is not None
    return number


def update_task(txn: sqlite3.Connection, number: int, task: Task) -> None:
    body = _body(task)
    txn.execute("UPDATE tasks SET body = ?, crc = ? WHERE number = ?", (body, row_sum(task.id, body), number))


def forget_task(txn: sqlite3.Connection, number: int) -> None:
    """With its errors."""
    txn.execute("DELETE FROM task_errors WHERE task = ?", (number,))
    txn.execute("DELETE FROM tasks WHERE number = ?", (number,))


def read_task(connection: sqlite3.Connection, number: int, collection: str) -> Task:
    """Without its errors. Raises Damaged."""
    row = connection.execute("SELECT id, body, crc FROM tasks WHERE number = ?", (number,)).fetchone()
    if row is None or row_sum(*row[:2]) != row[2]:
        raise Damaged(f"the record of task {number} of collection {collection} is damaged. Restore a backup.")
    identifier, body = row[:2]
    with of_this_version(f"task {number} of collection {collection}"):
        return Task(identifier, collection, **json.loads(body))


def numbered(connection: sqlite3.Connection, collection: str) -> Iterator[tuple[int, Task]]:
    """Every task with its number, the newest first, without their errors. Raises Damaged."""
    for (number,) in connection.execute("SELECT number FROM tasks ORDER BY number DESC").fetchall():
        yield number, read_task(connection, number, collection)


def every_task(connection: sqlite3.Connection, collection: str) -> list[Task]:
    """The newest first, without their errors. Raises Damaged."""
    return [task for _, task in numbered(connection, collection)]


def _body(task: Task) -> str:
    body = asdict(task)
    for derived in ("errors", "id", "collection"):
        del body[derived]
    return json.dumps(body)
