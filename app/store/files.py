"""Writing files so that they are whole or absent, and reading them without trusting the disk.

Every file of a segment is written once, fsynced, and described by a ``FileRecord``: its size and a CRC-32 for each
block of 1 MiB. Readers check the size at open and a block before its first use, so that native code (FAISS, NumPy
over a memory map) never sees bytes that were not written. CRC-32 finds every single flipped bit and every burst of
up to 32 bits; zlib's runs at a gigabyte a second without the interpreter lock.

Arrays are ``.npy`` files: a standard, readable with NumPy alone, never with pickle.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged, StorageFull
from app.store.faults import reach

BLOCK: Final = 2**20
"""Bytes under one checksum."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK, errno.ENOSYS})


_SYSTEM: Final = frozenset(
    {errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EAGAIN}
)
_SQLITE: Final = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_READONLY", "SQLITE_IOERR")
_CONTENT: Final = frozenset({"SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS"})


def of_the_disk(error: Exception) -> bool:
    """Whether the disk or the system is at fault, rather than what was read or our code: then it may work later."""
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        return name.startswith(_SQLITE) and name not in _CONTENT
    return isinstance(error, OSError) and (error.errno in FULL or error.errno in _SYSTEM)


@contextmanager
def room() -> Iterator[None]:
    """Turns "no space left", from a file or from SQLite, into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(
                f"the disk takes no more ({error.strerror}); nothing of this request was kept; make room and repeat it"
            ) from error
        raise
    except sqlite3.OperationalError as error:
        # Even to read, SQLite needs 32 KiB for the index of its log.
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"):
            raise StorageFull(
                "the disk takes no more (database); nothing of this request was kept; make room and repeat it"
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        reach("folder.changed")
        os.fsync(descriptor)
        reach("folder.synced")
    finally:
        os.close(descriptor)


def file_size(path: Path) -> int:
    """In bytes; 0 for a file that is not there (any more), or cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file was when it was written: size in bytes, and the CRC-32 of each block."""

    size: int
    checksums: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "crc32": list(self.checksums)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FileRecord:
        return cls(value["size"], tuple(value["crc32"]))


class FileWriter:
    """Writes a new file and its checksums; ``finish`` makes it durable but for its name (see ``sync_folder``)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._size = 0
        self._checksums: list[int] = []
        self._current, self._filled = 0, 0

    def write(self, content: Any) -> None:
        """Appends a buffer: bytes, or a contiguous array."""
        view = memoryview(content).cast("B")
        self._file.write(view)
        self._size += len(view)
        while len(view):
            piece, view = view[: BLOCK - self._filled], view[BLOCK - self._filled :]
            self._current, self._filled = zlib.crc32(piece, self._current), self._filled + len(piece)
            if self._filled == BLOCK:
                self._checksums.append(self._current)
                self._current, self._filled = 0, 0

    def finish(self) -> FileRecord:
        """Fsyncs, closes and describes the file."""
        with self._file as file:
            file.flush()
            reach("file.written")
            os.fsync(file.fileno())
            reach("file.synced")
        if self._filled:
            self._checksums.append(self._current)
            self._filled = 0
        return FileRecord(self._size, tuple(self._checksums))

    def close(self) -> None:
        """Gives the file up; safe after ``finish``."""
        self._file.close()


class ArrayWriter:
    """Writes one ``.npy`` file whose rows come in chunks and add up to ``shape``."""

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = np.dtype(dtype), shape
        self._rows = 0
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        )
        self._file = FileWriter(path)
        self._file.write(header.getvalue())

    def write(self, chunk: NDArray[Any]) -> None:
        if chunk.shape[1:] != self.shape[1:] or chunk.dtype != self.dtype:
            came = f"{chunk.shape[1:]} {chunk.dtype}"
            raise ValueError(f"expected rows of {self.shape[1:]} {self.dtype}, got {came}")
        self._rows += len(chunk)
        if chunk.size:
            self._file.write(np.ascontiguousarray(chunk))

    def finish(self) -> FileRecord:
        if self._rows != self.shape[0]:
            raise ValueError(f"expected {self.shape[0]} rows, got {self._rows}")
        return self._file.finish()

    def close(self) -> None:
        self._file.close()


def write_file(path: Path, content: Any) -> FileRecord:
    """Writes and fsyncs a new file from one buffer."""
    writer = FileWriter(path)
    try:
        writer.write(content)
        return writer.finish()
    finally:
        writer.close()


