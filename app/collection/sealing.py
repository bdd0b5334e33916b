"""Making segments: from the tail, from other segments, and anew from the document store.

Each works on a snapshot without holding the writer's lock, writes a complete segment, and swaps it in atomically;
documents that die in the meantime are masked at the swap. A stop in the middle leaves a folder that nothing names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import numpy as np

from app.collection.collection import Collection
from app.collection.layout import SEGMENTS
from app.collection.part import View
from app.collection.passages import Passages
from app.collection.rows import fetch_documents
from app.collection.segment import Batch, Segment, Totals, write_segment
from app.collection.snapshot import SegmentView
from app.types import I64

BATCH: Final = 512
"""Rows copied at a time."""

TIER: Final = 4
"""Segments of about one size that are merged into one; each document is rewritten once a tier."""

DEAD: Final = 0.25
"""The share of dead rows at which a segment is rewritten without them."""

Check = Callable[[], None]
"""Called between batches; raises to give the work up."""


def seal(collection: Collection, check: Check = lambda: None) -> bool:
    """The whole tail into a segment and a new generation. Whether there was anything to do."""
    with collection.structure:
        collection.require_writer()
        now = collection.published
        size = now.tail.part.size
        if size == 0:
            return False
        alive = now.tail.alive
        added: list[Segment] = []
        if alive.any():
            counts = np.ones(size, np.int64)
            if collection.spec.kind == "multi_vector":
                counts = now.tail.part.tokens(0, size).counts
            vectors = int(counts[alive].sum())
            totals = Totals(int(alive.sum()), vectors, vectors)
            added.append(_write(collection, totals, _tail_batches(collection, now.tail, check)))
        collection.swap(added, [], sealed_to=int(now.tail.part.seqs[-1]) + 1, reason="sealed the tail", created=_now())
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
            rows = [row for row, seq in enumerate(seqs.tolist()) if seq in alive]
            if rows:
                documents = fetch_documents(connection, seqs[rows].tolist(), collection.name)
                metadata = [documents[seq].metadata for seq in seqs[rows].tolist()]
                yield seqs[rows], metadata, passages.take(rows)


def plan(sizes: Sequence[tuple[int, int]], tier_size: int) -> list[int]:
    """Which segments to merge next, as positions; none when all is well.

    sizes: (rows, rows that stand) of each segment. A segment without a standing row, or with many dead ones, goes
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


def merge(collection: Collection, check: Check = lambda: None) -> bool:
    """One merge, if one is due. Whether it was."""
    with collection.structure:
        collection.require_writer()
        now = collection.published
        sizes = [(view.part.size, int(view.alive.sum())) for view in now.segments]
        chosen = [now.segments[i] for i in plan(sizes, collection.resources.settings.seal_documents)]
        if not chosen:
            return False
        added = []
        if any(view.alive.any() for view in chosen):
            rows = [np.flatnonzero(view.alive) for view in chosen]
            totals = Totals(
                sum(map(len, rows)),
                sum(int(view.part.token_counts(r).sum()) for view, r in zip(chosen, rows, strict=True)),
                sum(int(view.part.raw_counts(r).sum()) for view, r in zip(chosen, rows, strict=True)),
            )
            added.append(_write(collection, totals, _segment_batches(collection, chosen, check)))
        collection.swap(added, [view.part for view in chosen], reason=f"merged {len(chosen)} segments", created=_now())
        return True


def _segment_batches(collection: Collection, views: Sequence[SegmentView], check: Check) -> Iterator[Batch]:
    seqs = np.concatenate([view.part.seqs[view.alive] for view in views])
    owners = np.concatenate([np.full(int(view.alive.sum()), i) for i, view in enumerate(views)])
    rows = np.concatenate([np.flatnonzero(view.alive) for view in views])
    order = np.argsort(seqs)
    with collection.database.read() as connection:
        for start in range(0, len(order), BATCH):
            check()
            batch = order[start : start + BATCH]
            documents = fetch_documents(connection, seqs[batch].tolist(), collection.name)
            metadata = [documents[seq].metadata for seq in seqs[batch].tolist()]
            yield seqs[batch], metadata, _gather(views, owners[batch], rows[batch])


def _gather(views: Sequence[SegmentView], owners: I64, rows: I64) -> Passages:
    """Rows of several segments, in the order given."""
    used = np.unique(owners)
    parts = [views[i].part.passages(rows[owners == i]) for i in used]
    places = np.concatenate([np.flatnonzero(owners == i) for i in used])
    return Passages.join(parts).take(np.argsort(places).tolist())


def _write(collection: Collection, totals: Totals, batches: Iterator[Batch]) -> Segment:
    folder = collection.folder / SEGMENTS / uuid4().hex
    record = write_segment(folder, collection.spec, collection.stage, totals, batches)
    return Segment.open_all(folder, record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
