"""Rebuilding: everything anew from the document store, while the collection serves and is written to."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, OneEncoder, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.encoders.deterministic import DeterministicEncoder
from app.encoders.registry import Encoders
from app.errors import Conflict
from app.indexing.sealing import seal
from app.ingest import delete_ids, patch_document, write_documents
from app.main import HANDLERS
from app.search import Query, search
from app.settings import DeterministicModel, Settings
from app.tasks import rebuild
from app.tasks.records import ENDED, Task
from app.types import Document, Encoded, Kind


def wait(catalogue: Catalogue, task: Task) -> Task:
    deadline = time.monotonic() + 60
    while (now := catalogue.task(task.id)).state not in ENDED:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return now


def hits(catalogue: Catalogue, **options: Any) -> list[tuple[str, float, str | None]]:
    query = Query(vectors=np.linspace(1, 2, DIM, dtype=np.float32)[None], k=1_000, **options)
    return [(hit.id, hit.score, hit.text) for hit in search(catalogue.get("c"), query).hits]


def test_a_rebuild_changes_nothing_that_is_found(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True, seal_documents=100)
    collection = catalogue.create("c", model="words", kind="multi_vector")
    for start in range(0, 600, 50):
        write_documents(collection, [Document(f"d{i}", f"text {i}") for i in range(start, start + 50)])
    delete_ids(collection, [f"d{i}" for i in range(0, 600, 4)])
    before, generation = hits(catalogue, exact=True), collection.published.generation.number
    old = {segment.name for segment in collection.published.generation.segments}
    ended = wait(catalogue, catalogue.begin_rebuild("c"))
    assert (ended.kind, ended.state, ended.done, ended.total) == ("rebuild", "succeeded", 450, 450)
    assert hits(catalogue, exact=True) == hits(catalogue, candidates=1_000) == before
    now = collection.published
    assert now.generation.number > generation
    assert not old & {segment.name for segment in now.generation.segments}
    assert {path.name for path in (collection.folder / "segments").iterdir()} == {
        segment.name for segment in now.generation.segments
    }
    assert all(view.alive.all() for view in now.segments)
    assert now.tail.part.size == 0


class HeldEncoder(DeterministicEncoder):
    """Waits before each batch, once it is asked to."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(DIM, kind)
        self.hold = False
        self.go, self.waits = threading.Semaphore(0), threading.Semaphore(0)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        if self.hold and len(texts) > 1:
            self.waits.release()
            assert self.go.acquire(timeout=60)
        return super().encode_documents(texts)


def test_writes_during_a_rebuild_are_kept(tmp_path: Path) -> None:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic")}, threads=1)
    encoder = HeldEncoder("multi_vector")
    with Catalogue(tmp_path, OneEncoder(settings, encoder), settings, HANDLERS) as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, [Document(f"d{i}", f"old {i}", metadata={"n": i}) for i in range(300)])
        encoder.hold = True
        task = catalogue.begin_rebuild("c")
        for _ in range(2):
            assert encoder.waits.acquire(timeout=60)
            step = len(collection.published.tail.part.seqs)
            write_documents(collection, [Document(f"d{step}", f"new {step}")])
            write_documents(collection, [Document(f"x{step}", f"new {step}")])
            delete_ids(collection, [f"d{step + 10}"])
            patch_document(collection, f"d{step + 20}", Patch(metadata={"n": -1}))
            assert len(hits(catalogue, exact=True)) == collection.count()
            encoder.go.release()
        ended = wait(catalogue, task)
        assert (ended.state, ended.total) == ("succeeded", 300)
        assert collection.count() == 300
        found = {identifier: text for identifier, _, text in hits(catalogue, exact=True)}
        listed, _ = collection.listing(None, 1_000)
        assert found == {d.id: d.text for d in listed}
        assert (found["d0"], found["x0"], found["d3"], found["x3"]) == ("new 0", "new 0", "new 3", "new 3")
        assert not {"d10", "d13"} & found.keys()
        assert collection.get("d20").metadata == collection.get("d23").metadata == {"n": -1}


