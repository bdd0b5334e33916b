"""The background of a collection: what it seals, merges and reclaims without being asked."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue
from small_codes import code_everything

from app.collection.collection import Collection
from app.filters import parse
from app.indexing.sealing import merge_due, seal
from app.ingest import delete_ids, delete_matching, write_documents
from app.store.layout import SEGMENTS
from app.types import Document
from app.vector_index.graph import Graph


def until(done: Callable[[], bool]) -> None:
    """Waits for the background; a minute is a limit against hanging, not a measure."""
    for _ in range(6_000):
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the background did not get there")


def test_the_tail_is_sealed_and_segments_are_merged_in_the_background(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True, seal_documents=10)
    collection = catalogue.create("a", model="words", kind="multi_vector")
    for start in range(0, 90, 10):
        write_documents(collection, [Document(f"d{i}", f"text {i}") for i in range(start, start + 10)])
        # Each run is sealed by itself, so that there is something to merge.
        until(lambda: collection.published.tail.part.size == 0)

    until(lambda: merge_due(collection) == [])
    now = collection.published
    assert now.tail.part.size == 0
    assert len(now.segments) < 9
    assert sum(view.part.size for view in now.views) == 90
    assert catalogue.describe("a").error is None


def test_the_background_goes_on_after_the_disk_erred(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []

    def erring(collection: Collection, check: Any) -> bool:
        if len(failed) < 3:
            failed.append(catalogue.describe("a").error or "")
            raise OSError(errno.EIO, "Input/output error")
        return seal(collection, check)

    monkeypatch.setattr("app.indexing.maintenance.seal_known", erring)
    monkeypatch.setattr("app.compute.background.RETRY_S", 0.01)
    catalogue = open_catalogue(tasks=True, seal_documents=10)
    collection = catalogue.create("a", model="words", kind="multi_vector")
    write_documents(collection, [Document(f"d{i}", f"text {i}") for i in range(10)])
    until(lambda: collection.published.tail.part.size == 0)
    assert failed[0] == ""
    assert "Input/output error" in failed[1]
    until(lambda: catalogue.describe("a").error is None)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("from a library"), ValueError("shapes")])
def test_no_error_ends_the_background(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is told while it lasts, and tried again; what stays keeps nothing else waiting."""
    stays, failed = threading.Event(), list[str]()
    stays.set()

    def erring(collection: Collection, check: Any) -> bool:
        if collection.name == "a" and (stays.is_set() or len(failed) < 1):
            failed.append(catalogue.describe("a").error or "")
            raise error
        return seal(collection, check)

    monkeypatch.setattr("app.indexing.maintenance.seal_known", erring)
    monkeypatch.setattr("app.compute.background.RETRY_S", 0.01)
    catalogue = open_catalogue(tasks=True, seal_documents=10)
    collections = [catalogue.create(name, model="words", kind="multi_vector") for name in ("a", "b")]
    for collection in collections:
        write_documents(collection, [Document(f"d{i}", f"text {i}") for i in range(10)])
    until(lambda: len(failed) > 3 and collections[1].published.tail.part.size == 0)
    assert failed[0] == ""
    assert type(error).__name__ in failed[1]
    assert catalogue.describe("b").error is None
    assert catalogue.background.lanes["indexing"].failures >= 3
    stays.clear()
    until(lambda: collections[0].published.tail.part.size == 0)
    until(lambda: catalogue.describe("a").error is None)
    # Once.
    failed.clear()
    write_documents(collections[0], [Document(f"e{i}", f"text {i}") for i in range(10)])
    until(lambda: len(failed) == 1 and collections[0].published.tail.part.size == 0)


def test_what_is_deleted_is_reclaimed_without_another_write(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True, seal_documents=10)
    collection = catalogue.create("a", model="words", kind="multi_vector")
    write_documents(collection, [Document(f"d{i}", f"text {i}", metadata={"n": i}) for i in range(20)])
    until(lambda: [view.part.size for view in collection.published.segments] == [20])
    assert delete_matching(collection, parse({"n": {"lt": 12}})) == 12
    until(lambda: [view.part.size for view in collection.published.segments] == [8])
    assert delete_ids(collection, [f"d{i}" for i in range(20)]) == 8
    until(lambda: collection.published.segments == ())
    until(lambda: list((collection.folder / SEGMENTS).iterdir()) == [])


def test_the_tail_is_sealed_while_a_graph_is_built_for_a_merge(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: what is written meanwhile is in an index before the merge ends."""
    code_everything(monkeypatch)
    monkeypatch.setattr("app.vector_index.graph.ADDED", 10)
    random = np.random.default_rng(3)

    def some(first: int) -> list[Document]:
        vectors = random.normal(size=(10, 1, 8)).astype(np.float32)
        return [Document(f"d{first + i}", vectors=vector) for i, vector in enumerate(vectors)]

    building, written = threading.Event(), threading.Event()
    original = Graph.build.__func__

    def slow(cls: type[Graph], name: str, vectors: Any, check: Callable[[], None]) -> Graph:
        if len(vectors) >= 40 and not written.is_set():
            building.set()
            assert written.wait(60)
        return original(cls, name, vectors, check)

    monkeypatch.setattr(Graph, "build", classmethod(slow))
    catalogue = open_catalogue(tasks=True, seal_documents=10)
    collection = catalogue.create("a", model=None, kind="dense", dim=8)
    for start in range(0, 40, 10):
        write_documents(collection, some(start))
        until(lambda: collection.published.tail.part.size == 0 or building.is_set())
    until(building.is_set)
    write_documents(collection, some(40))
    made: list[str] = []
    swap = collection.swap

    def swapping(*given: Any, **named: Any) -> None:
        made.append(named["reason"])
        swap(*given, **named)

    monkeypatch.setattr(collection, "swap", swapping)
    written.set()
    until(lambda: any("merged" in reason for reason in made))
    assert made[0] == "sealed the tail"
    until(lambda: merge_due(collection) == [] and collection.published.tail.part.size == 0)
    assert sorted(view.part.size for view in collection.published.segments) == [10, 40]
    assert len(collection.get_many([f"d{i}" for i in range(50)])) == 50