def link_file(source: Path, target: Path) -> None:
    """A second name for a file that is never changed; a copy where the file system has no links. Raises Damaged where
    it is missing.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise damaged(source, "the file is missing") from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())


def damaged(path: Path, what: str) -> Damaged:
    """The error for a file that is not what was written, with the way out."""
    return Damaged(
        f"{path.name} of {path.parent.name} is damaged: {what}. The documents are kept apart from it: "
        "POST /v1/collections/{name}/rebuild makes every index anew from them, or restore a backup."
    )


def unreadable(path: Path, error: OSError) -> Damaged:
    """The same for a file that the system does not read."""
    return damaged(path, f"it cannot be read ({error.strerror}); look at its owner, its mode and the disk")


def read_verified(path: Path, record: FileRecord) -> bytes:
    """The whole content, checked. Raises Damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise damaged(path, "the file is missing") from None
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) != record.size:
        raise damaged(path, f"expected {record.size:,} bytes, found {len(content):,}")
    view = memoryview(content)
    for number, expected in enumerate(record.checksums):
        if zlib.crc32(view[number * BLOCK : (number + 1) * BLOCK]) != expected:
            raise damaged(path, f"the checksum of block {number} differs")
    return content


def map_verified(path: Path, record: FileRecord) -> NDArray[np.uint8]:
    """The whole content mapped read-only, checked; for what is read once and copied. Raises Damaged."""
    _hold_size(path, record)
    try:
        content: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise unreadable(path, error) from error
    for number, expected in enumerate(record.checksums):
        if zlib.crc32(memoryview(content.data)[number * BLOCK : (number + 1) * BLOCK]) != expected:
            raise damaged(path, f"the checksum of block {number} differs")
    return content


def _hold_size(path: Path, record: FileRecord) -> None:
    """Raises Damaged for a file that is not there, is of another size, or is not read."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise damaged(path, "the file is missing") from None
    except OSError as error:
        raise unreadable(path, error) from error
    if size != record.size:
        raise damaged(path, f"expected {record.size:,} bytes, found {size:,}")


def load_array(path: Path, record: FileRecord) -> NDArray[Any]:
    """A whole ``.npy`` file in memory, checked. Raises Damaged."""
    return _parse_npy(path, np.frombuffer(read_verified(path, record), np.uint8))


class MappedArray:
    """An ``.npy`` file mapped read-only; each block is checked before the first read of rows in it.

    The map outlives the file's name: a segment may be unlinked while a query still reads it.
    """

    def __init__(self, path: Path, record: FileRecord) -> None:
        self.path = path
        self._record = record
        _hold_size(path, record)
        try:
            with path.open("rb") as file:
                self._pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        except OSError as error:
            raise unreadable(path, error) from error
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._pages, np.uint8)
        self._checked = np.zeros(len(record.checksums), bool)
        self._whole = False
        self._check(0, 1)
        self._array = _parse_npy(path, self._bytes)
        self._header = record.size - self._array.nbytes
        self._row_bytes = self._array.nbytes // max(len(self._array), 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop, a view of checked bytes. Raises Damaged."""
        first = (self._header + start * self._row_bytes) // BLOCK
        last = -(-(self._header + stop * self._row_bytes) // BLOCK)
        self._check(first, last)
        return self._array[start:stop]

    def all(self) -> NDArray[Any]:
        """Every row, a view of checked bytes. Raises Damaged."""
        return self.rows(0, len(self._array))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The named rows, a copy of checked bytes. Raises Damaged."""
        return np.take(self.ranges(rows, rows + 1), rows, axis=0)

    def ranges(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[Any]:
        """The whole array, of which only the rows in the given ranges are checked. Raises Damaged."""
        if not self._whole:
            first = (self._header + starts * self._row_bytes) // BLOCK
            last = -(-(self._header + stops * self._row_bytes) // BLOCK)
            # How many ranges begin, less how many end, before each block: those touched are above zero.
            edges = np.bincount(first, minlength=len(self._checked) + 1)
            edges -= np.bincount(last, minlength=len(edges))
            for number in np.flatnonzero((np.cumsum(edges)[:-1] > 0) & ~self._checked).tolist():
                self._check(number, number + 1)
            self._whole = bool(self._checked.all())
        return self._array

    def let_go(self) -> None:
        """Gives the pages that were read back to the system's cache; they come again when they are read again. For one
        who reads a large array once, from end to end."""
        self._pages.madvise(mmap.MADV_DONTNEED)

    def _check(self, first: int, last: int) -> None:
        # Two threads may check one block at once: the same answer twice, and no lock on the way of every read.
        for number in np.flatnonzero(~self._checked[first:last]) + first:
            block = memoryview(self._bytes.data)[number * BLOCK : (number + 1) * BLOCK]
            if zlib.crc32(block) != self._record.checksums[number]:
                raise damaged(self.path, f"the checksum of block {number} differs")
            self._checked[number] = True


def _parse_npy(path: Path, content: NDArray[np.uint8]) -> NDArray[Any]:
    header = io.BytesIO(content[:4096].tobytes())
    try:
        np.lib.format.read_magic(header)
        shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    except ValueError as error:
        raise damaged(path, f"not an .npy file ({error})") from error
    start, wanted = header.tell(), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if dtype.hasobject or len(content) != start + wanted:
        raise damaged(path, f"its header says {wanted:,} bytes of {dtype}, it holds {len(content) - start:,}")
    return content[start:].view(dtype).reshape(shape)
