"""Snapshots as tasks: accepted at once, taken in the background, listed when they are complete.

A snapshot has the id of its task. Interrupted, it is taken anew; where the disk is full it fails and leaves nothing,
since a snapshot of some later moment is not what was asked for.
"""

from __future__ import annotations

from app.backup.saved import SavedSnapshots
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.errors import StorageFull
from app.tasks.records import Task, TaskError
from app.tasks.tasks import Failed, Running


def begin_snapshot(catalogue: Catalogue, name: str) -> Task:
    """Accepts a snapshot. Raises NotFound, Damaged, Conflict (another process writes), StorageFull."""
    tasks = catalogue.tasks(name)
    with catalogue.standing(tasks.collection.name):
        tasks.collection.require_writer()
        needed, free = tasks.collection.nbytes, catalogue.files.free()
        if needed > free:
            raise StorageFull(
                f"a snapshot needs about {needed:,} bytes, the disk has room for {free:,}; nothing was kept"
            )
        return tasks.submit("snapshot", {})


def run_snapshot(collection: Collection, running: Running) -> None:
    """The task's handler."""
    running.update(phase="copying", done=0)
    try:
        saved = SavedSnapshots(collection.files.parent).take(collection, running.task.id, running.check)
    except StorageFull as error:
        running.fail_lines([TaskError(0, error.code, error.message)])
        raise Failed from error
    running.update(done=saved.documents, total=saved.documents)
