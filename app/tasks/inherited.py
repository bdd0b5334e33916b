"""Inheritance of a collection that takes another's place: tasks that can still be asked for, and the numbers that were
given, which are never given twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from app.errors import Damaged, FormatTooNew, SystemFault
from app.store.database import Database, read_state, write_counters
from app.tasks.records import ENDED, Task, not_ended, now, numbered, update_task


def inherit(former: Path, staged: Path, name: str, end: int, *, idle: bool) -> None:
    """From the folder of one collection to that of another, neither of which is open.

    end: the sequence number that the former would give next, as far as it is known. idle: whether nothing can go on
    with tasks that have not ended, since the former cannot be opened: they are cancelled then. Of a former one that is
    too damaged for it no task is had. Raises Conflict (task_running), StorageFull.
    """
    with closing(Database(former, name)) as source, closing(Database(staged, name)) as target:
        try:
            with target.write() as txn, source.read() as connection:
                _pass_on(connection, txn, name, idle=idle)
                _advance(txn, max(end, read_state(connection).next_seq))
        except (Damaged, FormatTooNew, SystemFault):
            with target.write() as txn:
                _advance(txn, end)


def _pass_on(connection: sqlite3.Connection, txn: sqlite3.Connection, name: str, *, idle: bool) -> None:
    unfinished: list[tuple[int, Task]] = []
    for number, task in numbered(connection, name):
        if task.state not in ENDED:
            if not idle:
                raise not_ended(task.id, name, task.kind, task.state)
            unfinished.append((number, replace(task, state="cancelled", phase="done", finished=now(), eta_s=None)))
    txn.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?)", connection.execute("SELECT * FROM tasks"))
    txn.executemany("INSERT INTO task_errors VALUES (?, ?, ?, ?, ?)", connection.execute("SELECT * FROM task_errors"))
    for number, task in unfinished:
        update_task(txn, number, task)


def _advance(txn: sqlite3.Connection, end: int) -> None:
    """Versions of documents are never used twice, though the collection goes back in time."""
    state = read_state(txn)
    write_counters(txn, max(state.next_seq, end), state.live, state.digest)
