"""The document store and the commit point: one SQLite database a collection.

Why SQLite: one commit makes documents, their vectors and the tables that name files durable together
(``journal_mode=WAL, synchronous=FULL``: fsync before the answer), and readers keep a consistent view while a writer
works. What SQLite does not do is notice a flipped bit; so

- every document row and every blob carries a CRC-32 that is checked whenever it is read;
- the ids that are live are counted and summed (a sum of CRC-32s, changed by every write), and checked at open;
- every commit has a number, written after the commit to a file beside the database: a write-ahead log whose damaged
  frames SQLite silently drops at recovery leaves a number that is too low, and the collection is refused.

Document rows are append-only by sequence number: a new version is a new row, so a query that holds an older snapshot
still finds the text it ranked. A row is purged once every published snapshot is past its death.
"""

from __future__ import annotations

import json
import os
import queue
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.collection.files import room
from app.collection.spec import FORMAT
from app.errors import Damaged, FormatTooNew
from app.types import Document, Metadata

FILE: Final = "collection.sqlite"
MARK: Final = "commits.mark"

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
-- One row. commits: number of the last commit. purged: deaths up to this commit have lost their document rows.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1), commits INTEGER NOT NULL, next_seq INTEGER NOT NULL,
    live INTEGER NOT NULL, digest INTEGER NOT NULL, purged INTEGER NOT NULL);
-- Versions of documents, append-only by sequence number.
CREATE TABLE documents (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, metadata TEXT NOT NULL,
    truncated INTEGER NOT NULL, crc INTEGER NOT NULL);
-- The version of each id that stands.
CREATE TABLE live (id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
-- Versions that a tail chunk or a segment still holds but that stand no more; died: the commit that replaced them.
CREATE TABLE dead (seq INTEGER PRIMARY KEY, died INTEGER NOT NULL);
CREATE INDEX dead_by_commit ON dead (died);
-- Vectors that are not in a generation yet, one row a write: sequence numbers first to first + count - 1.
CREATE TABLE tail (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, file TEXT, data BLOB, size INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL);
CREATE TABLE task_errors (
    task INTEGER NOT NULL, line INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (task, line)) WITHOUT ROWID;
"""

_SLOT: Final = struct.Struct("<8sQI")
_MAGIC: Final = b"sheafmk1"
_MODULUS: Final = 2**62


@dataclass(frozen=True, slots=True)
class State:
    """The collection's counters as of one commit."""

    commits: int
    next_seq: int
    live: int
    digest: int
    purged: int


class Database:
    """One collection's database. Writes are serialised by the caller; reads are safe from any thread."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._path = folder / FILE
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._writer: sqlite3.Connection | None = None

    @classmethod
    def create(cls, folder: Path, name: str, meta: dict[str, Any]) -> None:
        """A new database with no document in it, durable when this returns but for the folder's own name."""
        with room():
            connection = sqlite3.connect(folder / FILE, isolation_level=None)
            try:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                put_meta(connection, {"format": FORMAT, **meta})
                connection.execute("INSERT INTO state VALUES (1, 0, 1, 0, 0, 0)")
                connection.execute("COMMIT")
            finally:
                connection.close()
            with (folder / MARK).open("xb") as file:
                file.write(_slot(0) + _slot(0))
                file.flush()
                os.fsync(file.fileno())

    def check(self) -> None:
        """Holds the format, the high-water mark, and the live ids' count and sum to what was written.

        Raises FormatTooNew, Damaged.
        """
        mark = _read_mark(self.folder / MARK, self.name)
        with self.read() as connection:
            found = get_meta(connection, "format", self.name)
            if found > FORMAT:
                raise FormatTooNew(
                    f"collection {self.name} has format {found}, this Sheaf reads up to {FORMAT}: use a newer one"
                )
            state = read_state(connection)
            if state.commits < mark:
                raise self.damaged(
                    f"the database ends at commit {state.commits:,}, but commit {mark:,} was acknowledged"
                )
            count, digest = 0, 0
            for key, seq in connection.execute("SELECT id, seq FROM live"):
                count += 1
                digest += live_sum(key, seq)
            if (count, digest % _MODULUS) != (state.live, state.digest):
                raise self.damaged(f"expected {state.live:,} live documents, found {count:,}, or other ones")

    def damaged(self, what: str) -> Damaged:
        """The error for a database that is not what was written."""
        return Damaged(f"{FILE} of collection {self.name} is damaged: {what}. Restore a backup of the collection.")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read inside is of one commit."""
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.DatabaseError as error:
            raise self._translate(error) from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._readers.put(connection)

    @contextmanager
    def write(self, *, count: bool = True) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when the block ends without an error, undone otherwise.

        count: whether it is a commit with a number of its own (it changes what a query may find).
        """
        if self._writer is None:
            self._writer = self._connect()
        connection = self._writer
        with room():
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                if count:
                    connection.execute("UPDATE state SET commits = commits + 1")
                (commits,) = connection.execute("SELECT commits FROM state").fetchone()
                connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                self._roll_back(connection)
                raise self._translate(error) from error
            except BaseException:
                self._roll_back(connection)
                raise
        if count:
            _write_mark(self.folder / MARK, commits)

    def reclaim(self) -> None:
        """Gives the pages of purged rows back to the file system, and empties the write-ahead log."""
        if self._writer is not None:
            self._writer.execute("PRAGMA incremental_vacuum").fetchall()
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @property
    def nbytes(self) -> int:
        """On disk, the write-ahead log included."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{FILE}*"))

    def close(self) -> None:
        """Closes every connection that is not in use."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        while not self._readers.empty():
            self._readers.get_nowait().close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{self._path.absolute()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=30
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def _translate(self, error: sqlite3.DatabaseError) -> Exception:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self.damaged(str(error))
        return error


def live_sum(key: bytes, seq: int) -> int:
    """What one live id adds to the digest."""
    return zlib.crc32(key, zlib.crc32(seq.to_bytes(8, "little")))


def read_state(connection: sqlite3.Connection) -> State:
    row = connection.execute("SELECT commits, next_seq, live, digest, purged FROM state").fetchone()
    return State(*row)


def write_counters(connection: sqlite3.Connection, next_seq: int, live: int, digest: int) -> None:
    connection.execute("UPDATE state SET next_seq = ?, live = ?, digest = ?", (next_seq, live, digest % _MODULUS))


def put_meta(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    """JSON values by key, each with a checksum."""
    for key, value in values.items():
        text = json.dumps(value, ensure_ascii=False)
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, text, zlib.crc32(f"{key}={text}".encode()))
        )


def get_meta(connection: sqlite3.Connection, key: str, name: str) -> Any:
    """One value. Raises Damaged when it is not there or not what was written."""
    row = connection.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or zlib.crc32(f"{key}={row[0]}".encode()) != row[1]:
        raise Damaged(f"{FILE} of collection {name} is damaged: its {key} record. Restore a backup of the collection.")
    return json.loads(row[0])


def insert_document(connection: sqlite3.Connection, seq: int, document: Document, truncated: bool) -> None:
    """A new version. truncated: whether the encoder's limit cut its text."""
    key = document.id.encode()
    metadata = json.dumps(document.metadata, ensure_ascii=False, separators=(",", ":"))
    crc = _row_sum(seq, key, document.title, document.text, metadata)
    connection.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
        (seq, key, document.title, document.text, metadata, truncated, crc),
    )


