"""The statements of a process that writes, and whether a collection that it left holds exactly that."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from brute_force import score
from writing_process import DIM, document, settings, vectors, weight

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.collection.spec import SparseSpec, ValueSpec
from app.encoders.registry import Encoders
from app.scoring.similarity import Cosine
from app.search import Query, search
from app.store import folders
from app.store.local_directory import LocalDirectory
from app.types import F32, SparseVector


class Ledger:
    """Documents that must be there. maybe: what the last, unacknowledged operation would make of it, in full or not at
    all. there: whether the collection itself must be."""

    def __init__(self, *, there: bool = True) -> None:
        self.stands: dict[str, Any] = {}
        self.maybe: dict[str, Any] = {}
        self.there = there

    def read(self, lines: list[list[Any]], collection: str) -> int:
        done = 0
        for what, name, version, ids in lines:
            if name != collection:
                continue
            if what == "seen":
                # By the process itself, after an operation failed: all of it or nothing.
                assert ids in (self.stands, self.maybe), (ids, self.stands, self.maybe)
                self.stands = self.maybe = ids
                self.there = True
                continue
            if what == "done":
                self.stands, done, self.there = self.maybe, done + 1, True
                continue
            self.maybe = dict(self.stands)
            if isinstance(ids, dict):
                self.maybe = ids
            if what == "upsert":
                self.maybe.update(dict.fromkeys(ids, version))
            elif what == "delete":
                for identifier in ids:
                    self.maybe.pop(identifier, None)
        return done


def check(folder: Path, ledgers: dict[str, Ledger]) -> None:
    """Opens the collections as the next process would, and holds all of them to the ledgers."""
    started = time.monotonic()
    chosen = settings(folder)
    with Catalogue(folder, Encoders(chosen.models), chosen) as catalogue:
        names = folders.names(LocalDirectory(folder))
        for name, ledger in ledgers.items():
            if not ledger.there:
                # Not acknowledged: not there at all, or whole.
                ledger.there, ledger.stands = name in names, ledger.maybe
        collections = [catalogue.get(name) for name, ledger in ledgers.items() if ledger.there]
        assert time.monotonic() - started < 10
        for collection in collections:
            hold(collection, ledgers[collection.name])


def hold(collection: Collection, ledger: Ledger) -> None:
    found, _ = collection.listing(None, 1_000)
    versions = {d.id: d.metadata["v"] for d in found}
    assert versions in (ledger.stands, ledger.maybe)
    ledger.stands = ledger.maybe = {identifier: int(str(v)) for identifier, v in versions.items()}
    assert collection.count() == len(versions)
    own = collection.spec.model is None
    for identifier, version in versions.items():
        stored = collection.get(identifier)
        assert stored.text == document(identifier, int(str(version)), own=own).text
    query: F32 = np.ones((1, DIM), np.float32)
    for exact in (True, False):
        hits = search(
            collection,
            Query(vectors=query, k=1000, exact=exact, include=frozenset({"text", "metadata", "vectors", "values"})),
        ).hits
        assert sorted(hit.id for hit in hits) == sorted(versions)
        for hit in hits:
            assert hit.metadata == {"v": versions[hit.id]}
            assert hit.vectors is not None
            if own:
                given = vectors(hit.id, int(str(versions[hit.id])))
                assert hit.score == score(query, given, collection.spec)
                carried = document(hit.id, int(str(versions[hit.id])), own=True).values
                assert hit.values is not None
                assert np.array_equal(hit.values, carried)
            else:
                encoder = collection.encoder()
                tokens = encoder.encode_documents([hit.text or ""]).tokens
                assert tokens is not None
                code = collection.spec.code
                assert np.array_equal(hit.vectors, code.decode(code.encode(Cosine().document(tokens[0]))))
    if own:
        seven = SparseVector(np.array([7], np.int32), np.ones(1, np.float32))
        found_by = search(collection, Query(sparse=seven, mode="sparse", k=1000)).hits
        assert {hit.id: hit.score for hit in found_by} == {i: weight(int(str(v))) for i, v in versions.items()}
    named = {record.name for record in collection.published.generation.segments}
    assert {path.name for path in (collection.folder / "segments").iterdir()} == named
    with collection.database.read() as connection:
        files = {name for (name,) in connection.execute("SELECT file FROM tail WHERE file IS NOT NULL")}
    assert {path.name for path in (collection.folder / "tail").iterdir()} == files


def make(folder: Path) -> None:
    chosen = settings(folder)
    with Catalogue(folder, Encoders(chosen.models), chosen) as catalogue:
        catalogue.create("c", model="words", kind="multi_vector")
        catalogue.create("own", model=None, kind="multi_vector", dim=DIM, sparse=SparseSpec(), values=ValueSpec(dim=2))
