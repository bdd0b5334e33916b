"""Another kind of vector index for every segment of a collection, in one step; no vector is read but to be indexed.

A segment is immutable, so each gets a new folder: its arrays under a second name (hard links, no byte copied; copied
where the file system has no links), and beside them the new indexes and manifest.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from app.collection.collection import Collection
from app.collection.first_stage import Json, StageRecord
from app.collection.segment import Segment
from app.collection.segment_writing import write_restaged
from app.indexing.sealing import Check, now_utc
from app.store.layout import SEGMENTS


def reindex(
    collection: Collection, index: str | None, widening: int, report: Json, *, reason: str, check: Check = lambda: None
) -> None:
    """Puts ``index`` and ``widening`` of ``FirstStage`` in force. Raises Invalid (an unknown kind), StorageFull."""
    with collection.structure:
        collection.require_writer()
        now = collection.published
        stage = replace(now.stage, index=index, widening=widening)
        record = now.generation.stage or StageRecord(None, None, {}, {})
        record = replace(record, description=stage.to_json(), report=report)
        old = [view.part for view in now.segments]
        new: list[Segment] = []
        try:
            for part in old:
                check()
                folder = collection.make_folder(SEGMENTS, uuid4().hex)
                new.append(Segment.open_all(folder, write_restaged(folder, collection.spec, stage, part, None)))
            collection.swap(new, old, reason=reason, created=now_utc(), stage=(record, stage))
        except BaseException:
            collection.discard(new)
            raise
