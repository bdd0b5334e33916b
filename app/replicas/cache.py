"""Blocks of large files that a reader's copies have, of all that the store has: brought when they are read, let go when
the folder would pass its bound.

A file that comes so has its whole size from the beginning, and holes where nothing was brought. Whether a block is what
was written its checksum tells, in the segment's manifest, so nothing is kept of which are here: after a kill in the
middle of one, or of anything else, what does not fit is brought again.

Who reads has the file mapped, and views of it for as long as it reads. So no block is taken out of a file: a new file
has those that stay, takes the name, and is mapped by whoever reads next. The former one lies there without a name until
its last reader has ended, so the bound is passed by what searches that are under way look at.

Blocks go that were not read since the last time that room was made; where that is not enough, all of the files that
were read longest ago. No search fails because no room can be made: what it asked for is here.

Blocks come in threads of their own, and whoever reads waits for them as long as it may: a search that gives up costs
those nothing that wait for the same block, and where the store does not answer for one, all of them are told at once.

Nothing that can be mapped is part of a ring of references, so it goes when its last reader has ended.
"""

from __future__ import annotations

import logging
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from app.collection.segment import BY_ROWS
from app.compute import deadline
from app.errors import Damaged, SystemFault
from app.objects.protocol import Objects
from app.replication.protocol import Stored
from app.store import files
from app.store.directory import Content, Directory, PlacedFile
from app.store.faults import reach
from app.store.layout import PARTLY, SEGMENTS
from app.store.local_directory import LocalDirectory
from app.store.system import FULL, room
from app.types import Mask

log = logging.getLogger(__name__)

LEAST: Final = 2**22
"""Bytes of a file from which on it comes by blocks."""
_RUN: Final = 8
"""Blocks of one request, at most."""
_AT_A_TIME: Final = 16
"""Requests of one reading."""
_FREED: Final = 0.75
"""The share of the bound that is left when room was made: not every block that comes is to cost another one."""


def comes(file: str, size: int) -> bool:
    """Whether a segment's file of that name and size comes by blocks, where there is a cache."""
    return file in BY_ROWS and size >= LEAST


def _has_holes(path: Path) -> bool:
    """Whether a file may, by where it lies. Raises OSError, SystemFault."""
    folder = LocalDirectory(path.parent)
    segments = folder.parent
    return segments.name == SEGMENTS and segments.parent.has(PARTLY) and comes(path.name, folder.size(path.name))


class Cache:
    """Of all copies of one server; safe from any thread. ``Source`` of its folders (``app.store.directory``)."""

    def __init__(self, most: int) -> None:
        """most: bytes of the files that come by blocks."""
        self.most = most
        self._files: dict[Path, dict[Path, CachedFile]] = {}
        """By the folder of the collection, and its own path."""
        self._lock = threading.Lock()
        self._making_room = threading.Lock()
        self._told = False
        """Whether the log has that no room can be made."""
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
        """Raises OSError, SystemFault, also where a file may have holes and nobody has said where their content is."""
        path = folder / name
        with self._lock:
            found = self._files.get(folder.parent.parent, {}).get(path)
        if found is not None:
            found.begin(checksums)
        elif _has_holes(path):
            raise SystemFault(
                f"{name} of {folder.name} is of a state that the store has left behind, or does not have yet: it is no "
                "damage, and tried again at the next request"
            )
        return found

    @property
    def nbytes(self) -> int:
        """That are here."""
        return sum(one.nbytes for one in self.known())

    def tick(self) -> int:
        return next(self._ticks)

    def make_room(self) -> None:
        """Where more is here than may be; what the disk says against it, the log has."""
        if self.nbytes <= self.most or not self._making_room.acquire(blocking=False):
            return
        try:
            self._let_go()
            self._told = False
        except (OSError, SystemFault) as error:
            if not self._told:
                log.warning("more lies in the reader's folder than it may have, for no room can be made: %s", error)
            self._told = True
        finally:
            self._making_room.release()

    def _let_go(self) -> None:
        for ruthless in (False, True):
            for one in sorted(self.known(), key=lambda one: one.read):
                if self.nbytes <= self.most * _FREED:
                    return
                one.shrink(ruthless=ruthless)

    def known(self) -> list[CachedFile]:
        """Of all collections."""
        with self._lock:
            return [one for found in self._files.values() for one in found.values()]


