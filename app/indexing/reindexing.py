"""Another kind of vector index, or a neighbour graph, for every segment of a collection, in one step; no vector is read
but to be indexed.

A segment is immutable, so each gets a new folder: its arrays under a second name (hard links, no byte copied; copied
where the file system has no links), and beside them the new indexes and manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from app.collection.collection import Collection
from app.collection.first_stage import FirstStage, Json, StageRecord
from app.collection.segment import Segment, SegmentRecord
from app.collection.segment_writing import write_linked, write_restaged
from app.indexing.restaging import Progress
from app.indexing.sealing import Check, now_utc, seal
from app.store.directory import Directory
from app.store.layout import SEGMENTS


def reindex(
    collection: Collection, index: str | None, widening: int, report: Json, *, reason: str, check: Check = lambda: None
) -> None:
    """Puts ``index`` and ``widening`` of ``FirstStage`` in force. Raises Invalid (an unknown kind), StorageFull."""
    with collection.structure:
        collection.require_writer()
        now = collection.published
        stage = replace(now.stage, index=index, widening=widening)

        def make(part: Segment) -> SegmentRecord:
            return write_restaged(_folder(collection), collection.spec, stage, part, None)

        _swapped(collection, stage, report, make, reason=reason, check=check)


def link(
    collection: Collection,
    links: int,
    *,
    reason: str,
    check: Check = lambda: None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Puts ``neighbours`` of ``FirstStage`` in force: graphs of so many links, 0 takes them away. Other indexes stay.
    Raises StorageFull, Damaged."""
    with collection.structure:
        collection.require_writer()
        seal(collection, check)
        now = collection.published
        stage = replace(now.stage, neighbours=links)
        total, done = sum(view.part.size for view in now.segments), 0

        def make(part: Segment) -> SegmentRecord:
            nonlocal done
            progress(done, total)
            done += part.size
            return write_linked(_folder(collection), collection.spec, stage, part, check)

        report = {} if now.generation.stage is None else now.generation.stage.report
        _swapped(collection, stage, report, make, reason=reason, check=check)


def _folder(collection: Collection) -> Directory:
    return collection.make_folder(SEGMENTS, uuid4().hex)


def _swapped(
    collection: Collection,
    stage: FirstStage,
    report: Json,
    make: Callable[[Segment], SegmentRecord],
    *,
    reason: str,
    check: Check,
) -> None:
    """Every segment under another stage, each of ``make``."""
    now = collection.published
    record = now.generation.stage or StageRecord(None, None, {}, {})
    record = replace(record, description=stage.to_json(), report=report)
    old = [view.part for view in now.segments]
    new: list[Segment] = []
    try:
        for part in old:
            check()
            made = make(part)
            new.append(Segment.open_all(collection.files.folder(SEGMENTS).folder(made.name), made))
        collection.swap(new, old, reason=reason, created=now_utc(), stage=(record, stage))
    except BaseException:
        collection.discard(new)
        raise
