"""Files on local disk: durable by fsync, published by rename, locked by flock.

Files changed in place are here alone (``append``, ``overwrite``): they lie beside the database, on this disk, always.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from app.compute.maps import pages_of
from app.store.directory import Content, Directory, Source
from app.store.faults import reach
from app.store.lock import FileLock
from app.store.system import of_the_disk, system_fault

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """The folder at ``path``, which need not be there."""

    path: Path
    source: Source | None = field(default=None, compare=False, repr=False)
    """Handed on to all folders of it."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> LocalDirectory:
        return LocalDirectory(self.path.parent, self.source)

    def folder(self, name: str, /) -> LocalDirectory:
        return LocalDirectory(self.path / name, self.source)

    def list(self) -> list[str]:
        with _reading(self.path):
            try:
                return sorted(path.name for path in self.path.iterdir())
            except FileNotFoundError:
                return []

    def has(self, name: str, /) -> bool:
        path = self.path / name
        with _reading(path):
            try:
                path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def is_folder(self, name: str, /) -> bool:
        path = self.path / name
        with _reading(path):
            return path.is_dir()

    def size(self, name: str, /) -> int:
        path = self.path / name
        with _reading(path):
            return path.stat().st_size

    def read(self, name: str, /) -> bytes:
        path = self.path / name
        with _reading(path):
            return path.read_bytes()

    def map(self, name: str, /) -> Content:
        path = self.path / name
        with _reading(path), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return memoryview(b"") if size == 0 else pages_of(file.fileno(), size)

    def open(self, name: str, /) -> BufferedReader:
        path = self.path / name
        with _reading(path):
            return path.open("rb")

    def make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def unmake(self) -> None:
        with suppress(OSError):  # which is how the system says that it is not empty
            self.path.rmdir()

    def create(self, name: str, /) -> _NewFile:
        return _NewFile(self.path / name)

    def place(self, name: str, size: int, /) -> _PlacedFile:
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return _PlacedFile(descriptor)

    def placed(self, name: str, /) -> _PlacedFile:
        path = self.path / name
        with _reading(path):
            return _PlacedFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def link(self, name: str, target: Directory, /) -> None:
        source, copy = self.path / name, target.path / name
        try:
            os.link(source, copy)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, copy)
            with copy.open("rb") as copied:
                os.fsync(copied.fileno())

    def publish(self, name: str, as_name: str, /) -> None:
        os.rename(self.path / name, self.path / as_name)  # noqa: PTH104

    def remove(self, name: str, /) -> None:
        path = self.path / name
        with suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            reach("folder.changed")
            os.fsync(descriptor)
            reach("folder.synced")
        finally:
            os.close(descriptor)

    def lock(self, name: str, /) -> FileLock:
        return FileLock(self.path / name)

    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    # Files changed in place, beside the database

    def append(self, name: str, content: bytes, *, anew: bool = False) -> None:
        """Adds to a file for its owner alone, in one write that no fsync follows. anew: to an empty one.

        Raises OSError, also where the disk takes a part of it.
        """
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if anew else os.O_APPEND)
        descriptor = os.open(self.path / name, flags, 0o600)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / name))
        finally:
            os.close(descriptor)

    def overwrite(self, name: str, at: int, content: bytes) -> None:
        """Bytes of a file that is there, from position ``at`` on; durable when it returns."""
        descriptor = os.open(self.path / name, os.O_WRONLY)
        try:
            os.pwrite(descriptor, content, at)
            reach("mark.written")
            os.fdatasync(descriptor)
            reach("mark.synced")
        finally:
            os.close(descriptor)


class _NewFile:
    """``NewFile`` under its own name from the beginning: what a stop leaves of it is named by nothing, and swept."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")

    def write(self, content: Any, /) -> object:
        return self._file.write(content)

    def finish(self) -> int:
        with self._file as file:
            file.flush()
            reach("file.written")
            os.fsync(file.fileno())
            reach("file.synced")
            return file.tell()

    def close(self) -> None:
        self._file.close()


class _PlacedFile:
    """``PlacedFile``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @property
    def _open(self) -> int:
        assert self._descriptor is not None, "it is closed"
        return self._descriptor

    def write(self, content: bytes, at: int, /) -> None:
        view = memoryview(content)
        while len(view):
            written = os.pwrite(self._open, view, at)
            view, at = view[written:], at + written

    def map(self) -> Content:
        size = os.fstat(self._open).st_size
        return memoryview(b"") if size == 0 else pages_of(self._open, size)

    def written(self) -> list[tuple[int, int]]:
        found, at, size = list[tuple[int, int]](), 0, os.fstat(self._open).st_size
        while at < size:
            try:
                at = os.lseek(self._open, at, os.SEEK_DATA)
            except OSError:
                # Holes up to its end.
                break
            end = os.lseek(self._open, at, os.SEEK_HOLE)
            found.append((at, end))
            at = end
        return found

    def finish(self) -> None:
        reach("file.written")
        os.fsync(self._open)
        reach("file.synced")
        self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what the system refuses for now into SystemFault; what is not there, or no file, is as it is."""
    try:
        yield
    except OSError as error:
        if of_the_disk(error):
            raise system_fault(error, path) from error
        raise
