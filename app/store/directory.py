"""Where files of collections lie, and all that is done with them: one protocol, so that they can lie elsewhere.

A collection, a segment of it, the folder of all collections: each is a ``Directory``, whose files have names. Its
operations are those of an object store too: a file is written once, whole and durable, and never changed; it is
read or mapped, gets a second name, is removed; and one name, of a file or a folder, can be made to mean something else
in one step (``publish``). Everything else is made of these: a segment is a folder of files that a row names, aliases
are one file that is published again.

Local disk is the one implementation (``app.store.local_directory``); tests/store/test_directory.py holds every one to
the same contract. For another, what is decided here:

- SQLite lies on local disk, in ``path``, for it locks and maps its files and writes into their middle. So do the mark
  of its commits and the log of queries, which change in place. A collection in an object store has a writer with a
  local database, who writes it as an object of a new name; the object that names the newest one is put on condition
  that nobody else put one since. Segments need nothing of the kind: they are immutable, have names of their own, and
  exist for nobody before the database names them.
- ``make`` and ``sync`` do nothing there: a name has no folder, and a write that returned is durable.
- ``publish`` of a folder is the one step that object stores lack. Only whole collections are published so (created,
  restored, replaced, deleted): there the name goes into a list of collections that is put on condition.
- Checksums stay above (``app.store.files``): whoever reads knows what was written, wherever it lay.
"""

from __future__ import annotations

import mmap
import sqlite3
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from app.types import Mask

Content: TypeAlias = mmap.mmap | memoryview
"""Of a file, read-only; it outlives the file's name."""


class Mapped(Protocol):
    """A file that comes by blocks, as it was mapped: what is in it stays for as long as somebody has it."""

    parsed: object
    """What its readers made of it; goes when it is not the latest mapping any more."""

    @property
    def content(self) -> Content:
        """Its whole size; only blocks that are ``here`` may be read."""

    @property
    def here(self) -> Mask:
        """(blocks,) that may have been brought: their checksums tell."""

    def bring(self, blocks: Sequence[int], /) -> None:
        """They are what was written when this returns, checked. Raises StoreUnavailable, StorageFull, Damaged."""

    def touch(self, first: int, last: int, /) -> None:
        """The blocks first to last - 1 are read."""


class ByBlocks(Protocol):
    """A file of which not all need be here: blocks are brought when they are first read, and may go again."""

    @property
    def now(self) -> Mapped:
        """The latest mapping; for each reading the one that there was when it began."""


class Source(Protocol):
    """Where files of a folder come from that are not here."""

    def of(self, folder: Path, name: str, checksums: Sequence[int], /) -> ByBlocks | None:
        """A file that comes by blocks; None where all of it is here. checksums: of its blocks."""


class NewFile(Protocol):
    """A file on its way, from ``Directory.create``. Not to be named by anything before ``finish`` has returned."""

    def write(self, content: Any, /) -> object:
        """Appends bytes, or any contiguous buffer."""

    def finish(self) -> int:
        """Its size in bytes: the content is durable, and once the directory is synced its name is too."""

    def close(self) -> None:
        """Gives it up, with what is there of it left to be removed; nothing after ``finish``."""


class PlacedFile(Protocol):
    """A file whose bytes come in any order, from any thread; holes are zeros. ``Directory.place``."""

    def write(self, content: bytes, at: int, /) -> None:
        """Raises OSError where the disk takes no more."""

    def map(self) -> Content:
        """As ``Directory.map``; it outlives this one too."""

    def written(self) -> list[tuple[int, int]]:
        """(first byte, byte behind the last) of what is no hole, ascending; more where the disk does not tell."""

    def finish(self) -> None:
        """Makes its content durable, and closes it."""

    def close(self) -> None:
        """Leaves it as it is."""