def test_a_cancelled_rebuild_leaves_everything_as_it_was(tmp_path: Path) -> None:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic")}, threads=1)
    encoder = HeldEncoder("multi_vector")
    with Catalogue(tmp_path, OneEncoder(settings, encoder), settings, HANDLERS) as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, [Document(f"d{i}", f"old {i}") for i in range(300)])
        seal(collection)
        before = hits(catalogue, exact=True), collection.published.generation
        encoder.hold = True
        task = catalogue.begin_rebuild("c")
        assert encoder.waits.acquire(timeout=60)
        catalogue.cancel_task(task.id)
        encoder.go.release()
        assert wait(catalogue, task).state == "cancelled"
        assert (hits(catalogue, exact=True), collection.published.generation) == before
        assert len(list((collection.folder / "segments").iterdir())) == 1


def test_interrupted_it_starts_over(tmp_path: Path) -> None:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic")}, threads=1)
    encoder = HeldEncoder("multi_vector")
    with Catalogue(tmp_path, OneEncoder(settings, encoder), settings, HANDLERS) as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, [Document(f"d{i}", f"old {i}") for i in range(600)])
        before = hits(catalogue, exact=True)
        encoder.hold = True
        task = catalogue.begin_rebuild("c")
        assert encoder.waits.acquire(timeout=60)
        closing = threading.Thread(target=catalogue.close)
        closing.start()
        encoder.go.release()
        closing.join()
    with Catalogue(tmp_path, OneEncoder(settings, HeldEncoder("multi_vector")), settings, HANDLERS) as catalogue:
        catalogue.serve("http://here")
        assert wait(catalogue, task).state == "succeeded"
        assert hits(catalogue, exact=True) == before
        named = {segment.name for segment in catalogue.get("c").published.generation.segments}
        assert {path.name for path in (tmp_path / "c" / "segments").iterdir()} == named


class ChangedEncoder(DeterministicEncoder):
    """Another model under the same name: its vectors are turned round."""

    fingerprint = DeterministicEncoder(8, "dense").fingerprint

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        encoded = super().encode_documents(texts)
        return Encoded(-encoded.pooled, encoded.tokens, encoded.truncated)


def test_a_changed_encoder_is_taken_over_by_a_rebuild(tmp_path: Path) -> None:
    settings = Settings(
        indexes=tmp_path, models={"words": DeterministicModel(type="deterministic", dim=DIM)}, threads=1
    )
    with Catalogue(tmp_path, Encoders(settings.models), settings) as catalogue:
        collection = catalogue.create("c", model="words", kind="dense")
        write_documents(collection, [Document("a", "red apple"), Document("b", "blue sky")])
    with Catalogue(tmp_path, OneEncoder(settings, ChangedEncoder(DIM, "dense")), settings, HANDLERS) as catalogue:
        collection = catalogue.get("c")
        with pytest.raises(Conflict, match="rebuild") as caught:
            search(collection, Query(text="red apple"))
        assert caught.value.code == "encoder_changed"
        assert catalogue.describe("c").read_only == caught.value.message
        assert wait(catalogue, catalogue.begin_rebuild("c")).state == "succeeded"
        assert catalogue.describe("c").read_only is None
        found = search(collection, Query(text="red apple")).hits
        # Documents are turned round, queries are not.
        assert [hit.id for hit in found] == ["b", "a"]
        assert found[1].score == pytest.approx(-1)
        assert write_documents(collection, [Document("c", "green")]).written == 1


def test_what_is_written_while_it_begins_is_found_once(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its sealing of the tail and its look at what stands, writes go on."""
    catalogue = open_catalogue(tasks=True)
    collection = catalogue.create("c", model="words", kind="multi_vector")
    write_documents(collection, [Document(f"d{i}", f"text {i}") for i in range(40)])
    late = [Document(f"late{i}", f"text {i}") for i in range(7)]

    def seal_and_write(*given: Any) -> bool:
        sealed = seal(*given)
        if late:
            write_documents(collection, late)
            late.clear()
        return sealed

    monkeypatch.setattr(rebuild, "seal", seal_and_write)
    assert wait(catalogue, catalogue.begin_rebuild("c")).state == "succeeded"
    found = [name for name, _, _ in hits(catalogue, exact=True)]
    assert len(found) == len(set(found)) == collection.count() == 47
    catalogue.close()
    reopened = open_catalogue().get("c")
    assert reopened.count() == 47
