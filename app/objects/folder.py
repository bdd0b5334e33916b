"""A folder as an object store: for one machine, a shared file system, and tests.

Not by obstore: its folders know no swap, and what they put is not durable before the system writes it by itself. Here a
put has returned when its content and its name are on the disk. A new object is a link, which is refused where the name
is taken; a swap compares and renames under a lock of the whole folder (``flock``, so the file system has to keep locks
among all machines that write: NFS does, some others do not).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from app.errors import ObjectChanged, ObjectMissing, ObjectTaken, StoreUnavailable, Unsure
from app.objects.protocol import Listed, Tag

# Neither can be the name of an object.
_COMING: Final = "~coming"
_LOCK: Final = "~lock"


class Folder:
    """``Requests`` to ``file:///path``; the folder is made where it is not there."""

    def __init__(self, path: Path) -> None:
        self.place = path.as_uri()
        self._path = path
        with self._answers(_COMING):
            (path / _COMING).mkdir(parents=True, exist_ok=True)

    def get(self, name: str, /) -> tuple[bytes, Tag]:
        with self._answers(name):
            content = (self._path / name).read_bytes()
        return content, _tag(content)

    def read(self, name: str, start: int, length: int, /) -> bytes:
        with self._answers(name), (self._path / name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def put_new(self, name: str, content: bytes, /) -> Tag:
        with self._coming(name) as coming:
            _write(coming, content)
            try:
                os.link(coming, self._path / name)
            except FileExistsError:
                raise ObjectTaken(f"{name} in {self.place} is there already") from None
            except OSError as error:
                raise self._unnamed(name, error) from error
            self._sync(name)
        return _tag(content)

    def replace(self, name: str, content: bytes, tag: Tag, /) -> Tag:
        with self._coming(name) as coming:
            _write(coming, content)
            with self._locked():
                try:
                    there = _tag((self._path / name).read_bytes())
                except FileNotFoundError:
                    there = ""
                if there != tag:
                    raise ObjectChanged(f"{name} in {self.place} is another one by now")
                try:
                    coming.replace(self._path / name)
                except OSError as error:
                    raise self._unnamed(name, error) from error
                self._sync(name)
        return _tag(content)

    def put(self, name: str, stream: BinaryIO, /) -> None:
        with self._coming(name) as coming:
            with coming.open("xb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            coming.replace(self._path / name)
            self._sync(name)

    def list(self, prefix: str, after: str = "", /) -> list[Listed]:
        found = []
        with self._answers(prefix):
            for folder, _, files in os.walk(self._path / prefix, onerror=_unlisted):
                for file in files:
                    path = Path(folder, file)
                    name = path.relative_to(self._path).as_posix()
                    if name > after and not name.startswith("~"):
                        with suppress(FileNotFoundError):
                            status = path.stat()
                            found.append(Listed(name, status.st_size, status.st_mtime))
        return found

    def remove(self, names: Sequence[str], /) -> None:
        for name in names:
            with self._answers(name):
                (self._path / name).unlink(missing_ok=True)

    @contextmanager
    def _coming(self, name: str) -> Iterator[Path]:
        """Where a content is written before it has its name."""
        coming = self._path / _COMING / secrets.token_hex(16)
        try:
            with self._answers(name):
                (self._path / name).parent.mkdir(parents=True, exist_ok=True)
                yield coming
        finally:
            with suppress(OSError):
                coming.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._path / _LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _unnamed(self, name: str, error: OSError) -> Unsure:
        """A file system over a network may have done what it reports as failed."""
        return Unsure(f"{name} in {self.place}: perhaps put, for its name could not be given: {error}")

    def _sync(self, name: str) -> None:
        """Makes a name durable that is there; where the system fails to, that is not known."""
        try:
            folder = (self._path / name).parent
            while True:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                if folder == self._path:
                    return
                folder = folder.parent
        except OSError as error:
            raise Unsure(f"{name} in {self.place}: put, and perhaps not durable: {error}") from error

    @contextmanager
    def _answers(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissing(f"{name} in {self.place} is missing") from error
        except OSError as error:
            raise StoreUnavailable(f"{name} in {self.place}: the folder cannot be used now: {error}") from error


def _unlisted(error: OSError) -> None:
    """A folder that is not read may have what nobody may miss, such as a lease."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _tag(content: bytes) -> Tag:
    return hashlib.sha256(content).hexdigest()
