"""Listing, counting and deleting by a filter: what they read, and of which moment."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import MakeCollection

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.errors import Damaged
from app.filters import Filter, parse
from app.indexing.sealing import merge_due, seal
from app.ingest import delete_ids, delete_matching, write_documents
from app.store import rows
from app.types import Document

ONE = np.ones((1, 2), np.float32)
FEW, MANY, NONE = parse({"n": {"in": [3, 450, 991]}}), parse({"n": {"gte": 100}}), parse({"n": {"lt": 0}})


def documents(numbers: Sequence[int], **more: Any) -> list[Document]:
    return [Document(f"d{n:04}", metadata={"n": n, **more}, vectors=ONE) for n in numbers]


@pytest.fixture
def collection(make_collection: MakeCollection) -> Collection:
    """A thousand documents, written in an order that is not that of their ids, half of them sealed."""
    made = make_collection(kind="dense", dim=2, keep_vectors=False)
    shuffled = np.random.default_rng(1).permutation(1_000).tolist()
    write_documents(made, documents(shuffled[:500]))
    seal(made)
    write_documents(made, documents(shuffled[500:]))
    return made


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sequence numbers of the document rows that are read, summed and parsed."""
    seen: list[int] = []
    parse_row = rows.parse_row

    def counted(row: tuple[Any, ...], *more: Any) -> Document:
        seen.append(row[0])
        return parse_row(row, *more)

    monkeypatch.setattr(rows, "parse_row", counted)
    return seen


def pages(collection: Collection, limit: int, condition: Filter | None) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page, after = collection.listing(after, limit, condition)
        found += [document.id for document in page]
        if after is None:
            return found
        assert (len(page), after) == (limit, page[-1].id)


@pytest.mark.parametrize("limit", [1, 7, 450, 1_000])
def test_pages_hold_what_matches_by_id(collection: Collection, limit: int) -> None:
    assert pages(collection, limit, FEW) == ["d0003", "d0450", "d0991"]
    assert pages(collection, limit, NONE) == []
    if limit > 1:
        assert pages(collection, limit, MANY) == [f"d{n:04}" for n in range(100, 1_000)]
        assert pages(collection, limit, None) == [f"d{n:04}" for n in range(1_000)]


@pytest.mark.parametrize(("condition", "size"), [(FEW, 2), (MANY, 5), (NONE, 0), (None, 5)])
def test_a_page_reads_the_documents_that_it_holds(
    collection: Collection, parsed: list[int], condition: Filter | None, size: int
) -> None:
    page, _ = collection.listing("d0400", 5, condition)
    assert len(parsed) == len(page) == size


@pytest.mark.parametrize("condition", [parse({"n": {"in": [0, 1, 2]}}), parse({"n": {"gte": 0}})])
def test_a_page_is_of_one_moment(collection: Collection, condition: Filter) -> None:
    """A write is durable a moment before it is published: what a reader sees then is as it was before."""
    before = collection.published
    expected = [document.id for document in collection.listing(None, 400, condition)[0]]
    write_documents(collection, documents([0, 2], moved=True))
    write_documents(collection, documents([-1]))
    delete_ids(collection, ["d0001"])
    with collection.database.read() as connection:
        snapshot = Snapshot("c", before, connection, before.views)
        listed = snapshot.listed(b"", 400, condition)
        found = snapshot.documents(listed)
    assert [found[seq].id for seq in listed] == expected
    assert [document.metadata.get("moved") for document in found.values()] == [None] * len(expected)
    after = collection.listing(None, 400, condition)[0]
    assert [d.metadata.get("moved") for d in after if d.id in ("d0000", "d0001", "d0002")] == [True, True]


def test_a_missing_row_is_damage(collection: Collection) -> None:
    with collection.database.write() as txn:
        txn.execute("DELETE FROM documents WHERE id = ?", (b"d0450",))
    for after, condition in ((None, FEW), ("d0449", MANY)):
        with pytest.raises(Damaged, match="missing"):
            collection.listing(after, 1, condition)
    with pytest.raises(Damaged, match="missing"):
        delete_matching(collection, FEW)


def test_an_id_that_is_damaged_deletes_no_other_document(collection: Collection) -> None:
    with collection.database.write() as txn:
        txn.execute("UPDATE documents SET id = ? WHERE id = ?", (b"d0700", b"d0450"))
    with pytest.raises(Damaged, match="another id"):
        delete_matching(collection, FEW)
    assert collection.count() == 1_000
    assert collection.get("d0700").id == "d0700"


def test_deleting_by_a_filter_reads_no_document(collection: Collection, parsed: list[int]) -> None:
    assert delete_matching(collection, MANY) == 900
    assert parsed == []
    assert collection.count() == 100


def test_deleting_by_a_filter_lets_others_write_and_deletes_what_matches_then(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify = Snapshot.identify
    asked: list[int] = []

    def meanwhile(snapshot: Snapshot, seqs: Sequence[int]) -> dict[int, bytes]:
        asked.append(len(seqs))
        if len(asked) == 1:
            # In a thread of its own, which would wait for ever if the writer's lock were held here.
            changed = [replace(one, metadata={"n": 5}) for one in documents([450])]
            work = threading.Thread(target=write_documents, args=(collection, [*changed, *documents([2_000])]))
            work.start()
            work.join(60)
            assert not work.is_alive()
        return identify(snapshot, seqs)

    monkeypatch.setattr(Snapshot, "identify", meanwhile)
    assert delete_matching(collection, MANY) == 900
    # With the writer's lock held only the one that is new is looked up.
    assert asked == [900, 1]
    assert collection.get("d0450").metadata == {"n": 5}
    assert pages(collection, 500, None) == [f"d{n:04}" for n in (*range(100), 450)]


def test_what_is_due_is_asked_without_reading_a_mask(collection: Collection) -> None:
    """It is asked after every write."""
    seal(collection)
    delete_ids(collection, [f"d{n:04}" for n in range(600)])
    now = collection.published
    for view in now.segments:
        object.__setattr__(view, "alive", None)
    assert merge_due(collection) == list(now.segments)[:1]


def test_a_write_allocates_nothing_for_the_rows_of_other_segments(make_collection: MakeCollection) -> None:
    made = make_collection(kind="dense", dim=1, keep_vectors=False)
    rows = 100_000
    for start in range(0, rows, 20_000):
        write_documents(made, [Document(f"d{n}", vectors=ONE[:, :1]) for n in range(start, start + 20_000)])
    seal(made)
    write_documents(made, [Document("x", vectors=ONE[:, :1])])
    write_documents(made, [Document("x", "again", vectors=ONE[:, :1])])
    before = made.published
    tracemalloc.start()
    write_documents(made, [Document("x", "once more", vectors=ONE[:, :1])])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.published.segments == before.segments
    assert made.count() == rows + 1
    assert peak < rows
