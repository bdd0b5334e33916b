"""The document store and the commit point: one SQLite database a collection.

Why SQLite: one commit makes documents, their vectors and the tables that name files durable together
(``journal_mode=WAL, synchronous=FULL``: fsync before the answer), and readers keep a consistent view while a writer
works. SQLite does not notice a flipped bit; so

- every row carries a CRC-32 that is checked whenever it is read, or is summed:
- the ids that are live are counted and summed (a sum of CRC-32s, changed by every write), and checked at open; what is
  dead is what the parts hold beside them;
- every commit has a number, written after the commit to a file beside the database: a write-ahead log whose damaged
  frames SQLite silently drops at recovery leaves a number that is too low, and the collection is refused.

Document rows are append-only by sequence number: a new version is a new row, so a query that holds an older snapshot
still finds the text it ranked. A row is purged once every published snapshot is past its death.

A connection costs two open files, and memory. Each database keeps its own between two uses, but all of a process keep
no more than a number: the one that was unused for longest closes its connections, and opens new ones when it is asked.
It closes all of them or none, since SQLite keeps the file of one that is closed beside others. With the last one SQLite
empties and removes the log. A file opened later must be the same, and reach the mark of commits.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from app.errors import Closed, Damaged, FormatTooNew, StorageFull
from app.store.directory import Home
from app.store.faults import reach
from app.store.files import file_size
from app.store.layout import DATABASE, FORMAT, of_this_version
from app.store.local_directory import LocalDirectory
from app.store.mark import create_mark, read_mark, write_mark
from app.store.rows import live_sum, row_sum
from app.store.system import FULL, of_the_disk, open_files_allowed, room, system_fault

SCHEMA: Final = """
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

T = TypeVar("T")

