"""Reads everything that a collection has on disk, and says what is not what was written.

Opening a collection checks its small files, and a query the blocks that it reads; a block that nobody asks for can rot
unseen. This reads all: every row, every block of every file, every accepted body, every snapshot. It takes no lock and
changes nothing, so it may run beside a server.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from app.backup.saved import described, read_description
from app.catalogue.aliases import ALIASES, read_aliases
from app.collection.chunks import ChunkStore
from app.collection.segment import BY_ROWS, MANIFEST, Segment, SegmentRecord
from app.collection.spec import CollectionSpec
from app.collection.view import Generation
from app.errors import Damaged, SheafError, StoreError, SystemFault
from app.store.database import Database, get_record
from app.store.directory import Directory
from app.store.files import BLOCK, FileRecord, load_array
from app.store.layout import DATABASE, ENCODINGS, IMPORTS, MARK, PARTLY, SEGMENTS, SNAPSHOTS, TAIL
from app.store.local_directory import LocalDirectory
from app.store.requests import check_answers
from app.store.rows import parse_row, row_sum
from app.store.system import system_fault
from app.tasks.importing import body_sum
from app.tasks.records import ENDED, every_task

REBUILD: Final = "POST /v1/collections/{name}/rebuild makes it anew from the documents"
RESTORE: Final = "restore a backup of the collection"
SEND_AGAIN: Final = "cancel its task, and send the import again"
DISCARD: Final = "delete the snapshot, and take another"
MEND: Final = "mend what it names, and scrub again: it is no damage"
SET_AGAIN: Final = "stop the server, remove the file, start, and set the aliases again"
IRREPLACEABLE: Final = frozenset({"raw.npy", "raw.offsets.npy", "seqs.npy", "owners.npy", MANIFEST})
"""Files of a segment by which callers' own vectors are found; nothing can make them anew."""
ALONE: Final = frozenset(
    {"pooled.npy", "tokens.offsets.npy", "tokens.npy", "norms.npy", "seqs.npy", "owners.npy", MANIFEST}
)
"""The same where callers' own vectors are not kept as they came: then what is stored of them is all there is."""
GIVEN_SPARSE: Final = frozenset({"sparse.npy", "sparse.offsets.npy", "seqs.npy", "owners.npy", MANIFEST})
"""The same of callers' sparse vectors."""
CARRIED: Final = frozenset({"values.npy", "values.offsets.npy", "seqs.npy", "owners.npy", MANIFEST})
"""The same of what documents carry."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Damage. file: from the folder of the collections. block: of 1 MiB, where it is known. remedy: what to do."""

    file: str
    what: str
    remedy: str
    block: int | None = None


@dataclass(slots=True)
class Scrubbed:
    """The amount that was read: bytes of files and rows of the database."""

    bytes: int = 0
    rows: int = 0


def scrub(root: Path, name: str, read: Scrubbed | None = None) -> Iterator[Finding]:
    """One collection, and the snapshots that are kept of it. read: counts what was read."""
    read, files = Scrubbed() if read is None else read, LocalDirectory(root)
    database = Database(root / name, name)
    try:
        yield from _collection(files, name, database, read)
    except SystemFault as error:
        yield Finding(name, error.message, MEND)
    except (OSError, sqlite3.Error) as error:
        yield Finding(name, system_fault(error).message, MEND)
    finally:
        database.close()
    yield from _snapshots(files.folder(SNAPSHOTS).folder(name), read)


def scrub_aliases(root: Path) -> Iterator[Finding]:
    """The one file that belongs to no collection."""
    try:
        read_aliases(LocalDirectory(root))
    except Damaged as error:
        yield Finding(ALIASES, error.message, SET_AGAIN)
    except SystemFault as error:
        yield Finding(ALIASES, error.message, MEND)


def _collection(root: Directory, name: str, database: Database, read: Scrubbed) -> Iterator[Finding]:
    found = list(_database(database, name, read))
    read.bytes += database.nbytes
    yield from found
    try:
        with database.read() as connection:
            spec = get_record(connection, "spec", name, CollectionSpec.from_json)
    except (StoreError, TypeError, ValueError):
        return
    needed = frozenset[str]() if spec.model is not None else IRREPLACEABLE if spec.keeps_raw else ALONE
    if spec.given_sparse:
        needed |= GIVEN_SPARSE
    if spec.values is not None:
        needed |= CARRIED
    # A server beside us may replace files while we read; what is still named when it was found wrong is wrong.
    for finding in _files(root, name, needed, database, read):
        if finding.file in _named(root, name, database):
            yield finding
    if not found:
        yield from _rows_held(root, name, database)


