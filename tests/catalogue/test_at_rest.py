"""The cost of a server while nobody asks it for anything: nothing, however much it holds."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made import OpenCatalogue

from app.ingest import write_documents
from app.store.database import Database
from app.tasks.records import Task, insert_task
from app.types import Document

ENDED = 600
COLLECTIONS = 40
VECTOR = np.ones((1, 2), np.float32)


def switches(threads: set[threading.Thread]) -> dict[str, int]:
    """How often each was given a processor."""
    found = {}
    for thread in threads:
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        found[thread.name] = sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
    return found


def test_an_idle_server_reads_nothing_and_wakes_no_thread(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_catalogue() as catalogue:
        for number in range(COLLECTIONS):
            catalogue.create(f"c{number}", model=None, kind="dense", dim=2)
        ended = [Task(f"{n:032x}", "c0", "import", "succeeded", created=f"2026-01-01T{n:05}") for n in range(ENDED)]
        catalogue.get("c0").record(lambda txn: [insert_task(txn, task) for task in ended])

    statements: list[str] = []
    connect = Database._connect

    def connected(database: Database) -> sqlite3.Connection:
        connection = connect(database)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(Database, "_connect", connected)
    before = set(threading.enumerate())
    catalogue = open_catalogue(tasks=True, seal_documents=5)
    catalogue.serve("http://here")
    for name in ("c0", "c1"):
        write_documents(catalogue.get(name), [Document(f"d{i}", f"text {i}", vectors=VECTOR) for i in range(10)])
    assert statements
    begun = set(threading.enumerate()) - before
    assert 0 < len(begun) <= 30
    # Until what was due is done.
    deadline = time.monotonic() + 60
    rested: dict[str, int] = {}
    while rested != (rested := switches(begun)):
        assert time.monotonic() < deadline, rested
        time.sleep(0.3)
    statements.clear()
    time.sleep(2.5)
    assert switches(begun) == rested
    assert statements == []
    assert set(threading.enumerate()) - before == begun

    # Kept tasks are there for a caller who asks, and cost that one what is shown.
    found, following = catalogue.list_tasks(limit=10)
    assert [task.id for task in found] == [task.id for task in ended[:-11:-1]]
    assert 0 < len(statements) <= 10 * 4
    statements.clear()
    again, _ = catalogue.list_tasks(limit=10, cursor=following)
    assert [task.id for task in again] == [task.id for task in ended[-11:-21:-1]]
    assert catalogue.task_states() == {"succeeded": ENDED}
    assert len(statements) <= 10 * 4
