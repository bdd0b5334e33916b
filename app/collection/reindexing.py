"""Another kind of vector index for every segment of a collection, in one step; no vector is read but to be indexed.

A segment is immutable, so each gets a new folder: its arrays under a second name (hard links, no byte copied; copied
where the file system has no links), and beside them the new indexes and manifest.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from uuid import uuid4

from app.collection.collection import Collection
from app.collection.files import link_file, room, sync_folder
from app.collection.first_stage import FirstStage
from app.collection.layout import SEGMENTS
from app.collection.sealing import Check, now_utc
from app.collection.segment import Segment
from app.collection.segment_writing import finish_segment
from app.collection.stages import Json, StageRecord


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
                new.append(_beside(collection, part, stage))
            collection.swap(new, old, reason=reason, created=now_utc(), stage=(record, stage))
        except BaseException:
            named = {view.part.record for view in collection.published.segments}
            for part in new:
                if part.record not in named and part.folder.exists():
                    part.delete()
            raise


def _beside(collection: Collection, part: Segment, stage: FirstStage) -> Segment:
    folder = collection.folder / SEGMENTS / uuid4().hex
    files = {name: record for name, record in part.files.items() if not name.endswith(".index")}
    with room():
        try:
            folder.mkdir()
            for name in files:
                link_file(part.folder / name, folder / name)
            record = finish_segment(folder, collection.spec, stage, part.size, files)
            sync_folder(folder)
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return Segment.open_all(folder, record)
