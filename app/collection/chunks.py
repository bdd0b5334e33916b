"""Vectors of the tail on disk: one chunk a write, in the database if it is small, else in a file that a row names.

A file is written, fsynced and named in its folder before the transaction that refers to it, so that a row never names
a file that is not whole; a file that no row names is deleted at start.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.collection.layers import RAW
from app.collection.passages import Passages, read_ragged
from app.errors import Damaged
from app.store.database import Database
from app.store.directory import Content, Directory
from app.store.files import damaged, expected, write_file
from app.store.layout import TAIL
from app.store.rows import row_sum
from app.store.system import room
from app.types import I64, TokenVectors

IN_DATABASE: Final = 2**20
"""The largest chunk, in bytes, that goes into the database: small writes then cost one fsync."""

Row = tuple[int, int, str | None, bytes | None, int, int]
"""first, count, file, data, size, crc: a row of the table ``tail``; the checksum is of all of it, and of the file."""


class ChunkStore:
    """The chunks of one collection."""

    def __init__(self, files: Directory, name: str) -> None:
        """files: of the collection."""
        self._folder = files.folder(TAIL)
        self._name = name
        self._checked: set[str] = set()
        """Files that were held to their checksum, or written, by this process: as with a segment's blocks, once."""

    def staged(self, passages: Passages, first: int) -> Row:
        """The row for new vectors, to be inserted. If that fails, ``sweep`` or ``unstage`` removes their file."""
        content = passages.to_bytes()
        name = None if len(content) <= IN_DATABASE else _file(first)
        crc = _checksum(first, len(passages), name, content)
        if name is None:
            return first, len(passages), None, content, len(content), crc
        with room():
            write_file(self._folder, name, content)
            self._folder.sync()
        self._checked.add(name)
        return first, len(passages), name, None, len(content), crc

    def unstage(self, first: int, counts: Sequence[int]) -> None:
        """Removes the files of parts of so many passages, from sequence number ``first`` on, where they have any: no
        row names them, and their names are used again."""
        for count in counts:
            self._checked.discard(_file(first))
            self._folder.remove(_file(first))
            first += count

    def read(self, connection: sqlite3.Connection, start: int) -> Iterator[tuple[I64, Passages]]:
        """(sequence numbers, vectors) of each chunk from sequence number ``start``, in order. Raises Damaged."""
        rows = connection.execute("SELECT * FROM tail WHERE first >= ? ORDER BY first", (start,))
        for row in rows:
            passages = self._parse(row)
            yield np.arange(row[0], row[0] + row[1], dtype=np.int64), passages

    def hold(self, connection: sqlite3.Connection) -> HeldChunks:
        """The chunks that the transaction sees, for as long as it lasts, sealed meanwhile or not. Raises Damaged."""
        files: dict[str, Content] = {}
        for (name,) in connection.execute("SELECT file FROM tail WHERE file IS NOT NULL"):
            with expected(self._folder, name):
                files[name] = self._folder.map(name)
        return HeldChunks(self, connection, files)

    def given(
        self, connection: sqlite3.Connection, seqs: Sequence[int], held: Mapping[str, Content] | None = None
    ) -> dict[int, TokenVectors]:
        """Callers' vectors of these versions as they came, a matrix a passage, of those that a chunk holds. Raises
        Damaged.

        A chunk is read once for all of them; of a file that was checked before, their rows alone. held: files that may
        have lost their names.
        """
        held = held or {}
        found: dict[int, TokenVectors] = {}
        left = sorted(seqs, reverse=True)
        while left:
            row = connection.execute(
                "SELECT * FROM tail WHERE first <= ? ORDER BY first DESC LIMIT 1", (left[-1],)
            ).fetchone()
            if row is None or left[-1] >= row[0] + row[1]:
                left.pop()
                continue
            first, count, file = row[:3]
            some = [left.pop()]
            while left and left[-1] < first + count:
                some.append(left.pop())
            places = [seq - first for seq in some]
            if file in self._checked:
                found.update(zip(some, self._given(file, places, held), strict=True))
                continue
            passages = self._parse(row, held)
            if RAW in passages:
                found.update((seq, passages.of(RAW, place)) for seq, place in zip(some, places, strict=True))
        return found

    def forget(self, txn: sqlite3.Connection, stop: int) -> list[str]:
        """Removes the rows below sequence number ``stop``; the files to ``remove`` once that is committed."""
        names = txn.execute("SELECT file FROM tail WHERE first < ? AND file IS NOT NULL", (stop,)).fetchall()
        txn.execute("DELETE FROM tail WHERE first < ?", (stop,))
        self._checked.difference_update(name for (name,) in names)
        return [name for (name,) in names]

    def remove(self, file: str) -> None:
        """A file that no row names any more."""
        self._folder.remove(file)

    def sweep(self, database: Database) -> None:
        """Removes files that no row names."""
        with database.read() as connection:
            named = {name for (name,) in connection.execute("SELECT file FROM tail WHERE file IS NOT NULL")}
        for name in self._folder.list():
            if name not in named:
                self._checked.discard(name)
                self._folder.remove(name)

    def lost(self, documents: int) -> Damaged:
        """The error where so many documents have no vectors in any chunk."""
        return damaged(self._folder, "its content", f"callers' vectors of {documents:,} documents are missing")

    def _parse(self, row: Row, held: Mapping[str, Content] | None = None) -> Passages:
        first, count, file, data, size, crc = row
        name = str(file or f"chunk {first}")
        if held and name in held:
            data = bytes(held[name])
        with expected(self._folder, name):
            content = self._folder.read(name) if data is None else data
        if not isinstance(content, bytes) or len(content) != size or _checksum(first, count, file, content) != crc:
            raise damaged(self._folder, name, f"expected {size} bytes with checksum {crc}, found others")
        if file is not None:
            self._checked.add(file)
        return Passages.from_bytes(content, count)

    def _given(self, name: str, documents: Sequence[int], held: Mapping[str, Content]) -> list[TokenVectors]:
        """Callers' vectors of the named documents of a file that was checked."""
        if name in held:
            return read_ragged(held[name], RAW, documents)
        with expected(self._folder, name):
            content = self._folder.map(name)
        return read_ragged(content, RAW, documents)


@dataclass(frozen=True, slots=True)
class HeldChunks:
    """The chunks of one moment: those in the database by its read transaction, those in files mapped."""

    store: ChunkStore
    connection: sqlite3.Connection = field(repr=False)
    files: Mapping[str, Content] = field(repr=False)

    def given(self, seqs: Sequence[int]) -> dict[int, TokenVectors]:
        """As ``ChunkStore.given``, of versions that were in the tail. Raises Damaged where one has none."""
        found = self.store.given(self.connection, seqs, self.files)
        if len(found) < len(seqs):
            raise self.store.lost(len(seqs) - len(found))
        return found


def _file(first: int) -> str:
    return f"{first}.safetensors"


def _checksum(first: int, count: int, file: str | None, content: bytes) -> int:
    """Of a row with all that it names."""
    return zlib.crc32(content, row_sum(first, count, file, len(content)))
