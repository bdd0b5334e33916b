"""Making segments: from the tail, and from other segments.

Each works on a snapshot without holding the writer's lock, writes a complete segment, and swaps it in atomically;
documents that die in the meantime are masked at the swap. A stop in the middle leaves a folder that nothing names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import numpy as np

from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, recoded
from app.collection.part import View
from app.collection.passages import Passages
from app.collection.segment import Segment
from app.collection.segment_writing import Batch, Totals, write_segment
from app.collection.view import SegmentView, TailState
from app.lexical.postings import I32
from app.lexical.sequences import Sequences, Vocabulary
from app.store.layout import SEGMENTS
from app.store.rows import fetch_documents
from app.types import I64

BATCH: Final = 512
"""Rows copied at a time."""

HELD: Final = 64
"""Batches after which what was copied is let go: merging maps no more of the old segments than that."""

TIER: Final = 4
"""Segments of about one size that are merged into one; each document is rewritten once a tier."""

DEAD: Final = 0.25
"""The share of dead rows at which a segment is rewritten without them."""

SLICE: Final = 16
"""The fewest passages worth a thread of their own while they are encoded."""

Check = Callable[[], None]
"""Called between batches; raises to give the work up."""


def seal_due(collection: Collection, run: int = 1) -> bool:
    """Whether the tail has reached its bound. run: times the number of documents that the settings say."""
    settings, now = collection.resources.settings, collection.published
    return len(now.tail.part.seqs) >= run * settings.seal_documents or now.growing.nbytes >= settings.seal_bytes


def seal(collection: Collection, check: Check = lambda: None) -> bool:
    """The whole tail into a segment and a new generation. Whether there was anything to do."""
    with collection.structure:
        collection.require_writer()
        now = collection.published
        if not len(now.tail.part.seqs):
            return False
        added: list[Segment] = []
        if now.tail.live:
            totals = totals_of([now.tail])
            batches = _tail_batches(collection, now.tail, check)
            if now.stage is not now.tail_stage:
                batches = recode(collection, now.stage, batches)
            added.append(write(collection, now.stage, totals, batches, check))
        collection.swap(
            added, [], sealed_to=int(now.tail.part.seqs[-1]) + 1, reason="sealed the tail", created=now_utc()
        )
        return True


def _tail_batches(collection: Collection, tail: View, check: Check) -> Iterator[Batch]:
    # From the chunks as they lie on disk, checked, and with callers' own vectors, which the memory does not hold.
    alive = set(tail.part.seqs[tail.alive].tolist())
    last = int(tail.part.seqs[-1])
    with collection.database.read() as connection:
        for seqs, passages in collection.chunks.read(connection, 0):
            if seqs[0] > last:
                return
            check()
            standing = [place for place, seq in enumerate(seqs.tolist()) if seq in alive]
            if standing:
                documents = fetch_documents(connection, seqs[standing].tolist(), collection.name)
                metadata = [documents[seq].metadata for seq in seqs[standing].tolist()]
                places = np.searchsorted(tail.part.seqs, seqs[standing])
                words = None if tail.part.words is None else tail.part.words.sequences(places)
                yield Batch(seqs[standing], metadata, passages.take(standing), words)


def plan(sizes: Sequence[tuple[int, int]], tier_size: int) -> list[int]:
    """Which segments to merge next, as positions; none when all is well.

    sizes: (documents, documents that stand) of each segment. One without any that stand, or with many dead, goes
    alone; else the smallest tier that has ``TIER`` segments. A tier's sizes are within a factor of ``TIER``.

    >>> plan([(4096, 4096)] * 4, 4096), plan([(4096, 4096)] * 3, 4096), plan([(100, 60), (100, 100)], 4096)
    ([0, 1, 2, 3], [], [0])
    """
    for position, (rows, standing) in enumerate(sizes):
        if rows - standing >= max(1, math.ceil(DEAD * rows)):
            return [position]
    tiers: dict[int, list[int]] = {}
    for position, (_, standing) in enumerate(sizes):
        tier = max(0, math.ceil(math.log(max(standing, 1) / tier_size, TIER) - 1e-9))
        tiers.setdefault(tier, []).append(position)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= TIER:
            return tiers[tier]
    return []


def merge_due(collection: Collection) -> list[SegmentView]:
    """The segments to merge next; asked after every write and deletion."""
    segments = collection.published.segments
    sizes = [(view.part.owners.documents, view.live) for view in segments]
    return [segments[i] for i in plan(sizes, collection.resources.settings.seal_documents)]


def merge(collection: Collection, check: Check = lambda: None) -> bool:
    """One merge, if one is due. Whether it was. check may seal the tail meanwhile, under the same stage: what is merged
    stays what it is, and what is sealed comes beside it."""
    with collection.structure:
        collection.require_writer()
        now, chosen = collection.published, merge_due(collection)
        if not chosen:
            return False
        added = []
        if any(view.live for view in chosen):
            totals = totals_of(chosen)
            added.append(write(collection, now.stage, totals, segment_batches(collection, chosen, check), check))
        collection.swap(
            added, [view.part for view in chosen], reason=f"merged {len(chosen)} segments", created=now_utc()
        )
        return True


def segment_batches(collection: Collection, views: Sequence[SegmentView], check: Check) -> Iterator[Batch]:
    """The documents of some segments that stand, by sequence number."""
    seqs = np.concatenate([view.part.seqs[view.alive] for view in views])
    owners = np.concatenate([np.full(view.live, i) for i, view in enumerate(views)])
    places = np.concatenate([np.flatnonzero(view.alive) for view in views])
    order = np.argsort(seqs)
    spoken = None if collection.spec.lexical is None else _Spoken(views, len(collection.spec.lexical.fields))
    with collection.database.read() as connection:
        for start in range(0, len(order), BATCH):
            check()
            batch = order[start : start + BATCH]
            documents = fetch_documents(connection, seqs[batch].tolist(), collection.name)
            metadata = [documents[seq].metadata for seq in seqs[batch].tolist()]
            words = None if spoken is None else spoken.of(owners[batch], places[batch])
            yield Batch(seqs[batch], metadata, _gather(views, owners[batch], places[batch]), words)
            if start // BATCH % HELD == HELD - 1:
                for view in views:
                    view.part.let_go()


def _gather(views: Sequence[SegmentView], owners: I64, places: I64) -> Passages:
    """Documents of several segments, in the order given."""
    used = np.unique(owners)
    parts = [views[i].part.passages(places[owners == i]) for i in used]
    order = np.concatenate([np.flatnonzero(owners == i) for i in used])
    return Passages.join(parts).take(np.argsort(order))


class _Spoken:
    """The words of several segments, in one vocabulary."""

    def __init__(self, views: Sequence[SegmentView], fields: int) -> None:
        self._views, self._fields = views, fields
        self._vocabulary = Vocabulary()
        self._translations: dict[int, I32] = {}

    def of(self, owners: I64, places: I64) -> Sequences:
        """Of documents, in the order given."""
        used = np.unique(owners).tolist()
        parts = [self._part(i, places[owners == i]) for i in used]
        order = np.concatenate([np.flatnonzero(owners == i) for i in used])
        return Sequences.join(parts).take(np.argsort(order), self._fields)

    def _part(self, number: int, places: I64) -> Sequences:
        words = self._views[number].part.words
        if words is None:
            none = np.zeros(0, np.int32), np.zeros(len(places) * self._fields + 1, np.int64)
            return Sequences(self._vocabulary, *none)
        found = words.sequences(places)
        if number not in self._translations:
            self._translations[number] = self._vocabulary.translation(found.vocabulary.words)
        return found.translated(self._vocabulary, self._translations[number])


def totals_of(views: Sequence[SegmentView | TailState]) -> Totals:
    """Of the documents that stand."""
    standing = [(view.part, np.flatnonzero(view.alive)) for view in views]
    return Totals.sum(Totals.of(part.owners.take(places), part.counts(places)) for part, places in standing)


def recode(collection: Collection, stage: FirstStage, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches, encoded for another first stage from their stored vectors, on all background workers."""
    for seqs, metadata, passages, words in batches:
        parts = collection.resources.background.map_slices(
            len(passages),
            lambda start, stop, given=passages: recoded(given.take(range(start, stop)), stage, collection.spec),  # type: ignore[misc]
            smallest=SLICE,
        )
        yield Batch(seqs, metadata, Passages.join(parts), words)


def write(
    collection: Collection, stage: FirstStage, totals: Totals, batches: Iterable[Batch], check: Check = lambda: None
) -> Segment:
    """A new segment, durable, that nothing names yet."""
    folder = collection.make_folder(SEGMENTS, uuid4().hex)
    record = write_segment(folder, collection.spec, stage, totals, batches, check)
    return Segment.open_all(folder, record)


def now_utc() -> str:
    """The time of a generation."""
    return datetime.now(UTC).isoformat(timespec="seconds")
