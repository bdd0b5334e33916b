"""What one request changes of a collection's documents: planned as of the changes before it, filled into a transaction,
and published once that is durable. Several can be of one transaction, each as if it came after the ones before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from app.collection.chunks import ChunkStore
from app.collection.passages import Passages
from app.collection.tail import Tail
from app.collection.view import Published
from app.errors import Damaged
from app.lexical.sequences import Sequences
from app.store.rows import find_live, insert_document, live_sum
from app.types import I64, Document


@dataclass(frozen=True, slots=True)
class Written:
    """A write's outcome. created: ids that were not there. first: the version of its first document; they ascend."""

    created: int
    first: int


class Raced(Exception):
    """Another write came between a write's preparation and its transaction: prepare it again."""


class Counters(NamedTuple):
    """As the database has them (``app.store.database.State``)."""

    next_seq: int
    live: int
    digest: int

    @classmethod
    def of(cls, published: Published) -> Counters:
        return cls(published.next_seq, published.live, published.digest)


Outcome: TypeAlias = Written | int
"""What a write or a deletion is answered with."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a change comes to. before, after: counters. dying: id -> its version that goes. idle: whether there is
    nothing to do at all."""

    outcome: Outcome
    before: Counters
    after: Counters
    dying: Mapping[str, int]
    idle: bool

    @property
    def gone(self) -> I64:
        """(n,) versions that go, ascending."""
        return np.array(sorted(self.dying.values()), np.int64)


class Change(Protocol):
    def plan(self, connection: sqlite3.Connection, before: Counters) -> Planned:
        """Raises Raced; nothing is changed."""

    def fill(self, txn: sqlite3.Connection, planned: Planned, chunks: ChunkStore, commit: int) -> None:
        """Its rows, and the files that they name, as of the commit of that number."""

    def append(self, growing: Tail, planned: Planned) -> None:
        """To what queries see."""

    @property
    def files(self) -> Sequence[int]:
        """How many passages the parts have, each of which may become a file."""

    @property
    def nbytes(self) -> int:
        """Of memory, about: of what one commit has to carry."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """documents: with distinct ids. passages: their vectors in order, in any number of parts; words: of each part.
    expected, also: as ``Collection.write`` has them."""

    documents: Sequence[Document]
    truncated: Sequence[bool]
    passages: Sequence[Passages]
    words: Sequence[Sequences | None]
    expected: Mapping[str, int | None]
    also: Callable[[sqlite3.Connection, Written], None] | None

    @property
    def files(self) -> list[int]:
        return [len(part) for part in self.passages]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.passages) + sum(len(one.text) for one in self.documents)

    def plan(self, connection: sqlite3.Connection, before: Counters) -> Planned:
        hold(connection, self.expected)
        live = find_live(connection, [document.id for document in self.documents])
        seqs = range(before.next_seq, before.next_seq + len(self.documents))
        digest = before.digest - sum(live_sum(identifier.encode(), seq) for identifier, seq in live.items())
        digest += sum(live_sum(d.id.encode(), seq) for d, seq in zip(self.documents, seqs, strict=True))
        created = len(self.documents) - len(live)
        after = Counters(seqs.stop, before.live + created, digest)
        idle = not self.documents and self.also is None
        return Planned(Written(created, before.next_seq), before, after, live, idle)

    def fill(self, txn: sqlite3.Connection, planned: Planned, chunks: ChunkStore, commit: int) -> None:
        first = planned.before.next_seq
        rows = []
        for part in self.passages:
            rows.append(chunks.staged(part, first))
            first += len(part)
        for seq, (document, cut) in enumerate(
            zip(self.documents, self.truncated, strict=True), planned.before.next_seq
        ):
            insert_document(txn, seq, document, cut)
            txn.execute("INSERT OR REPLACE INTO live VALUES (?, ?)", (document.id.encode(), seq))
        txn.executemany("INSERT INTO dead VALUES (?, ?)", [(seq, commit) for seq in planned.dying.values()])
        txn.executemany("INSERT INTO tail VALUES (?, ?, ?, ?, ?, ?)", rows)
        if self.also is not None:
            assert isinstance(planned.outcome, Written)
            self.also(txn, planned.outcome)

    def append(self, growing: Tail, planned: Planned) -> None:
        start = 0
        for part, words in zip(self.passages, self.words, strict=True):
            some = self.documents[start : start + len(part)]
            first = planned.before.next_seq + start
            seqs = np.arange(first, first + len(part), dtype=np.int64)
            growing.append(seqs, [document.metadata for document in some], part, words=words)
            start += len(part)


@dataclass(frozen=True, slots=True)
class Deletion:
    """Of those of the identifiers that are there. live: id -> version, where that is known. expected, also: as
    ``Collection.delete`` has them. name: of the collection."""

    identifiers: Sequence[str]
    expected: Mapping[str, int | None]
    also: Callable[[sqlite3.Connection, int], None] | None
    damaged: Callable[[str], Damaged]
    live: Mapping[str, int] | None = None

    @property
    def files(self) -> list[int]:
        return []

    @property
    def nbytes(self) -> int:
        return 0

    def plan(self, connection: sqlite3.Connection, before: Counters) -> Planned:
        hold(connection, self.expected)
        live = find_live(connection, set(self.identifiers)) if self.live is None else self.live
        digest = before.digest - sum(live_sum(identifier.encode(), seq) for identifier, seq in live.items())
        after = Counters(before.next_seq, before.live - len(live), digest)
        return Planned(len(live), before, after, live, not live and self.also is None)

    def fill(self, txn: sqlite3.Connection, planned: Planned, chunks: ChunkStore, commit: int) -> None:
        pairs = [(identifier.encode(), seq) for identifier, seq in planned.dying.items()]
        if pairs and txn.executemany("DELETE FROM live WHERE id = ? AND seq = ?", pairs).rowcount != len(pairs):
            raise self.damaged("a document that is to be deleted has another id in its row")
        txn.executemany("INSERT INTO dead VALUES (?, ?)", [(seq, commit) for seq in planned.dying.values()])
        if self.also is not None:
            self.also(txn, len(pairs))

    def append(self, growing: Tail, planned: Planned) -> None: ...


def hold(connection: sqlite3.Connection, expected: Mapping[str, int | None]) -> None:
    """Raises Raced unless these versions stand, and no document where None is expected."""
    if find_live(connection, expected) != {key: seq for key, seq in expected.items() if seq is not None}:
        raise Raced


class Nothing(Exception):
    """A transaction would change nothing: it is given up."""


def filled(
    txn: sqlite3.Connection, change: Change, before: Counters, chunks: ChunkStore, commit: int
) -> Planned | Exception:
    """A change as one of several of a transaction: what it comes to, or why it alone is undone. Raises what concerns
    the transaction: an error of the database."""
    txn.execute("SAVEPOINT change")
    try:
        planned = change.plan(txn, before)
        if not planned.idle:
            change.fill(txn, planned, chunks, commit)
    except (sqlite3.Error, UnicodeDecodeError):
        raise
    except Exception as error:  # noqa: BLE001, whose change it is raises it
        txn.execute("ROLLBACK TO change")
        chunks.unstage(before.next_seq, change.files)
        return error
    finally:
        if txn.in_transaction:
            txn.execute("RELEASE change")
    return planned
