"""Taking a snapshot of a collection while it is written to: its database and its files, of one moment.

The moment is a read transaction, begun while no write is under way. In it, the immutable files that the database names
are hard-linked (a name more, no byte copied; copied where the file system has no links), so that sealing and merging
may remove them meanwhile. Writes go on; SQLite's backup then copies the database as of that transaction.

A snapshot of damaged files would be no safety net, so everything is read and checked on the way.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from app.backup.archive import Entry, Listing, digest
from app.collection.chunks import ChunkStore
from app.collection.collection import Collection
from app.collection.segment import Segment
from app.collection.view import Snapshot
from app.store.database import Database, read_state
from app.store.directory import Directory
from app.store.files import BLOCK, FileRecord, damaged, link_file
from app.store.layout import DATABASE, ENCODINGS, IMPORTS, MARK, SEGMENTS, TAIL, WRITER_LOCK
from app.store.mark import create_mark, write_mark
from app.store.rows import parse_row
from app.store.system import room

Check = Callable[[], None]
"""Called between pieces; raises to give the work up."""

_PAGES: Final = 2_048
"""Of the database, copied between two checks."""
_LEFT_OUT: Final = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", MARK, WRITER_LOCK, IMPORTS})
"""Copied in another way, made anew, or no content of the collection: bodies of imports that are not applied yet."""


def copy_moment(collection: Collection, folder: Directory, check: Check) -> Listing:
    """The collection of one moment, into a new ``folder`` on the same file system; what it holds, checked.

    Raises Damaged, StorageFull, Conflict (another process writes it); the folder is the caller's to remove then.
    """
    with room():
        folder.make()
        with collection.moment(lambda snapshot: _link(collection.files, folder, snapshot)) as snapshot:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            check()
            with closing(sqlite3.connect(folder.path / DATABASE, isolation_level=None)) as target:
                # The archive matters, which is synced.
                target.execute("PRAGMA synchronous = OFF")
                snapshot.connection.backup(target, pages=_PAGES, progress=lambda *_: check(), sleep=0)
            published = snapshot.published
        records: dict[str, FileRecord] = {}
        for view in published.segments:
            of = view.part.record.name
            segment = Segment(folder.folder(SEGMENTS).folder(of), view.part.record)
            records |= {f"{SEGMENTS}/{of}/{name}": record for name, record in segment.files.items()}
        stage = published.generation.stage
        if stage is not None and stage.file is not None and stage.record is not None:
            records[f"{ENCODINGS}/{stage.file}"] = stage.record
        _check_database(folder, collection.name, check)
        entries = tuple(_entries(folder, "", records, check))
    return Listing(collection.name, created, published.live, published.generation.number, entries)


def _link(source: Directory, target: Directory, snapshot: Snapshot) -> None:
    """Names below ``target`` for every file of the moment but the database."""
    stage = snapshot.published.generation.stage
    tail = snapshot.connection.execute("SELECT file FROM tail WHERE file IS NOT NULL").fetchall()
    named = {
        SEGMENTS: {view.part.record.name for view in snapshot.published.segments},
        TAIL: {name for (name,) in tail},
        ENCODINGS: set() if stage is None or stage.file is None else {stage.file},
    }
    for kind in named:
        target.folder(kind).make()
    for name in source.list():
        if name in _LEFT_OUT or name.startswith("."):
            continue
        if name in named:
            for one in sorted(named[name]):
                _link_tree(source.folder(name), one, target.folder(name))
        else:
            # Files that other parts of Sheaf keep in the folder; their own sweeping removes what nothing names.
            _link_tree(source, name, target)


def _link_tree(source: Directory, name: str, target: Directory) -> None:
    """A file, or a folder with all that is in it."""
    if not source.is_folder(name):
        link_file(source, name, target)
        return
    target.folder(name).make()
    for one in source.folder(name).list():
        _link_tree(source.folder(name), one, target.folder(name))


def _check_database(folder: Directory, name: str, check: Check) -> None:
    """Every document and every chunk of the copy, and its mark."""
    database = Database(folder.path, name)
    create_mark(folder.path)
    try:
        with database.read() as connection:
            write_mark(folder.path, read_state(connection).commits)
        database.check()
        check_rows(database, folder, name, check)
    finally:
        database.close()


def check_rows(database: Database, folder: Directory, name: str, check: Check) -> None:
    """Reads every document and every chunk of the tail. Raises Damaged."""
    with database.read() as connection:
        for number, row in enumerate(connection.execute("SELECT * FROM documents")):
            if number % 1_000 == 0:
                check()
            parse_row(row, name)
        lost = "SELECT count(*) FROM live WHERE seq NOT IN (SELECT seq FROM documents)"
        if connection.execute(lost).fetchone() != (0,):
            raise database.damaged("documents that stand have no row")
        for _ in ChunkStore(folder, name).read(connection, 0):
            check()


def _entries(folder: Directory, at: str, records: dict[str, FileRecord], check: Check) -> Iterator[Entry]:
    """Every file of a folder and below, each held against its checksums where it has some. at: path of the folder.

    Raises Damaged.
    """
    for name in folder.list():
        path = f"{at}{name}"
        if folder.is_folder(name):
            yield from _entries(folder.folder(name), f"{path}/", records, check)
        elif name != WRITER_LOCK:
            found: list[int] = []
            entry = digest(folder, name, check, lambda piece, found=found: found.append(zlib.crc32(piece)))  # type: ignore[misc]
            assert BLOCK == 2**20, "the pieces are those that have a checksum each"
            record = records.get(path)
            if record is not None and (record.size != entry.size or record.checksums != tuple(found)):
                raise damaged(folder, name, "its size or a checksum differs")
            yield Entry(path, entry.size, entry.sha256)
