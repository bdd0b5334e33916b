"""Exports: one moment whatever happens meanwhile, in the order of last writes, a few documents at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
from made import MakeCollection, OpenCatalogue

from app.backup.exported import AHEAD, PIECE, export_documents
from app.collection.chunks import IN_DATABASE
from app.collection.collection import Collection
from app.collection.spec import SparseSpec
from app.errors import Damaged, Unavailable
from app.filters import parse
from app.indexing.sealing import merge_due, seal
from app.ingest import delete_ids, write_documents
from app.store import rows
from app.types import F32, Document, SparseVector

DIM = 256
ALL = frozenset({"text", "metadata", "vectors"})


def own(start: int, stop: int, tokens: int = 1) -> list[Document]:
    """With vectors of the callers', which come from the number alone."""
    dice = [np.random.default_rng(n) for n in range(start, stop)]
    return [
        Document(f"d{n}", f"text {n}", metadata={"n": n}, vectors=one.normal(size=(tokens, DIM)).astype(np.float32))
        for n, one in zip(range(start, stop), dice, strict=True)
    ]


def told(documents: Iterable[Document]) -> list[tuple[Any, ...]]:
    def bits(vectors: F32 | None) -> bytes:
        return b"" if vectors is None else vectors.tobytes()

    return [(one.id, one.title, one.text, one.metadata, bits(one.vectors)) for one in documents]


def exported(collection: Collection, include: frozenset[str] = ALL, condition: Any = None) -> list[Document]:
    chosen = None if condition is None else parse(condition)
    return list(chain.from_iterable(export_documents(collection, include, chosen)))


@pytest.fixture
def parted(make_collection: MakeCollection) -> tuple[Collection, list[Document]]:
    """In a segment, in a file of the tail, and in the database."""
    collection = make_collection(dim=DIM)
    documents = own(0, 100) + own(100, 500, tokens=4) + own(500, 510)
    write_documents(collection, documents[:100])
    seal(collection)
    write_documents(collection, documents[100:500])
    write_documents(collection, documents[500:])
    with collection.database.read() as connection:
        files = [file for (file,) in connection.execute("SELECT file FROM tail ORDER BY first")]
    assert files[0] is not None, f"expected more than {IN_DATABASE:,} bytes"
    assert files[-1] is None, f"expected at most {IN_DATABASE:,} bytes"
    return collection, documents


def rewrite(collection: Collection) -> None:
    write_documents(collection, [Document(one.id, "other", vectors=-one.vectors) for one in own(0, 510)])  # type: ignore[operator]
    seal(collection)
    merge_due(collection)


def empty(collection: Collection) -> None:
    delete_ids(collection, [f"d{n}" for n in range(510)])
    write_documents(collection, own(600, 700))
    seal(collection)
    merge_due(collection)


@pytest.mark.parametrize("meanwhile", [rewrite, empty])
def test_it_is_of_one_moment_whatever_happens_meanwhile(
    parted: tuple[Collection, list[Document]],
    meanwhile: Callable[[Collection], None],
) -> None:
    collection, documents = parted
    pieces = export_documents(collection, ALL, None)
    found = next(pieces)
    meanwhile(collection)
    assert not collection.files.folder("tail").list(), "the file of the tail is sealed, and gone"
    found += chain.from_iterable(pieces)
    assert told(found) == told(documents)
    # And the next is of the moment after.
    assert told(exported(collection)) != told(documents)


