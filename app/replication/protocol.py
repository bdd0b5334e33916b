"""What a writer and a reader of a log are to those who use them.

A history is commits 1, 2, 3, ...; each is bytes that this package does not look into, and names of files that it needs
beside them. ``claim`` (``app.replication.writer``) makes a Writer of an object store's prefix, ``open_reader``
(``app.replication.reader``) a Reader. Both begin at a *base*: one object that holds what commits up to a number made,
written by a former ``rebase``; None as long as there was none.

    objects = open_objects("s3://bucket/prefix")                          # app.objects.opening
    writer = claim(objects, fetch, terms=Terms(), clock=Clock(), note="host")
    reader = open_reader(objects, fetch, clock=Clock())

All errors are of ``app.errors``: Fenced (another writer has the log now: this one never commits again), Unsure (a
commit may have been applied: ``settle``), StoreUnavailable (surely not applied, try again), ReaderBehind (open anew),
Damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias


class Stored(NamedTuple):
    """A large object: a base, or a file. size: in bytes. sha256: of its content, in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Commit:
    """number: from 1 on, without gaps. content: the caller's bytes. files: names of objects that states from this one
    on need and those before did not. chain: checksum of this commit with all before it, 64 hex digits; two logs, or a
    log and a local copy, that have the same number and chain have the same history up to there."""

    number: int
    content: bytes
    files: tuple[str, ...]
    chain: str


@dataclass(frozen=True, slots=True)
class Opened:
    """What a writer or reader begins with. number, chain: of the last commit that ``base`` holds; 0 and the log's own
    start where base is None. commits: those after, in order."""

    base: Stored | None
    number: int
    chain: str
    commits: tuple[Commit, ...]


Fetch: TypeAlias = Callable[[Stored | None], object]
"""Reads the base that it is given into wherever the caller wants it, while the log is read; its errors are raised."""


class Writer(Protocol):
    """The one that commits, from ``claim`` on until another one claims. Calls wait for each other.

    Its order of work: ``draft`` a commit, keep its number and chain in the local transaction, ``append`` it, commit
    locally. After Unsure nothing but ``settle`` is taken until that has returned or raised Fenced.
    """

    @property
    def opened(self) -> Opened:
        """What the log held when it was claimed; after ``took`` without its commits."""

    def took(self) -> None:
        """The caller has the commits that it was opened with: they are kept no longer."""

    @property
    def epoch(self) -> int:
        """Of this claim, from 1 on."""

    @property
    def number(self) -> int:
        """Of the last commit that is surely in the log."""

    @property
    def unsure(self) -> Commit | None:
        """Whose answer was lost; to be settled."""

    def draft(self, content: bytes, files: Sequence[str] = (), /) -> Commit:
        """The next commit, as ``append`` takes it; no request. Nothing holds on to it: another may be drafted."""

    def append(self, commit: Commit, /) -> None:
        """It is in the log, for good, when this returns: one conditional request. Raises Fenced and StoreUnavailable
        (it is not in the log, and never will be), Unsure."""

    def settle(self) -> Commit | None:
        """Puts the unsure commit where it belongs, once: the commit, in the log now. None where none was unsure.
        Raises Fenced: then only the log itself tells whether it was in time (claim again, or read). Raises Unsure where
        it is still not known."""

    def put_file(self, stream: BinaryIO, label: str, /) -> Stored:
        """A file or a base, under a name that is used once. label: one part of a name, for people. Before it is named
        by a commit or a rebase of this writer nobody needs it; afterwards it stays as long as it is needed."""

    def rebase(self, number: int, base: Stored, files: Iterable[str], /) -> None:
        """From now on the log begins after commit ``number``, whose state ``base`` holds. files: all that this state
        needs (those that later commits name are added). What nobody needs any more is told to ``collect``."""

    def look(self) -> None:
        """One request. Raises Fenced where another writer has claimed the log."""

    def collect(self) -> list[str]:
        """Removes what nobody has needed for the grace period and no lease stands before: the names. Nothing else ever
        removes."""


class Reader(Protocol):
    """Follows the log and never changes it; it writes its own lease alone, so that what it reads stays there.

    Calls wait for each other. Its lease is renewed by ``poll`` and ``hold``, one of which must come by more often than
    a third of the lease's time. Once that has run out, what is missing raises ReaderBehind: open another reader.
    """

    @property
    def opened(self) -> Opened: ...

    def took(self) -> None:
        """As of a Writer."""

    @property
    def number(self) -> int:
        """Of the last commit that was given out."""

    def poll(self) -> list[Commit]:
        """Commits after that, in order; none where there are none. One request where there is nothing new."""

    def hold(self, number: int, /) -> None:
        """The oldest state that the caller still reads from. Files that states from there on need stay."""

    def close(self) -> None:
        """Gives the lease back."""
