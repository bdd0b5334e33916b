"""A neighbour graph for a collection, along which searches by a scorer go, or none any more."""

from __future__ import annotations

from app.collection.collection import Collection
from app.collection.layers import POOLED, scored
from app.errors import Conflict
from app.indexing.reindexing import link
from app.tasks.tasks import Running


def require_dense(collection: Collection) -> None:
    """Raises Conflict where documents have no one vector."""
    if scored(collection.spec) != POOLED or collection.spec.ordered:
        raise Conflict(
            f"collection {collection.name} is {collection.spec.kind}: a neighbour graph is of dense ones",
            code="not_dense",
        )


def reason_of(links: int) -> str:
    """Of the generation."""
    return f"linked each passage to {links} neighbours" if links else "without a neighbour graph"


def run_neighbours(collection: Collection, running: Running) -> None:
    """The task's handler; its parameter ``links``: of each row, 0 for no graph."""
    params = running.task.params
    assert params is not None, "a task that has not ended has its parameters"
    links = int(params["links"])
    require_dense(collection)

    def progress(done: int, total: int) -> None:
        running.update(phase="linking", done=done, total=total)

    link(collection, links, reason=reason_of(links), check=running.check, progress=progress)
