"""Commits of a store's log, applied to the local copy: all that were read in one transaction, durable when it ends.

Nobody else writes the copy meanwhile: who applies holds the writer's lock, or is the writer between two writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from uuid import uuid4

from app.backup.schema import check_schema
from app.errors import Damaged
from app.objects.protocol import Objects
from app.replicas.fetching import Between, Wanted, bring, fetch, know
from app.replicas.files import FOLDERS, check_manifests, check_names, names_of, stored, sweep
from app.replicas.position import position_of, put_position, read_position
from app.replicas.rows import apply, prepare
from app.replication.protocol import Commit, Stored
from app.store.database import Database, read_state
from app.store.directory import Directory
from app.store.faults import reach
from app.store.layout import DATABASE
from app.store.mark import create_mark, write_mark
from app.store.system import room

BATCH = 256
"""Commits of one transaction, at most."""


Coming = Callable[[str, sqlite3.Connection], object]
"""Told the collection, and the transaction under way, when it names files that were not here, before it ends."""


def nobody(name: str, connection: sqlite3.Connection) -> None:
    """Is told where segments are searched by the server itself."""


def advance(
    files: Directory,
    database: Database,
    objects: Objects,
    history: str,
    commits: Sequence[Commit],
    between: Between = lambda: None,
    coming: Coming = nobody,
    *,
    whole: bool = False,
) -> None:
    """Applies what comes after the copy's last commit, and nothing else. database: of the copy, with no home. whole: of
    a copy that has no files yet, in one transaction: what the last state needs is brought at once.

    Raises StoreUnavailable, StorageFull, Damaged, also where the first is not the next of the copy or one is left out,
    and what ``between`` does; what was applied before stands then.
    """
    name = database.name
    for some in [commits] if whole else [commits[start : start + BATCH] for start in range(0, len(commits), BATCH)]:
        with room(), database.write(len(some)) as txn:
            _require_next(txn, name, some)
            before = {} if whole else stored(txn, name)
            prepare(txn)
            for commit in some:
                apply(txn, commit.content, name)
            if some:
                put_position(txn, history, some[-1].number, some[-1].chain, read_state(txn).commits)
            records = stored(txn, name)
            check_names(txn, name)
            if new := {unit: one for unit, one in records.items() if unit not in before}:
                fetch(files, new, objects, between)
                check_manifests(txn, files, name, new)
                coming(name, txn)
            if not whole:
                # Before anybody sees what they are of; and what is seen until then, and after if this does not stand.
                know(files, {**before, **records}, objects)
            reach("commits.applied")
        if before.keys() - records.keys():
            sweep(files, records)
            know(files, records, objects)
            with suppress(sqlite3.Error):
                database.reclaim()


def _require_next(connection: sqlite3.Connection, name: str, commits: Sequence[Commit]) -> None:
    """Raises Damaged: applied after another one than its own, a commit would make a state that nobody had."""
    position = read_position(connection, name)
    expected = 1 if position is None else position.number + 1
    for commit in commits:
        if commit.number != expected:
            raise Damaged(
                f"the copy of collection {name} goes on with commit {expected:,}, and got {commit.number:,}: the log "
                "is read again"
            )
        expected += 1


def after(commits: Sequence[Commit], number: int) -> list[Commit]:
    return [commit for commit in commits if commit.number > number]


def begin(files: Directory, objects: Objects, base: Stored, between: Between = lambda: None) -> None:
    """Brings a base into a folder that has none, or an unfinished one, whose finished files are kept.

    Raises StoreUnavailable, StorageFull, Damaged, and what ``between`` does.
    """
    with room():
        files.make()
        for left in files.list():
            if left not in (*FOLDERS, DATABASE):
                files.remove(left)
        for place in FOLDERS:
            files.folder(place).make()
        bring(objects, [Wanted(files, DATABASE, base)], between)


def install(files: Directory, name: str, history: str, base: Stored, number: int, chain: str) -> None:
    """Makes the copy's database of a base that was brought. Raises StorageFull, Damaged where the database is not one
    that a collection has, or of another state."""
    with room():
        # Before any other statement: what a database has beside our tables runs, or answers in their place.
        check_schema(files.path / DATABASE)
        with closing(sqlite3.connect(files.path / DATABASE, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
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
