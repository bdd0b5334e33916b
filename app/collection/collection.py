"""One collection: opened from its folder, read by snapshots, written by one writer.

What is published is one immutable object. A write makes its transaction durable first and publishes then, so nothing
can be seen that a crash would take back. A reader of a collection that another process writes follows its commits.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from app.collection.chunks import ChunkStore
from app.collection.database import Database, get_meta, put_meta, read_state, write_counters
from app.collection.files import file_size
from app.collection.first_stage import FirstStage
from app.collection.layout import ENCODINGS, SEGMENTS, TAIL, WRITER_LOCK
from app.collection.lock import FileLock
from app.collection.memory import require_room
from app.collection.passages import Passages
from app.collection.requests import Requests
from app.collection.rows import fetch_documents, find_live, insert_document, live_sum, parse_row
from app.collection.segment import Segment, SegmentRecord
from app.collection.snapshot import Generation, Published, SegmentView, Snapshot, TailState
from app.collection.spec import CollectionSpec, fingerprint_from_json, fingerprint_to_json
from app.collection.stages import StageRecord, StageStore, recoded
from app.collection.tail import Tail
from app.encoders.protocol import Encoder
from app.encoders.registry import Encoders
from app.errors import Conflict, Damaged, FormatTooNew, Invalid, NotFound, Unavailable
from app.faults import reach
from app.filters import Filter
from app.settings import Settings
from app.types import F32, I64, Document, Encoded, TokenVectors
from app.workers import Workers

SNAPSHOT_ATTEMPTS: Final = 200
"""How often a reader tries to meet a writer between two commits, waiting a little longer each time."""
DELETED_AT_ONCE: Final = 500
"""Documents whose texts are held while those that match a filter are deleted."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did. created: ids that were not there. first: the version of its first document; they ascend."""

    created: int
    first: int


class Raced(Exception):
    """Another write came between a write's preparation and its transaction: prepare it again."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What collections share."""

    settings: Settings
    encoders: Encoders
    workers: Workers
    background: Workers
    """For long work, such as learning a first stage, so that searches do not wait for its slices."""


