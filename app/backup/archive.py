"""The form in which a whole collection travels: a plain tar whose first member says what the others are.

``snapshot.json`` lists every file with its size and its SHA-256; the files follow in that order. So an archive can be
checked while it comes in, without being held or read twice, and `tar -x` with `sha256sum` is all that one needs to look
into it. No compression: vectors hardly shrink, and nothing then unpacks to more bytes than were sent.

An archive may come from anyone. Only plain files are taken, under names that the list has, of the sizes that it has;
no link, no device, no sparse file, no extended header, nothing absolute and no `..`. All else is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from app.errors import BadArchive, StorageFull
from app.store.directory import Directory, NewFile
from app.store.system import room

ARCHIVE_FORMAT: Final = 1
"""The number of this form; the collection's own format is in its database."""

LISTING: Final = "snapshot.json"
PIECE: Final = 2**20
MAX_LISTING: Final = 64 * 2**20
"""Bytes of the list, which is held in memory: enough for 400,000 files."""

_BLOCK: Final = tarfile.BLOCKSIZE
_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The contents of an archive. documents: of the collection when it was taken. created: when, in UTC."""

    collection: str
    created: str
    documents: int
    generation: int
    files: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        files = [{"path": e.path, "size": e.size, "sha256": e.sha256} for e in self.files]
        value = {
            "format": ARCHIVE_FORMAT,
            "collection": self.collection,
            "created": self.created,
            "documents": self.documents,
            "generation": self.generation,
            "files": files,
        }
        return json.dumps(value, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Listing:
        """Raises BadArchive for anything that ``to_bytes`` does not write."""
        try:
            value = json.loads(content)
            if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > ARCHIVE_FORMAT:
                raise BadArchive(
                    f"the archive has format {value['format']}, this Sheaf reads up to {ARCHIVE_FORMAT}",
                    code="archive_too_new",
                )
            files = tuple(Entry(_text(f["path"]), _count(f["size"]), _text(f["sha256"])) for f in value["files"])
            found = cls(
                _text(value["collection"]),
                _text(value["created"]),
                _count(value["documents"]),
                _count(value["generation"]),
                files,
            )
            if value["format"] != ARCHIVE_FORMAT:
                raise ValueError("format")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadArchive(f"{LISTING} is not the list of a snapshot's files") from error
        paths = {entry.path for entry in files}
        if len(paths) != len(files):
            raise BadArchive(f"{LISTING} names a file twice")
        for entry in files:
            parents = (entry.path[:at] for at, letter in enumerate(entry.path) if letter == "/")
            if not _PATH.fullmatch(entry.path) or len(entry.path) > 100 or any(p in paths for p in parents):
                raise BadArchive(f"{LISTING} names {entry.path[:100]!r}, which no collection has")
            if not _SHA256.fullmatch(entry.sha256):
                raise BadArchive(f"{LISTING} has no SHA-256 of {entry.path}")
        return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise TypeError("count")
    return value


def digest(
    folder: Directory, name: str, check: Callable[[], None], see: Callable[[bytes], None] = lambda piece: None
) -> Entry:
    """Size and SHA-256 of a file, as an entry under its name. see: is given each piece of 1 MiB as well."""
    found, size = hashlib.sha256(), 0
    with folder.open(name) as file:
        while piece := file.read(PIECE):
            check()
            see(piece)
            found.update(piece)
            size += len(piece)
    return Entry(name, size, found.hexdigest())


def write_archive(out: NewFile, listing: Listing, folder: Directory, check: Callable[[], None]) -> str:
    """Writes the archive of files below ``folder``; its SHA-256. Raises StorageFull, BadArchive (one changed).

    check: called for each piece; raises to give the work up.
    """
    whole = hashlib.sha256()

    def put(content: bytes) -> None:
        whole.update(content)
        out.write(content)

    with room():
        content = listing.to_bytes()
        put(_header(LISTING, len(content)))
        put(content + bytes(-len(content) % _BLOCK))
        for entry in listing.files:
            put(_header(entry.path, entry.size))
            found, left = hashlib.sha256(), entry.size
            way, name = _way(folder, entry.path)
            with way[-1].open(name) as file:
                while left and (piece := file.read(min(PIECE, left))):
                    check()
                    found.update(piece)
                    put(piece)
                    left -= len(piece)
            if left or found.hexdigest() != entry.sha256:
                raise BadArchive(f"{entry.path} changed while it was archived")
            put(bytes(-entry.size % _BLOCK))
        put(bytes(2 * _BLOCK))
    return whole.hexdigest()


def _way(folder: Directory, path: str) -> tuple[list[Directory], str]:
    """The folders on the way to a file, that of the archive first, and its name in the last."""
    *folders, name = path.split("/")
    way = [folder]
    for one in folders:
        way.append(way[-1].folder(one))
    return way, name


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    header = info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    assert len(header) == _BLOCK, f"{name} does not fit into one header"
    return header


class Unpacker:
    """Unpacks an archive that comes in pieces into an empty folder: ``feed`` them, then ``finish``.

    The folder is not durable and not a collection before ``finish`` has returned; after any error the folder is to
    be removed. Memory is one block and the list of files.
    """

    def __init__(self, folder: Directory, limit: int) -> None:
        """limit: bytes of all files together."""
        self._folder, self._limit = folder, limit
        self._folders = {folder.path: folder}
        self._steps = self._run()
        self._wanted = next(self._steps)
        self._held = bytearray()
        self.listing: Listing | None = None

    def feed(self, piece: bytes) -> None:
        """Raises BadArchive, StorageFull."""
        self._held += piece
        start = 0
        with room():
            while len(self._held) - start >= self._wanted:
                block = bytes(memoryview(self._held)[start : start + self._wanted])
                start += self._wanted
                self._wanted = self._steps.send(block)
        del self._held[:start]

    def finish(self) -> Listing:
        """The whole archive has come: holds that nothing is missing, and makes the files durable.

        Raises BadArchive, StorageFull.
        """
        self._steps.close()
        if self._held or self.listing is None or self._missing():
            raise BadArchive("the archive ends too early")
        with room():
            for folder in reversed(self._folders.values()):
                folder.sync()
        return self.listing

    def close(self) -> None:
        """Gives it up; the folder is the caller's to remove."""
        self._steps.close()

    def _missing(self) -> bool:
        return self.listing is None or self._done < len(self.listing.files)

    def _run(self) -> Generator[int, bytes, None]:
        """Yields how many bytes it wants next, and is sent them."""
        self._done = 0
        name, size = _parsed((yield _BLOCK))
        if name != LISTING or not 0 < size <= MAX_LISTING:
            raise BadArchive(f"expected {LISTING} of at most {MAX_LISTING:,} bytes first; this is no snapshot of Sheaf")
        content = yield size + -size % _BLOCK
        self.listing = listing = Listing.from_bytes(content[:size])
        total = sum(entry.size for entry in listing.files)
        if total > self._limit:
            raise BadArchive(f"the archive holds {total:,} bytes, the limit of this server is {self._limit:,}")
        free = self._folder.free()
        if total > free:
            raise StorageFull(f"the archive holds {total:,} bytes, the disk has room for {free:,}; nothing was kept")
        for entry in listing.files:
            if _parsed((yield _BLOCK)) != (entry.path, entry.size):
                raise BadArchive(f"expected {entry.path} of {entry.size:,} bytes next, as {LISTING} has it")
            way, name = _way(self._folder, entry.path)
            for folder in way:
                if folder.path not in self._folders:
                    folder.make()
                    self._folders[folder.path] = folder
            found, left = hashlib.sha256(), entry.size
            with closing(way[-1].create(name)) as file:
                while left:
                    piece = yield min(left, PIECE)
                    found.update(piece)
                    file.write(piece)
                    left -= len(piece)
                file.finish()
            if found.hexdigest() != entry.sha256:
                raise BadArchive(f"{entry.path} has another SHA-256 than {LISTING} says")
            if padding := -entry.size % _BLOCK:
                yield padding
            self._done += 1
        # tar ends with two blocks of zeros, and may fill up its last record with more.
        while True:
            if (yield _BLOCK).strip(b"\0"):
                raise BadArchive(f"the archive holds more than {LISTING} names")


def _parsed(block: bytes) -> tuple[str, int]:
    """Name and size of a member that is a plain file. Raises BadArchive for anything else."""
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise BadArchive(f"not a tar file, or one that is cut short or damaged ({error})") from None
    if info.type != tarfile.REGTYPE or info.linkname:
        raise BadArchive(f"{info.name[:100]!r} is not a plain file; a snapshot holds nothing else")
    return info.name, info.size