class Lock(Protocol):
    """One holder among all processes, from ``acquire`` to ``release`` or to the end of the process."""

    @property
    def held(self) -> bool: ...

    def acquire(self, note: str = "") -> bool:
        """Takes it if it is free; says whether it is held now. note: for whoever is refused."""

    def note(self) -> str:
        """The holder's note, or nothing."""

    def release(self) -> None: ...


class Directory(Protocol):
    """The files of one place, safe from any thread.

    A name is of a file or a folder in it, never a path. A missing one is FileNotFoundError, one the system refuses
    for now (too many open files, no memory, an error of the disk, another owner) SystemFault where it is read, and an
    OSError where it is written.
    """

    @property
    def name(self) -> str:
        """Its last name, for messages."""

    @property
    def path(self) -> Path:
        """A folder of local disk, for what lies nowhere else; see above."""

    @property
    def parent(self) -> Directory:
        """The directory that it lies in."""

    def folder(self, name: str, /) -> Directory:
        """A folder in it, which need not be there."""

    @property
    def source(self) -> Source | None:
        """Where files of it may come from by blocks."""

    # Reading

    def list(self) -> list[str]:
        """Names of files and folders, sorted; none where the directory itself is not there."""

    def has(self, name: str, /) -> bool:
        """Whether a file or a folder has the name."""

    def is_folder(self, name: str, /) -> bool:
        """Whether a folder has it."""

    def size(self, name: str, /) -> int:
        """Of a file, in bytes."""

    def read(self, name: str, /) -> bytes:
        """A whole file."""

    def map(self, name: str, /) -> Content:
        """A whole file, of which only what is looked at is read."""

    def open(self, name: str, /) -> BufferedReader:
        """A file as a stream, from its beginning."""

    # Writing

    def make(self) -> None:
        """The directory itself, and those that it lies in, where they are not there."""

    def unmake(self) -> None:
        """The inverse, where nothing is in it."""

    def create(self, name: str, /) -> NewFile:
        """A new file; FileExistsError where the name is taken."""

    def place(self, name: str, size: int, /) -> PlacedFile:
        """A file of that size and nothing in it, in the place of one of that name; FileNotFoundError where the
        directory is not there."""

    def placed(self, name: str, /) -> PlacedFile:
        """One that is there, to go on with."""

    def link(self, name: str, target: Directory, /) -> None:
        """The file under the same name in another directory too; a copy where there are no links. Not durable before
        ``target`` is synced."""

    def publish(self, name: str, as_name: str, /) -> None:
        """The file or the folder has another name in this directory, in one step: a file takes the place of the one
        that had it, a folder only of an empty one (OSError). Durable once the directory is synced."""

    def remove(self, name: str, /) -> None:
        """A file, or a folder with all that is in it; nothing where there is neither."""

    def sync(self) -> None:
        """Makes what was created, linked, published and removed here durable."""

    # The place itself

    def lock(self, name: str, /) -> Lock:
        """By that name; its file is made when it is taken."""

    def free(self) -> int:
        """Bytes that there is room for."""


class Home(Protocol):
    """An object store that has a collection's truth, of which this folder is a copy: a commit is there before it is
    durable here. Used by whoever writes, one write at a time."""

    def watch(self, connection: sqlite3.Connection, /) -> None:
        """Told of a connection before it writes; closes it where it raises: watched in part it would lose changes."""

    def send(self, files: Sequence[tuple[str, str]], /) -> None:
        """Puts files that a transaction will name, before it begins and beside others. files: (the collection's folder,
        name in it) of each, a segment's with all of its files. Raises what the store says."""

    def put(self, connection: sqlite3.Connection, commits: int, /) -> None:
        """Puts the transaction under way, which is complete, as the commit of that number.

        Raises Conflict where another machine has become the writer, Unavailable where it is not known whether the
        store has it, and what the store says otherwise: in the first case and the last it has it not.
        """

    def done(self) -> None:
        """What was put is durable here too."""

    def settle(self) -> None:
        """Makes durable here what was put, or may have been, and was not done. Raises Unavailable while the store does
        not say, StorageFull."""
