"""Writers that come together share one commit in the store; files of segments are put while others write."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_store import STATE, Open, ids, made, servers, write
from made import OpenCatalogue

from app.collection.collection import Collection
from app.collection.writes.group_commit import GroupCommit
from app.errors import (
    Invalid,
    PreconditionFailed,
    StoreUnavailable,
    Unsure,
)
from app.indexing.sealing import seal
from app.ingest import Condition, WriteResult, delete_ids, delete_one, write_documents
from app.store import faults
from app.types import Document


@pytest.fixture
def serve(open_catalogue: OpenCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with servers(open_catalogue, tmp_path, monkeypatch) as begin:
        yield begin


def together(collection: Collection, *works: Callable[[], object]) -> list[object]:
    """Each work in a thread of its own, all of one commit: what it came to, or its error."""
    outcomes: list[object] = [None] * len(works)

    def run(i: int) -> None:
        try:
            outcomes[i] = works[i]()
        except Exception as error:  # noqa: BLE001, it is the outcome
            outcomes[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    with collection._lock:
        for number, thread in enumerate(threads, 1):
            thread.start()
            while len(collection.together._waiting) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    return outcomes


def test_writers_that_wait_share_a_commit_and_each_is_told_of_its_own(serve: Open):
    catalogue = serve("w")
    collection = made(catalogue)
    write(collection, "a", "b", "gone")
    writer = catalogue._open["c"].copy._writing._writer  # type: ignore[union-attr]
    before = writer.number, collection.published.commit  # type: ignore[union-attr]

    def refuse(txn: sqlite3.Connection, result: object) -> None:
        raise Invalid("this one alone")

    (version,) = find(collection, "b")
    documents = [Document(f"n{i}", f"n{i} is written") for i in range(3)]
    outcomes = together(
        collection,
        lambda: write_documents(collection, documents[:1]),
        lambda: delete_ids(collection, ["gone", "never"]),
        lambda: write_documents(collection, [Document("refused", "nothing of it is kept")], also=refuse),
        lambda: write_documents(collection, documents[1:]),
        lambda: write_documents(collection, [Document("b", "b again"), Document("n0", "n0 again")]),
        lambda: delete_one(collection, "b", condition=Condition(frozenset([version]))),
        lambda: delete_ids(collection, ["never"]),
    )
    assert [type(one) for one in outcomes] == [
        WriteResult, int, Invalid, WriteResult, WriteResult, PreconditionFailed, int
    ]  # fmt: skip
    assert (outcomes[1], outcomes[6]) == (1, 0)
    # The one that deletes was overtaken by the one before it, prepared itself again, and found another version.
    assert ids(collection) == ["a", "b", "n0", "n1", "n2"]
    assert [one.text for one in collection.get_many(["b", "n0"])] == ["b again", "n0 again"]
    assert (writer.number - before[0], collection.published.commit - before[1]) == (1, 1)  # type: ignore[union-attr]
    other = serve("w2").get("c")
    for reader in (serve("r", "reader").get("c"), other):
        assert ids(reader) == ids(collection)
        assert reader.published.digest == collection.published.digest
        np.testing.assert_array_equal(reader.published.tail.alive, collection.published.tail.alive)
    seal(other)
    assert ids(other) == ids(collection)


def find(collection: Collection, *names: str) -> list[int]:
    return [collection.get_version(name)[1] for name in names]


@pytest.mark.parametrize("fault", ["down", "lost"])
def test_a_commit_of_several_that_fails_is_told_to_each(serve: Open, fault: str):
    collection = made(serve("w"))
    write(collection, "a")
    STATE[fault] = True
    outcomes = together(collection, *(lambda name=name: write(collection, name) for name in "bcd"))  # type: ignore[misc]
    assert [type(one) for one in outcomes] == [Unsure if fault == "lost" else StoreUnavailable] * 3
    assert ids(collection) == ["a"]
    STATE.update(down=False, lost=False)
    write(collection, "e")
    kept = ["b", "c", "d"] if fault == "lost" else []
    assert ids(collection) == ["a", *kept, "e"]
    assert ids(serve("r", "reader").get("c")) == ids(collection)


@pytest.mark.parametrize("fails", [False, True])
def test_large_writes_of_one_commit_have_their_files_and_refused_ones_none(
    serve: Open, fails: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("app.collection.chunks.IN_DATABASE", 10)
    collection = made(serve("w"))

    def refuse(txn: sqlite3.Connection, result: object) -> None:
        raise Invalid("this one alone")

    works = [lambda name=name: write(collection, name) for name in "ab"]  # type: ignore[misc]
    works.insert(1, lambda: write_documents(collection, [Document("x", "refused")], also=refuse))  # type: ignore[arg-type, return-value]
    STATE["down"] = fails
    together(collection, *works)
    files = [path.name for path in (tmp_path / "w" / "c" / "tail").iterdir()]
    assert len(files) == (0 if fails else 2)
    STATE["down"] = False
    write(collection, "c")
    assert ids(serve("r", "reader").get("c")) == ([] if fails else ["a", "b"]) + ["c"]


def test_files_of_a_segment_are_put_while_others_write(serve: Open):
    collection = made(serve("w"))
    write(collection, "a")
    wrote = []

    def beside(step: str) -> None:
        if step == "files.early":
            faults.hook = None
            other = threading.Thread(target=lambda: (write(collection, "b"), wrote.append("b")))
            other.start()
            other.join(60)
            assert wrote == ["b"]

    faults.hook = beside
    try:
        assert seal(collection)
    finally:
        faults.hook = None
    assert wrote == ["b"]
    reader = serve("r", "reader").get("c")
    assert ids(reader) == ["a", "b"]
    assert reader.published.generation == collection.published.generation


def test_a_lone_writer_waits_for_nobody_and_several_for_each_other(serve: Open, monkeypatch: pytest.MonkeyPatch):
    waited = list[int]()
    wait = GroupCommit._wait_for_others

    def counted(gathering: GroupCommit) -> None:  # type: ignore[type-arg]
        waited.append(max(gathering._before) - len(gathering._waiting))
        wait(gathering)

    monkeypatch.setattr(GroupCommit, "_wait_for_others", counted)
    collection = made(serve("w"))
    for name in "abc":
        write(collection, name)
    assert waited == [0, 0, 0]
    together(collection, *(lambda name=name: write(collection, name) for name in "defg"))  # type: ignore[misc]
    write(collection, "h")
    # The last one was looked for by three others.
    assert waited[-1] == 3