def _database(database: Database, name: str, read: Scrubbed) -> Iterator[Finding]:
    """Every record and row, by its checksum; then SQLite's own view of its pages."""
    file = f"{name}/{DATABASE}"
    try:
        database.check()
    except StoreError as error:
        at_fault = f"{name}/{MARK}" if error.message.startswith(MARK) else file
        yield Finding(at_fault, error.message, RESTORE)
    try:
        with database.read() as connection:
            for row in connection.execute("SELECT * FROM documents"):
                read.rows += 1
                parse_row(row, name)
            read.rows += len(every_task(connection, name))
            for row in connection.execute("SELECT * FROM task_errors"):
                read.rows += 1
                if row_sum(*row[:-1]) != row[-1]:
                    raise database.damaged(f"an error of task {row[0]}")
            read.rows += check_answers(connection, database)
    except SheafError as error:
        yield Finding(file, error.message, RESTORE)
    try:
        with database.read() as connection:
            wrong = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(3)") if line != "ok"]
        if wrong:
            yield Finding(file, f"SQLite: {'; '.join(wrong)[:300]}", RESTORE)
    except SheafError as error:
        yield Finding(file, error.message, RESTORE)


def _named(root: Directory, name: str, database: Database) -> set[str]:
    """The files that the database names now, but for those of segments whose manifest cannot be read."""
    try:
        with database.read() as connection:
            generation = get_record(connection, "generation", name, Generation.from_json)
            chunks = [file for (file,) in connection.execute("SELECT file FROM tail")]
            tasks = every_task(connection, name)
    except SheafError:
        return set()
    found = {f"{name}/{TAIL}/{file}" if file else f"{name}/{DATABASE}" for file in chunks}
    found |= {f"{name}/{IMPORTS}/{task.id}.ndjson" for task in tasks if task.state not in ENDED}
    if generation.stage is not None:
        found.add(f"{name}/{ENCODINGS}/{generation.stage.file}")
    segments = root.folder(name).folder(SEGMENTS)
    for record in generation.segments:
        folder = f"{name}/{SEGMENTS}/{record.name}"
        found.add(f"{folder}/{MANIFEST}")
        try:
            found |= {f"{folder}/{file}" for file in Segment(segments.folder(record.name), record).files}
        except StoreError:
            continue
    return found


def _files(root: Directory, name: str, needed: frozenset[str], database: Database, read: Scrubbed) -> Iterator[Finding]:
    """needed: files of a segment that nothing can make anew; none where an encoder can."""
    try:
        with database.read() as connection:
            generation = get_record(connection, "generation", name, Generation.from_json)
            tasks = every_task(connection, name)
    except SheafError:
        return  # told of already
    files = root.folder(name)
    for record in generation.segments:
        segment = files.folder(SEGMENTS).folder(record.name)
        yield from _segment(segment, f"{name}/{SEGMENTS}/{record.name}", record, needed, read)
    if generation.stage is not None and generation.stage.record is not None:
        file = str(generation.stage.file)
        fitted = files.folder(ENCODINGS)
        yield from _blocks(fitted, f"{name}/{ENCODINGS}", file, generation.stage.record, REBUILD, read)
    chunks, start = ChunkStore(files, name), 0
    while start >= 0:
        start = yield from _chunks_from(name, bool(needed), database, chunks, start, read)
    for task in tasks:
        params = task.params or {}
        if task.kind == "import" and task.state not in ENDED and "crc32" in params:
            body = f"{task.id}.ndjson"
            if body_sum(files.folder(IMPORTS), body) != params["crc32"]:
                yield Finding(f"{name}/{IMPORTS}/{body}", "it is not the body that was accepted", SEND_AGAIN)


def _segment(
    files: Directory, folder: str, record: SegmentRecord, needed: frozenset[str], read: Scrubbed
) -> Iterator[Finding]:
    """files: of the segment. folder: from the folder of the collections."""

    def remedy(file: str) -> str:
        return RESTORE if file in needed else REBUILD

    try:
        segment = Segment(files, record)
    except StoreError as error:
        yield Finding(f"{folder}/{MANIFEST}", error.message, remedy(MANIFEST))
        return
    for file, written in segment.files.items():
        yield from _blocks(files, folder, file, written, remedy(file), read)


