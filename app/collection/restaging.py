"""Another first stage for every segment of a collection, in one step, while it serves and is written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from app.collection.collection import Collection
from app.collection.sealing import Check, now_utc, recode, seal, seal_due, segment_batches, totals_of, write
from app.collection.segment import Batch, Segment
from app.collection.snapshot import SegmentView
from app.collection.stages import Json, StageChoice, StageRecord

Progress = Callable[[int, int], None]
"""Called after each batch with the passages done, and how many there are."""


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
        record = collection.stages.write(choice)
        try:
            while left := _left(collection, old):
                total = sum(view.part.size for view in collection.published.segments)
                if left[0].alive.any():
                    batches = recode(collection, choice.stage, segment_batches(collection, left[:1], check))
                    told = _telling(batches, sum(part.size for part in new), total, progress)
                    new.append(write(collection, choice.stage, totals_of(left[:1]), told))
                old.append(left[0].part)
                if seal_due(collection):
                    # Under the former stage, so that what it adds is one more to do.
                    seal(collection, check)
            stage = record, choice.stage
            collection.swap(new, old, reason=choice.reason, created=now_utc(), stage=stage)
        except BaseException:
            named = {view.part.record for view in collection.published.segments}
            for part in new:
                if part.record not in named and part.folder.exists():
                    part.delete()
            collection.stages.sweep(collection.published.generation.stage)
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


def _telling(batches: Iterator[Batch], start: int, total: int, progress: Progress) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        start += len(batch[0])
        progress(start, total)
