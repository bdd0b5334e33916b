"""Taking a snapshot of a collection while it is written to: its database and its files, of one moment.

The moment is a read transaction, begun while no write is under way. In it, the immutable files that the database names
are hard-linked (a name more, no byte copied; copied where the file system has no links), so that sealing and merging
may remove them meanwhile. Writes go on; SQLite's backup then copies the database as of that transaction.

A snapshot of damaged files would be no safety net, so everything is read and checked on the way.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from app.backup.archive import Entry, Listing, digest
from app.collection.chunks import ChunkStore
from app.collection.collection import Collection
from app.collection.segment import Segment
from app.collection.view import Snapshot
from app.store.database import Database, read_state
from app.store.files import BLOCK, FileRecord, damaged, link_file, room
from app.store.layout import DATABASE, ENCODINGS, IMPORTS, MARK, SEGMENTS, TAIL, WRITER_LOCK
from app.store.mark import create_mark, write_mark
from app.store.rows import parse_row

Check = Callable[[], None]
"""Called between pieces; raises to give the work up."""

_PAGES: Final = 2_048
"""Of the database, copied between two checks."""
_LEFT_OUT: Final = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", MARK, WRITER_LOCK, IMPORTS})
"""Copied in another way, made anew, or no content of the collection: bodies of imports that are not applied yet."""


def copy_moment(collection: Collection, folder: Path, check: Check) -> Listing:
    """The collection of one moment, into a new ``folder`` on the same file system; what it holds, checked.

    Raises Damaged, StorageFull, Conflict (another process writes it); the folder is the caller's to remove then.
    """
    with room():
        folder.mkdir(parents=True)
        with collection.moment(lambda snapshot: _link(collection.folder, folder, snapshot)) as snapshot:
            created = datetime.now(UTC).isoformat(timespec="seconds")
            check()
            with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as target:
                # What matters is the archive, which is synced.
                target.execute("PRAGMA synchronous = OFF")
                snapshot.connection.backup(target, pages=_PAGES, progress=lambda *_: check(), sleep=0)
            published = snapshot.published
        records: dict[str, FileRecord] = {}
        for view in published.segments:
            segment = Segment(folder / SEGMENTS / view.part.record.name, view.part.record)
            at = segment.folder.relative_to(folder).as_posix()
            records |= {f"{at}/{name}": record for name, record in segment.files.items()}
        stage = published.generation.stage
        if stage is not None and stage.file is not None and stage.record is not None:
            records[f"{ENCODINGS}/{stage.file}"] = stage.record
        _check_database(folder, collection.name, check)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != WRITER_LOCK]
        entries = tuple(_entry(path, folder, records, check) for path in files)
    return Listing(collection.name, created, published.live, published.generation.number, entries)


def _link(source: Path, target: Path, snapshot: Snapshot) -> None:
    """Names below ``target`` for every file of the moment but the database."""
    stage = snapshot.published.generation.stage
    tail = snapshot.connection.execute("SELECT file FROM tail WHERE file IS NOT NULL").fetchall()
    named = {
        SEGMENTS: {view.part.record.name for view in snapshot.published.segments},
        TAIL: {name for (name,) in tail},
        ENCODINGS: set() if stage is None or stage.file is None else {stage.file},
    }
    for name in named:
        (target / name).mkdir()
    for path in sorted(source.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("."):
            continue
        if path.name in named:
            for name in sorted(named[path.name]):
                _link_tree(path / name, target / path.name / name)
        else:
            # What other parts of Sheaf keep in the folder; their own sweeping removes what nothing names.
            _link_tree(path, target / path.name)


def _link_tree(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
        for path in sorted(source.iterdir()):
            _link_tree(path, target / path.name)
        return
    link_file(source, target)


def _check_database(folder: Path, name: str, check: Check) -> None:
    """Every document and every chunk of the copy, and its mark."""
    database = Database(folder, name)
    create_mark(folder)
    try:
        with database.read() as connection:
            write_mark(folder, read_state(connection).commits)
        database.check()
        check_rows(database, folder, name, check)
    finally:
        database.close()


def check_rows(database: Database, folder: Path, name: str, check: Check) -> None:
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


def _entry(path: Path, folder: Path, records: dict[str, FileRecord], check: Check) -> Entry:
    """Size and SHA-256 of a file, which is held against its checksums where it has some. Raises Damaged."""
    at = path.relative_to(folder).as_posix()
    found: list[int] = []
    entry = digest(path, check, lambda piece: found.append(zlib.crc32(piece)))
    assert BLOCK == 2**20, "the pieces are those that have a checksum each"
    record = records.get(at)
    if record is not None and (record.size != entry.size or record.checksums != tuple(found)):
        raise damaged(path, "its size or a checksum differs")
    return Entry(at, entry.size, entry.sha256)
