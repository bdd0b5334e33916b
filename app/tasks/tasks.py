"""Durable tasks: what was accepted with 202 and is followed until it is done, across restarts.

A task is a row in its collection's database. One thread a collection runs those that change it, in the order in which
they came, and another those that only copy it, so that a snapshot waits for no import. A task that a stop interrupted
goes on at the next start from where its last transaction left it.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

from app.collection.collection import Collection
from app.errors import Damaged, EncoderUnavailable, NotFound, SheafError, StorageFull, SystemFault, Unavailable
from app.ingest import beyond_the_limit
from app.store.directory import Directory
from app.store.layout import IMPORTS
from app.store.rows import row_sum
from app.store.system import of_the_disk

log = logging.getLogger(__name__)

State: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
BESIDE: Final = frozenset({"snapshot"})
"""Kinds that change nothing of the collection, and have a thread of their own."""
LISTED: Final = 1_000
"""Errors of lines that a task keeps, its first ones; all are counted."""
KEPT: Final = 1_000
"""Ended tasks that a collection remembers."""
RETRY_S: Final = 30.0
"""How long a task waits for room on the disk, or for another process that writes the collection."""


@dataclass(frozen=True, slots=True)
class TaskError:
    """What was wrong with one line; line 0 is the task as a whole."""

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
    def warnings(self) -> list[str]:
        """What ended no task and refused no line, and should be known."""
        found = []
        if self.errors_total > LISTED:
            found.append(f"{self.errors_total:,} errors: the first {LISTED:,} are listed, more were not kept")
        if self.kind == "import" and self.result is not None:
            found.append(beyond_the_limit(self.result["truncated"], self.result["truncated_ids"]))
        return found


class Cancelled(Exception):
    """The task was asked to stop for good."""


class Failed(Exception):
    """The task has listed what was wrong, and ends."""


class Stopping(Exception):
    """The process is stopping; the task goes on at the next start."""


class Running:
    """A task in the hands of its handler."""

    def __init__(self, tasks: Tasks, number: int, task: Task) -> None:
        self._tasks, self._number = tasks, number
        self.task = task
        self._started = time.monotonic()
        self._first = task.done

    @property
    def folder(self) -> Directory:
        """Where what was given with the task lies, under the name ``file``, until it has ended."""
        return self._tasks.folder

    @property
    def file(self) -> str:
        return self._tasks.file(self.task.id)

    def check(self) -> None:
        """Raises Cancelled or Stopping when the work is to end; called between batches."""
        self._tasks.check(self.task.id)

    def update(self, **changes: Any) -> None:
        """Keeps new values durably."""
        self._tasks.collection.record(self.noting(**changes))

    def noting(self, **changes: Any) -> Callable[[sqlite3.Connection], None]:
        """The same as part of another transaction: ``collection.write(..., also=running.noting(done=5))``."""
        changed = replace(self.task, **changes)
        now = time.monotonic()
        if changed.phase != self.task.phase:
            self._started, self._first = now, changed.done
        elif changed.done > self._first:
            rate = (changed.done - self._first) / (now - self._started)
            left = None if changed.total is None else changed.total - changed.done
            changed = replace(changed, rate=rate, eta_s=None if left is None else left / rate)

        def note(txn: sqlite3.Connection) -> None:
            _store(txn, self._number, changed)
            self.task = changed

        return note

    def fail_lines(self, errors: Sequence[TaskError]) -> None:
        """Lists lines that were refused, durably."""
        self._tasks.collection.record(self.listing(errors))

    def listing(
        self, errors: Sequence[TaskError], count: int | None = None, **changes: Any
    ) -> Callable[[sqlite3.Connection], None]:
        """The same as part of another transaction. count: how many there are, where those given are the first ones."""
        lines = {error.line: error for error in errors}
        room = LISTED - self.task.errors_total
        # Why the task as a whole failed (line 0) is kept, however many lines did before.
        kept = [error for i, error in enumerate(lines.values()) if i < room or error.line == 0]
        rows = [(self._number, error.line, error.code, error.message) for error in kept]
        counted = self.noting(errors_total=self.task.errors_total + (len(lines) if count is None else count), **changes)

        def note(txn: sqlite3.Connection) -> None:
            # Of a check that was interrupted, and is made again, some stand already.
            txn.executemany(
                "INSERT OR IGNORE INTO task_errors VALUES (?, ?, ?, ?, ?)",
                [(*row, row_sum(*row)) for row in rows],
            )
            counted(txn)

        return note


Also: TypeAlias = Callable[[sqlite3.Connection, Task], None]
Handler: TypeAlias = Callable[[Collection, Running], None]


class Tasks:
    """The tasks of one collection."""

    def __init__(self, collection: Collection, handlers: Mapping[str, Handler]) -> None:
        self.collection = collection
        self._handlers = handlers
        self._changed = threading.Condition()
        self._cancelled: set[str] = set()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Runs what is queued, and what a stop interrupted; removes the files that no task needs any more."""
        if self.collection.is_writer:
            needed = {self.file(task.id) for task in self.all() if task.state not in ENDED}
            for name in self.folder.list():
                if name not in needed:
                    _remove(self.folder, name)
        for beside in (False, True):
            name = f"{'copies' if beside else 'tasks'}-{self.collection.name}"
            self._threads.append(threading.Thread(target=self._run, args=(beside,), name=name, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Interrupts what runs, each at its next batch, and waits for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(
        self, kind: str, params: Mapping[str, Any], identifier: str | None = None, also: Also | None = None
    ) -> Task:
        """A new task, durable when this returns. also: more to do in the same transaction."""
        task = Task(identifier or uuid4().hex, self.collection.name, kind, params=params, created=_now())

        def insert(txn: sqlite3.Connection) -> None:
            body = _body(task)
            txn.execute("INSERT INTO tasks (id, body, crc) VALUES (?, ?, ?)", (task.id, body, row_sum(task.id, body)))
            old = "SELECT number FROM tasks ORDER BY number DESC LIMIT -1 OFFSET ?"
            for (number,) in txn.execute(old, (KEPT,)).fetchall():
                if _read(txn, number, self.collection.name).state in ENDED:
                    txn.execute("DELETE FROM task_errors WHERE task = ?", (number,))
                    txn.execute("DELETE FROM tasks WHERE number = ?", (number,))

        def both(txn: sqlite3.Connection) -> None:
            insert(txn)
            if also is not None:
                also(txn, task)

        self.collection.record(both)
        with self._changed:
            self._changed.notify_all()
        return task

    @property
    def folder(self) -> Directory:
        """Where what was given with tasks lies until they have ended."""
        return self.collection.files.folder(IMPORTS)

    def file(self, identifier: str) -> str:
        """The name of what was given with a task."""
        return f"{identifier}.ndjson"

    def all(self) -> list[Task]:
        """The newest first, without their errors. Raises Damaged."""
        with self.collection.database.read() as connection:
            return every_task(connection, self.collection.name)

    def get(self, identifier: str, errors_after: int = -1) -> Task:
        """One task, with the errors of lines after ``errors_after``, 1,000 at most. Raises NotFound."""
        with self.collection.database.read() as connection:
            row = connection.execute("SELECT number FROM tasks WHERE id = ?", (identifier,)).fetchone()
            if row is None:
                raise NotFound(f"there is no task {identifier!r}", code="task_not_found")
            errors = connection.execute(
                "SELECT * FROM task_errors WHERE task = ? AND line > ? ORDER BY line LIMIT ?",
                (row[0], errors_after, LISTED),
            ).fetchall()
            task = _read(connection, row[0], self.collection.name)
        if any(row_sum(*error[:-1]) != error[-1] for error in errors):
            raise self.collection.database.damaged(f"the errors of task {identifier}")
        return replace(task, errors=tuple(TaskError(*error[1:-1]) for error in errors))

    def cancel(self, identifier: str) -> Task:
        """Asks a task to stop; an ended one stays as it is. What it has applied stays applied. Raises NotFound."""
        if self.get(identifier).state not in ENDED:
            self.collection.require_writer()
            # Under the lock, so that it does not start between our look and its end.
            with self._changed:
                self._cancelled.add(identifier)
                for number, task in self._open():
                    if task.id == identifier and task.state == "queued":
                        self._end(Running(self, number, task), "cancelled")
                self._changed.notify_all()
        return self.get(identifier)

    def check(self, identifier: str) -> None:
        """Raises Cancelled or Stopping."""
        if self._stopping:
            raise Stopping
        if identifier in self._cancelled:
            raise Cancelled

    def _run(self, beside: bool) -> None:
        identifier, asked = "", False
        while not self._stopping:
            try:
                found = self._next(beside)
                if found is None:
                    with self._changed:
                        if not self._stopping:
                            # A task submitted since then has notified nobody: so not for ever.
                            self._changed.wait(1.0)
                    continue
                identifier = found[1].id
                asked = identifier in self._cancelled
                self.collection.require_writer()
                self._work(Running(self, *found))
            except Stopping:
                return
            except (SheafError, OSError, sqlite3.Error) as error:
                log.warning("task %s of %s waits: %s", identifier, self.collection.name, error)
                self._pause(identifier, asked)

    def _pause(self, identifier: str, asked: bool) -> None:
        """asked: whether it had been asked to stop already when it was tried: then its end is what has to wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or (not asked and identifier in self._cancelled), RETRY_S)

    def _work(self, running: Running) -> None:
        try:
            with self._changed:
                running.check()
                task = self.get(running.task.id)
                if task.state in ENDED:
                    return
                running.update(state="running")
            self._handlers[running.task.kind](self.collection, running)
        except Cancelled:
            self._end(running, "cancelled")
        except Failed:
            self._end(running, "failed")
        except SheafError as error:
            if isinstance(error, StorageFull | SystemFault | EncoderUnavailable) or error.code == "collection_busy":
                # What was accepted is done as soon as it can be.
                raise
            running.fail_lines([TaskError(0, error.code, error.message)])
            self._end(running, "failed")
        except Stopping:
            raise
        except Exception as error:
            if of_the_disk(error):
                raise
            # A fault of ours ends the task, not the thread that runs it.
            log.exception("task %s of %s failed", running.task.id, self.collection.name)
            running.fail_lines([TaskError(0, "internal", f"{type(error).__name__}; the log has the details")])
            self._end(running, "failed")
        else:
            self._end(running, "succeeded")

    def _end(self, running: Running, state: State) -> None:
        running.update(state=state, phase="done", finished=_now(), eta_s=None)
        _remove(running.folder, running.file)
        with self._changed:
            self._cancelled.discard(running.task.id)

    def _next(self, beside: bool) -> tuple[int, Task] | None:
        """The task that a thread is to run; beside: the one of those that only copy."""
        for number, task in self._open():
            # What needs the indexes waits for the rebuild, which makes them.
            if (task.kind in BESIDE) == beside and not (self.collection.salvaged and task.kind != "rebuild"):
                return number, task
        return None

    def _open(self) -> list[tuple[int, Task]]:
        """Those that have not ended, the oldest first."""
        with self.collection.database.read() as connection:
            numbers = connection.execute("SELECT number FROM tasks ORDER BY number").fetchall()
            every = [(number, _read(connection, number, self.collection.name)) for (number,) in numbers]
        return [(number, task) for number, task in every if task.state not in ENDED]


def _remove(folder: Directory, name: str) -> None:
    """What no task needs any more. What the disk does not let go is tried again at the next start."""
    try:
        folder.remove(name)
    except OSError as error:
        log.warning("%s of %s cannot be removed: %s", name, folder.name, error)


def all_of(collections: Iterable[Tasks]) -> list[Task]:
    """The newest first; not of collections that are just being closed, or cannot be read."""
    found: list[Task] = []
    for tasks in collections:
        with suppress(Unavailable, Damaged, SystemFault):
            found += tasks.all()
    return sorted(found, key=lambda task: task.created, reverse=True)


def owner_of(collections: Iterable[Tasks], identifier: str) -> Tasks:
    """Whose task it is. Raises NotFound, or Unavailable or Damaged where it may be one that cannot be read now."""
    unread: SheafError | None = None
    for tasks in collections:
        try:
            tasks.get(identifier)
        except NotFound:
            continue
        except (Unavailable, Damaged, SystemFault) as error:
            unread = error
            continue
        return tasks
    if unread is not None:
        raise unread
    raise NotFound(f"there is no task {identifier!r}", code="task_not_found")


def every_task(connection: sqlite3.Connection, collection: str) -> list[Task]:
    """The newest first, without their errors. Raises Damaged."""
    rows = connection.execute("SELECT number FROM tasks ORDER BY number DESC").fetchall()
    return [_read(connection, number, collection) for (number,) in rows]


def _body(task: Task) -> str:
    body = asdict(task)
    for derived in ("errors", "id", "collection"):
        del body[derived]
    return json.dumps(body)


def _store(txn: sqlite3.Connection, number: int, task: Task) -> None:
    body = _body(task)
    txn.execute("UPDATE tasks SET body = ?, crc = ? WHERE number = ?", (body, row_sum(task.id, body), number))


def _read(connection: sqlite3.Connection, number: int, collection: str) -> Task:
    row = connection.execute("SELECT id, body, crc FROM tasks WHERE number = ?", (number,)).fetchone()
    if row is None or row_sum(*row[:2]) != row[2]:
        raise Damaged(f"the record of task {number} of collection {collection} is damaged. Restore a backup.")
    identifier, body = row[:2]
    return Task(identifier, collection, **json.loads(body))


def _now() -> str:
    # Fine enough to order the tasks of several collections.
    return datetime.now(UTC).isoformat(timespec="milliseconds")
