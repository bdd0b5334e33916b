"""Writing files so that they are whole or absent, and reading them without trusting the disk.

Every file of a segment is written once, fsynced, and described by a ``FileRecord``: its size and a CRC-32 for each
block of 1 MiB. Readers check the size at open and a block before its first use, so that native code (FAISS, NumPy
over a memory map) never sees bytes that were not written. CRC-32 finds every single flipped bit and every burst of
up to 32 bits; zlib's runs at a gigabyte a second without the interpreter lock.

Arrays are ``.npy`` files: a standard, readable with NumPy alone, never with pickle.
"""

from __future__ import annotations

import io
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged, SystemFault
from app.store.directory import Content, Directory, Mapped
from app.types import I64

BLOCK: Final = 2**20
"""Bytes under one checksum."""


def file_size(folder: Directory, name: str) -> int:
    """In bytes; 0 for a file that is not there (any more), or cannot be looked at."""
    try:
        return folder.size(name)
    except (OSError, SystemFault):
        return 0


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was written: size in bytes, and the CRC-32 of each block."""

    size: int
    checksums: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "crc32": list(self.checksums)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FileRecord:
        return cls(value["size"], tuple(value["crc32"]))


class FileWriter:
    """Writes a new file and its checksums; ``finish`` makes it durable but for its name (see ``Directory.sync``)."""

    def __init__(self, folder: Directory, name: str) -> None:
        self._file = folder.create(name)
        self._checksums: list[int] = []
        self._current, self._filled = 0, 0

    def write(self, content: Any) -> None:
        """Appends a buffer: bytes, or a contiguous array."""
        view = memoryview(content).cast("B")
        self._file.write(view)
        while len(view):
            piece, view = view[: BLOCK - self._filled], view[BLOCK - self._filled :]
            self._current, self._filled = zlib.crc32(piece, self._current), self._filled + len(piece)
            if self._filled == BLOCK:
                self._checksums.append(self._current)
                self._current, self._filled = 0, 0

    def finish(self) -> FileRecord:
        """Makes it durable, and describes it."""
        size = self._file.finish()
        if self._filled:
            self._checksums.append(self._current)
            self._filled = 0
        return FileRecord(size, tuple(self._checksums))

    def close(self) -> None:
        """Gives the file up; safe after ``finish``."""
        self._file.close()


class ArrayWriter:
    """Writes one ``.npy`` file whose rows come in chunks and add up to ``shape``."""

    def __init__(self, folder: Directory, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = np.dtype(dtype), shape
        self._rows = 0
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        )
        self._file = FileWriter(folder, name)
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


def write_file(folder: Directory, name: str, content: Any) -> FileRecord:
    """Writes a new file from one buffer; durable but for its name."""
    writer = FileWriter(folder, name)
    try:
        writer.write(content)
        return writer.finish()
    finally:
        writer.close()


def link_file(folder: Directory, name: str, target: Directory) -> None:
    """The same name in another directory for a file that is never changed. Raises Damaged where it is missing."""
    try:
        folder.link(name, target)
    except FileNotFoundError:
        raise damaged(folder, name, "the file is missing") from None


def damaged(folder: Directory, name: str, what: str) -> Damaged:
    """The error for a file that is not what was written, with the way out."""
    return Damaged(
        f"{name} of {folder.name} is damaged: {what}. The documents are kept apart from it: "
        "POST /v1/collections/{name}/rebuild makes every index anew from them, or restore a backup."
    )


@contextmanager
def expected(folder: Directory, name: str) -> Iterator[None]:
    """For reading a file that was written: where it is not there, or is no file, that is damage."""
    try:
        yield
    except FileNotFoundError:
        raise damaged(folder, name, "the file is missing") from None
    except OSError as error:
        raise damaged(folder, name, f"it cannot be read ({error.strerror})") from error


def read_verified(folder: Directory, name: str, record: FileRecord) -> bytes:
    """The whole content, checked. Raises Damaged, SystemFault."""
    with expected(folder, name):
        content = folder.read(name)
    _hold_size(folder, name, record, len(content))
    _hold_blocks(folder, name, record, memoryview(content))
    return content


def map_verified(folder: Directory, name: str, record: FileRecord) -> NDArray[np.uint8]:
    """The whole content mapped read-only, checked; for what is read once and copied. Raises Damaged, SystemFault."""
    with expected(folder, name):
        content = folder.map(name)
    _hold_size(folder, name, record, len(content))
    _hold_blocks(folder, name, record, memoryview(content))
    return np.frombuffer(content, np.uint8)


def _hold_size(folder: Directory, name: str, record: FileRecord, size: int) -> None:
    if size != record.size:
        raise damaged(folder, name, f"expected {record.size:,} bytes, found {size:,}")


def _hold_blocks(folder: Directory, name: str, record: FileRecord, content: memoryview) -> None:
    for number, crc in enumerate(record.checksums):
        if zlib.crc32(content[number * BLOCK : (number + 1) * BLOCK]) != crc:
            raise damaged(folder, name, f"the checksum of block {number} differs")


def load_array(folder: Directory, name: str, record: FileRecord) -> NDArray[Any]:
    """A whole ``.npy`` file in memory, checked. Raises Damaged, SystemFault."""
    return _parse_npy(folder, name, np.frombuffer(read_verified(folder, name, record), np.uint8))


class Rows(Protocol):
    """An array that is read by rows, in memory or mapped. Reading raises Damaged."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop, a view."""
        ...

    def take(self, rows: I64) -> NDArray[Any]:
        """The named rows, a copy."""
        ...

    def ranges(self, starts: I64, stops: I64) -> NDArray[Any]:
        """The whole array, of which only the rows in the given ranges may be read."""
        ...