def _blocks(
    files: Directory, folder: str, name: str, written: FileRecord, remedy: str, read: Scrubbed
) -> Iterator[Finding]:
    """Every block of one file. files, folder: as in ``_segment``."""
    file = f"{folder}/{name}"
    partly = name in BY_ROWS and files.parent.parent.has(PARTLY)
    try:
        size = files.size(name)
        if size != written.size:
            yield Finding(file, f"expected {written.size:,} bytes, found {size:,}", remedy)
        with files.open(name) as content:
            for number, expected in enumerate(written.checksums):
                block = content.read(BLOCK)
                read.bytes += len(block)
                if zlib.crc32(block) != expected and not (partly and not any(block)):
                    yield Finding(file, "the checksum differs", remedy, number)
    except FileNotFoundError:
        yield Finding(file, "the file is missing", remedy)
    except SystemFault as error:
        yield Finding(file, error.message, MEND)
    except OSError as error:
        yield Finding(file, f"the disk cannot read it: {error.strerror}", remedy)


def _chunks_from(
    name: str, own: bool, database: Database, chunks: ChunkStore, start: int, read: Scrubbed
) -> Generator[Finding, None, int]:
    """The chunks of the tail, up to the first that is damaged; where to go on, -1 at the end."""
    remedy, at = RESTORE if own else REBUILD, start
    try:
        with database.read() as connection:
            for seqs, passages in chunks.read(connection, start):
                at = int(seqs[-1]) + 1
                read.bytes += passages.nbytes
        return -1
    except SheafError as error:
        with database.read() as connection:
            row = connection.execute(
                "SELECT first, count, file FROM tail WHERE first >= ? ORDER BY first", (at,)
            ).fetchone()
        if row is None:
            return -1
        first, count, file = row
        yield Finding(f"{name}/{TAIL}/{file}" if file else f"{name}/{DATABASE}", error.message, remedy)
        return int(first) + max(1, int(count)) if isinstance(first, int) and isinstance(count, int) else -1


def _rows_held(root: Directory, name: str, database: Database) -> Iterator[Finding]:
    """Whether segments and tail hold what the database says stands, less what is dead."""
    try:
        with database.read() as connection:
            generation = get_record(connection, "generation", name, Generation.from_json)
            live = np.array(connection.execute("SELECT seq FROM live").fetchall(), np.int64).ravel()
            dead = np.array(connection.execute("SELECT seq FROM dead").fetchall(), np.int64).ravel()
            chunks = connection.execute("SELECT first, count FROM tail").fetchall()
            held = [np.arange(first, first + count, dtype=np.int64) for first, count in chunks]
            for record in generation.segments:
                segment = Segment(root.folder(name).folder(SEGMENTS).folder(record.name), record)
                held.append(load_array(segment.folder, "seqs.npy", segment.files["seqs.npy"]))
    except StoreError:
        return  # told of already, or replaced meanwhile
    found = np.setdiff1d(np.concatenate([np.zeros(0, np.int64), *held]), dead)
    if not np.array_equal(found, np.sort(live)):
        what = f"expected vectors of {len(live):,} documents, found {len(found):,}, or of other ones"
        yield Finding(f"{name}/{DATABASE}", what, RESTORE)


def _snapshots(folder: Directory, read: Scrubbed) -> Iterator[Finding]:
    """folder: with the snapshots of one collection."""
    for identifier in described(folder):
        at = f"{SNAPSHOTS}/{folder.name}/{identifier}"
        try:
            expected = read_description(folder, identifier).sha256
        except FileNotFoundError:
            continue  # deleted meanwhile
        except (Damaged, SystemFault) as error:
            yield Finding(f"{at}.json", error.message, MEND if isinstance(error, SystemFault) else DISCARD)
            continue
        try:
            with folder.open(f"{identifier}.tar") as archive:
                found = hashlib.file_digest(archive, "sha256").hexdigest()
                read.bytes += archive.tell()
        except FileNotFoundError:
            if folder.has(f"{identifier}.json"):
                yield Finding(f"{at}.tar", "the archive is missing", DISCARD)
            continue
        except SystemFault as error:
            yield Finding(f"{at}.tar", error.message, MEND)
            continue
        except OSError as error:
            yield Finding(f"{at}.tar", f"the disk cannot read it: {error.strerror}", DISCARD)
            continue
        if found != expected:
            yield Finding(f"{at}.tar", "the archive is not what was written", DISCARD)
