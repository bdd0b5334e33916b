"""The log of queries: what is kept, how much of it, and what a torn file still gives."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made import MakeCollection, OpenCatalogue

from app.ingest import write_documents
from app.measure.drawing import draw_queries
from app.measure.recall import measure_recall
from app.store import query_log
from app.store.query_log import Logged, QueryLog
from app.tuning.tune import Goal, tune
from app.types import Document

WORDS = ["owl", "fox", "elk", "bat"]


def texts(log: QueryLog) -> list[str | None]:
    return [one.text for one in log.all()]


def ask(log: QueryLog, start: int, stop: int) -> None:
    for number in range(start, stop):
        log.record([Logged(text=f"query {number}\n\u2028")])


def test_the_last_ones_are_kept_over_a_restart(tmp_path: Path) -> None:
    log = QueryLog(tmp_path, 10)
    ask(log, 0, 57)
    kept = [f"query {number}\n\u2028" for number in range(47, 57)]
    assert texts(log) == kept
    assert texts(QueryLog(tmp_path, 10)) == kept
    assert len((tmp_path / ".queries").read_bytes().splitlines()) <= 12
    again = QueryLog(tmp_path, 10)
    ask(again, 57, 58)
    assert texts(again) == [*kept[1:], "query 57\n\u2028"]
    assert (tmp_path / ".queries").stat().st_mode & 0o077 == 0


def test_vectors_come_back_to_the_bit(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    QueryLog(tmp_path, 3).record([Logged(vectors=vectors), Logged(text="fox")])
    first, second = QueryLog(tmp_path, 3).all()
    assert first.vectors is not None
    np.testing.assert_array_equal(first.vectors, vectors)
    assert (first.text, second) == (None, Logged(text="fox"))


def test_its_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_log, "MOST_BYTES", 4_000)
    monkeypatch.setattr(query_log, "LONGEST", 1_000)
    log = QueryLog(tmp_path, 10_000)
    for number in range(200):
        log.record([Logged(text=f"{number:04} {'x' * 100}")])
        assert log.nbytes <= 4_000
    log.record([Logged(text="y" * 1_000)])
    kept = texts(log)
    assert kept[-1] == f"0199 {'x' * 100}"
    assert len(kept) > 10


def test_a_torn_or_damaged_line_is_left_out(tmp_path: Path) -> None:
    ask(QueryLog(tmp_path, 10), 0, 4)
    path = tmp_path / ".queries"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"query", b"quary")
    path.write_bytes(b"".join(lines)[:-6])
    log = QueryLog(tmp_path, 10)
    assert texts(log) == ["query 0\n\u2028", "query 2\n\u2028"]
    ask(log, 9, 10)
    assert texts(QueryLog(tmp_path, 10)) == ["query 0\n\u2028", "query 2\n\u2028", "query 9\n\u2028"]


def test_off_nothing_is_written(tmp_path: Path) -> None:
    log = QueryLog(tmp_path, 0)
    ask(log, 0, 3)
    assert list(tmp_path.iterdir()) == []
    assert log.clear() == 0


def test_cleared_it_is_gone_and_goes_on(tmp_path: Path) -> None:
    log = QueryLog(tmp_path, 10)
    ask(log, 0, 3)
    assert log.clear() == 3
    assert list(tmp_path.iterdir()) == []
    ask(log, 3, 4)
    assert texts(log) == ["query 3\n\u2028"]


def test_a_full_disk_fails_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = QueryLog(tmp_path / "gone", 10)
    ask(log, 0, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    (tmp_path / "gone").mkdir()
    ask(log, 3, 4)
    assert texts(log) == ["query 3\n\u2028"]


def test_what_the_disk_takes_a_part_of_costs_neither_what_is_kept_nor_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write, room = QueryLog(tmp_path, 4), os.write, [2**30]

    def short(descriptor: int, content: bytes) -> int:
        taken = write(descriptor, content[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr("app.store.local_directory.os.write", short)
    ask(log, 0, 3)
    room[0] = 20
    ask(log, 3, 4)
    room[0] = 2**30
    ask(log, 4, 6)
    assert texts(log) == [f"query {number}\n\u2028" for number in (1, 2, 4, 5)]
    # The one that has the file replaced by its last lines: there is room for it, and not for these.
    room[0] = log.nbytes // 5
    ask(log, 6, 7)
    assert texts(log) == [f"query {number}\n\u2028" for number in (2, 4, 5, 6)]


def test_one_that_cannot_be_removed_keeps_no_collection_from_serving(
    open_catalogue: OpenCatalogue, caplog: pytest.LogCaptureFixture
) -> None:
    with open_catalogue() as catalogue:
        for name in ("a", "b"):
            (catalogue.create(name, model=None, kind="dense", dim=2).folder / ".queries").mkdir()
    with open_catalogue(tasks=True) as catalogue:
        catalogue.serve("http://here")
        assert catalogue.ready
        assert [info.state for info in catalogue.describe_all()] == ["ready", "ready"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"former queries of collection {name} are not removed" for name in ("a", "b")
    ]


def test_measuring_and_tuning_ask_what_was_searched(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document(f"{i}", f"a {word} {i}.") for i, word in enumerate(WORDS * 5)])
    log = QueryLog(collection.folder, 100)
    log.record(
        [Logged(text=text) for text in ("elk", "owl", "elk", "bat")] + [Logged(vectors=np.ones((2, 3), np.float32))]
    )
    drawn = draw_queries(collection, 5)
    # Each once; one of three dimensions does not fit; documents give the rest.
    assert {query.text for query in drawn.queries[:3]} == {"elk", "owl", "bat"}
    assert (drawn.logged, drawn.owners[:3], len(drawn.queries)) == (3, [None] * 3, 5)
    assert all(owner is not None for owner in drawn.owners[3:])
    assert measure_recall(collection, 5, k=2).logged == 3
    assert measure_recall(collection, 2, k=2).logged == 2
    report = tune(collection, Goal(0.9, k=2), 5)
    assert (report["logged"], report["queries"]) == (3, 5)
    collection.queries.clear()
    assert measure_recall(collection, 5, k=2).logged == 0
