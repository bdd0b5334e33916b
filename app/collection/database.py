"""The document store and the commit point: one SQLite database a collection.

Why SQLite: one commit makes documents, their vectors and the tables that name files durable together
(``journal_mode=WAL, synchronous=FULL``: fsync before the answer), and readers keep a consistent view while a writer
works. What SQLite does not do is notice a flipped bit; so

- every row carries a CRC-32 that is checked whenever it is read, or is summed:
- the ids that are live are counted and summed (a sum of CRC-32s, changed by every write), and checked at open; what is
  dead is what the parts hold beside them;
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

from app.collection.files import file_size, room
from app.collection.spec import FORMAT
from app.errors import Damaged, FormatTooNew, Unavailable
from app.types import Document, Metadata

FILE: Final = "collection.sqlite"
MARK: Final = "commits.mark"

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
-- One row. commits: number of the last commit. purged: deaths up to this commit have lost their document rows.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1), commits INTEGER NOT NULL, next_seq INTEGER NOT NULL,
    live INTEGER NOT NULL, digest INTEGER NOT NULL, purged INTEGER NOT NULL, crc INTEGER NOT NULL);
-- Versions of documents, append-only by sequence number.
CREATE TABLE documents (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, metadata TEXT NOT NULL,
    truncated INTEGER NOT NULL, crc INTEGER NOT NULL);
-- The version of each id that stands.
CREATE TABLE live (id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
-- Versions that a tail chunk or a segment still holds but that stand no more; died: the commit that replaced them.
CREATE TABLE dead (seq INTEGER PRIMARY KEY, died INTEGER NOT NULL);
-- Vectors that are not in a generation yet, one row a write: sequence numbers first to first + count - 1.
CREATE TABLE tail (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, file TEXT, data BLOB, size INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, body TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE task_errors (
    task INTEGER NOT NULL, line INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (task, line)) WITHOUT ROWID;
"""