def test_it_outlives_its_collection(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue()
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    documents = own(0, 400, tokens=4)
    write_documents(collection, documents)
    pieces = export_documents(collection, ALL, None)
    found = next(pieces)
    catalogue.delete("c")
    found += chain.from_iterable(pieces)
    assert told(found) == told(documents)
    with pytest.raises(Unavailable):
        next(export_documents(collection, ALL, None))


def test_it_is_the_same_after_a_restart(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue()
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    documents = own(0, 400, tokens=4)
    write_documents(collection, documents[:50])
    seal(collection)
    write_documents(collection, documents[50:])
    catalogue.close()
    collection = open_catalogue().get("c")
    pieces = export_documents(collection, ALL, None)
    found = next(pieces)
    seal(collection)
    assert told([*found, *chain.from_iterable(pieces)]) == told(documents)


def test_the_order_is_that_of_the_last_writes(make_collection: MakeCollection) -> None:
    collection = make_collection()
    for some in (["c", "a"], ["b", "d"], ["a"]):
        write_documents(collection, [Document(id, f"text of {id} among {len(some)}") for id in some])
        seal(collection)
    write_documents(collection, [Document("e", "the last"), Document("c", "again")])
    assert [one.id for one in exported(collection)] == ["b", "d", "a", "e", "c"]


def test_a_filter_and_parts(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document(f"d{n}", f"text {n}", metadata={"n": n}) for n in range(200)])
    seal(collection)
    write_documents(collection, [Document(f"d{n}", f"text {n}", metadata={"n": n}) for n in range(200, 300)])
    few = exported(collection, frozenset({"text"}), {"n": {"gte": 190}})
    assert few == [Document(f"d{n}", f"text {n}") for n in range(190, 300)]
    assert exported(collection, condition={"n": {"gt": 300}}) == []
    assert exported(collection, frozenset()) == [Document(f"d{n}") for n in range(300)]
    # An encoder's vectors are no import's.
    assert all(one.vectors is None for one in exported(collection))


def test_vectors_that_are_not_kept_come_as_they_are_stored(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=DIM, kind="dense", keep_vectors=False)
    documents = own(0, 3)
    write_documents(collection, documents)
    for one, given in zip(exported(collection), documents, strict=True):
        assert one.vectors is not None
        assert given.vectors is not None
        np.testing.assert_allclose(one.vectors, given.vectors / np.linalg.norm(given.vectors), rtol=1e-6)


def test_sparse_vectors_of_callers_beside_an_encoder(make_collection: MakeCollection) -> None:
    collection = make_collection(sparse=SparseSpec())
    sparse = SparseVector.of(np.array([9, 4], np.int32), np.array([0.1, 2.5], np.float32))
    write_documents(collection, [Document("a", "one", sparse=sparse), Document("b", "two")])
    with_it, without = exported(collection)
    assert (with_it.vectors, without.vectors, without.sparse or None) == (None, None, None)
    assert sparse.same(with_it.sparse)
    assert all(one.sparse is None for one in exported(collection, frozenset({"text"})))


def test_no_more_is_read_than_a_piece(make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: rows that were read so far, beside documents that were given."""
    collection = make_collection(kind="dense", dim=2, lexical=None)
    small = [Document(f"s{n}", "small", vectors=np.ones((1, 2), np.float32)) for n in range(300)]
    large = [Document(f"l{n}", "large" * (PIECE // 20), vectors=np.ones((1, 2), np.float32)) for n in range(9)]
    huge = [Document(f"h{n}", "huge " * (PIECE // 4), vectors=np.ones((1, 2), np.float32)) for n in range(2)]
    write_documents(collection, [*small, *large, *huge])
    read = 0

    def counted(*row: Any) -> Document:
        nonlocal read
        read += 1
        return parse_row(*row)

    parse_row = rows.parse_row
    monkeypatch.setattr(rows, "parse_row", counted)
    sizes = []
    for piece in export_documents(collection, ALL, None):
        # One that had no room begins the next piece.
        assert read <= len(piece) + 1
        assert len(piece) <= AHEAD
        assert len(piece) == 1 or sum(len(one.text) for one in piece) <= PIECE
        sizes.append(len(piece))
        read = 0
    assert (sum(sizes), sizes[:4], sizes[-2:]) == (311, [AHEAD] * 4, [1, 1])


def test_damage_is_an_error_not_an_end(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document(f"d{n:03}", f"text {n}") for n in range(200)])
    with collection.database.write() as connection:
        connection.execute("UPDATE documents SET text = 'flipped' WHERE id = ?", (b"d150",))
    pieces: Iterator[list[Document]] = export_documents(collection, ALL, None)
    assert len(next(pieces)) == AHEAD
    with pytest.raises(Damaged, match="checksum of document row"):
        list(pieces)


def test_a_moment_ends_with_its_reader(make_collection: MakeCollection) -> None:
    """The log is emptied once nobody reads; a reader who went away does not keep it."""
    collection = make_collection()
    write_documents(collection, [Document(f"d{n}", f"text {n}") for n in range(200)])
    pieces = export_documents(collection, ALL, None)
    next(pieces)
    write_documents(collection, [Document("later", "more")])
    name = next(path.name for path in collection.folder.iterdir() if path.name.endswith("-wal"))
    log = collection.folder / name
    collection.database.reclaim()
    assert log.stat().st_size > 0
    pieces.close()  # type: ignore[attr-defined]
    collection.database.reclaim()
    assert log.stat().st_size == 0