class InMemory:
    """``Rows`` of an array in memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        return self._array[start:stop]

    def take(self, rows: I64) -> NDArray[Any]:
        return self._array[rows]

    def ranges(self, starts: I64, stops: I64) -> NDArray[Any]:
        return self._array


class MappedArray:
    """An ``.npy`` file mapped read-only; each block is checked before the first read of rows in it, and brought before
    that where the file comes by blocks.

    The map outlives the file's name: a segment may be unlinked while a query still reads it.
    """

    def __init__(self, folder: Directory, name: str, record: FileRecord) -> None:
        """Raises Damaged, SystemFault, and what bringing a block does."""
        self._folder, self._name, self._record = folder, name, record
        with expected(folder, name):
            self._source = None if folder.source is None else folder.source.of(folder.path, name, record.checksums)
            self._all = self._mapped(None) if self._source is None else None
            array = self._now[0].array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype

    def _mapped(self, by_blocks: Mapped | None) -> _Mapping:
        content = self._folder.map(self._name) if by_blocks is None else by_blocks.content
        return _Mapping(self._folder, self._name, self._record, content, by_blocks)

    @property
    def _now(self) -> tuple[_Mapping, Mapped | None]:
        """For one reading, with what its blocks come by. Of a file that comes so nothing is held between two readings,
        and neither of the two holds the other but by ``parsed``, so that blocks can go at once."""
        if self._source is None:
            assert self._all is not None
            return self._all, None
        latest = self._source.now
        if not isinstance(found := latest.parsed, _Mapping):
            latest.parsed = found = self._mapped(latest)
        return found, latest

    @property
    def comes(self) -> bool:
        """Whether its blocks are brought, and may go again."""
        return self._source is not None

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop, a view of checked bytes. Raises Damaged."""
        now, by_blocks = self._now
        if not now.whole:
            first = (now.header + start * now.row_bytes) // BLOCK
            last = -(-(now.header + stop * now.row_bytes) // BLOCK)
            now.check(first, last, by_blocks)
        return now.array[start:stop]

    def all(self) -> NDArray[Any]:
        """Every row, a view of checked bytes. Raises Damaged."""
        return self.rows(0, self.shape[0])

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The named rows, a copy of checked bytes. Raises Damaged."""
        return np.take(self.ranges(rows, rows + 1), rows, axis=0)

    def ranges(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[Any]:
        """The whole array, of which only the rows in the given ranges are checked. Raises Damaged."""
        now, by_blocks = self._now
        if not now.whole:
            first = (now.header + starts * now.row_bytes) // BLOCK
            last = -(-(now.header + stops * now.row_bytes) // BLOCK)
            # How many ranges begin, less how many end, before each block: those touched are above zero.
            edges = np.bincount(first, minlength=len(now.checked) + 1)
            edges -= np.bincount(last, minlength=len(edges))
            now.check_all(np.flatnonzero(np.cumsum(edges)[:-1] > 0), by_blocks)
        return now.array

    def let_go(self) -> None:
        """Gives the pages that were read back to the system's cache; they come again when they are read again. For one
        who reads a large array once, from end to end."""
        if isinstance(pages := self._now[0].pages, mmap.mmap):
            pages.madvise(mmap.MADV_DONTNEED)


class _Mapping:
    """One map of a file. checked: (blocks,) that were held to their checksum; whole: all of them."""

    def __init__(
        self, folder: Directory, name: str, record: FileRecord, pages: Content, by_blocks: Mapped | None
    ) -> None:
        self._folder, self._name, self._record = folder, name, record
        self.pages = pages
        _hold_size(folder, name, record, len(pages))
        self._bytes: NDArray[np.uint8] = np.frombuffer(pages, np.uint8)
        self.checked = np.zeros(len(record.checksums), bool)
        self.whole = False
        self.check(0, 1, by_blocks)
        self.array = _parse_npy(folder, name, self._bytes)
        self.header = record.size - self.array.nbytes
        self.row_bytes = self.array.nbytes // max(len(self.array), 1)

    def check(self, first: int, last: int, by_blocks: Mapped | None) -> None:
        """The blocks first to last - 1. by_blocks: what this is a map of, where it comes so. Raises Damaged, and what
        bringing a block does."""
        if by_blocks is not None:
            by_blocks.touch(first, last)
        if last == first + 1 and self.checked[first]:
            return  # the usual case, at a tenth of what it costs to look for more
        self._hold(np.flatnonzero(~self.checked[first:last]) + first, by_blocks)

    def check_all(self, blocks: NDArray[np.int64], by_blocks: Mapped | None) -> None:
        """Those, ascending; as ``check``."""
        if by_blocks is not None:
            for number in blocks.tolist():
                by_blocks.touch(number, number + 1)
        self._hold(blocks[~self.checked[blocks]], by_blocks)
        # What comes by blocks is told of each reading.
        self.whole = by_blocks is None and bool(self.checked.all())

    def _hold(self, blocks: NDArray[np.int64], by_blocks: Mapped | None) -> None:
        # Two threads may check one block at once: the same answer twice, and no lock on the way of every read.
        missing = []
        for number in blocks.tolist():
            if by_blocks is not None and not by_blocks.here[number]:
                missing.append(number)
                continue
            block = memoryview(self._bytes.data)[number * BLOCK : (number + 1) * BLOCK]
            if zlib.crc32(block) == self._record.checksums[number]:
                self.checked[number] = True
            elif by_blocks is not None:
                missing.append(number)
            else:
                raise damaged(self._folder, self._name, f"the checksum of block {number} differs")
        if missing and by_blocks is not None:
            by_blocks.bring(missing)
            self.checked[missing] = True


def _parse_npy(folder: Directory, name: str, content: NDArray[np.uint8]) -> NDArray[Any]:
    header = io.BytesIO(content[:4096].tobytes())
    try:
        np.lib.format.read_magic(header)
        shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    except ValueError as error:
        raise damaged(folder, name, f"not an .npy file ({error})") from error
    start, wanted = header.tell(), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if dtype.hasobject or len(content) != start + wanted:
        raise damaged(folder, name, f"its header says {wanted:,} bytes of {dtype}, it holds {len(content) - start:,}")
    return content[start:].view(dtype).reshape(shape)
