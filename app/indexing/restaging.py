"""Another first stage for every segment of a collection, in one step, while it serves and is written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import numpy as np

from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, Json, StageChoice, StageRecord
from app.collection.layers import POOLED
from app.collection.part import tokens
from app.collection.passages import encode
from app.collection.segment import Segment
from app.collection.segment_writing import Batch, write_restaged
from app.collection.view import SegmentView
from app.errors import Unavailable
from app.indexing.sealing import (
    BATCH,
    HELD,
    SLICE,
    Check,
    now_utc,
    recode,
    seal,
    seal_due,
    segment_batches,
    totals_of,
    write,
)
from app.store.layout import ENCODINGS, SEGMENTS
from app.types import F32

Progress = Callable[[int, int], None]
"""Called after each batch with the passages done, and how many there are."""
Tell = Callable[[int], None]
"""The same with those done of one segment."""


def restage(
    collection: Collection,
    choice: StageChoice,
    *,
    check: Check = lambda: None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Makes every segment anew under another first stage, from the stored vectors; one swap at the end.

    Later seals and merges keep to it; the tail stays as it is. The generation records the choice with its report. Until
    the swap the former generation serves, and after a stop in the middle it still does.
    Raises Invalid for a stage that the collection cannot have, StorageFull, Damaged.
    """
    with collection.structure:
        collection.require_writer()
        choice.check(collection.spec)
        old: list[Segment] = []
        new: list[Segment] = []
        collection.make_folder(ENCODINGS)
        record = collection.stages.write(choice)
        try:
            while left := _left(collection, old):
                view, done = left[0], sum(part.size for part in new)
                total = sum(view.part.size for view in collection.published.segments)

                def tell(more: int, done: int = done, total: int = total) -> None:
                    progress(done + more, total)

                if view.alive.all() and view.part.code == collection.spec.code:
                    new.append(_relinked(collection, choice, view.part, check, tell))
                elif view.live:
                    new.append(_rewritten(collection, choice.stage, view, check, tell))
                old.append(view.part)
                if seal_due(collection):
                    # Under the former stage, so that what it adds is one more to do.
                    seal(collection, check)
            stage = record, choice.stage
            collection.swap(new, old, reason=choice.reason, created=now_utc(), stage=stage)
        except BaseException:
            collection.discard(new)
            with suppress(Unavailable):
                collection.sweep_stages()
            raise


def rewidth(collection: Collection, width: int, report: Json, *, reason: str) -> None:
    """Another width for the segments' first stage, and a report of why; a new generation of the same segments."""
    with collection.structure:
        collection.require_writer()
        now = collection.published
        stage = replace(now.stage, width=width)
        record = now.generation.stage or StageRecord(None, None, {}, {})
        record = replace(record, description=stage.to_json(), report=report)
        collection.swap([], [], reason=reason, created=now_utc(), stage=(record, stage))


def _left(collection: Collection, done: Sequence[Segment]) -> list[SegmentView]:
    return [view for view in collection.published.segments if view.part not in done]


def _relinked(collection: Collection, choice: StageChoice, part: Segment, check: Check, tell: Tell) -> Segment:
    """The same rows: what does not depend on the first stage has a second name, and is not copied."""
    if choice.stage.encoding is None:
        tell(part.size)
    folder = collection.make_folder(SEGMENTS, uuid4().hex)
    encoded = _encoded(collection, choice, part, check, tell)
    return Segment.open_all(folder, write_restaged(folder, collection.spec, choice.stage, part, encoded))


def _encoded(collection: Collection, choice: StageChoice, part: Segment, check: Check, tell: Tell) -> Iterator[F32]:
    """Its rows in batches: as the fit found them where it met them all, else from the stored vectors."""
    encoding, spec, known = choice.stage.encoding, collection.spec, choice.known
    if known is not None and part.record.name not in known.segments:
        known = None
    for first in range(0, part.size if encoding is not None else 0, BATCH):
        check()
        last = min(first + BATCH, part.size)
        # The fit knows its rows by document; a document stands for a row where each owns one.
        found = None if known is None or part.owners.starts is not None else known.of(part.seqs[first:last])
        if found is None:

            def some(start: int, stop: int, first: int = first) -> F32:
                rows = first + start, first + stop
                assert encoding is not None
                return encode(encoding, tokens(part, *rows), part.flat(POOLED).range(*rows), spec)

            found = np.concatenate(collection.resources.background.map_slices(last - first, some, smallest=SLICE))
        yield found
        tell(last)
        if first // BATCH % HELD == HELD - 1:
            part.let_go()


def _rewritten(collection: Collection, stage: FirstStage, view: SegmentView, check: Check, tell: Tell) -> Segment:
    """Without the rows that are dead."""

    def told() -> Iterator[Batch]:
        done = 0
        for batch in recode(collection, stage, segment_batches(collection, [view], check)):
            yield batch
            done += len(batch[0])
            tell(done)

    return write(collection, stage, totals_of([view]), told())