class Collection:
    """Open until ``close``. Reading is safe from any thread; writes are serialised inside."""

    def __init__(self, folder: Path, resources: Resources, busy: Callable[[], str], *, salvage: bool = False) -> None:
        """Opens and checks the folder. busy: says who else may hold the writer's lock, for the error.

        salvage: opens the document store alone, with no index and so nothing to find, to be rebuilt.
        Raises Damaged, FormatTooNew.
        """
        self.folder, self.name, self.resources = folder, folder.name, resources
        self._busy = busy
        self._lock = threading.RLock()
        self.structure = threading.RLock()
        """Held while segments are made or replaced: sealing, merging, rebuilding."""
        self.learning = threading.Lock()
        """Held while a first stage is learned because it is due."""
        self._writer = FileLock(folder / WRITER_LOCK)
        self._writer.acquire()
        self.database = Database(folder, self.name)
        self._encoder_checked = False
        self.encoder_fault: str | None = None
        """Why text is neither encoded nor searched: known once it was tried, for a model is loaded only then."""
        self.salvaged = salvage
        """Whether it was opened without its indexes; until a rebuild has made new ones."""
        self.on_write: Callable[[], None] = lambda: None
        try:
            self.database.check()
            with self.database.read() as connection:
                self.spec = CollectionSpec(**get_meta(connection, "spec", self.name))
                self.stage = FirstStage.from_json(get_meta(connection, "first_stage", self.name))
            self.chunks = ChunkStore(folder, self.name)
            settings = resources.settings
            self.requests = Requests(self.database, settings.idempotency_keys, settings.idempotency_hours)
            self.stages = StageStore(folder, self.name)
            self._published = self._salvage() if salvage else self._load(None, checked=True)
            if self._writer.held and not salvage:
                self._sweep()
        except Invalid as error:
            self.close()
            # Every record is as it was written, so what cannot be read in it is another version's.
            raise FormatTooNew(
                f"collection {self.name} was written by another version of Sheaf, use that one: {error.message}"
            ) from error
        except BaseException:
            self.close()
            raise

    @property
    def is_writer(self) -> bool:
        """Whether this process holds the writer's lock."""
        return self._writer.held

    @property
    def published(self) -> Published:
        """The latest."""
        return self._published

    @property
    def nbytes(self) -> int:
        """On disk."""
        tail = sum(file_size(path) for name in (TAIL, ENCODINGS) for path in (self.folder / name).glob("*"))
        return self.database.nbytes + tail + sum(view.part.nbytes for view in self._published.segments)

    def close(self) -> None:
        """For good, once a write that is under way has ended; reads that are under way go on."""
        with self._lock:
            self.database.close()
            self._writer.release()

    # Reading

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent view, for as long as the block lasts. Raises Unavailable until a rebuild is done."""
        with ExitStack() as stack:
            yield self._snapshot(stack)

    @contextmanager
    def moment(self, hold: Callable[[Snapshot], None]) -> Iterator[Snapshot]:
        """A snapshot for long work. ``hold`` sees it first, while no write can remove a file that it names.

        Raises Conflict (another process writes the collection), Unavailable.
        """
        with ExitStack() as stack:
            with self._lock:
                self.require_writer()
                snapshot = self._snapshot(stack)
                hold(snapshot)
            yield snapshot

    def _snapshot(self, stack: ExitStack) -> Snapshot:
        for attempt in range(SNAPSHOT_ATTEMPTS):
            if self.salvaged:
                raise Unavailable(f"collection {self.name} is damaged: until it is rebuilt, nothing can be found in it")
            published = self._published
            with ExitStack() as trial:
                connection = trial.enter_context(self.database.read())
                state = read_state(connection)
                if not self.is_writer and state.commits != published.commit:
                    try:
                        published = self._follow(connection)
                    except Damaged:
                        # The writer may have removed a file between our reading of its name and of its content.
                        if attempt > 5:
                            raise
                        continue
                # The transaction began after `published` was made, so it has every row that `published` names, unless
                # rows were purged in between; then a newer one is published already, or will be in a moment.
                if state.purged <= published.commit and (self.is_writer or state.commits == published.commit):
                    stack.push(trial.pop_all())
                    return Snapshot(self.name, published, connection, published.views)
            time.sleep(0.001 * attempt)
        raise Unavailable(f"collection {self.name} changes faster than it can be read: try again")

    def get(self, identifier: str) -> Document:
        """The document. Raises NotFound."""
        return self.get_version(identifier)[0]

    def get_version(self, identifier: str) -> tuple[Document, int]:
        """The document and its version, which is its sequence number. Raises NotFound."""
        with self.database.read() as connection:
            live = find_live(connection, [identifier])
            rows = fetch_documents(connection, list(live.values()), self.name)
        if not live:
            raise NotFound(f"collection {self.name} has no document {identifier!r}", code="document_not_found")
        return rows[live[identifier]], live[identifier]

    def get_many(self, identifiers: Sequence[str]) -> list[Document]:
        """Those that are there, in the order asked for."""
        with self.database.read() as connection:
            live = find_live(connection, identifiers)
            rows = fetch_documents(connection, list(live.values()), self.name)
        return [rows[live[identifier]] for identifier in identifiers if identifier in live]

    def listing(
        self, after: str | None, limit: int, condition: Filter | None = None
    ) -> tuple[list[Document], str | None]:
        """Documents whose id's bytes come after ``after``, by id, and the id to go on from (None at the end)."""
        found: list[Document] = []
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT d.* FROM live l LEFT JOIN documents d ON d.seq = l.seq WHERE l.id > ? ORDER BY l.id",
                (b"" if after is None else after.encode(),),
            )
            for row in rows:
                document = parse_row(row, self.name)
                if condition is None or condition.matches(document.metadata):
                    if len(found) == limit:
                        return found, found[-1].id
                    found.append(document)
        return found, None

    def count(self, condition: Filter | None = None) -> int:
        """Documents that match."""
        with self.snapshot() as snapshot:
            return int(sum(mask.sum() for mask in snapshot.allowed(condition)))

    def encoder(self) -> Encoder:
        """The encoder that made the vectors. Raises Conflict where there is none, or the configured one is another."""
        if self.spec.model is None:
            raise Conflict(
                f"collection {self.name} has no encoder: its documents and queries bring their own vectors",
                code="no_encoder",
            )
        encoder = self.resources.encoders.get(self.spec.model, self.spec.kind)
        if not self._encoder_checked:
            with self.database.read() as connection:
                stored = fingerprint_from_json(get_meta(connection, "fingerprint", self.name))
            differences = stored.differences(encoder.fingerprint)
            anew = f"encode every document anew with POST /v1/collections/{self.name}/rebuild"
            if encoder.dim != self.spec.dim:
                differences.append(f"dim ({self.spec.dim} stored, {encoder.dim} now)")
                anew = "write the documents to a new collection, for this one stays with its dimensions"
            if differences:
                self.encoder_fault = (
                    f"the encoder {self.spec.model!r} is not the one that made the vectors of collection {self.name}: "
                    f"{', '.join(differences)} differ. Configure the former one again, or {anew}"
                )
                raise Conflict(self.encoder_fault, code="encoder_changed")
            self.encoder_fault, self._encoder_checked = None, True
        return encoder

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """The texts as queries, in one pass with those of other threads where the encoder is busy. Raises as it."""
        self.encoder()
        assert self.spec.model is not None
        return self.resources.encoders.encode_queries(self.spec.model, self.spec.kind, texts)

    def stored_vectors(self, seqs: Sequence[int], published: Published) -> dict[int, Passages]:
        """What is stored of these versions, callers' own vectors included; those that moved on the way are left out."""
        found: dict[int, Passages] = {}
        for seq, (view, row) in published.locate(seqs).items():
            passages = view.part.passages(np.array([row]))
            if published.stage is not published.tail_stage and isinstance(view.part, Segment):
                # They will be written to the tail, whose first stage is another.
                passages = recoded(passages, published.tail_stage, self.spec)
            if self.spec.keeps_raw and passages.raw is None:
                raw = self._raw_from_chunk(seq)
                if raw is None:
                    continue
                passages = replace(passages, raw=raw)
            found[seq] = passages
        return found

    def raw_vectors(self, seqs: Sequence[int]) -> list[F32]:
        """Callers' vectors of these versions as they came, one matrix each; nothing else of them is read."""
        found: dict[int, F32] = {}
        for seq, (view, row) in self._published.locate(seqs).items():
            raw = view.part.raw_of(np.array([row])) if isinstance(view.part, Segment) else self._raw_from_chunk(seq)
            assert raw is not None
            found[seq] = raw.values
        return [found[seq] for seq in seqs]

    # Writing

    def write(
        self,
        documents: Sequence[Document],
        truncated: Sequence[bool],
        passages: Sequence[Passages],
        *,
        expected: Mapping[str, int | None],
        also: Callable[[sqlite3.Connection, Written], None] | None = None,
    ) -> Written:
        """Upserts, one transaction: durable and searchable when this returns.

        documents: with distinct ids. passages: their vectors in order, in any number of parts. expected: versions that
        must still stand, because they were found to need no write, lent their vectors, or were asked for; None: no
        document. also: more to do in the same transaction, such as noting how far an import has come.
        Raises Raced, Conflict (another writer), StorageFull; nothing was kept then.
        """
        with self._lock:
            self.require_writer()
            now = self._published
            with self.database.read() as connection:
                _hold(connection, expected)
                live = find_live(connection, [document.id for document in documents])
            written = Written(len(documents) - len(live), now.next_seq)
            if not documents and also is None:
                return written
            seqs = np.arange(now.next_seq, now.next_seq + len(documents), dtype=np.int64)
            starts = np.cumsum([0, *map(len, passages)]).tolist()
            replaced = np.array(sorted(live.values()), np.int64)
            digest = now.digest - sum(live_sum(identifier.encode(), seq) for identifier, seq in live.items())
            digest += sum(live_sum(d.id.encode(), seq) for d, seq in zip(documents, seqs.tolist(), strict=True))
            counters = (now.next_seq + len(documents), now.live + len(documents) - len(live), digest)
            with self._staging(), ExitStack() as stack:
                rows = [
                    stack.enter_context(self.chunks.staged(part, now.next_seq + start))
                    for part, start in zip(passages, starts, strict=False)
                ]
                txn = stack.enter_context(self._transaction())
                for document, cut, seq in zip(documents, truncated, seqs.tolist(), strict=True):
                    insert_document(txn, seq, document, cut)
                    txn.execute("INSERT OR REPLACE INTO live VALUES (?, ?)", (document.id.encode(), seq))
                txn.executemany("INSERT INTO dead VALUES (?, ?)", [(seq, now.commit + 1) for seq in live.values()])
                txn.executemany("INSERT INTO tail VALUES (?, ?, ?, ?, ?, ?)", rows)
                write_counters(txn, *counters)
                if also is not None:
                    also(txn, written)
            for part, start in zip(passages, starts, strict=False):
                metadata = [document.metadata for document in documents[start : start + len(part)]]
                now.growing.append(seqs[start : start + len(part)], metadata, part)
            self._publish(now, replaced, *counters)
            reach("write.published")
        self.on_write()
        return written

    def record(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A commit that changes no document, such as accepting a task; durable when this returns."""
        with self._lock:
            self.require_writer()
            with self._transaction() as txn:
                result = work(txn)
            self._published = replace(self._published, commit=self._published.commit + 1)
        return result

    def delete(
        self,
        identifiers: Sequence[str],
        *,
        expected: Mapping[str, int | None] | None = None,
        also: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> int:
        """How many were there and are gone, durably. expected, also: as in ``write``; also is told how many.

        Raises Raced, Conflict (another writer), StorageFull; nothing is gone then.
        """
        with self._lock:
            self.require_writer()
            with self.database.read() as connection:
                _hold(connection, expected or {})
                live = find_live(connection, set(identifiers))
            return self._delete(live, also)

    def delete_matching(
        self, condition: Filter, *, also: Callable[[sqlite3.Connection, int], None] | None = None
    ) -> int:
        """How many matched and are gone, durably."""
        with self._lock:
            self.require_writer()
            with self.snapshot() as snapshot:
                masks = snapshot.allowed(condition)
                seqs = [int(s) for v, mask in zip(snapshot.views, masks, strict=True) for s in v.part.seqs[mask]]
                found: dict[str, int] = {}
                for start in range(0, len(seqs), DELETED_AT_ONCE):
                    some = snapshot.documents(seqs[start : start + DELETED_AT_ONCE])
                    found.update({document.id: seq for seq, document in some.items()})
            return self._delete(found, also)

    def _delete(self, live: Mapping[str, int], also: Callable[[sqlite3.Connection, int], None] | None) -> int:
        if not live and also is None:
            return 0
        now = self._published
        digest = now.digest - sum(live_sum(identifier.encode(), seq) for identifier, seq in live.items())
        with self._transaction() as txn:
            txn.executemany("DELETE FROM live WHERE id = ?", [(identifier.encode(),) for identifier in live])
            txn.executemany("INSERT INTO dead VALUES (?, ?)", [(seq, now.commit + 1) for seq in live.values()])
            write_counters(txn, now.next_seq, now.live - len(live), digest)
            if also is not None:
                also(txn, len(live))
        self._publish(now, np.array(sorted(live.values()), np.int64), now.next_seq, now.live - len(live), digest)
        self.on_write()
        return len(live)

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Removes the files that were written inside the block, if it fails and no transaction names them."""
        try:
            yield
        except BaseException:
            self.chunks.sweep(self.database)
            raise

    @contextmanager
    def _adding(self, added: Sequence[Segment]) -> Iterator[None]:
        """Removes the new segments, if the block fails and no transaction names them."""
        try:
            yield
        except BaseException:
            named = {view.part.record for view in self._published.segments}
            for segment in added:
                if segment.record not in named:
                    segment.delete()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A numbered commit. If it fails after it became durable, what is published catches up with it."""
        try:
            with self.database.write() as txn:
                yield txn
        except BaseException:
            with self.database.read() as connection:
                ahead = read_state(connection).commits != self._published.commit
            if ahead:
                self._published = self._load(None)
            raise

    def _publish(self, now: Published, gone: I64, next_seq: int, live: int, digest: int) -> None:
        segments, tail = now.without(gone)
        part = now.growing.view()
        alive = np.concatenate([tail.alive, np.ones(part.size - tail.part.size, bool)])
        self._published = replace(
            now,
            commit=now.commit + 1,
            next_seq=next_seq,
            live=live,
            digest=digest % 2**62,
            segments=segments,
            tail=TailState(part, alive),
        )

    def swap(
        self,
        added: Sequence[Segment],
        removed: Sequence[Segment],
        *,
        sealed_to: int = 0,
        reason: str,
        created: str,
        encoder: Encoder | None = None,
        anew: bool = False,
        stage: tuple[StageRecord | None, FirstStage] | None = None,
    ) -> None:
        """A new generation in one step: ``added`` takes the place of ``removed`` and of the tail below ``sealed_to``.

        The versions in ``added`` that have died since they were read are masked. Purges the rows of dead versions.
        encoder: the one that made the vectors anew, whose fingerprint is recorded. anew: ``added`` came from the
        document store, not from ``removed``, so the document store says which of its versions stand. stage: the first
        stage of every segment of the new generation, where it is another one; its file must be durable.
        """
        with self._lock:
            self.require_writer()
            now = self._published
            gone = [view for view in now.segments if view.part in removed]
            stay = [view for view in now.segments if view.part not in removed]
            tail_rows = np.flatnonzero(now.tail.part.seqs >= sealed_to)
            standing = [view.part.seqs[view.alive] for view in gone]
            standing.append(now.tail.part.seqs[now.tail.alive & (now.tail.part.seqs < sealed_to)])
            alive = self._live_seqs() if anew else np.concatenate(standing)
            new = [SegmentView(part, np.isin(part.seqs, alive)) for part in added]
            record, first_stage = (now.generation.stage, now.stage) if stage is None else stage
            generation = Generation(
                now.generation.number + 1, tuple(view.part.record for view in (*stay, *new)), created, reason, record
            )
            held = np.concatenate([np.zeros(0, np.int64), *(view.part.seqs[~view.alive] for view in new)])
            left = [view.part.seqs[~view.alive] for view in gone]
            left.append(now.tail.part.seqs[~now.tail.alive & (now.tail.part.seqs < sealed_to)])
            forgotten = np.setdiff1d(np.concatenate(left), held)
            with self._adding(added), self._transaction() as txn:
                put_meta(txn, {"generation": generation.to_json()})
                if encoder is not None:
                    put_meta(txn, {"fingerprint": fingerprint_to_json(encoder.fingerprint)})
                files = self.chunks.forget(txn, sealed_to)
                txn.execute("DELETE FROM documents WHERE seq IN (SELECT seq FROM dead)")
                txn.executemany("DELETE FROM dead WHERE seq = ?", [(int(seq),) for seq in forgotten])
                txn.execute("UPDATE state SET purged = ?", (now.commit,))
            growing = self._empty_tail()
            if len(tail_rows):
                part = now.tail.part
                growing.append(
                    part.seqs[tail_rows], part.metadata(tail_rows), part.passages(tail_rows), part.raw_counts(tail_rows)
                )
            self._published = replace(
                now,
                commit=now.commit + 1,
                generation=generation,
                stage=first_stage,
                segments=(*stay, *new),
                tail=TailState(growing.view(), now.tail.alive[tail_rows]),
                growing=growing,
            )
            if encoder is not None:
                self.encoder_fault, self._encoder_checked = None, False
            self.salvaged = False
            reach("swap.published")
        for file in files:
            file.unlink(missing_ok=True)
            reach("chunk.removed")
        for view in gone:
            view.part.delete()
        with self._lock:
            self.stages.sweep(self._published.generation.stage)
            self.database.reclaim()

    def require_writer(self) -> None:
        """Becomes the writer, if no other process is. Raises Conflict (collection_busy)."""
        if self._writer.held:
            return
        with self._lock:
            self.database.require_open()
            if not self._writer.acquire():
                raise Conflict(
                    f"another process writes collection {self.name}{self._busy()}: wait until it is done",
                    code="collection_busy",
                )
            self._published = self._load(self._published)
            self._sweep()

    # Opening

    def _empty_tail(self) -> Tail:
        return Tail(self.spec, None if self.stage.encoding is None else self.stage.encoding.encoded_dim)

    def _follow(self, connection: sqlite3.Connection) -> Published:
        """Catches up with a writer in another process: what is published as of the connection's commit, or later."""
        with self._lock:
            if read_state(connection).commits > self._published.commit:
                self._published = self._load_from(connection, self._published)
            return self._published

    def _load(
        self,
        previous: Published | None,
        open_segment: Callable[[Path, SegmentRecord], Segment] = Segment.open_all,
        *,
        checked: bool = False,
    ) -> Published:
        """What the database says now, reusing what ``previous`` has open. checked: holds what the parts have to it."""
        with self.database.read() as connection:
            published = self._load_from(connection, previous, open_segment)
            if checked:
                parts = (*published.segments, published.tail)
                found = np.concatenate([view.part.seqs[view.alive] for view in parts])
                live = np.array([seq for (seq,) in connection.execute("SELECT seq FROM live")], np.int64)
                if not np.array_equal(np.sort(found), np.sort(live)):
                    raise self.database.damaged(
                        f"expected vectors of {len(live):,} documents, found {len(found):,}, or of other ones"
                    )
        return published

    def _load_from(
        self,
        connection: sqlite3.Connection,
        previous: Published | None,
        open_segment: Callable[[Path, SegmentRecord], Segment] = Segment.open_all,
    ) -> Published:
        state = read_state(connection)
        generation = Generation.from_json(get_meta(connection, "generation", self.name))
        dead = np.array([seq for (seq,) in connection.execute("SELECT seq FROM dead ORDER BY seq")], np.int64)
        opened = {} if previous is None else {view.part.record: view.part for view in previous.segments}
        if previous is None:
            self._require_memory(connection, generation)
        parts = [
            opened.get(record) or open_segment(self.folder / SEGMENTS / record.name, record)
            for record in generation.segments
        ]
        stage = self.stage
        if previous is not None and previous.generation.stage == generation.stage:
            stage = previous.stage
        elif generation.stage is not None and not self.salvaged:
            stage = self.stages.load(generation.stage, self.stage)
        same = previous is not None and previous.generation == generation
        growing = previous.growing if previous is not None and same else self._empty_tail()
        start = int(growing.view().seqs[-1]) + 1 if len(growing) else 0
        gone = set(dead.tolist())
        for seqs, passages in self.chunks.read(connection, start):
            # The rows of dead versions may be purged already.
            standing = fetch_documents(connection, [s for s in seqs.tolist() if s not in gone], self.name)
            metadata = [standing[s].metadata if s in standing else {} for s in seqs.tolist()]
            growing.append(seqs, metadata, passages)
        tail = growing.view()
        return Published(
            state.commits,
            state.next_seq,
            state.live,
            state.digest,
            generation,
            stage,
            self.stage,
            tuple(SegmentView(part, ~np.isin(part.seqs, dead)) for part in parts),
            TailState(tail, ~np.isin(tail.seqs, dead)),
            growing,
        )

    def _require_memory(self, connection: sqlite3.Connection, generation: Generation) -> None:
        """Raises MemoryShort where what is to be opened does not fit, Damaged for a manifest that cannot be read."""
        folder = self.folder / SEGMENTS
        needed = sum(Segment(folder / record.name, record).loaded for record in generation.segments)
        (tail,) = connection.execute("SELECT coalesce(sum(size), 0) FROM tail").fetchone()
        # The size of a damaged row may be anything; that is found where the row is read.
        require_room(self.name, needed + (tail if isinstance(tail, int) else 0))

    def _salvage(self) -> Published:
        """Nothing where an encoder can make the vectors anew; else callers' vectors, as far as they can be read."""
        if self.spec.model is None:
            return self._load(None, Segment)
        with self.database.read() as connection:
            state = read_state(connection)
            generation = Generation.from_json(get_meta(connection, "generation", self.name))
        growing = self._empty_tail()
        counters = (state.commits, state.next_seq, state.live, state.digest)
        return Published(
            *counters, generation, self.stage, self.stage, (), TailState(growing.view(), np.zeros(0, bool)), growing
        )

    def _sweep(self) -> None:
        """Removes what a stopped writer left behind and no transaction names."""
        named = {record.name for record in self._published.generation.segments}
        for folder in (self.folder / SEGMENTS, self.folder / TAIL):
            # Copies of a collection may have lost its empty folders.
            folder.mkdir(exist_ok=True)
        for path in (self.folder / SEGMENTS).iterdir():
            if path.name not in named:
                shutil.rmtree(path)
        self.stages.sweep(self._published.generation.stage)
        self.chunks.sweep(self.database)

    def _live_seqs(self) -> I64:
        with self.database.read() as connection:
            return np.array([seq for (seq,) in connection.execute("SELECT seq FROM live")], np.int64)

    def _raw_from_chunk(self, seq: int) -> TokenVectors | None:
        """None once the tail was sealed."""
        with self.database.read() as connection:
            found = self.chunks.holding(connection, seq)
        if found is None:
            return None
        first, passages = found
        assert passages.raw is not None
        return passages.raw.slice(seq - first, seq - first + 1)


def _hold(connection: sqlite3.Connection, expected: Mapping[str, int | None]) -> None:
    """Raises Raced unless these versions stand, and no document where None is expected."""
    if find_live(connection, expected) != {key: seq for key, seq in expected.items() if seq is not None}:
        raise Raced
