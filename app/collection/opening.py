"""A collection as the disk has it: what is published as of a commit, and which files no commit names.

Opening distrusts what it reads (app.store.files, app.store.database). Files that a former reading has open are used
again, so that following another process's writer costs what it wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from app.collection.chunks import ChunkStore
from app.collection.first_stage import FirstStage, StageStore
from app.collection.layers import layers
from app.collection.part import Elsewhere
from app.collection.segment import Segment, SegmentRecord
from app.collection.spec import DECLARED, CollectionSpec
from app.collection.tail import Tail
from app.collection.view import Generation, Published, SegmentView, TailState
from app.lexical.asked import Asked
from app.lexical.words import GrowingWords
from app.metadata.declared import NOTHING, Declared, read_declared
from app.store.database import Database, find_record, get_record, read_state
from app.store.directory import Directory
from app.store.layout import SEGMENTS, TAIL
from app.store.memory import require_room
from app.store.rows import fetch_documents
from app.types import Document

_PURGED: Final = Document("")
"""In the place of a dead version whose row is gone."""


class Holders(Protocol):
    """Who searches the segments of a server's collections in its place (app.shards)."""

    def of(self, name: str, connection: sqlite3.Connection, /) -> Elsewhere:
        """Of the segments that a collection has as of the connection's commit. Waits for nobody."""
        ...

    def expect(self, name: str, connection: sqlite3.Connection, /) -> None:
        """Tells of the segments that it is about to have, beside those that it has. Waits for a while until somebody
        holds each that is new."""
        ...


