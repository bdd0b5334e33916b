"""The rows that a commit changed: noted while it runs, made into bytes before it is durable, applied elsewhere.

A commit is told by its outcome, not by its statements: of every row that was inserted, updated or deleted the row as it
stands at the end, or that it is gone. So to apply it twice is to apply it once, and the order inside a commit does not
matter. What changed is noted by triggers of the writing connection alone (TEMP, in memory), so that no statement of a
write can be forgotten, and a database that was written so has nothing in it that others have not.

As bytes: a magic word, the CRC-32 of the rest, the length of a head, the head (JSON, deflated), then every value that
is bytes, end to end. The head has each table's rows by columns. Rows carry their own checksums along.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from app.errors import Damaged, FormatTooNew, Invalid
from app.store.requests import SCHEMA as REQUESTS

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "meta": ("key",),
    "state": ("one",),
    "documents": ("seq",),
    "live": ("id",),
    "dead": ("seq",),
    "tail": ("first",),
    "tasks": ("number",),
    "task_errors": ("task", "line"),
    "requests": ("key",),
}
"""Every table, and the columns of its primary key."""

_PREFIX: Final = struct.Struct("<8sII")
_MAGIC: Final = b"sheafcm1"

_HEAD: Final = 2**29
"""Bytes of a head at most, before it is deflated."""

Cell: TypeAlias = int | float | str | bytes | None
Rows: TypeAlias = Sequence[tuple[Cell, ...]]


def note_changes(connection: sqlite3.Connection) -> None:
    """From here on every row that this connection changes is noted; to be called outside a transaction."""
    # Whatever is made later has no triggers, and this table is made at its first use.
    for statement in REQUESTS:
        connection.execute(statement)
    connection.execute("PRAGMA temp_store = MEMORY")
    for table, keys in KEYS.items():
        columns = ", ".join(keys)
        connection.execute(f"CREATE TEMP TABLE changed_{table} ({columns}, PRIMARY KEY ({columns})) WITHOUT ROWID")
        for event, sides in (("INSERT", ("new",)), ("UPDATE", ("old", "new")), ("DELETE", ("old",))):
            notes = "".join(
                f"INSERT OR IGNORE INTO changed_{table} VALUES ({', '.join(f'{side}.{key}' for key in keys)}); "
                for side in sides
            )
            connection.execute(
                f"CREATE TEMP TRIGGER changed_{table}_{event} AFTER {event} ON main.{table} BEGIN {notes}END"
            )


def changes(connection: sqlite3.Connection) -> bytes:
    """What the transaction under way has changed up to now, which is forgotten: it is at its end.

    Raises Invalid for more than a commit may have.
    """
    tables, contents = {}, list[bytes]()
    for table, keys in KEYS.items():
        using, first = ", ".join(keys), keys[0]
        stand = connection.execute(f"SELECT t.* FROM changed_{table} JOIN main.{table} t USING ({using})").fetchall()
        gone = connection.execute(
            f"SELECT c.* FROM changed_{table} c LEFT JOIN main.{table} t USING ({using}) WHERE t.{first} IS NULL"
        ).fetchall()
        connection.execute(f"DELETE FROM changed_{table}")
        if stand or gone:
            tables[table] = {"stand": list(_columns(stand, contents)), "gone": list(_columns(gone, contents))}
    text = json.dumps(tables, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > _HEAD:
        raise Invalid(f"one write changes {len(text):,} bytes of rows, {_HEAD:,} is the most: send it in parts")
    head = zlib.compress(text, 1)
    rest = b"".join((head, *contents))
    return _PREFIX.pack(_MAGIC, zlib.crc32(rest, len(head)), len(head)) + rest


def apply(connection: sqlite3.Connection, content: bytes, name: str) -> None:
    """Makes the same rows stand, and be gone, in the transaction under way. name: of the collection, for errors.

    Raises Damaged for what is no commit, or not as it was put; FormatTooNew for tables of another version.
    """
    for table, stand, gone in _parse(content, name):
        keys = KEYS[table]
        width = len(connection.execute(f"SELECT * FROM {table} LIMIT 0").description)
        if stand and width != len(stand[0]):
            raise FormatTooNew(
                f"the log of collection {name} has rows of {len(stand[0])} columns for the table {table}, this "
                f"Sheaf's have {width}: use the version that writes it"
            )
        try:
            connection.executemany(f"DELETE FROM {table} WHERE {' AND '.join(f'{key} = ?' for key in keys)}", gone)
            if stand:
                connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * width)})", stand)
        except (OverflowError, UnicodeError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError,
                sqlite3.DataError) as error:  # fmt: skip
            raise Damaged(f"the log of collection {name} has rows that {table} does not take: {error}") from error


def prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables that may be lacking, before ``apply``."""
    for statement in REQUESTS:
        connection.execute(statement)


def _columns(rows: Rows, contents: list[bytes]) -> Iterator[Any]:
    """Each column as JSON: its values, or of bytes the length of each. Appends what is bytes."""
    for column in zip(*rows, strict=True):
        if any(isinstance(value, bytes) for value in column):
            contents += [value for value in column if value is not None]
            yield {"lengths": [None if value is None else len(value) for value in column]}
        else:
            yield column


def _parse(content: bytes, name: str) -> Iterator[tuple[str, Rows, Rows]]:
    """(table, rows that stand, keys that are gone) of each table."""
    try:
        magic, crc, length = _PREFIX.unpack_from(content)
        rest = memoryview(content)[_PREFIX.size :]
        if magic != _MAGIC or crc != zlib.crc32(rest, length):
            raise ValueError("its checksum differs")
        tables = json.loads(_inflated(rest[:length]))
        place = length
        found = []
        for table, rows in tables.items():
            stand, place = _rows(rows["stand"], rest, place)
            gone, place = _rows(rows["gone"], rest, place)
            found.append((table, stand, gone))
        if place != len(rest):
            raise ValueError(f"{len(rest) - place:,} bytes are of no row")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise Damaged(f"the log of collection {name} has a commit that is not as it was put: {error}") from error
    if unknown := [table for table, _, _ in found if table not in KEYS]:
        raise FormatTooNew(
            f"the log of collection {name} has a table {unknown[0]!r}, which this Sheaf does not know: use the version "
            "that writes it"
        )
    yield from found


def _inflated(content: memoryview) -> bytes:
    """Raises ValueError for more than a head may have, however few bytes it is deflated."""
    inflating = zlib.decompressobj()
    text = inflating.decompress(content, _HEAD + 1)
    if len(text) > _HEAD:
        raise ValueError(f"its head has more than {_HEAD:,} bytes")
    if not inflating.eof or inflating.unused_data:
        raise ValueError("its head does not end where it should")
    return text


def _rows(columns: Sequence[Any], content: memoryview, place: int) -> tuple[Rows, int]:
    """The inverse of ``_columns``; and where in the content they end."""
    found: list[Sequence[Cell]] = []
    for column in columns:
        if isinstance(column, dict):
            values: list[Cell] = []
            for length in column["lengths"]:
                if length is None:
                    values.append(None)
                    continue
                if type(length) is not int or not 0 <= length <= len(content) - place:
                    raise ValueError(f"a value of {length!r} bytes, of {len(content) - place:,} that are left")
                values.append(bytes(content[place : place + length]))
                place += length
            found.append(values)
        else:
            if not all(value is None or isinstance(value, str | int | float) for value in column):
                raise ValueError("a value that no column has")
            found.append(column)
    return list(zip(*found, strict=True)), place