_MODULUS: Final = 2**62
_COUNTERS: Final = "commits, next_seq, live, digest, purged"
"""Columns, in the order of ``State``."""
_BUSY_S: Final = 30
"""How long a statement waits for another process's lock."""
_KEPT: Final = 128
"""Connections that nobody uses, of all databases of a process: of 64 that are read and written."""
_ALLOWED: Final = 16
"""Of so many files that the process may have open, one connection is kept."""
_VACUUMED: Final = 2**14
"""Pages given back at a time, 64 MiB: writers wait meanwhile."""
_DAMAGE: Final = (
    "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_TOOBIG", "SQLITE_MISMATCH",
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
        self._path = folder / DATABASE
        self._readers: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._opening = threading.Lock()
        """Held while connections are opened, and while unused ones are closed."""
        self.uses = 0
        """Transactions that are under way; for ``IDLE`` alone, under its lock."""
        self._closed = self._checked = False
        self.home: Home | None = None
        """Set before the first write, where there is one."""
        self._file: tuple[int, int] | None = None
        """The device and the number of the file that was opened first."""

    @classmethod
    def create(
        cls, folder: Path, name: str, meta: dict[str, Any], also: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        """A new database with no document in it, durable when this returns but for the folder's own name.

        also: more to do in its first transaction.
        """
        with room():
            connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
            try:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                put_meta(connection, {"format": FORMAT, **meta})
                connection.execute("INSERT INTO state VALUES (1, 0, 1, 0, 0, 0, 0)")
                _sum_state(connection)
                if also is not None:
                    also(connection)
                connection.execute("COMMIT")
            finally:
                connection.close()
            create_mark(folder)

    def check(self) -> None:
        """Holds the records, the high-water mark, and the live ids' count and sum to what was written.

        Raises FormatTooNew, Damaged.
        """
        mark = read_mark(self.folder, self.name)
        with self.read() as connection:
            found = get_meta(connection, "format", self.name)
            if found != FORMAT:
                raise FormatTooNew(
                    f"collection {self.name} has format {found}, this Sheaf reads {FORMAT}: use the version that wrote "
                    "it, or build the collection anew"
                )
            for (key,) in connection.execute("SELECT key FROM meta").fetchall():
                get_meta(connection, key, self.name)
            state = read_state(connection)
            self._require_mark(state, mark)
            count, digest = 0, 0
            for key, seq in connection.execute("SELECT id, seq FROM live"):
                if not (isinstance(key, bytes) and isinstance(seq, int)):
                    raise self.damaged("a live id or its sequence number has another type")
                count += 1
                digest += live_sum(key, seq)
            if (count, digest % _MODULUS) != (state.live, state.digest):
                raise self.damaged(f"expected {state.live:,} live documents, found {count:,}, or other ones")
        self._checked = True

    def damaged(self, what: str) -> Damaged:
        """The error for a database that is not what was written."""
        return Damaged(f"{DATABASE} of collection {self.name} is damaged: {what}. Restore a backup of the collection.")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read inside is of one commit. Raises Damaged, Closed after ``close``."""
        with IDLE.in_use(self):
            connection = None
            fault = False
            try:
                self.require_open()
                with room():
                    connection = self._reader()
                    connection.execute("BEGIN")
                    yield connection
            except (sqlite3.Error, UnicodeDecodeError) as error:
                fault = of_the_disk(error)
                raise self._translate(error) from error
            finally:
                if connection is not None and fault:
                    # It remembers what it could not open, or that it opened for reading alone; a new one looks again.
                    connection.close()
                elif connection is not None:
                    self._give_back(connection)

    @contextmanager
    def write(self, steps: int = 1) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when the block ends without an error, undone otherwise.

        steps: how many commits it stands for, where they are another machine's. Raises StorageFull, Damaged, Closed
        after ``close``, and what ``home`` does.
        """
        with IDLE.in_use(self):
            self.require_open()
            try:
                with room():
                    connection = self._writing()
                    try:
                        connection.execute("BEGIN IMMEDIATE")
                        reach("transaction.begun")
                        commits = read_state(connection).commits + steps
                        yield connection
                        connection.execute("UPDATE state SET commits = ?", (commits,))
                        _sum_state(connection)
                        reach("transaction.filled")
                        if self.home is not None:
                            self.home.put(connection, commits)
                        try:
                            connection.execute("COMMIT")
                        except sqlite3.Error:
                            _cover(connection)
                            raise
                        reach("transaction.committed")
                        if self.home is not None:
                            self.home.done()
                    except BaseException:
                        if connection.in_transaction:
                            connection.execute("ROLLBACK")
                        raise
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if of_the_disk(error) and self._writer is not None:
                    self._writer.close()
                    self._writer = None
                raise self._translate(error) from error
        try:
            write_mark(self.folder, commits)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise StorageFull(
                f"the disk takes no more ({error.strerror}); the request was applied all the same; make room, repeat it"
            ) from error

    def reclaim(self) -> None:
        """Gives the pages of purged rows back to the file system, and empties the write-ahead log if no one reads it.

        Raises StorageFull, Damaged.
        """
        with IDLE.in_use(self):
            connection = self._writing()
            try:
                with room():
                    # A page a step, of which ``execute`` makes one.
                    connection.executescript(f"PRAGMA incremental_vacuum({_VACUUMED})")
                    reach("log.kept")
                    # Waiting for readers would keep writers waiting too; a later checkpoint does what this one leaves.
                    connection.execute("PRAGMA busy_timeout = 0")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                    reach("log.emptied")
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise self._translate(error) from error
            finally:
                connection.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")

    @property
    def nbytes(self) -> int:
        """On disk, the write-ahead log included."""
        folder = LocalDirectory(self.folder)
        return sum(file_size(folder, f"{DATABASE}{suffix}") for suffix in ("", "-wal", "-shm"))

    def close(self) -> None:
        """For good: closes every connection, those in use when their transaction ends."""
        with self._opening:
            self._closed = True
            for connection in IDLE.take(self, closing=True):
                connection.close()

    def rest(self) -> None:
        """Closes every connection, unless one is in use; the next use opens one again."""
        # An opener uses its connection, and is not waited for. ``close`` waits: then the folder may be moved.
        if self._opening.acquire(blocking=False):
            try:
                for connection in IDLE.take(self, closing=False):
                    connection.close()
            finally:
                self._opening.release()

    @property
    def kept(self) -> int:
        """Connections that are open and not in use, where no transaction is under way."""
        return len(self._readers) + (self._writer is not None)

    def part_with(self) -> list[sqlite3.Connection]:
        """The same, which are the caller's now."""
        found = [] if self._writer is None else [self._writer]
        self._writer = None
        while self._readers:
            found.append(self._readers.pop())
        return found

    def require_open(self) -> None:
        """Raises Closed after ``close``."""
        if self._closed:
            raise Closed(f"collection {self.name} is closed, or was deleted")

    def _writing(self) -> sqlite3.Connection:
        if self._writer is None:
            connection = self._connect()
            if self.home is not None:
                self.home.watch(connection)
            self._writer = connection
        return self._writer

    def _reader(self) -> sqlite3.Connection:
        with suppress(IndexError):
            return self._readers.pop()
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Not while it is being closed: then the folder may be moved, and the database's log be another collection's.
        with self._opening:
            self.require_open()
            if self._file is not None:
                self._require_same()
            # Before the database is read: a writer, of another process too, makes the mark after its commit.
            mark = read_mark(self.folder, self.name) if self._checked else 0
            connection = sqlite3.connect(
                f"file:{self._path.absolute()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False,
                timeout=_BUSY_S,
            )  # fmt: skip
            try:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA cell_size_check = ON")
                # The schema runs nothing but what is harmless; it may have come in an archive.
                connection.execute("PRAGMA trusted_schema = OFF")
                # The log is opened by the first read.
                connection.execute("PRAGMA schema_version").fetchone()
                self._require_same()
                if self._checked:
                    self._require_mark(read_state(connection), mark)
            except BaseException:
                connection.close()
                raise
        return connection

    def _require_mark(self, state: State, mark: int) -> None:
        if state.commits < mark:
            raise self.damaged(f"the database ends at commit {state.commits:,}, but commit {mark:,} was acknowledged")

    def _require_same(self) -> None:
        """Raises Closed where another process has moved the file since it was opened first."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise system_fault(error) from error
        else:
            found = status.st_dev, status.st_ino
        if self._file not in (None, found):
            raise Closed(f"collection {self.name} was replaced, or was deleted")
        self._file = found

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._readers.append(connection)
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
        if of_the_disk(error):
            return system_fault(error, self._path)
        return error


class _Idle:
    """Databases that keep connections and that nobody uses just now, the longest unused first. Safe from any thread."""

    def __init__(self) -> None:
        self.most = _KEPT
        self._lock = threading.Lock()
        self._kept: OrderedDict[Database, int] = OrderedDict()
        """And how many connections each keeps."""

    @contextmanager
    def in_use(self, database: Database) -> Iterator[None]:
        """While it lasts, no connection of the database is closed for others."""
        with self._lock:
            database.uses += 1
            self._kept.pop(database, None)
        try:
            yield
        finally:
            for late in self._keep(database):
                late.rest()

    def _keep(self, database: Database) -> list[Database]:
        """After a use; those that are to rest for it."""
        most = min(self.most, open_files_allowed() // _ALLOWED)
        late = []
        with self._lock:
            database.uses -= 1
            if not database.uses and database.kept:
                self._kept[database] = database.kept
            kept = sum(self._kept.values())
            while kept > most:
                longest, connections = self._kept.popitem(last=False)
                kept -= connections
                late.append(longest)
        return late

    def take(self, database: Database, *, closing: bool) -> list[sqlite3.Connection]:
        """Connections that it kept, for the caller to close: none where it is in use, unless it is closing."""
        with self._lock:
            if database.uses and not closing:
                return []
            self._kept.pop(database, None)
            return database.part_with()


IDLE: Final = _Idle()
"""Of the process."""


def _cover(connection: sqlite3.Connection) -> None:
    """Puts other frames of the log in the place of a commit that failed.

    Where it failed at the very end, in its fsync, all of it lies there: after a kill it would stand, though until then
    nobody saw it. On a disk that takes these frames neither, that remains possible.
    """
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        # Nothing reads this number; what changes nothing would write no frame.
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {(number + 1) % 2**31}")
        connection.execute("COMMIT")


def read_state(connection: sqlite3.Connection) -> State:
    """The counters and their sum, of one commit though no transaction is open. Raises Damaged."""
    row = connection.execute(f"SELECT {_COUNTERS}, crc FROM state").fetchone()
    if row is None or row[-1] != row_sum(*row[:-1]):
        raise Damaged(f"{DATABASE} is damaged: its counters. Restore a backup of the collection.")
    return State(*row[:-1])


def _sum_state(connection: sqlite3.Connection) -> None:
    row = connection.execute(f"SELECT {_COUNTERS} FROM state").fetchone()
    connection.execute("UPDATE state SET crc = ?", (row_sum(*(row or ())),))


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
        raise Damaged(f"{DATABASE} of collection {name} is damaged: its {key} record. Restore a backup of it.")
    return json.loads(row[0])


def find_record(connection: sqlite3.Connection, key: str, name: str, parse: Callable[[Any], T]) -> T | None:
    """As ``get_record``; None where nothing was written."""
    there = connection.execute("SELECT 1 FROM meta WHERE key = ?", (key,)).fetchone()
    return None if there is None else get_record(connection, key, name, parse)


def get_record(connection: sqlite3.Connection, key: str, name: str, parse: Callable[[Any], T]) -> T:
    """The same, parsed. Raises FormatTooNew for what this version does not know, too."""
    value = get_meta(connection, key, name)
    with of_this_version(f"the {key} record of collection {name}"):
        return parse(value)
