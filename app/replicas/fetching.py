"""Files of a copy, brought from the store: all at once, in pieces, each file whole and checked when it has its name."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from app.errors import Closed, Damaged
from app.objects.protocol import Objects
from app.replicas.cache import cache_of, comes
from app.replicas.files import Unit
from app.replication.protocol import Stored
from app.store.directory import Directory, PlacedFile
from app.store.files import BLOCK
from app.store.layout import PARTLY, SEGMENTS

_PIECE: Final = 2**23
"""Bytes that are read from the store in one request, of a large file."""

Between = Callable[[], object]
"""Told before each piece, from several threads: what it raises ends the fetching."""


class Wanted(NamedTuple):
    """A file that is to be in a folder. by_blocks: with its first block alone."""

    folder: Directory
    file: str
    stored: Stored
    by_blocks: bool = False


def fetch(
    files: Directory,
    records: Mapping[Unit, Mapping[str, Stored]],
    objects: Objects,
    between: Between = lambda: None,
) -> int:
    """Brings what is not here yet; each file is whole when it has its name, and durable at the end. Bytes that were
    read. What an attempt before this one finished is kept, if it is what the record says.

    Of files that come by blocks the first one. files: of the collection. Raises StoreUnavailable, Damaged where an
    object is not what was put, StorageFull, and what ``between`` does.
    """
    folders = {unit: unit.within(files) for unit in records}
    for folder in folders.values():
        folder.make()
    cached = cache_of(files) is not None
    wanted = [
        Wanted(folders[unit], file, one, cached and _by_blocks(unit, file, one))
        for unit, named in records.items()
        for file, one in named.items()
    ]
    if any(one.by_blocks for one in wanted):
        _mark(files)
    read = bring(objects, wanted, between)
    for folder in folders.values():
        folder.sync()
        folder.parent.sync()
    return read


def know(files: Directory, records: Mapping[Unit, Mapping[str, Stored]], objects: Objects) -> None:
    """Tells the cache, where there is one, which files of a copy come by blocks. files: of the collection."""
    if (cache := cache_of(files)) is None:
        return
    stored = {
        unit.within(files).path / file: one
        for unit, named in records.items()
        for file, one in named.items()
        if _by_blocks(unit, file, one)
    }
    if stored:
        _mark(files)
    cache.know(files.path, objects, stored)


def _by_blocks(unit: Unit, file: str, one: Stored) -> bool:
    return unit.folder == SEGMENTS and comes(file, one.size)


def _mark(files: Directory) -> None:
    if not files.has(PARTLY):
        files.place(PARTLY, 0).finish()
        files.sync()


def bring(objects: Objects, wanted: Sequence[Wanted], between: Between = lambda: None) -> int:
    """As ``fetch``, but for what makes names durable."""
    failed, errors = threading.Event(), list[BaseException]()

    def guarded(one: _Arriving, start: int) -> None:
        try:
            if failed.is_set():
                raise Closed("another of the files could not be fetched")
            between()
            one.read(objects, start)
        except BaseException as error:
            if not failed.is_set():
                errors.append(error)
            failed.set()
            raise

    missing = [one for one in wanted if not _there(one)]
    coming = [_Arriving(*one) for one in missing]
    try:
        objects.together([partial(guarded, one, start) for one in coming for start in one.starts])
    except Closed:
        # By order the first error may be of one that only gave up.
        raise (errors[0] if errors else Closed("the files could not be fetched")) from None
    finally:
        for one in coming:
            one.close()
    return sum(one.stored.size for one in missing)


def _there(one: Wanted) -> bool:
    """By its content: names of files in the tail come again after a restart."""
    if not one.folder.has(one.file) or one.folder.size(one.file) != one.stored.size:
        return False
    if one.by_blocks:
        # Whoever reads a block holds it to its checksum.
        return True
    with one.folder.open(one.file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == one.stored.sha256


class _Arriving:
    """A file whose pieces come in any order, from any thread; it has another name until it is whole."""

    def __init__(self, folder: Directory, file: str, stored: Stored, by_blocks: bool) -> None:
        self._folder, self._file, self._stored, self._by_blocks = folder, file, stored, by_blocks
        self.starts = range(1) if by_blocks else range(0, max(stored.size, 1), _PIECE)
        self._left, self._lock = len(self.starts), threading.Lock()
        self._placed: PlacedFile | None = None

    @property
    def _part(self) -> str:
        return f"{self._file}.part"

    def read(self, objects: Objects, start: int) -> None:
        one = self._stored
        if self._by_blocks:
            content = objects.read(one.name, 0, min(BLOCK, one.size))
        elif len(self.starts) == 1:
            content = objects.get(one.name)[0]
        else:
            content = objects.read(one.name, start, min(_PIECE, one.size - start))
        with self._lock:
            # Not before there is something to write: of many files few are open at a time.
            if self._placed is None:
                self._placed = self._folder.place(self._part, one.size)
            placed = self._placed
        placed.write(content, start)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._finish(objects)

    def _finish(self, objects: Objects) -> None:
        with self._folder.open(self._part) as stream:
            held = "" if self._by_blocks else hashlib.file_digest(stream, "sha256").hexdigest()
        if not self._by_blocks and held != self._stored.sha256:
            raise Damaged(
                f"{self._stored.name} of {objects.place} is not what was put there: its checksum differs. Restore that "
                "object from a copy of the store, or the collection from a snapshot."
            )
        assert self._placed is not None
        self._placed.finish()
        self._folder.remove(self._file)
        self._folder.publish(self._part, self._file)

    def close(self) -> None:
        if self._placed is not None:
            self._placed.close()