_SLOT: Final = struct.Struct("<8sQI")
_MAGIC: Final = b"sheafmk1"
_MODULUS: Final = 2**62
_BUSY_S: Final = 30
"""How long a statement waits for another process's lock."""
_DAMAGE: Final = (
    "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_IOERR_READ",
    "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_DATA",
    # Our statements are right for the schema that was written, so another schema is damage ("no such table").
    "SQLITE_ERROR",
)  # fmt: skip


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
        self._closed = False

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
                connection.execute("INSERT INTO state VALUES (1, 0, 1, 0, 0, 0, 0)")
                _sum_state(connection)
                connection.execute("COMMIT")
            finally:
                connection.close()
            with (folder / MARK).open("xb") as file:
                file.write(_slot(0) + _slot(0))
                file.flush()
                os.fsync(file.fileno())

    def check(self) -> None:
        """Holds the records, the high-water mark, and the live ids' count and sum to what was written.

        Raises FormatTooNew, Damaged.
        """
        mark = _read_mark(self.folder / MARK, self.name)
        with self.read() as connection:
            found = get_meta(connection, "format", self.name)
            if found > FORMAT:
                raise FormatTooNew(
                    f"collection {self.name} has format {found}, this Sheaf reads up to {FORMAT}: use a newer one"
                )
            for (key,) in connection.execute("SELECT key FROM meta").fetchall():
                get_meta(connection, key, self.name)
            state = read_state(connection)
            if state.commits < mark:
                raise self.damaged(
                    f"the database ends at commit {state.commits:,}, but commit {mark:,} was acknowledged"
                )
            count, digest = 0, 0
            for key, seq in connection.execute("SELECT id, seq FROM live"):
                if not (isinstance(key, bytes) and isinstance(seq, int)):
                    raise self.damaged("a live id or its sequence number has another type")
                count += 1
                digest += live_sum(key, seq)
            if (count, digest % _MODULUS) != (state.live, state.digest):
                raise self.damaged(f"expected {state.live:,} live documents, found {count:,}, or other ones")

    def damaged(self, what: str) -> Damaged:
        """The error for a database that is not what was written."""
        return Damaged(f"{FILE} of collection {self.name} is damaged: {what}. Restore a backup of the collection.")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read inside is of one commit. Raises Damaged, Unavailable after ``close``."""
        connection = None
        try:
            self.require_open()
            try:
                connection = self._readers.get_nowait()
            except queue.Empty:
                with room():
                    connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
            with room():
                connection.execute("BEGIN")
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error
        finally:
            if connection is not None:
                self._give_back(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when the block ends without an error, undone otherwise.

        Raises StorageFull, Damaged, Unavailable after ``close``.
        """
        self.require_open()
        try:
            with room():
                if self._writer is None:
                    self._writer = self._connect()
                connection = self._writer
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    commits = read_state(connection).commits + 1
                    yield connection
                    connection.execute("UPDATE state SET commits = ?", (commits,))
                    _sum_state(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error
        _write_mark(self.folder / MARK, commits)

    def reclaim(self) -> None:
        """Gives the pages of purged rows back to the file system, and empties the write-ahead log if no one reads it.

        Raises StorageFull, Damaged.
        """
        connection = self._writer
        if connection is None:
            return
        try:
            with room():
                connection.execute("PRAGMA incremental_vacuum").fetchall()
                # Waiting for readers would keep writers waiting too; a later checkpoint does what this one leaves.
                connection.execute("PRAGMA busy_timeout = 0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from error
        finally:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")

    @property
    def nbytes(self) -> int:
        """On disk, the write-ahead log included."""
        return sum(file_size(self.folder / f"{FILE}{suffix}") for suffix in ("", "-wal", "-shm"))

    def close(self) -> None:
        """For good: closes every connection, those in use when their transaction ends."""
        self._closed = True
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        while not self._readers.empty():
            self._readers.get_nowait().close()

    def require_open(self) -> None:
        """Raises Unavailable after ``close``."""
        if self._closed:
            raise Unavailable(f"collection {self.name} is closed, or was deleted")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{self._path.absolute()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_S,
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._readers.put(connection)
        if self._closed:
            self.close()

    def _translate(self, error: sqlite3.Error | UnicodeDecodeError) -> Exception:
        # An error without a name comes from the module itself: text that is not UTF-8.
        undecodable = isinstance(error, sqlite3.OperationalError) and not hasattr(error, "sqlite_errorname")
        if (
            isinstance(error, UnicodeDecodeError)
            or undecodable
            or getattr(error, "sqlite_errorname", "").startswith(_DAMAGE)
        ):
            return self.damaged(str(error))
        return error


def live_sum(key: bytes, seq: int) -> int:
    """What one live id adds to the digest."""
    return zlib.crc32(key, zlib.crc32(struct.pack("<q", seq)))


def read_state(connection: sqlite3.Connection) -> State:
    """The counters. Raises Damaged."""
    row, crc = _state_row(connection), connection.execute("SELECT crc FROM state").fetchone()
    if row is None or crc != (row_sum(*row),):
        raise Damaged(f"{FILE} is damaged: its counters. Restore a backup of the collection.")
    return State(*row)


def _state_row(connection: sqlite3.Connection) -> tuple[int, ...] | None:
    row: tuple[int, ...] | None = connection.execute(
        "SELECT commits, next_seq, live, digest, purged FROM state"
    ).fetchone()
    return row


def _sum_state(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE state SET crc = ?", (row_sum(*(_state_row(connection) or ())),))


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
    values = (seq, key, document.title, document.text, metadata, int(truncated))
    connection.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*values, row_sum(*values)),
    )


def fetch_documents(connection: sqlite3.Connection, seqs: Sequence[int], name: str) -> dict[int, Document]:
    """The versions with these sequence numbers. Raises Damaged when one is missing or not what was written."""
    found: dict[int, Document] = {}
    for start in range(0, len(seqs), 500):
        part = [int(seq) for seq in seqs[start : start + 500]]
        marks = ",".join("?" * len(part))
        rows = connection.execute(
            f"SELECT * FROM documents WHERE seq IN ({marks})",
            part,
        )
        for row in rows:
            found[row[0]] = parse_row(row, name)
    for seq in seqs:
        if int(seq) not in found:
            raise Damaged(f"{FILE} of collection {name} is damaged: document row {seq} is missing. Restore a backup.")
    return found


def parse_row(row: tuple[Any, ...], name: str) -> Document:
    """A row of the table ``documents`` -> Document. Raises Damaged."""
    seq, key, title, text, metadata, _, crc = row
    if row_sum(*row[:-1]) != crc:
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


def row_sum(*values: int | str | bytes | None) -> int:
    """The CRC-32 of a row: of its values, their types and lengths, so that nothing can pass from one to the next."""
    crc = 0
    for value in values:
        content = value if isinstance(value, bytes) else str(value).encode()
        crc = zlib.crc32(content, zlib.crc32(f"{type(value).__name__} {len(content)} ".encode(), crc))
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
