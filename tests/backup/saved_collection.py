"""A collection with everything that a snapshot must bring, and what the tests of snapshots ask of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from brute_force import ranking

from app.backup.saved import SavedSnapshots
from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.indexing.sealing import seal
from app.ingest import delete_ids, patch_document, write_documents
from app.search import Query, search
from app.types import F32, Document

DIM = 4


def name_of(number: int) -> str:
    return f"{number:032x}"


def vectors(number: int, version: int) -> F32:
    return np.random.default_rng([version, number]).normal(size=(3, DIM)).astype(np.float32)


def document(number: int, version: int) -> Document:
    """Vectors and text of one version; no two are equal."""
    return Document(f"d{number}", f"version {version}", metadata={"v": version}, vectors=vectors(number, version))


def standing(collection: Collection) -> dict[str, str]:
    """Ids and texts; and search, exact and not, agrees with brute force over the vectors of those texts."""
    documents, _ = collection.listing(None, 1_000)
    found = {document.id: document.text for document in documents}
    query = np.ones((2, DIM), np.float32)
    truth = [(key, vectors(int(key[1:]), int(text.split()[1]))) for key, text in found.items()]
    for exact in (True, False):
        hits = search(collection, Query(vectors=query, k=1_000, exact=exact)).hits
        assert [(hit.id, hit.score) for hit in hits] == ranking(truth, query, 1_000, collection.spec)
        assert all(hit.text == found[hit.id] for hit in hits)
    return found


def fill(catalogue: Catalogue) -> Collection:
    """Segments, one with dead rows, a tail in the database and in a file, an unfinished task."""
    made = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    write_documents(made, [document(n, 1) for n in range(30)])
    seal(made)
    write_documents(made, [document(n, 2) for n in range(20, 40)])
    delete_ids(made, ["d0", "d25"])
    seal(made)
    write_documents(made, [document(n, 3) for n in (5, 6, 7, 50)])
    patch_document(made, "d6", Patch(metadata={"patched": True}))
    catalogue.tasks("c").submit("import", {"on_error": "stop", "bytes": 0, "position": 0})
    return made


def take(collection: Collection, number: int = 1, check: Callable[[], None] = lambda: None) -> Path:
    snapshots = SavedSnapshots(collection.files.parent)
    snapshots.take(collection, name_of(number), check)
    return snapshots.get(collection.name, name_of(number))[1]


def beside(catalogue: Catalogue) -> set[str]:
    """Every path but what the database makes and drops, and the folder that snapshots share."""
    found = {str(path.relative_to(catalogue.folder)) for path in catalogue.folder.rglob("*")}
    return {path for path in found if not path.endswith(("-wal", "-shm"))} - {".snapshots"}
