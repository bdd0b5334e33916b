"""Commits of a store's log, applied to the local copy: all that were read in one transaction, durable when it ends.

Nobody else writes the copy meanwhile: who applies holds the writer's lock, or is the writer between two writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from uuid import uuid4

from app.errors import Damaged
from app.objects.protocol import Objects
from app.replicas.files import fetch, names_of, read_into, stored, sweep
from app.replicas.position import position_of, put_position, read_position
from app.replicas.rows import apply, prepare
from app.replication.protocol import Commit, Stored
from app.store.database import Database, read_state
from app.store.directory import Directory
from app.store.faults import reach
from app.store.layout import DATABASE, ENCODINGS, IMPORTS, SEGMENTS, TAIL
from app.store.mark import create_mark, write_mark
from app.store.system import room

BATCH = 256
"""Commits of one transaction, at most."""


def advance(files: Directory, database: Database, objects: Objects, history: str, commits: Sequence[Commit]) -> None:
    """Applies what comes after the copy's last commit. database: of the copy, with no home.

    Raises StoreUnavailable, StorageFull, Damaged; what was applied before stands then.
    """
    name = database.name
    for start in range(0, len(commits), BATCH):
        some = commits[start : start + BATCH]
        with room(), database.write(len(some)) as txn:
            before = set(stored(txn, name))
            prepare(txn)
            for commit in some:
                apply(txn, commit.content, name)
            put_position(txn, history, some[-1].number, some[-1].chain, read_state(txn).commits)
            records = stored(txn, name)
            if records.keys() - before:
                fetch(files, {unit: one for unit, one in records.items() if unit not in before}, objects)
            reach("commits.applied")
        if before - records.keys():
            sweep(files, records)
            with suppress(sqlite3.Error):
                database.reclaim()


def after(commits: Sequence[Commit], number: int) -> list[Commit]:
    return [commit for commit in commits if commit.number > number]


def install(files: Directory, name: str, objects: Objects, history: str, base: Stored, number: int, chain: str) -> None:
    """A local copy of a base in a folder that has none. Raises StoreUnavailable, StorageFull, Damaged."""
    with room():
        files.make()
        for place in (SEGMENTS, TAIL, ENCODINGS, IMPORTS):
            files.folder(place).make()
        new = files.create(DATABASE)
        try:
            read_into(new.write, objects, base)
            new.finish()
        finally:
            new.close()
        with closing(sqlite3.connect(files.path / DATABASE, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            commits = read_state(connection).commits
        create_mark(files.path)
        write_mark(files.path, commits)
        with closing(Database(files.path, name)) as database:
            database.check()
            found, _ = position_of(database)
            if found is None or (found.history, found.number, found.chain) != (history, number, chain):
                raise Damaged(
                    f"the base {base.name} of collection {name} holds another state than the log says. Restore the "
                    "collection from a snapshot."
                )
            with database.read() as connection:
                records = stored(connection, name)
        fetch(files, records, objects)
        files.sync()


def base_of(files: Directory) -> str:
    """A consistent, compact copy of the database, beside it; its file name, to be removed."""
    name = f".base-{uuid4().hex}"
    with room(), closing(sqlite3.connect(f"file:{(files.path / DATABASE).absolute()}?mode=ro", uri=True)) as connection:
        connection.execute("VACUUM INTO ?", (str(files.path / name),))
    return name


def read_base(path: Directory, file: str, name: str) -> tuple[int, list[str]]:
    """Of a copy of a database: the number of its last commit in the log, and names of the objects that it needs."""
    with closing(sqlite3.connect(path.path / file)) as connection:
        found = read_position(connection, name)
        assert found is not None, "only a collection that is in a store has bases"
        return found.number, names_of(stored(connection, name))
