"""The cost of a write, in bytes, rows and calls: as much as what is written, never as what lies beside it."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import DIM, MakeCollection, OneEncoder, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.passages import Passages
from app.collection.segment import Segment
from app.collection.tail import TailView
from app.encoders.deterministic import DeterministicEncoder
from app.indexing.sealing import seal
from app.ingest import patch_document, write_documents
from app.settings import DeterministicModel, Settings
from app.types import F32, Document, Encoded, Kind

WIDTH, TOKENS = 64, 32


def matrix(i: int, rows: int = TOKENS) -> F32:
    return np.random.default_rng(i).normal(size=(rows, WIDTH)).astype(np.float32)


def documents(count: int, rows: int = TOKENS, **metadata: Any) -> list[Document]:
    return [Document(f"d{i}", f"text {i}", metadata=metadata, vectors=matrix(i, rows)) for i in range(count)]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that any connection runs that is opened from now on."""
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return seen


def reads_of_tail(statements: list[str], work: Callable[[], object]) -> int:
    before = len(statements)
    work()
    return sum(text.startswith("SELECT * FROM tail") for text in statements[before:])


@pytest.fixture
def whole_files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each chunk that is read whole."""
    sizes: list[int] = []
    read = Path.read_bytes

    def counted(path: Path) -> bytes:
        content = read(path)
        if path.parent.name == "tail":
            sizes.append(len(content))
        return content

    monkeypatch.setattr(Path, "read_bytes", counted)
    return sizes


def chunks(collection: Collection) -> list[Path]:
    return sorted((collection.folder / "tail").iterdir())


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_chunk_is_read_once_for_all_that_did_not_change(
    statements: list[str], make_collection: MakeCollection
) -> None:
    collection = make_collection(dim=WIDTH, kind="multi_vector")
    some = documents(40, rows=1)
    write_documents(collection, some)
    assert chunks(collection) == []
    held = collection.published
    for count in (10, 20, 40):
        asked = some[:count]
        assert reads_of_tail(statements, lambda asked=asked: write_documents(collection, asked)) == 1  # type: ignore[misc]
    assert collection.published is held


def test_a_large_chunk_is_read_where_the_documents_lie(
    make_collection: MakeCollection, open_catalogue: OpenCatalogue, whole_files: list[int]
) -> None:
    collection = make_collection(dim=WIDTH)
    some = documents(600)
    write_documents(collection, some)
    size = sum(path.stat().st_size for path in chunks(collection))
    assert size > 600 * matrix(0).nbytes
    taken = {count: peak(lambda count=count: write_documents(collection, some[:count])) for count in (1, 20, 40)}  # type: ignore[misc]
    # A row of a chunk, not a chunk; and twice as many rows at twice the cost.
    assert taken[1] < size / 20
    assert taken[40] < 2.5 * taken[20]
    assert peak(lambda: patch_document(collection, "d300", Patch(metadata={"n": 1}))) < size / 20
    assert whole_files == []
    collection.close()
    # Opened anew, each is read once, to be checked; never again.
    again = open_catalogue().get("c")
    opened = len(whole_files)
    assert opened == len(chunks(again))
    write_documents(again, some[:20])
    patch_document(again, "d301", Patch(metadata={"n": 1}))
    kept = again.given_vectors([again.get_version("d5")[1]])
    assert [raw.tobytes() for raw in kept.values()] == [matrix(5).tobytes()]
    assert len(whole_files) == opened


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of stored vectors takes, from a segment or the tail."""
    counts: list[int] = []
    for part in (Segment, TailView):
        read = part.passages

        def counted(self: Any, rows: Any, *, staged: bool = True, read: Any = read) -> Passages:
            counts.append(len(rows))
            found: Passages = read(self, rows, staged=staged)
            return found

        monkeypatch.setattr(part, "passages", counted)
    return counts


class CountingEncoder(DeterministicEncoder):
    """The deterministic encoder, which counts the texts that it was given."""

    texts = 0

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        self.texts += len(texts)
        return super().encode_documents(texts)


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
def test_only_vectors_of_what_will_be_written_are_read(tmp_path: Path, rows_read: list[int], kind: Kind) -> None:
    settings = Settings(indexes=tmp_path, models={"words": DeterministicModel(type="deterministic")})
    encoder = CountingEncoder(DIM, kind)
    with Catalogue(tmp_path, OneEncoder(settings, encoder), settings) as catalogue:
        collection = catalogue.create("c", model="words", kind=kind)
        some = [Document(f"d{i}", f"text {i}") for i in range(50)]
        write_documents(collection, some)
        for prepare in (lambda: None, lambda: seal(collection)):
            prepare()
            encoder.texts, read = 0, len(rows_read)
            result = write_documents(collection, some)
            assert (result.written, result.changed, encoder.texts, rows_read[read:]) == (50, 0, 0, [])
            some[7] = Document("d7", "text 7", metadata={"n": len(rows_read)})
            result = write_documents(collection, some)
            assert (result.written, result.changed, encoder.texts, sum(rows_read[read:])) == (50, 1, 0, 1)


def test_without_kept_vectors_what_did_not_change_is_read_once(
    make_collection: MakeCollection, rows_read: list[int]
) -> None:
    collection = make_collection(dim=WIDTH, keep_vectors=False)
    some = documents(50, rows=2)
    write_documents(collection, some)
    for prepare in (lambda: None, lambda: seal(collection)):
        prepare()
        read = len(rows_read)
        assert write_documents(collection, some).changed == 0
        assert rows_read[read:] == [50]
    some[3] = Document("d3", "text 3", vectors=matrix(99, 2))
    assert write_documents(collection, some).changed == 1
