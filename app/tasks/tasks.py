"""Durable tasks: what was accepted with 202 and is followed until it is done, across restarts.

A task is a row in its collection's database. One job a collection runs those that change it, in the order in which they
came, and another those that only copy it, so that a snapshot waits for no import. A task that a stop interrupted goes
on at the next start from where its last transaction left it. Only the number and state of each are known
without the database: ended tasks are read when somebody asks for them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from uuid import uuid4

from app.collection.collection import Collection
from app.compute import background
from app.compute.background import Background, Job
from app.errors import EncoderUnavailable, NotFound, SheafError, StorageFull, SystemFault, Unavailable
from app.store.directory import Directory
from app.store.layout import IMPORTS
from app.store.rows import row_sum
from app.store.system import of_the_disk
from app.tasks.records import (
    ENDED,
    LISTED,
    State,
    Task,
    TaskError,
    every_task,
    forget_task,
    insert_task,
    not_ended,
    now,
    numbered,
    read_task,
    update_task,
)

log = logging.getLogger(__name__)

BESIDE: Final = frozenset({"snapshot", "evaluate"})
"""Kinds that change nothing of the collection, and have a lane of their own."""
KEPT: Final = 1_000
"""Ended tasks that a collection remembers."""


class Cancelled(Exception):
    """The task was asked to stop for good."""


class Failed(Exception):
    """The task has listed what was wrong, and ends."""


class Stopping(Exception):
    """The process is stopping; the task goes on at the next start."""


class Running:
    """A task in the hands of its handler."""

    def __init__(self, tasks: Tasks, number: int, task: Task) -> None:
        self._tasks, self.number = tasks, number
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

    @property
    def lines(self) -> str:
        """Where the lines are that were made of the file, in the same folder and for as long; where there are any."""
        return self._tasks.lines(self.task.id)

    def check(self) -> None:
        """Raises Cancelled or Stopping when the work is to end; called between batches."""
        self._tasks.check(self.task.id)

    def update(self, **changes: Any) -> None:
        """Keeps new values durably."""
        self._tasks.collection.record(self.noting(**changes))

    def noting(self, **changes: Any) -> Callable[[sqlite3.Connection], None]:
        """The same as part of another transaction: ``collection.write(..., also=running.noting(done=5))``."""
        changed = replace(self.task, **changes)
        moment = time.monotonic()
        if changed.phase != self.task.phase:
            self._started, self._first = moment, changed.done
        elif changed.done > self._first:
            rate = (changed.done - self._first) / (moment - self._started)
            left = None if changed.total is None else changed.total - changed.done
            changed = replace(changed, rate=rate, eta_s=None if left is None else left / rate)

        def note(txn: sqlite3.Connection) -> None:
            update_task(txn, self.number, changed)
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
        rows = [(self.number, error.line, error.code, error.message) for error in kept]
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


@dataclass(frozen=True, slots=True)
class Known:
    """The part of a task that is kept in memory."""

    number: int
    kind: str
    created: str
    state: State


class Tasks:
    """The tasks of one collection."""

    def __init__(self, collection: Collection, handlers: Mapping[str, Handler]) -> None:
        """Reads every row once. Raises Damaged."""
        self.collection = collection
        self.jobs: tuple[Job, ...] = ()
        self._handlers = handlers
        self._lock = threading.RLock()
        self._known: dict[str, Known] = {}
        self._cancelled: set[str] = set()
        self._stale = True
        """Whether the database may know of tasks what is not known here."""
        self._read()

    def start(self, lanes: Background) -> None:
        """Runs what is queued, and what a stop interrupted; removes the files that no task needs any more."""
        if self.collection.is_writer:
            needed = {name for identifier in self.open for name in (self.file(identifier), self.lines(identifier))}
            for given in self.folder.list():
                if given not in needed:
                    _remove(self.folder, given)
        name = self.collection.name
        self.jobs = (
            lanes.job("tasks", f"tasks of collection {name}", lambda: self._step(beside=False)),
            lanes.job("copies", f"snapshots of collection {name}", lambda: self._step(beside=True)),
        )
        self.wake()

    def stop(self) -> None:
        """Interrupts what runs, each at its next batch, and waits for it."""
        for job in self.jobs:
            job.stop()
        for job in self.jobs:
            job.join()

    def wake(self, *, hurry: bool = False) -> None:
        for job in self.jobs:
            job.wake(hurry=hurry)

    def taken_over(self) -> None:
        """Another process wrote the collection, and perhaps tasks, until now."""
        self._stale = True
        self.wake()

    def refresh(self) -> None:
        """Reads what another machine has noted of tasks. Raises Damaged."""
        self._read()

    @property
    def known(self) -> Mapping[str, Known]:
        """By id, all that are remembered; as of now."""
        with self._lock:
            return dict(self._known)

    @property
    def open(self) -> Mapping[str, Known]:
        """Those that have not ended, the oldest first."""
        found = [one for one in self.known.items() if one[1].state not in ENDED]
        return dict(sorted(found, key=lambda one: one[1].number))

    @property
    def states(self) -> Counter[State]:
        """How many are in each state."""
        return Counter(known.state for known in self.known.values())

    def require_ended(self) -> None:
        """Raises Conflict (task_running) where one has not ended."""
        for identifier in self.open:
            # As whoever asks sees it: an end is durable a moment before it is noted here.
            task = self.get(identifier)
            if task.state not in ENDED:
                raise not_ended(identifier, self.collection.name, task.kind, task.state)

    def submit(
        self, kind: str, params: Mapping[str, Any], identifier: str | None = None, also: Also | None = None
    ) -> Task:
        """A new task, durable when this returns. also: more to do in the same transaction."""
        task = Task(identifier or uuid4().hex, self.collection.name, kind, params=params, created=now())

        def insert(txn: sqlite3.Connection) -> tuple[int, list[str]]:
            number = insert_task(txn, task)
            old = "SELECT number FROM tasks ORDER BY number DESC LIMIT -1 OFFSET ?"
            forgotten = []
            for (late,) in txn.execute(old, (KEPT,)).fetchall():
                found = read_task(txn, late, self.collection.name)
                if found.state in ENDED:
                    forget_task(txn, late)
                    forgotten.append(found.id)
            if also is not None:
                also(txn, task)
            return number, forgotten

        try:
            number, forgotten = self.collection.record(insert)
        except BaseException:
            # It may be committed all the same, where what came after the commit failed.
            self.taken_over()
            raise
        with self._lock:
            self._note(number, task)
            for gone in forgotten:
                self._known.pop(gone, None)
        self.wake()
        return task

    @property
    def folder(self) -> Directory:
        """Where what was given with tasks lies until they have ended."""
        return self.collection.files.folder(IMPORTS)

    def file(self, identifier: str) -> str:
        """The name of what was given with a task."""
        return f"{identifier}.ndjson"

    def lines(self, identifier: str) -> str:
        """The name of the lines that were made of it."""
        return f"{identifier}.lines.ndjson"

    def all(self) -> list[Task]:
        """The newest first, without their errors. Raises Damaged."""
        with self.collection.database.read() as connection:
            return every_task(connection, self.collection.name)

    def get(self, identifier: str, errors_after: int = -1, most: int = LISTED) -> Task:
        """One task, with the errors of lines after ``errors_after``, so many at most. Raises NotFound."""
        known = self._known.get(identifier)
        if known is None:
            raise NotFound(f"there is no task {identifier!r}", code="task_not_found")
        with self.collection.database.read() as connection:
            errors = connection.execute(
                "SELECT * FROM task_errors WHERE task = ? AND line > ? ORDER BY line LIMIT ?",
                (known.number, errors_after, most),
            ).fetchall()
            task = read_task(connection, known.number, self.collection.name)
        if any(row_sum(*error[:-1]) != error[-1] for error in errors):
            raise self.collection.database.damaged(f"the errors of task {identifier}")
        return replace(task, errors=tuple(TaskError(*error[1:-1]) for error in errors))

    def cancel(self, identifier: str) -> Task:
        """Asks a task to stop; an ended one stays as it is. Changes that it has applied stay. Raises NotFound."""
        if self.get(identifier).state not in ENDED:
            self.collection.require_writer()
            # Under the lock, so that it does not start between our look and its end.
            with self._lock:
                self._cancelled.add(identifier)
                running = self.running(identifier)
                if running.task.state == "queued":
                    self._end(running, "cancelled")
            self.wake(hurry=True)
        return self.get(identifier)

    def check(self, identifier: str) -> None:
        """Raises Cancelled or Stopping."""
        if self._stopping:
            raise Stopping
        if identifier in self._cancelled:
            raise Cancelled

    @property
    def _stopping(self) -> bool:
        return any(job.stopping for job in self.jobs)

    def running(self, identifier: str) -> Running:
        """A task for its handler, as the database has it."""
        number = self._known[identifier].number
        with self.collection.database.read() as connection:
            return Running(self, number, read_task(connection, number, self.collection.name))

    def _step(self, *, beside: bool) -> float | None:
        """Runs the next task; beside: of those that only copy."""
        if self._stale:
            self._read()
        identifier = next((one for one, known in self.open.items() if self._is_next(known, beside=beside)), None)
        if identifier is None:
            return None
        if not self.collection.take_over():
            return background.RETRY_S
        try:
            self.work(self.running(identifier))
        except Stopping:
            return None
        except BaseException:
            self._stale = True
            raise
        # A snapshot may have waited for a rebuild.
        self.wake()
        return None

    def _is_next(self, known: Known, *, beside: bool) -> bool:
        # Tasks that need the indexes wait for the rebuild, which makes them.
        return (known.kind in BESIDE) == beside and not (self.collection.salvaged and known.kind != "rebuild")

    def work(self, running: Running) -> None:
        """Runs a task to its end. Raises what it has to wait for, and Stopping."""
        try:
            with self._lock:
                running.check()
                # It may have been cancelled since it was read.
                running.task = self.running(running.task.id).task
                ended = running.task.state in ENDED
                if not ended:
                    running.update(state="running")
                self._note(running.number, running.task)
            if ended:
                return
            self._handlers[running.task.kind](self.collection, running)
        except Cancelled:
            self._end(running, "cancelled")
        except Failed:
            self._end(running, "failed")
        except SheafError as error:
            if _passes(error):
                # An accepted task is done as soon as it can be.
                raise
            running.fail_lines([TaskError(0, error.code, error.message)])
            self._end(running, "failed")
        except Stopping:
            raise
        except Exception as error:
            # A stopping collection may have lost its folder to another.
            if of_the_disk(error) or isinstance(error, MemoryError) or self._stopping:
                raise
            # A fault of ours ends the task, not those after it.
            log.exception("task %s of %s failed", running.task.id, self.collection.name)
            running.fail_lines([TaskError(0, "internal", f"{type(error).__name__}; the log has the details")])
            self._end(running, "failed")
        else:
            self._end(running, "succeeded")

    def _end(self, running: Running, state: State) -> None:
        whole = running.task.total if state == "succeeded" else None
        running.update(
            state=state, phase="done", finished=now(), eta_s=None, done=running.task.done if whole is None else whole
        )
        for name in (running.file, running.lines):
            _remove(running.folder, name)
        with self._lock:
            self._note(running.number, running.task)
            self._cancelled.discard(running.task.id)

    def _note(self, number: int, task: Task) -> None:
        self._known[task.id] = Known(number, task.kind, task.created, task.state)

    def _read(self) -> None:
        """Reads the tasks from the database. Raises Damaged."""
        with self._lock:
            with self.collection.database.read() as connection:
                found = list(numbered(connection, self.collection.name))
            self._known.clear()
            for number, task in reversed(found):
                self._note(number, task)
            self._stale = False


def _passes(error: SheafError) -> bool:
    """Whether a task has to wait for its end."""
    waits = isinstance(error, StorageFull | SystemFault | EncoderUnavailable | Unavailable)
    return waits or error.code == "collection_busy"


def _remove(folder: Directory, name: str) -> None:
    """Removes a file that no task needs any more. One the disk does not let go is tried again at the next start."""
    try:
        folder.remove(name)
    except OSError as error:
        log.warning("%s of %s cannot be removed: %s", name, folder.name, error)
