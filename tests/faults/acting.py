"""Every kind of write, one after the other and always the same: what is killed at each of its steps, or recorded.

Says what it is about to do, does it, and says that it was done, as writing_process does.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from writing_process import document, say, settings

from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import restore_file
from app.catalogue.snapshotting import begin_snapshot
from app.collection import chunks
from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.encodings.recipes import RidgeRecipe
from app.encodings.ridge import RidgeParameters
from app.indexing.fitting import learn
from app.indexing.restaging import rewidth
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.main import HANDLERS
from app.store import faults
from app.tasks.importing import ImportUpload

MANY = range(200, 360)
"""Ids of a write whose vectors go into a file beside the database."""
IN_DATABASE = 100_000
"""Bytes from which that is so here: less than the product's own bound, for speed."""


class Steps:
    """Counts the steps that are reached; kills the process at one of them. names: operation and step of each."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.names = kill_at, list[str]()
        self.operation = ""

    def __call__(self, step: str) -> None:
        self.names.append(f"{self.operation}: {step}")
        if len(self.names) - 1 == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def at(self, operation: str, work: Callable[[], object]) -> None:
        """An operation that changes nothing of what is written."""
        self.operation, faults.hook = operation, self
        try:
            work()
        finally:
            faults.hook = None


def act(
    folder: Path,
    steps: Steps,
    failed: Callable[[Catalogue, Exception], None] | None = None,
    more: Callable[[Catalogue, Steps], None] = lambda catalogue, steps: None,
    **options: Any,
) -> None:
    """Everything, in both collections that ``ledger.make`` made. failed: is told of an error, which ends it. more: is
    done too. options: of the settings."""
    chosen = settings(folder, **options)
    chunks.IN_DATABASE = IN_DATABASE  # type: ignore[misc]
    with Catalogue(folder, Encoders(chosen.models), chosen, HANDLERS_KEPT) as catalogue:
        try:
            everything(catalogue, steps)
            more(catalogue, steps)
        except Exception as error:
            if failed is None:
                raise
            failed(catalogue, error)


def everything(catalogue: Catalogue, steps: Steps) -> None:
    """The operations themselves."""
    version = 0
    faults.hook = steps
    for name in ("c", "own"):
        collection = catalogue.get(name)
        own = collection.spec.model is None

        def told(
            what: str, ids: Said, work: Callable[[], object], as_what: str | None = None, name: str = name
        ) -> None:
            nonlocal version
            version += 1
            steps.operation = what
            say(as_what or what, name, version, ids)
            work()
            steps.operation = ""
            say("done", name, version, ids)

        def upsert(numbers: range, what: str = "upsert", collection: Collection = collection, own: bool = own) -> None:
            ids = [f"d{i}" for i in numbers]
            told(
                what,
                ids,
                lambda: write_documents(collection, [document(i, version, own=own) for i in ids]),
                "upsert",
            )

        upsert(range(0, 12))
        upsert(range(6, 30))
        told("delete", ["d1", "d7", "d8"], lambda c=collection: delete_ids(c, ["d1", "d7", "d8"]))
        told("seal", [], lambda c=collection: seal(c))
        upsert(range(5, 9))
        upsert(MANY, "upsert to a file")
        told("delete", ["d201", "d5"], lambda c=collection: delete_ids(c, ["d201", "d5"]))
        told("seal with a file", [], lambda c=collection: seal(c))
        for first in (40, 45):
            upsert(range(first, first + 5))
            told("seal", [], lambda c=collection: seal(c))
        told("merge", [], lambda c=collection: merge(c))
        if not own:
            ids = [f"d{i}" for i in range(50, 60)]
            told("import", ids, lambda c=collection, i=ids: run_import(catalogue, c, i, version), "upsert")
        saved = {one.id: one.metadata["v"] for one in collection.listing(None, 1_000)[0]}
        told("snapshot", [], lambda n=name: run_task(catalogue, n, begin_snapshot(catalogue, n).id))
        told("learn", [], lambda c=collection: learn(c, RECIPE))
        upsert(range(2, 4))
        told("rewidth", [], lambda c=collection: rewidth(c, 70, {}, reason="wider"))
        told("rebuild", [], lambda n=name: run_task(catalogue, n, catalogue.begin_rebuild(n).id))
        archive = catalogue.snapshots.get(name, catalogue.snapshots.of(name)[0].id)[1]
        told("restore in its place", saved, lambda n=name, a=archive: restore_file(catalogue, n, a, replace=True))
        upsert(range(0, 3), collection=catalogue.get(name))
        again = f"{name}-again"
        told(
            "restore anew",
            saved,
            lambda n=again, a=archive: restore_file(catalogue, n, a, replace=False),
            name=again,
        )
        told("alias", {"live": name}, lambda n=name: catalogue.aliases.set("live", n), name=ALIASES)
    told("discard a snapshot", [], lambda: catalogue.snapshots.delete(name, catalogue.snapshots.of(name)[0].id))
    steps.operation = "create"
    catalogue.create("new", model=None, kind="dense", dim=2)
    steps.operation = "drop"
    catalogue.delete("new")
    faults.hook = None


Said = list[str] | dict[str, Any]
"""Ids, or all that there is afterwards."""

RECIPE = RidgeRecipe(RidgeParameters(rank=4, samples=60, landmarks=30, probes=30))

ALIASES = "aliases of all"
"""Stands for a collection in what is said of them."""

HANDLERS_KEPT: dict[str, object] = {}
"""No thread runs tasks: they are run here, one after the other, so that the steps are always the same."""


def run_import(catalogue: Catalogue, collection: Collection, ids: list[str], version: int) -> None:
    tasks = catalogue.tasks(collection.name)
    upload = ImportUpload(collection, tasks, "stop")
    for identifier in ids:
        one = document(identifier, version, own=False)
        upload.write(json.dumps({"id": one.id, "text": one.text, "metadata": dict(one.metadata)}).encode() + b"\n")
    run_task(catalogue, collection.name, upload.commit().id)


def run_task(catalogue: Catalogue, name: str, identifier: str, wanted: str | None = "succeeded") -> None:
    """Runs a task to its end, which is to be ``wanted``."""
    tasks = catalogue.tasks(name)
    tasks._handlers = HANDLERS
    tasks.work(tasks.running(identifier))
    assert wanted in (None, tasks.get(identifier).state), tasks.get(identifier)