def fetch_documents(connection: sqlite3.Connection, seqs: Sequence[int], name: str) -> dict[int, Document]:
    """The versions with these sequence numbers. Raises Damaged when one is missing or not what was written."""
    found: dict[int, Document] = {}
    for start in range(0, len(seqs), 500):
        part = [int(seq) for seq in seqs[start : start + 500]]
        marks = ",".join("?" * len(part))
        rows = connection.execute(
            f"SELECT seq, id, title, text, metadata, crc FROM documents WHERE seq IN ({marks})",
            part,
        )
        for row in rows:
            found[row[0]] = parse_row(row, name)
    for seq in seqs:
        if int(seq) not in found:
            raise Damaged(f"{FILE} of collection {name} is damaged: document row {seq} is missing. Restore a backup.")
    return found


def parse_row(row: tuple[Any, ...], name: str) -> Document:
    """(seq, id, title, text, metadata, crc) -> Document. Raises Damaged."""
    seq, key, title, text, metadata, crc = row
    if _row_sum(seq, key, title, text, metadata) != crc:
        raise Damaged(
            f"{FILE} of collection {name} is damaged: the checksum of document row {seq} differs. Restore a backup."
        )
    parsed: Metadata = json.loads(metadata)
    return Document(key.decode(), text, title, parsed)


def truncated_among(connection: sqlite3.Connection, seqs: Iterable[int]) -> set[int]:
    """Those versions whose text the encoder's limit cut."""
    found = set()
    for seq in seqs:
        row = connection.execute("SELECT truncated FROM documents WHERE seq = ?", (seq,)).fetchone()
        if row is not None and row[0]:
            found.add(seq)
    return found


def find_live(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """id -> sequence number of the version that stands, for those that have one."""
    found: dict[str, int] = {}
    for identifier in ids:
        row = connection.execute("SELECT seq FROM live WHERE id = ?", (identifier.encode(),)).fetchone()
        if row is not None:
            found[identifier] = row[0]
    return found


def _row_sum(seq: int, key: bytes, title: str, text: str, metadata: str) -> int:
    parts = (key, title.encode(), text.encode(), metadata.encode())
    crc = zlib.crc32(struct.pack("<q4I", seq, *map(len, parts)))
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def _slot(commits: int) -> bytes:
    head = _MAGIC + commits.to_bytes(8, "little")
    return _SLOT.pack(_MAGIC, commits, zlib.crc32(head)).ljust(32, b"\0")


def _write_mark(path: Path, commits: int) -> None:
    # Two slots in turn: a torn write of one leaves the other, which is one commit behind.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, _slot(commits), (commits % 2) * 32)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _read_mark(path: Path, name: str) -> int:
    content = path.read_bytes() if path.exists() else b""
    found = []
    for start in (0, 32):
        slot = content[start : start + 32]
        if len(slot) == 32 and slot == _slot(int.from_bytes(slot[8:16], "little")):
            found.append(int.from_bytes(slot[8:16], "little"))
    if not found:
        raise Damaged(f"{MARK} of collection {name} is damaged or missing. Restore a backup of the collection.")
    return max(found)
