"""How a bulk build lays its documents down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import Listed, MakeCollection

from app.collection.collection import Collection
from app.load import bulk
from app.load.preview import first
from app.search import Query, search
from app.sources.choose import open_source
from app.types import Document


def listed(count: int) -> Listed:
    """Documents with vectors of their own."""
    random = np.random.default_rng(0)
    return Listed(
        [
            Document(f"d{i}", metadata={"n": i}, vectors=random.normal(size=(2, 8)).astype(np.float32))
            for i in range(count)
        ]
    )


def refuse(line: int, error: object) -> None:
    pytest.fail(f"{line}: {error}")


def fill(collection: Collection, source: Listed) -> bulk.Summary:
    return bulk.fill(collection, source, on_error="stop", bad_line=refuse, progress=lambda summary: None)


def test_runs_are_long_and_merged_once(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document goes to disk three times, with its write, its run and the one merge, however many there are."""
    monkeypatch.setattr(bulk, "BATCH_VECTORS", 40)
    collection = make_collection(dim=8, seal_documents=10)
    source = listed(400)
    assert fill(collection, source).written == 400
    now = collection.published
    assert [view.part.size for view in now.segments] == [400]
    assert now.tail.part.size == 0
    assert now.generation.number == 10 + 1
    hits = search(collection, Query(vectors=np.ones((1, 8), np.float32), k=400, candidates=400)).hits
    assert {hit.id for hit in hits} == {f"d{i}" for i in range(400)}
    again = fill(collection, source)
    assert (again.written, again.unchanged) == (0, 400)
    assert collection.published.generation.number == now.generation.number


def test_segments_do_not_pile_up(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_VECTORS", 4)
    monkeypatch.setattr(bulk, "SEGMENTS", 8)
    collection = make_collection(dim=8, seal_documents=1)
    most = 0

    def watch(summary: bulk.Summary) -> None:
        nonlocal most
        most = max(most, len(collection.published.segments))

    bulk.fill(collection, listed(200), on_error="stop", bad_line=refuse, progress=watch)
    assert 4 < most < 8
    assert sum(view.part.size for view in collection.published.segments) == 200


def test_a_fault_of_all_of_a_file_names_the_file(make_collection: MakeCollection, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    source = open_source(str(tmp_path / "a.parquet"))
    said: list[str] = []
    collection = make_collection(dim=8)
    bulk.fill(
        collection, source, on_error="skip", bad_line=lambda place, _: said.append(place), progress=lambda summary: None
    )
    assert said == [source.name]
    assert next(first(source)).startswith(f"{source.name}: not Parquet")
