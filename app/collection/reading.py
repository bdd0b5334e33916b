"""A collection as its readers use it: opened from its folder, seen by snapshots, following whoever writes it.

The published state is one immutable object. A reader takes it once, with a read transaction in which every document row
that it names can still be read; where another process writes, it catches up with that one's commits first.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.collection.chunks import ChunkStore, HeldChunks
from app.collection.first_stage import Drift, FirstStage, StageStore, recoded
from app.collection.layers import RAW
from app.collection.opening import Holders as Holders
from app.collection.opening import Opener
from app.collection.part import scored_vectors
from app.collection.passages import Passages
from app.collection.segment import Segment
from app.collection.spec import FINGERPRINT, SPARSE_FINGERPRINT, CollectionSpec, fingerprint_from_json
from app.collection.view import Published, Snapshot, by_part, given_sparse, numbers_of, values_of
from app.compute.exclusive import Exclusive
from app.compute.workers import Workers
from app.encoders.prompts import Task
from app.encoders.protocol import Encoder, Fingerprint, SparseEncoder, TokenPlaces
from app.encoders.registry import Encoders
from app.errors import Conflict, Damaged, EncoderError, NotFound, SystemFault, Unavailable
from app.filters import Filter
from app.lexical.asked import Asked, Learned
from app.schema.notices import Notice
from app.settings import Settings
from app.store.database import Database, get_record, read_state
from app.store.directory import Directory
from app.store.files import file_size
from app.store.layout import ENCODINGS, PARTLY, TAIL, WRITER_LOCK
from app.store.query_log import QueryLog
from app.store.requests import Requests
from app.store.rows import documents_in_order, find_live
from app.types import (
    DEFAULT_INCLUDE,
    F32,
    Document,
    Encoded,
    EncodedSparse,
    Room,
    SparseVector,
    TokenVectors,
)

SNAPSHOT_ATTEMPTS: Final = 200
"""How often a reader tries to meet a writer between two commits, waiting a little longer each time."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that collections share."""

    settings: Settings
    encoders: Encoders
    workers: Workers
    background: Workers
    """For long work, such as learning a first stage, so that searches do not wait for its slices."""
    holders: Holders | None = None
    """Who searches segments in the place of this process."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall@k of the approximate path, as it was last measured."""

    k: int
    recall: float