class _Coming:
    """Blocks that are asked for in one request. waiting: how many want them."""

    def __init__(self, blocks: range, future: Future[None]) -> None:
        self.blocks, self.future, self.waiting = blocks, future, 0


class CachedFile:
    """One file; ``now`` is its latest mapping."""

    def __init__(self, cache: Cache, path: Path, objects: Objects, stored: Stored) -> None:
        self.stored, self._cache, self._path, self._objects = stored, cache, path, objects
        self._checksums: Sequence[int] = ()
        self._lock = threading.Lock()
        """Held while the file is opened, and to look at what is coming."""
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
        """Raises TooSlow where the deadline that is set passes first; blocks come on for others who wait for them."""
        coming, threads = self._ask(mapped, blocks)
        try:
            done, left = wait([one.future for one in coming], deadline.left())
        finally:
            self._leave(mapped, coming)
            threads.shutdown(wait=False)
        late = bool(left)
        if not late:
            threads.shutdown()
        # An error that one of them has is to hold none of them by this frame.
        coming.clear()
        left.clear()
        while done:
            done.pop().result()
        if late:
            raise deadline.over()
        self._cache.make_room()

    def _ask(self, mapped: Mapped, blocks: Sequence[int]) -> tuple[list[_Coming], ThreadPoolExecutor]:
        """What is to be waited for: requests that are under way, and new ones for the rest, in threads."""
        threads = ThreadPoolExecutor(_AT_A_TIME, "blocks")
        rotten = {number for number in blocks if mapped.here[number] and not self._fits(mapped, number)}
        with self._lock:
            found = {id(one): one for number in blocks if (one := mapped.coming.get(number)) is not None}
            # Another one may have brought them meanwhile.
            missing = [one for one in blocks if one not in mapped.coming and (one in rotten or not mapped.here[one])]
            for run in _runs(missing):
                one = _Coming(run, threads.submit(self._bring, mapped, run))
                mapped.coming.update(dict.fromkeys(run, one))
                found[id(one)] = one
            for one in found.values():
                one.waiting += 1
        return list(found.values()), threads

    def _leave(self, mapped: Mapped, coming: Iterable[_Coming]) -> None:
        with self._lock:
            for one in coming:
                one.waiting -= 1
                # Nobody wants what has not begun.
                if not one.waiting and one.future.cancel():
                    mapped.came(one.blocks)

    def _bring(self, mapped: Mapped, run: range) -> None:
        try:
            with room():
                self._place(mapped, run)
        finally:
            with self._lock:
                mapped.came(run)

    def _place(self, mapped: Mapped, run: range) -> None:
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
        try:
            new.take(former, keep)
        except OSError as error:
            if error.errno not in FULL:
                raise
            # What is to make room has none itself: nothing stays.
            new = Mapped(self, self._folder.place(part, self.stored.size), np.zeros_like(keep))
        self._folder.publish(part, self._path.name)
        reach("blocks.let_go")
        self._now, former.parsed = new, None


class Mapped:
    """A file as it was mapped. What is here stays for as long as somebody has it. here: (blocks,) that were brought, or
    may have been; used: that were read since room was made last; coming: that are asked for."""

    def __init__(self, file: CachedFile, placed: PlacedFile, here: Mask) -> None:
        # Whoever reads has the file too.
        self._file, self._placed, self.here = weakref.ref(file), placed, here
        self.used = np.zeros_like(here)
        self.coming: dict[int, _Coming] = {}
        self.parsed: object = None
        self.content: Content = placed.map()

    def __del__(self) -> None:
        self._placed.close()

    @property
    def file(self) -> CachedFile:
        found = self._file()
        assert found is not None, "whoever reads a mapping has its file"
        return found

    def bring(self, blocks: Sequence[int]) -> None:
        self.file.bring(self, blocks)

    def touch(self, first: int, last: int) -> None:
        self.used[first:last] = True
        self.file.touched()

    def write(self, number: int, content: bytes) -> None:
        """Raises OSError where the disk takes no more: never by the map, where that would end the process."""
        self._placed.write(content, number * files.BLOCK)
        self.here[number] = True

    def take(self, other: Mapped, blocks: Mask) -> None:
        """Blocks (blocks,) that another mapping of the file has. Raises OSError."""
        for number in np.flatnonzero(blocks).tolist():
            start = number * files.BLOCK
            self.write(number, bytes(memoryview(other.content)[start : start + files.BLOCK]))

    def came(self, blocks: range) -> None:
        for number in blocks:
            del self.coming[number]


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