@dataclass(frozen=True, slots=True)
class Opener:
    """Of the collection of ``files``, whose tail has the first stage ``tail_stage``. holders: of its segments; None:
    they are searched here."""

    files: Directory
    name: str
    spec: CollectionSpec
    tail_stage: FirstStage
    database: Database
    chunks: ChunkStore
    stages: StageStore
    holders: Holders | None = None

    def load(
        self,
        previous: Published | None,
        open_segment: Callable[[Directory, SegmentRecord], Segment] = Segment.open_all,
        *,
        learned: bool = True,
        checked: bool = False,
    ) -> Published:
        """The state in the database now, reusing what ``previous`` has open. checked: holds what the parts have to it.

        learned: as in ``load_from``. Raises Damaged, FormatTooNew, MemoryShort.
        """
        with self.database.read() as connection:
            published = self.load_from(connection, previous, open_segment, learned=learned)
            if checked:
                parts = (*published.segments, published.tail)
                found = np.concatenate([view.part.seqs[view.alive] for view in parts])
                live = np.array([seq for (seq,) in connection.execute("SELECT seq FROM live")], np.int64)
                if not np.array_equal(np.sort(found), np.sort(live)):
                    raise self.database.damaged(
                        f"expected vectors of {len(live):,} documents, found {len(found):,}, or of other ones"
                    )
        return published

    def specified(self, connection: sqlite3.Connection) -> CollectionSpec:
        """The specification as of a connection's commit: another writer may have changed what of it may change."""
        return get_record(connection, "spec", self.name, CollectionSpec.from_json)

    def asked(self, connection: sqlite3.Connection) -> Asked:
        """What was kept of queries as of a connection's commit."""
        return find_record(connection, "asked", self.name, Asked.from_json) or Asked()

    def load_from(
        self,
        connection: sqlite3.Connection,
        previous: Published | None,
        open_segment: Callable[[Directory, SegmentRecord], Segment] = Segment.open_all,
        *,
        learned: bool = True,
    ) -> Published:
        """The same as of a connection's commit. learned: whether what the segments' first stage was fitted to is read,
        which a collection without its indexes has no use for.
        """
        state = read_state(connection)
        generation = get_record(connection, "generation", self.name, Generation.from_json)
        dead = np.array([seq for (seq,) in connection.execute("SELECT seq FROM dead ORDER BY seq")], np.int64)
        opened = {} if previous is None else {view.part.record: view.part for view in previous.segments}
        if previous is None:
            self._require_memory(connection, generation)
        folder = self.files.folder(SEGMENTS)
        elsewhere = None if self.holders is None or not learned else self.holders.of(self.name, connection)
        if elsewhere is not None:
            open_segment = Segment.open_outline
        parts = [
            opened.get(record) or open_segment(folder.folder(record.name), record) for record in generation.segments
        ]
        for part in parts:
            part.elsewhere = elsewhere
        stage = self.tail_stage
        if previous is not None and previous.generation.stage == generation.stage:
            stage = previous.stage
        elif generation.stage is not None and learned:
            stage = self.stages.load(generation.stage, self.tail_stage)
        same = previous is not None and previous.generation == generation
        growing = previous.growing if previous is not None and same else self.empty_tail()
        start = int(growing.view().seqs[-1]) + 1 if len(growing) else 0
        gone = set(dead.tolist())
        for seqs, passages in self.chunks.read(connection, start):
            # The rows of dead versions may be purged already.
            standing = fetch_documents(connection, [s for s in seqs.tolist() if s not in gone], self.name)
            documents = [standing.get(s, _PURGED) for s in seqs.tolist()]
            metadata = [document.metadata for document in documents]
            growing.append(seqs, metadata, passages, words=self.spec.words(documents))
        tail = growing.view()
        return Published(
            state.commits,
            state.next_seq,
            state.live,
            state.digest,
            generation,
            stage,
            self.tail_stage,
            tuple(SegmentView(part, ~np.isin(part.seqs, dead)) for part in parts),
            TailState(tail, ~np.isin(tail.seqs, dead)),
            growing,
            self._declared(connection),
        )

    def _declared(self, connection: sqlite3.Connection) -> Declared:
        """The types of metadata fields; of a collection from before there were any, none."""
        return find_record(connection, DECLARED, self.name, read_declared) or NOTHING

    def _require_memory(self, connection: sqlite3.Connection, generation: Generation) -> None:
        """Raises MemoryShort where what is to be opened does not fit, Damaged for a manifest that cannot be read."""
        folder = self.files.folder(SEGMENTS)
        segments = [Segment(folder.folder(record.name), record) for record in generation.segments]
        needed = sum(one.loaded if self.holders is None else one.outlined for one in segments)
        (tail,) = connection.execute("SELECT coalesce(sum(size), 0) FROM tail").fetchone()
        # The size of a damaged row may be anything; that is found where the row is read.
        require_room(self.name, needed + (tail if isinstance(tail, int) else 0))

    def salvage(self) -> Published:
        """Nothing where an encoder can make the vectors anew; else callers' vectors, as far as they can be read."""
        if self.spec.model is None:
            return self.load(None, Segment, learned=False)
        with self.database.read() as connection:
            state = read_state(connection)
            generation = get_record(connection, "generation", self.name, Generation.from_json)
            declared = self._declared(connection)
        growing = self.empty_tail()
        counters = (state.commits, state.next_seq, state.live, state.digest)
        return Published(
            *counters,
            generation,
            self.tail_stage,
            self.tail_stage,
            (),
            TailState(growing.view(), np.zeros(0, bool)),
            growing,
            declared,
        )

    def sweep(self, published: Published) -> None:
        """Removes what a stopped writer left behind and no transaction names."""
        named = {record.name for record in published.generation.segments}
        segments = self.files.folder(SEGMENTS)
        for folder in (segments, self.files.folder(TAIL)):
            # Copies of a collection may have lost its empty folders.
            folder.make()
        for name in segments.list():
            if name not in named:
                segments.remove(name)
        self.stages.sweep(published.generation.stage)
        self.chunks.sweep(self.database)

    def empty_tail(self) -> Tail:
        """Nothing, to be appended to."""
        lexical = self.spec.lexical
        words = None if lexical is None else GrowingWords(lexical.analyser, len(lexical.fields))
        return Tail(layers(self.spec, self.tail_stage.encoded_dim), self.spec.code, words)
