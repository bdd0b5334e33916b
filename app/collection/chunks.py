"""Vectors of the tail on disk: one chunk a write, in the database if it is small, else in a file that a row names.

A file is written, fsynced and named in its folder before the transaction that refers to it, so that a row never names
a file that is not whole; a file that no row names is deleted at start.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from app.collection.database import Database
from app.collection.files import damaged, room, sync_folder, write_file
from app.collection.passages import Passages
from app.types import I64

FOLDER: Final = "tail"
IN_DATABASE: Final = 2**20
"""The largest chunk, in bytes, that goes into the database: small writes then cost one fsync."""

Row = tuple[int, int, str | None, bytes | None, int, int]
"""first, count, file, data, size, crc: a row of the table ``tail``."""


class ChunkStore:
    """The chunks of one collection."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / FOLDER
        self._name = name

    @contextmanager
    def staged(self, passages: Passages, first: int) -> Iterator[Row]:
        """The row for new vectors, to be inserted inside the block; their file is removed if the block fails."""
        content = passages.to_bytes()
        size, crc = len(content), zlib.crc32(content)
        if size <= IN_DATABASE:
            yield first, len(passages), None, content, size, crc
            return
        path = self._folder / f"{first}.safetensors"
        try:
            with room():
                # A write that failed may have left the name behind; nothing refers to it.
                path.unlink(missing_ok=True)
                write_file(path, content)
                sync_folder(self._folder)
            yield first, len(passages), path.name, None, size, crc
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def read(self, connection: sqlite3.Connection, start: int) -> Iterator[tuple[I64, Passages]]:
        """(sequence numbers, vectors) of each chunk from sequence number ``start``, in order. Raises Damaged."""
        rows = connection.execute("SELECT * FROM tail WHERE first >= ? ORDER BY first", (start,))
        for row in rows:
            yield np.arange(row[0], row[0] + row[1], dtype=np.int64), self._parse(row)

    def holding(self, connection: sqlite3.Connection, seq: int) -> tuple[int, Passages]:
        """The chunk that holds one version: its first sequence number, and its vectors. Raises Damaged."""
        row = connection.execute("SELECT * FROM tail WHERE first <= ? ORDER BY first DESC LIMIT 1", (seq,)).fetchone()
        return row[0], self._parse(row)

    def forget(self, txn: sqlite3.Connection, stop: int) -> list[Path]:
        """Removes the rows below sequence number ``stop``; the files to remove once that is committed."""
        names = txn.execute("SELECT file FROM tail WHERE first < ? AND file IS NOT NULL", (stop,)).fetchall()
        txn.execute("DELETE FROM tail WHERE first < ?", (stop,))
        return [self._folder / name for (name,) in names]

    def sweep(self, database: Database) -> None:
        """Removes files that no row names."""
        with database.read() as connection:
            named = {name for (name,) in connection.execute("SELECT file FROM tail WHERE file IS NOT NULL")}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink()

    def _parse(self, row: Row) -> Passages:
        first, count, file, data, size, crc = row
        path = self._folder / (file or f"chunk {first}")
        try:
            content = data if data is not None else path.read_bytes()
        except FileNotFoundError:
            raise damaged(path, "the file is missing") from None
        if len(content) != size or zlib.crc32(content) != crc:
            raise damaged(path, f"expected {size:,} bytes with checksum {crc:08x}, found others")
        passages = Passages.from_bytes(content)
        if len(passages) != count:
            raise damaged(path, f"expected {count:,} passages, found {len(passages):,}")
        return passages
