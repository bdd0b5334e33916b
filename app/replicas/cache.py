"""Blocks of large files that a reader's copies have, of all that the store has: brought when they are read, let go when
the folder would pass its bound.

A file that comes so has its whole size from the beginning, and holes where nothing was brought. Whether a block is what
was written its checksum tells, in the segment's manifest, so nothing is kept of which are here: after a kill in the
middle of one, or of anything else, what does not fit is brought again.

Who reads has the file mapped, and views of it for as long as it reads. So no block is taken out of a file: a new file
has those that stay, takes the name, and is mapped by whoever reads next. The former one lies there without a name until
its last reader has ended, so the bound is passed by what searches that are under way look at.

Blocks go that were not read since the last time that room was made; where that is not enough, all of the files that
were read longest ago.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import Damaged, SystemFault
from app.objects.protocol import Objects
from app.replication.protocol import Stored
from app.store import files
from app.store.directory import Content, Directory, PlacedFile
from app.store.faults import reach
from app.store.local_directory import LocalDirectory
from app.store.system import room
from app.types import Mask

_RUN: Final = 8
"""Blocks of one request, at most."""
_FREED: Final = 0.75
"""The share of the bound that is left when room was made: not every block that comes is to cost another one."""


class Cache:
    """Of all copies of one server; safe from any thread. ``Source`` of its folders (``app.store.directory``)."""

    def __init__(self, most: int) -> None:
        """most: bytes of the files that come by blocks."""
        self.most = most
        self._files: dict[Path, dict[Path, CachedFile]] = {}
        """By the folder of the collection, and its own path."""
        self._lock = threading.Lock()
        self._making_room = threading.Lock()
        self._ticks = count(1)

    def know(self, collection: Path, objects: Objects, stored: Mapping[Path, Stored]) -> None:
        """From here on these files of a collection come by blocks, and no other ones of it. stored: by their paths."""
        with self._lock:
            before = self._files.get(collection, {})
            self._files[collection] = {
                path: found
                if (found := before.get(path)) is not None and found.stored == one
                else CachedFile(self, path, objects, one)
                for path, one in stored.items()
            }

    def forget(self, collection: Path) -> None:
        """A folder that is to be removed, or to have another collection."""
        with self._lock:
            self._files.pop(collection, None)

    def of(self, folder: Path, name: str, checksums: Sequence[int]) -> CachedFile | None:
        path = folder / name
        with self._lock:
            found = self._files.get(folder.parent.parent, {}).get(path)
        if found is not None:
            found.begin(checksums)
        return found

    @property
    def nbytes(self) -> int:
        """That are here."""
        return sum(one.nbytes for one in self.known())

    def tick(self) -> int:
        return next(self._ticks)

    def make_room(self) -> None:
        """Where more is here than may be."""
        if self.nbytes <= self.most or not self._making_room.acquire(blocking=False):
            return
        try:
            for ruthless in (False, True):
                for one in sorted(self.known(), key=lambda one: one.read):
                    if self.nbytes <= self.most * _FREED:
                        return
                    one.shrink(ruthless=ruthless)
        finally:
            self._making_room.release()

    def known(self) -> list[CachedFile]:
        """Of all collections."""
        with self._lock:
            return [one for found in self._files.values() for one in found.values()]


class CachedFile:
    """One file; ``now`` is its latest mapping."""

    def __init__(self, cache: Cache, path: Path, objects: Objects, stored: Stored) -> None:
        self.stored, self._cache, self._path, self._objects = stored, cache, path, objects
        self._checksums: Sequence[int] = ()
        self._lock = threading.Lock()
        """Held while blocks are brought, and while the file is opened."""
        self._now: Mapped | None = None
        self._folder = LocalDirectory(path.parent)
        self._unread = self._on_disk()
        self.read = 0
        """When a block was read last, by the cache's own count."""

    def begin(self, checksums: Sequence[int]) -> None:
        """Opens it, once. checksums: of its blocks. Raises OSError, SystemFault."""
        with self._lock:
            self._checksums = checksums
            if self._now is None:
                placed, here = self._folder.placed(self._path.name), np.zeros(len(checksums), bool)
                for start, stop in placed.written():
                    here[start // files.BLOCK : -(-stop // files.BLOCK)] = True
                self._now = Mapped(self, placed, here)

    @property
    def now(self) -> Mapped:
        assert self._now is not None
        return self._now

    @property
    def nbytes(self) -> int:
        return self._unread if self._now is None else int(np.count_nonzero(self._now.here)) * files.BLOCK

    def touched(self) -> None:
        self.read = self._cache.tick()

    def bring(self, mapped: Mapped, blocks: Sequence[int]) -> None:
        with self._lock, room():
            # Another one may have brought them while this one waited.
            missing = [number for number in blocks if not (mapped.here[number] and self._fits(mapped, number))]
            self._objects.together([partial(self._bring, mapped, run) for run in _runs(missing)])
        self._cache.make_room()

    def _bring(self, mapped: Mapped, run: range) -> None:
        for number, content in zip(run, self._read(run), strict=True):
            if zlib.crc32(content) != self._checksums[number]:
                # On its way, perhaps.
                (content,) = self._read(range(number, number + 1))
                if zlib.crc32(content) != self._checksums[number]:
                    raise Damaged(
                        f"{self.stored.name} of {self._objects.place} is not what was put there: the checksum of "
                        f"block {number} differs. Restore that object from a copy of the store, or the collection from "
                        "a snapshot."
                    )
            mapped.write(number, content)
        reach("blocks.brought")

    def _read(self, run: range) -> list[bytes]:
        start, stop = run.start * files.BLOCK, min(run.stop * files.BLOCK, self.stored.size)
        try:
            content = self._objects.read(self.stored.name, start, stop - start)
        except Damaged:
            # Shorter than it is: an answer that broke off.
            content = self._objects.read(self.stored.name, start, stop - start)
        return [content[at : at + files.BLOCK] for at in range(0, len(content), files.BLOCK)]

    def _fits(self, mapped: Mapped, number: int) -> bool:
        block = memoryview(mapped.content)[number * files.BLOCK : (number + 1) * files.BLOCK]
        return zlib.crc32(block) == self._checksums[number]

    def _on_disk(self) -> int:
        """Of a file that nobody has opened yet."""
        with suppress(OSError, SystemFault):
            placed = self._folder.placed(self._path.name)
            try:
                return sum(stop - start for start, stop in placed.written())
            finally:
                placed.close()
        return 0

    def shrink(self, *, ruthless: bool) -> None:
        """Another file takes its place, with the blocks that were read since the last time; ruthless: with none."""
        former = self._now
        if former is None:
            keep = np.zeros(0, bool)
        else:
            keep = former.here & former.used & (not ruthless)
            former.used[:] = False
            if np.array_equal(keep, former.here):
                return
        part = f"{self._path.name}.part"
        try:
            placed = self._folder.place(part, self.stored.size)
        except FileNotFoundError:
            # The segment is gone, and with it what this one has.
            return
        if former is None:
            placed.close()
            self._unread = 0
            self._folder.publish(part, self._path.name)
            return
        new = Mapped(self, placed, np.zeros_like(keep))
        for number in np.flatnonzero(keep).tolist():
            start = number * files.BLOCK
            new.write(number, bytes(memoryview(former.content)[start : start + files.BLOCK]))
        self._folder.publish(part, self._path.name)
        reach("blocks.let_go")
        assert former is not None
        # It holds the former one, which is to go with the last who reads it.
        self._now, former.parsed = new, None


class Mapped:
    """A file as it was mapped. What is here stays for as long as somebody has it. here: (blocks,) that were brought, or
    may have been; used: that were read since room was made last."""

    def __init__(self, file: CachedFile, placed: PlacedFile, here: Mask) -> None:
        self._file, self._placed, self.here = file, placed, here
        self.used = np.zeros_like(here)
        self.parsed: object = None
        self.content: Content = placed.map()

    def __del__(self) -> None:
        self._placed.close()

    def bring(self, blocks: Sequence[int]) -> None:
        self._file.bring(self, blocks)

    def touch(self, first: int, last: int) -> None:
        self.used[first:last] = True
        self._file.touched()

    def write(self, number: int, content: bytes) -> None:
        """Raises OSError where the disk takes no more: never by the map, where that would end the process."""
        self._placed.write(content, number * files.BLOCK)
        self.here[number] = True


def _runs(blocks: Sequence[int]) -> Iterator[range]:
    """Ascending blocks as runs of at most ``_RUN``.

    >>> list(_runs([0, 1, 2, 5, *range(7, 17)]))
    [range(0, 3), range(5, 6), range(7, 15), range(15, 17)]
    """
    first = last = -1
    for number in blocks:
        if number != last or last - first == _RUN:
            if first >= 0:
                yield range(first, last)
            first = last = number
        last += 1
    if first >= 0:
        yield range(first, last)


def cache_of(folder: Directory) -> Cache | None:
    """The one that the files of a folder come by, if so."""
    return folder.source if isinstance(folder.source, Cache) else None
