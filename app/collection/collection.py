"""A collection as its writer uses it: one transaction a write, one atomic swap a generation.

A write makes its transaction durable first and publishes then, so nothing can be seen that a crash would take back.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from itertools import count
from typing import Any, Final, Literal, TypeVar

import numpy as np

from app.collection.chunks import HeldChunks
from app.collection.first_stage import FirstStage, StageRecord
from app.collection.history import add_generation
from app.collection.passages import Passages
from app.collection.reading import Reader
from app.collection.segment import Segment
from app.collection.spec import DECLARED, CollectionSpec, fingerprint_to_json
from app.collection.view import Generation, Published, Snapshot, new_files
from app.collection.writes.changes import Change, Counters, Deletion, Nothing, Outcome, Planned, Upsert, Written, filled
from app.collection.writes.group_commit import GroupCommit
from app.encoders.protocol import Fingerprint
from app.encoders.turns import SummaryMap, TurnsSpec
from app.errors import Conflict, Damaged, Invalid, SheafError
from app.filters import Filter
from app.metadata.declared import MOST_FIELDS, FieldType
from app.scoring.similarities.measures import Options
from app.store.database import find_record, put_meta, read_state, write_counters
from app.store.directory import Directory, Lock
from app.store.faults import reach
from app.store.system import room
from app.types import I64, Document, Weights

T = TypeVar("T")

log = logging.getLogger(__name__)

_TRIED: Final = "summaries_tried"
_TOGETHER: Final = 2**24
"""Bytes of vectors and texts that a commit of several changes has at most."""


class Collection(Reader):
    """Open until ``close``. Reading is safe from any thread; writes are serialised inside."""

    not_learned: str | None = None
    """Why the matrix of a causal similarity is not learned, though its documents are there; not kept over a restart."""

    tried: int | None = None
    """Documents that there were when the map to their summaries was learned last, or was found to do no good; None: as
    many as ``kept_trial`` says."""

    refusal: Callable[[], Conflict | None] = staticmethod(lambda: None)
    """Why another machine writes the collection, if so; see ``app.replicas``."""

    @cached_property
    def together(self) -> GroupCommit[Change, Outcome]:
        """Of writers whose commits cost a request each."""
        return GroupCommit(self._commit, lambda change: change.nbytes, _TOGETHER)

    def close(self) -> None:
        """For good; reads that are under way go on."""
        try:
            self.keep_learned()
        except SheafError as error:
            log.warning("what collection %s has seen of queries is kept as it was: %s", self.name, error)
        super().close()

    def require_writer(self) -> None:
        """Becomes the writer, if no other process is, nor another machine. Raises Conflict (collection_busy)."""
        if (refused := self.refusal()) is not None:
            raise refused
        if not self.take_over():
            raise Conflict(
                f"another process writes collection {self.name}{self._busy()}: wait until it is done",
                code="collection_busy",
            )

    def take_over(self) -> bool:
        """Becomes the writer, if no other process is; whether it is now."""
        if self._writer.held and not self._behind:
            return True
        with self._lock:
            self.database.require_open()
            # What is newer may be another machine's.
            newer = self._catch_up() if self._writer.held else True
            if not self._writer.held:
                if not self._writer.acquire():
                    return False
                try:
                    self._published = self._read_again(self._published)
                    self._opener.sweep(self._published)
                except BaseException:
                    # The holder of the lock follows nobody, so it must not be kept with what is older.
                    self._writer.release()
                    raise
        if newer:
            self.on_taken_over()
        return True

    def follow(self) -> None:
        """Catches up with another process that writes, or takes over from one that has ended."""
        if not self.take_over() and not self.salvaged:
            with self.snapshot():
                pass

    def suspect(self) -> None:
        """What is here may be older than what is acknowledged: before the next write it catches up."""
        self._behind = True

    def hand_over(self, lock: Lock) -> None:
        """Ends being the writer, for whoever has ``lock`` from the same step on."""
        with self._lock:
            self._writer.release()
            self.database.home, self._behind = None, False
            lock.acquire()

    @contextmanager
    def moment(self, hold: Callable[[Snapshot], None]) -> Iterator[Snapshot]:
        """A snapshot for long work. ``hold`` sees it first, while no write can remove a file that it names.

        Raises Conflict (another process writes the collection), Unavailable.
        """
        with ExitStack() as stack:
            with self._lock:
                self.require_writer()
                self.keep_learned()
                snapshot = self._snapshot(stack)
                hold(snapshot)
            yield snapshot

    @contextmanager
    def held(self, *, vectors: bool) -> Iterator[tuple[Snapshot, HeldChunks | None]]:
        """A snapshot for long reading. vectors: with the chunks of its tail, so that callers' vectors can be read as
        they came, whatever is sealed meanwhile. Raises Unavailable, Damaged."""
        with ExitStack() as stack:
            for attempt in count():
                # While no write is between its commit and its publishing, and none removes a file.
                with self._lock, ExitStack() as trial:
                    snapshot = self._snapshot(trial)
                    try:
                        chunks = self.chunks.hold(snapshot.connection) if vectors and self.spec.keeps_raw else None
                    except Damaged:
                        # Another process that writes may have sealed the file between its name and its content.
                        if self.is_writer or attempt > 5:
                            raise
                        continue
                    stack.push(trial.pop_all())
                    break
            yield snapshot, chunks

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
        starts = np.cumsum([0, *map(len, passages)]).tolist()
        words = [
            self.spec.words(documents[start : start + len(part)]) for part, start in zip(passages, starts, strict=False)
        ]
        written = self._change(Upsert(documents, truncated, passages, words, expected, also))
        assert isinstance(written, Written)
        return written

    def _change(self, change: Change) -> Outcome:
        """What it came to, durable and published: in a commit of its own, or, where one costs a request to a store, in
        one with those of others that wait."""
        if self.database.home is None:
            (outcome,) = self._commit(lambda: [change])
            if isinstance(outcome, BaseException):
                raise outcome
        else:
            outcome = self.together.join(change)
        self.on_write()
        return outcome

    def _commit(self, take: Callable[[], Sequence[Change]]) -> list[Outcome | BaseException]:
        """One commit of what there is to take once no other write is under way, each change as if it came after the
        ones before it: what each came to, or why nothing of it was kept."""
        with self._lock:
            changes = take()
            self.require_writer()
            before, known = Counters.of(self._published), None
            if len(changes) == 1:
                with self.database.read() as connection:
                    known = changes[0].plan(connection, before)
                if known.idle:
                    return [known.outcome]
            outcomes = list[Outcome | BaseException]()
            made = list[tuple[Change, Planned]]()
            now = self._published
            with self._staging(), self._publishing(), suppress(Nothing), self.database.write() as txn:
                if known is not None:
                    changes[0].fill(txn, known, self.chunks, now.commit + 1)
                for change in changes:
                    planned = known or filled(txn, change, before, self.chunks, now.commit + 1)
                    if isinstance(planned, Exception):
                        outcomes.append(planned)
                        continue
                    outcomes.append(planned.outcome)
                    before = planned.after
                    made += [] if planned.idle else [(change, planned)]
                if not made:
                    raise Nothing
                write_counters(txn, *before)
            if not made:
                return outcomes
            with self._publishing():
                new = now
                for change, planned in made:
                    change.append(now.growing, planned)
                    new = new.written(planned.gone, *planned.after)
                self._published = replace(new, commit=now.commit + 1)
            reach("write.published")
        return outcomes

    def keep_learned(self) -> None:
        """Makes durable what the collection has seen of queries, where there is more of it than was kept."""
        asked = self.learned.asked
        if self.is_writer and not self.salvaged and asked != self.learned.kept:
            self.record(lambda txn: put_meta(txn, {"asked": asked.to_json()}))
            self.learned.kept = asked

    def record(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A commit that changes no document, such as accepting a task; durable when this returns."""
        with self._lock:
            self.require_writer()
            with self._transaction() as txn:
                result = work(txn)
            self._published = replace(self._published, commit=self._published.commit + 1)
        return result

    def pin_fusion(self, fusion: Weights | Literal["reciprocal_rank"] | None) -> None:
        """How hybrid searches that do not say make one order from here on, durably: None follows the queries. Another
        process that only reads knows it when it opens the collection anew.

        Raises Invalid for weights that do not fit, Conflict (another writer), StorageFull.
        """
        with self._lock:
            self._keep_spec(replace(self.spec, fusion=fusion))

    def _keep_spec(self, spec: CollectionSpec, **also: Any) -> None:
        """also: records beside it."""
        self.record(lambda txn: put_meta(txn, {"spec": spec.to_json(), **also}))
        self.spec = spec

    def kept_trial(self) -> int:
        """``tried``, as the last map was kept with it, or that there is none. Raises Damaged."""
        with self.database.read() as connection:
            return find_record(connection, _TRIED, self.name, int) or 0

    def keep_map(self, found: SummaryMap | None, before: TurnsSpec) -> bool:
        """Whether conversations that search are mapped so from here on, durably, with what was ``tried``: not where
        turns were not read as ``before`` any more. Raises Conflict (another writer), StorageFull."""
        with self._lock:
            if self.spec.turns != before:
                return False
            self._keep_spec(replace(self.spec, turns=replace(before, map=found)), **{_TRIED: self.tried or 0})
            return True

    def keep_options(self, options: Options, before: Options) -> bool:
        """Whether the similarity's options are these from here on, durably: not where they were not ``before`` any
        more. Only what no stored array hangs on may change.

        Raises Conflict (another writer), StorageFull.
        """
        with self._lock:
            if self.spec.options != before:
                return False
            self._keep_spec(replace(self.spec, options=options))
        return True

    def declare(self, changes: Mapping[str, FieldType | None] | None) -> None:
        """Declares the types of metadata fields, durably: None takes one back, or all of them. No document changes.

        Raises Invalid for more than there may be, Conflict (another writer), StorageFull.
        """
        with self._lock:
            self.require_writer()
            merged = {} if changes is None else {**self._published.declared, **changes}
            declared = {field: kind for field, kind in merged.items() if kind is not None}
            if len(declared) > MOST_FIELDS:
                raise Invalid.at("/schema", f"at most {MOST_FIELDS} fields are declared; it would be {len(declared):,}")
            with self._transaction() as txn:
                put_meta(txn, {DECLARED: declared})
            with self._publishing():
                self._published = replace(self._published, commit=self._published.commit + 1, declared=declared)

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
        count = self._change(Deletion(identifiers, expected or {}, also, self.database.damaged))
        assert isinstance(count, int)
        return count

    def delete_matching(
        self, condition: Filter, *, also: Callable[[sqlite3.Connection, int], None] | None = None
    ) -> int:
        """How many matched and are gone, durably."""
        self.require_writer()
        # Slow work is done before other writes have to wait: then only what they have changed is left to do.
        ids = self._matching(condition, {})
        with self._lock:
            ids = self._matching(condition, ids)
            live = {identifier.decode(): seq for seq, identifier in ids.items()}
            deletion = Deletion([], {}, also, self.database.damaged, live)
            (count,) = self._commit(lambda: [deletion])
        if isinstance(count, BaseException):
            raise count
        assert isinstance(count, int)
        self.on_write()
        return count

    def _matching(self, condition: Filter, known: Mapping[int, bytes]) -> dict[int, bytes]:
        """Sequence number -> id of the documents that match. known: those that need not be read."""
        with self.snapshot() as snapshot:
            seqs = snapshot.matching(condition).tolist()
            named = snapshot.identify([seq for seq in seqs if seq not in known])
        return {seq: known[seq] if seq in known else named[seq] for seq in seqs}

    # Generations

    def swap(
        self,
        added: Sequence[Segment],
        removed: Sequence[Segment],
        *,
        sealed_to: int = 0,
        reason: str,
        created: str,
        encoders: Mapping[str, Fingerprint] | None = None,
        anew: bool = False,
        stage: tuple[StageRecord | None, FirstStage] | None = None,
    ) -> None:
        """A new generation in one step: ``added`` takes the place of ``removed`` and of the tail below ``sealed_to``.

        The versions in ``added`` that have died since they were read are masked. Purges the rows of dead versions.
        encoders: those that made the vectors anew, by the record that keeps the fingerprint of each. anew: ``added``
        came from the document store, not from ``removed``, so the document store says which of its versions stand.
        stage: the first stage of every segment of the new generation, where it is another one; its file must be
        durable.
        """
        with self._adding(added), ExitStack() as stack:
            if (home := self.database.home) is not None:
                # While others write.
                home.send(new_files(added, None if stage is None else stage[0], self._published.generation))
            stack.enter_context(self._lock)
            self.require_writer()
            now = self._published
            asked = self.learned.asked
            record, first_stage = (now.generation.stage, now.stage) if stage is None else stage
            new, forgotten = now.swapped(
                Generation(now.generation.number + 1, (), created, reason, record),
                first_stage,
                added,
                removed,
                sealed_to,
                self._live_seqs() if anew else None,
                self._opener.empty_tail(),
            )
            with self._transaction() as txn:
                put_meta(txn, {"generation": new.generation.to_json()})
                put_meta(txn, {"asked": asked.to_json()})
                add_generation(txn, self.name, new)
                for made, fingerprint in (encoders or {}).items():
                    put_meta(txn, {made: fingerprint_to_json(fingerprint)})
                files = self.chunks.forget(txn, sealed_to)
                txn.execute("DELETE FROM documents WHERE seq IN (SELECT seq FROM dead)")
                txn.executemany("DELETE FROM dead WHERE seq = ?", [(int(seq),) for seq in forgotten])
                txn.execute("UPDATE state SET purged = ?", (now.commit,))
            self._published, self.learned.kept = new, asked
            if encoders:
                self.forget_encoders()
            self.salvaged = False
            reach("swap.published")
            # By names that another collection in this one's place may use again, so before it can be closed.
            for file in files:
                self.chunks.remove(file)
                reach("chunk.removed")
        for part in removed:
            part.delete()
        with self._lock:
            self.sweep_stages()
            self.database.reclaim()

    def sweep_stages(self) -> None:
        """Removes fitted encodings that the generation does not name. Raises Unavailable after ``close``."""
        with self._lock:
            self.database.require_open()
            self.stages.sweep(self._published.generation.stage)

    def make_folder(self, *names: str) -> Directory:
        """The folder of that path in the collection's own, which is there when this returns.

        Raises Unavailable after ``close``, when the collection's may have been moved and another one have its name.
        """
        with self._lock:
            self.database.require_open()
            found = self.files
            for name in names:
                found = found.folder(name)
            with room():
                found.make()
        return found

    def discard(self, made: Sequence[Segment]) -> None:
        """Removes new segments that no transaction names, after what they were made for has failed."""
        if self._behind:
            return  # whether one names them is not known yet; who opens the collection next removes them
        named = {view.part.record for view in self._published.segments}
        for segment in made:
            if segment.record not in named:
                segment.delete()

    def _live_seqs(self) -> I64:
        with self.database.read() as connection:
            return np.array([seq for (seq,) in connection.execute("SELECT seq FROM live")], np.int64)

    # What all writes share

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
            self.discard(added)
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A numbered commit. If it fails after it became durable, what is published catches up with it."""
        with self._publishing(), self.database.write() as txn:
            yield txn

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """If the block fails, for want of memory say, what is published catches up with what was committed: at once, or
        where that fails too before the next write.
        """
        try:
            yield
        except BaseException:
            self._catch_up()
            raise

    def _catch_up(self) -> bool:
        """Whether there was something newer than what is published."""
        self._behind = True
        if self.database.home is not None:
            self.database.home.settle()
        with self.database.read() as connection:
            ahead = read_state(connection).commits != self._published.commit
        if ahead:
            self._published = self._read_again(None)
        self._behind = False
        return ahead

    def _read_again(self, previous: Published | None) -> Published:
        with self.database.read() as connection:
            self._retell(connection)
        return self._opener.salvage() if self.salvaged else self._opener.load(previous)