class Reader:
    """Open until ``close``; safe from any thread."""

    def __init__(
        self, files: Directory, resources: Resources, busy: Callable[[], str], *, salvage: bool = False
    ) -> None:
        """Opens and checks the collection. busy: says who else may hold the writer's lock, for the error.

        salvage: opens the document store alone, with no index and so nothing to find, to be rebuilt.
        Raises Damaged, SystemFault, FormatTooNew.
        """
        self.files, self.name, self.resources = files, files.name, resources
        self.folder = files.path
        self._busy = busy
        self._lock = threading.RLock()
        self.structure = Exclusive()
        """Held while segments are made or replaced: sealing, merging, rebuilding."""
        self.learning = threading.Lock()
        """Held while a first stage is learned because it is due."""
        self.drift: Drift | None = None
        """The last findings about documents that came after the first stage was fitted; not kept over a restart."""
        self.recall: Measured | None = None
        """Not kept over a restart."""
        if files.has(PARTLY) and files.source is None:
            raise SystemFault(
                f"the copy of collection {self.name} has only what a reader of its store needed: start the server with "
                "SHEAF_STORE, or remove the folder"
            )
        self._writer = files.lock(WRITER_LOCK)
        self._writer.acquire()
        self.database = Database(self.folder, self.name)
        self.learned = Learned(Asked())
        self._same_encoders: set[str] = set()
        """Records of fingerprints that were found to be those of the encoders that are configured now."""
        self._behind = False
        """Whether what is published may be older than the last commit, since a write failed after it."""
        self._encoder_faults: dict[str, str] = {}
        """By record: why an encoder is not the one that made the vectors."""
        self.salvaged = salvage
        """Whether it was opened without its indexes; until a rebuild has made new ones."""
        self.on_write: Callable[[], None] = lambda: None
        self.on_taken_over: Callable[[], None] = lambda: None
        """Told when this process became the writer after another one had been."""
        try:
            self.database.check()
            with self.database.read() as connection:
                self.spec = get_record(connection, "spec", self.name, CollectionSpec.from_json)
                self.stage = get_record(connection, "first_stage", self.name, FirstStage.from_json)
            self.chunks = ChunkStore(files, self.name)
            settings = resources.settings
            self.requests = Requests(self.database, settings.idempotency_keys, settings.idempotency_hours)
            self.stages = StageStore(files)
            self.queries = QueryLog(self.folder, settings.log_queries)
            self._opener = Opener(
                files, self.name, self.spec, self.stage, self.database, self.chunks, self.stages, resources.holders
            )
            with self.database.read() as connection:
                self.learned = Learned(self._opener.asked(connection))
            self._published = self._opener.salvage() if salvage else self._opener.load(None, checked=True)
            if self._writer.held and not salvage:
                self._opener.sweep(self._published)
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
        folders = (self.files.folder(name) for name in (TAIL, ENCODINGS))
        tail = sum(file_size(folder, name) for folder in folders for name in folder.list())
        return self.database.nbytes + tail + sum(view.part.nbytes for view in self._published.segments)

    def close(self) -> None:
        """For good, once a write that is under way has ended; reads that are under way go on."""
        with self._lock:
            self.database.close()
            self._writer.release()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent view, for as long as the block lasts. Raises Unavailable until a rebuild is done."""
        with ExitStack() as stack:
            yield self._snapshot(stack)

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

    def _follow(self, connection: sqlite3.Connection) -> Published:
        """Catches up with a writer in another process: what is published as of the connection's commit, or later."""
        with self._lock:
            if read_state(connection).commits > self._published.commit:
                self._retell(connection)
                self._published = self._opener.load_from(connection, self._published, learned=not self.salvaged)
            return self._published

    def _retell(self, connection: sqlite3.Connection) -> None:
        """What another writer may have changed beside documents, as of the connection's commit."""
        self.spec = self._opener.specified(connection)
        self.learned.follow(self._opener.asked(connection))

    # Documents

    def get(self, identifier: str) -> Document:
        """The document. Raises NotFound."""
        return self.get_version(identifier)[0]

    def get_version(self, identifier: str, include: Set[str] = DEFAULT_INCLUDE) -> tuple[Document, int]:
        """The document and its version, which is its sequence number. Raises NotFound."""
        with self._reading(include) as (connection, published):
            seqs = list(find_live(connection, [identifier]).values())
            found = self.documents(connection, published, seqs, include, self.room())
        if not found:
            raise NotFound(f"collection {self.name} has no document {identifier!r}", code="document_not_found")
        return found[0], seqs[0]

    def get_many(self, identifiers: Sequence[str], include: Set[str] = DEFAULT_INCLUDE) -> list[Document]:
        """Those that are there, in the order asked for. Raises AnswerTooLarge."""
        with self._reading(include) as (connection, published):
            live = find_live(connection, identifiers)
            seqs = [live[identifier] for identifier in identifiers if identifier in live]
            room = self.room()
            found = self.documents(connection, published, seqs, include, room)
        if len(found) < len(seqs):
            raise room.full()
        return found

    def listing(
        self,
        after: str | None,
        limit: int,
        condition: Filter | None = None,
        include: Set[str] = DEFAULT_INCLUDE,
    ) -> tuple[list[Document], str | None]:
        """Documents whose id's bytes come after ``after``, by id, and the id to go on from (None at the end): fewer
        where one answer has no room for more."""
        start = b"" if after is None else after.encode()
        with ExitStack() as stack:
            if condition is None:
                connection, published = stack.enter_context(self._reading(include))
                query = "SELECT seq FROM live WHERE id > ? ORDER BY id LIMIT ?"
                listed = [seq for (seq,) in connection.execute(query, (start, limit + 1))]
            else:
                snapshot = self._snapshot(stack)
                connection, published = snapshot.connection, snapshot.published
                listed = snapshot.listed(start, limit + 1, condition)
            found = self.documents(connection, published, listed[:limit], include, self.room())
        return found, found[-1].id if len(found) < len(listed) else None

    def count(self, condition: Filter | None = None) -> int:
        """Documents that match."""
        with self.snapshot() as snapshot:
            if condition is None:
                return sum(view.live for view in snapshot.views)
            return sum(int(np.count_nonzero(mask)) for mask in snapshot.allowed(condition))

    def warnings(self, condition: Filter | None) -> list[Notice]:
        """Where a filter asks for what no document has."""
        with self.snapshot() as snapshot:
            return snapshot.warnings(condition)

    def room(self) -> Room:
        """Of one answer."""
        return Room(self.resources.settings.max_answer_bytes)

    def documents(
        self,
        connection: sqlite3.Connection,
        published: Published,
        seqs: Sequence[int],
        include: Set[str],
        room: Room,
        held: HeldChunks | None = None,
    ) -> list[Document]:
        """These versions in their order, with what is included, up to the first for which there is no room. held: as in
        ``given_passages``."""
        carried = "values" in include and self.spec.values is not None
        numbers = dict[int, int]()
        if carried or "vectors" in include:
            numbers = numbers_of(published, seqs, include, self.spec)
        found: list[Document] = []
        for seq, document in zip(seqs, documents_in_order(connection, seqs, self.name, include), strict=False):
            if not room.take(document, numbers.get(seq, 0)):
                break
            found.append(document)
        if carried:
            values = values_of(published, seqs[: len(found)])
            found = [replace(one, values=values[seq]) for seq, one in zip(seqs, found, strict=False)]
        if numbers and "vectors" in include:
            vectors = self.vectors_of(seqs[: len(found)], published, held)
            sparse = self.given_sparse(seqs[: len(found)], published) if self.spec.given_sparse else {}
            found = [
                replace(
                    one,
                    vectors=vectors[seq].values,
                    splits=tuple(vectors[seq].counts.tolist()),
                    sparse=sparse[seq] if self.spec.given_sparse else None,
                )
                for seq, one in zip(seqs, found, strict=False)
            ]
        return found

    @contextmanager
    def _reading(self, include: Set[str]) -> Iterator[tuple[sqlite3.Connection, Published]]:
        """A read transaction, and what is published; both of one moment where vectors are to be read."""
        with ExitStack() as stack:
            if include & {"vectors", "values"}:
                # While no write is between its commit and its publishing.
                with self._lock:
                    snapshot = self._snapshot(stack)
                yield snapshot.connection, snapshot.published
            else:
                yield stack.enter_context(self.database.read()), self._published

    # Vectors

    def vectors_of(
        self, seqs: Sequence[int], published: Published, held: HeldChunks | None = None
    ) -> dict[int, TokenVectors]:
        """The vectors of these versions, float32, a matrix a passage: callers' as they came where they are kept, else
        as they are scored."""
        found, given = self.given_passages(seqs, published, held), self.spec.measure.given
        for view, some, places in by_part(published, [seq for seq in seqs if seq not in found]):
            for i, seq in enumerate(some):
                rows = view.part.owners.rows_of(places[i : i + 1])
                found[seq] = TokenVectors.join([given(scored_vectors(view.part, row)) for row in rows.tolist()])
        return found

    @property
    def encoder_fault(self) -> str | None:
        """Why text is neither encoded nor searched: known once it was tried, for a model is loaded only then."""
        return next(iter(self._encoder_faults.values()), None)

    def forget_encoders(self) -> None:
        """Once others have made the vectors."""
        self._encoder_faults.clear()
        self._same_encoders.clear()

    def encoder(self) -> Encoder:
        """The encoder that made the vectors. Raises Conflict where there is none, or the configured one is another."""
        if self.spec.model is None:
            raise Conflict(
                f"collection {self.name} has no encoder: its documents and queries bring their own vectors",
                code="no_encoder",
            )
        encoder = self.resources.encoders.get(self.spec.model, self.spec.kind, self.spec.dim)
        dims = [] if encoder.dim == self.spec.dim else [f"dim ({self.spec.dim} stored, {encoder.dim} now)"]
        self._require_same(FINGERPRINT, self.spec.model, encoder.fingerprint, dims)
        return encoder

    def sparse_encoder(self) -> SparseEncoder:
        """The sparse encoder that made the sparse vectors, of a collection that has one. Raises Conflict where the
        configured one is another."""
        assert self.spec.sparse_model is not None
        encoder = self.resources.encoders.sparse_encoder(self.spec.sparse_model)
        self._require_same(SPARSE_FINGERPRINT, self.spec.sparse_model, encoder.fingerprint, [])
        return encoder

    def _require_same(self, record: str, model: str, now: Fingerprint, dims: list[str]) -> None:
        """Once: raises Conflict where an encoder is not the one whose fingerprint was recorded. dims: how its
        dimensions are others."""
        if record in self._same_encoders:
            return
        self._encoder_faults.pop(record, None)
        with self.database.read() as connection:
            stored = get_record(connection, record, self.name, fingerprint_from_json)
        differences = stored.differences(now) + dims
        anew = f"encode every document anew with POST /v1/collections/{self.name}/rebuild"
        if dims:
            anew = "write the documents to a new collection, for this one stays with its dimensions"
        if differences:
            fault = self._encoder_faults[record] = (
                f"the encoder {model!r} is not the one that made the vectors of collection {self.name}: "
                f"{', '.join(differences)} differ. Configure the former one again, or {anew}"
            )
            raise Conflict(fault, code="encoder_changed")
        self._same_encoders.add(record)

    def encode_queries(self, texts: Sequence[str], *, alone: bool = False) -> Encoded:
        """The texts as queries, in one pass with those of other threads where the encoder is busy. alone: not with
        them, for long work in the background. Raises as ``encoder`` and it."""
        self.encoder()
        assert self.spec.model is not None
        return self.resources.encoders.encode_queries(
            self.spec.model, self.spec.kind, texts, self.spec.dim, alone=alone
        )

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        """The texts as documents. Raises as ``encoder`` and it."""
        self.encoder()
        assert self.spec.model is not None
        return self.resources.encoders.encode_documents(self.spec.model, self.spec.kind, texts, self.spec.dim)

    def encode_sparse(self, texts: Sequence[str], task: Task) -> EncodedSparse:
        """The sparse vectors of texts. Raises as ``sparse_encoder`` and it."""
        self.sparse_encoder()
        assert self.spec.sparse_model is not None
        return self.resources.encoders.encode_sparse(self.spec.sparse_model, texts, task)

    def sparse_terms(self, indices: Sequence[int]) -> list[str] | None:
        """The sparse encoder's own; None where there is none now, or another than the one that made the vectors."""
        if self.spec.sparse_model is None:
            return None
        try:
            return self.sparse_encoder().terms(indices)
        except (Conflict, EncoderError):
            return None

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        """As the encoder's own; None where there is none now, or another than the one that made the vectors."""
        try:
            return self.encoder().token_places(texts, task)
        except (Conflict, EncoderError):
            return None

    def stored_vectors(self, seqs: Sequence[int], published: Published, *, staged: bool = True) -> dict[int, Passages]:
        """The stored vectors of these versions, callers' own included; those that moved on the way are left out.

        staged: with their encodings, as the tail has them. Each part, and each chunk of the tail, is read once.
        """
        found: dict[int, Passages] = {}
        parts = by_part(published, seqs)
        in_tail = [seq for view, some, _ in parts if view is published.tail for seq in some]
        given = self.given_passages(in_tail, published)
        for view, some, places in parts:
            passages = view.part.passages(places, staged=staged)
            if staged and published.stage is not published.tail_stage and isinstance(view.part, Segment):
                # They will be written to the tail, whose first stage is another.
                passages = recoded(passages, published.tail_stage, self.spec)
            for i, seq in enumerate(some):
                one = passages.take([i])
                if seq in given:
                    one = one.with_layer(RAW, given[seq])
                if RAW in one or not self.spec.keeps_raw:
                    found[seq] = one
        return found

    def given_sparse(self, seqs: Sequence[int], published: Published) -> dict[int, SparseVector | None]:
        """Callers' sparse vectors of these versions, to the bit; those that moved on the way are left out. Raises
        Damaged."""
        return given_sparse(published, seqs)

    def values_of(self, seqs: Sequence[int], published: Published) -> dict[int, F32 | None]:
        """Likewise what these versions carry."""
        return values_of(published, seqs)

    def given_vectors(self, seqs: Sequence[int], published: Published | None = None) -> dict[int, F32]:
        """Callers' vectors of these versions as they came, (n, dim) float32 each, those of all passages together."""
        return {seq: given.values for seq, given in self.given_passages(seqs, published).items()}

    def given_passages(
        self, seqs: Sequence[int], published: Published | None = None, held: HeldChunks | None = None
    ) -> dict[int, TokenVectors]:
        """The same, to the bit, a matrix a passage: of those that some part holds, in a collection that keeps them.
        Each part, and each chunk of the tail, is read once for all.

        published: what the versions are of, else the latest. held: chunks of that moment, or sealed. Raises Damaged.
        """
        if not self.spec.keeps_raw:
            return {}
        found: dict[int, TokenVectors] = {}
        try:
            found = self._given(seqs, published or self._published, held)
        except Damaged:
            if self.salvaged or held is not None:
                raise
        missing = [seq for seq in seqs if seq not in found]
        if missing:
            # Sealed meanwhile: once the swap that is under way is done, their segment has them.
            with self._lock, self.snapshot() as now:
                found.update(self._given(missing, now.published, None))
        return found

    def _given(self, seqs: Sequence[int], published: Published, held: HeldChunks | None) -> dict[int, TokenVectors]:
        found: dict[int, TokenVectors] = {}
        for view, some, places in by_part(published, seqs):
            if isinstance(view.part, Segment):
                owners, raw = view.part.owners, view.part.ragged(RAW).take(view.part.owners.rows_of(places))
                passages = Passages(owners.take(places), {RAW: raw})
                found.update((seq, passages.of(RAW, i)) for i, seq in enumerate(some))
            elif held is not None:
                found.update(held.given(some))
            else:
                with self.database.read() as connection:
                    found.update(self.chunks.given(connection, some))
        return found
