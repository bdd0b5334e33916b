"""A writer whose home is a store: what it says where the store or its own disk refuses, and what stands afterwards."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from faulty_store import STATE, Faulty, Open, ids, is_written, made, servers, write
from made import OpenCatalogue

from app.catalogue import stored
from app.errors import (
    Closed,
    Conflict,
    Diverged,
    StorageFull,
    StoreRefused,
    StoreUnavailable,
    Unsure,
)
from app.indexing.sealing import seal
from app.replicas import replica
from app.store import faults
from app.tasks.importing import ImportUpload

Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def serve(open_catalogue: OpenCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with servers(open_catalogue, tmp_path, monkeypatch) as begin:
        yield begin


def test_a_store_that_is_away_refuses_writes_and_nothing_of_them_is_kept(serve: Open):
    collection = made(serve("w"))
    write(collection, "a")
    STATE["down"] = True
    with pytest.raises(StoreUnavailable):
        write(collection, "b")
    with pytest.raises(StoreUnavailable):
        collection.delete(["a"])
    assert ids(collection) == ["a"]
    STATE["down"] = False
    write(collection, "c")
    assert ids(collection) == ["a", "c"]
    assert ids(serve("r", "reader").get("c")) == ["a", "c"]


def test_a_write_whose_answer_was_lost_is_found_before_the_next(serve: Open):
    catalogue = serve("w")
    collection = made(catalogue)
    write(collection, "a")
    STATE["lost"] = True
    with pytest.raises(Unsure):
        write(collection, "b")
    # Nobody sees here what may not be there.
    assert ids(collection) == ["a"]
    STATE.update(lost=False)
    with pytest.raises(StoreUnavailable):
        write(collection, "c")
    STATE.update(down=False)
    write(collection, "d")
    assert ids(collection) == ["a", "b", "d"]
    assert ids(serve("r", "reader").get("c")) == ["a", "b", "d"]


@pytest.mark.parametrize("large", [False, True])
def test_a_disk_that_refuses_what_the_store_has_catches_up(serve: Open, large: bool, monkeypatch: pytest.MonkeyPatch):
    collection = made(serve("w"))
    if large:
        monkeypatch.setattr("app.collection.chunks.IN_DATABASE", 10)
    write(collection, "a")

    def refuse(step: str) -> None:
        if step == "commit.sent":
            faults.hook = None
            raise OSError(errno.ENOSPC, "No space left on device")

    faults.hook = refuse
    try:
        with pytest.raises(StorageFull):
            write(collection, "b")
    finally:
        faults.hook = None
    write(collection, "c")
    assert ids(collection) == ["a", "b", "c"]
    seal(collection)
    assert ids(serve("r", "reader").get("c")) == ["a", "b", "c"]


def test_a_folder_from_before_is_put_into_the_store(serve: Open, open_catalogue: OpenCatalogue, tmp_path: Path):
    with open_catalogue(tmp_path / "w") as catalogue:
        collection = made(catalogue)
        write(collection, "a", "b")
        seal(collection)
        write(collection, "c")
        catalogue.aliases.set("live", "c")
    serve("w")
    reader = serve("r", "reader")
    assert ids(reader.get("live")) == ["a", "b", "c"]
    assert reader.get("c").published.generation.segments == collection.published.generation.segments


def test_a_copy_with_commits_of_its_own_is_left_and_told(serve: Open, open_catalogue: OpenCatalogue, tmp_path: Path):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    with open_catalogue(tmp_path / "w") as alone:
        write(alone.get("c"), "own")
    catalogue = serve("w")
    with pytest.raises(Diverged, match="1 commits were made without the store"):
        catalogue.get("c")
    assert catalogue.describe("c").state == "quarantined"
    # Neither is it deleted in the store, whose collection is another.
    with pytest.raises(Conflict) as refused:
        catalogue.delete("c")
    assert refused.value.code == "copy_diverged"
    assert ids(serve("r", "reader").get("c")) == ["a"]
    shutil.rmtree(tmp_path / "w" / "c")
    assert ids(serve("new").get("c")) == ["a"]


def test_a_script_does_not_write_a_copy(serve: Open, open_catalogue: OpenCatalogue, tmp_path: Path):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    with open_catalogue(tmp_path / "w", store=f"file://{tmp_path}/store") as script:
        assert ids(script.get("c")) == ["a"]
        with pytest.raises(Conflict, match="through its server"):
            write(script.get("c"), "b")


def test_a_store_that_is_not_mounted_at_the_start_is_not_taken_for_a_new_one(
    serve: Open, eventually: Eventually, tmp_path: Path
):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    catalogue = serve("w")
    assert ids(catalogue.get("c")) == ["a"]
    with pytest.raises(StoreUnavailable, match="look whether the store is mounted"):
        catalogue.create("d", model="words", kind="dense")
    with pytest.raises(StoreUnavailable):
        write(catalogue.get("c"), "b")
    assert not (tmp_path / "store" / "collections.json").exists()
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    eventually(lambda: is_written(catalogue.get("c"), "b"))
    assert ids(serve("new").get("c")) == ["a", "b"]
    # Another address is another store.
    catalogue.close()
    assert ids(serve("w", store=f"file://{tmp_path}/second").get("c")) == ["a", "b"]
    assert ids(serve("other", store=f"file://{tmp_path}/second").get("c")) == ["a", "b"]


def test_an_accepted_import_goes_on_where_another_machine_takes_over(serve: Open, eventually: Eventually):
    first = serve("w")
    collection = made(first)
    held = first.tasks("c")
    held.stop()
    upload = ImportUpload(collection, held, "stop")
    upload.write(b'{"id": "a", "text": "an owl"}\n{"id": "b", "text": "a hen"}\n')
    task = upload.commit()
    second = serve("other")
    eventually(lambda: second.task(task.id).finished is not None)
    assert second.task(task.id).state == "succeeded"
    assert ids(second.get("c")) == ["a", "b"]
    eventually(lambda: not list((second.folder / "c" / "imports").iterdir()))


def test_a_name_is_made_once_and_a_failed_creation_leaves_none(serve: Open):
    first, second = serve("one"), serve("two")
    made(first)
    with pytest.raises(Conflict) as taken:
        made(second)
    assert taken.value.code == "collection_exists"
    STATE["down"] = True
    with pytest.raises(StoreUnavailable):
        first.create("d", model="words", kind="dense")
    STATE["down"] = False
    assert [one.name for one in first.describe_all()] == ["c"]
    first.create("d", model="words", kind="dense")
    assert [one.name for one in serve("three").describe_all()] == ["c", "d"]


def test_servers_that_start_without_the_store_serve_what_they_have(serve: Open):
    with serve("w") as writer, serve("r", "reader") as reader:
        write(made(writer), "a")
        assert reader.homes.writes is False
    with serve("r", "reader"):
        pass
    STATE["down"] = True
    reader, writer = serve("r", "reader"), serve("w")
    assert ids(reader.get("c")) == ids(writer.get("c")) == ["a"]
    assert reader.describe("c").copy.age_s is None  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailable):
        write(writer.get("c"), "b")
    STATE["down"] = False
    write(writer.get("c"), "b")
    assert ids(writer.get("c")) == ["a", "b"]


def test_a_log_begins_again_with_a_base_and_a_late_copy_with_it(serve: Open, tmp_path: Path):
    writer = serve("w")
    collection = made(writer)
    write(collection, "a")
    with serve("r", "reader") as reader:
        assert ids(reader.get("c")) == ["a"]
    for name in "bcd":
        write(collection, name)
        seal(collection)
    writer._open["c"].copy._writing.rebase()  # type: ignore[union-attr]
    write(collection, "e")
    for name in ("r", "new"):
        reader = serve(name, "reader")
        assert ids(reader.get("c")) == ["a", "b", "c", "d", "e"]
        assert reader.get("c").published.generation == collection.published.generation


def test_an_idle_writer_finds_out_that_another_has_taken_over(
    serve: Open, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replica, "LOOK_S", 0.01)
    first = serve("one")
    write(made(first), "a")
    second = serve("two")
    write(second.get("c"), "b")
    eventually(lambda: first.describe("c").copy.role == "reader")  # type: ignore[union-attr]
    eventually(lambda: ids(first.get("c")) == ["a", "b"])
    with pytest.raises(Conflict) as refused:
        write(first.get("c"), "c")
    assert refused.value.code == "collection_busy"


def test_a_writer_that_another_has_left_far_behind_fetches_its_copy_anew(
    serve: Open, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replica, "LOOK_S", 1_000.0)
    first = serve("one")
    write(made(first), "a")
    copy = first._open["c"].copy
    assert copy is not None
    second = serve("two")
    write(second.get("c"), "b")
    second._open["c"].copy._writing.rebase()  # type: ignore[union-attr]
    copy.jobs[0].wake(hurry=True)

    def fetched() -> bool:
        opened = first._open.get("c")
        return opened is not None and opened.copy is not copy and ids(opened.collection) == ["a", "b"]

    eventually(fetched)
    assert first.describe("c").copy.role == "reader"  # type: ignore[union-attr]
    # It has not claimed it back.
    write(second.get("c"), "c")
    eventually(lambda: ids(first.get("c")) == ["a", "b", "c"])


def test_a_server_that_ends_gives_up_what_it_fetches(serve: Open):
    write(made(serve("w")), "a")
    reader = serve("r", "reader")
    homes = reader.homes
    assert isinstance(homes, stored.StoredHomes)
    homes.stop()
    with pytest.raises(Closed):
        homes._fetched("c", homes._histories["c"])
    assert not [one.name for one in reader.folder.iterdir() if one.name.startswith(".restoring")]


def test_a_base_that_is_due_finds_out_that_another_has_taken_over(serve: Open, eventually: Eventually):
    first = serve("one")
    write(made(first), "a")
    copy = first._open["c"].copy
    assert copy is not None
    write(serve("two").get("c"), "b")
    copy._writing._since = [10_000, 0]
    copy.jobs[0].wake(hurry=True)
    eventually(lambda: ids(first.get("c")) == ["a", "b"])
    assert first.describe("c").copy.role == "reader"  # type: ignore[union-attr]


def test_a_copy_of_a_collection_that_was_replaced_meanwhile_is_fetched_anew(serve: Open):
    with serve("w") as writer:
        write(made(writer), "a")
        with serve("r", "reader") as reader:
            assert ids(reader.get("c")) == ["a"]
    with serve("new") as writer:
        writer.delete("c")
        write(made(writer), "b")
    for name, role in (("w", "writer"), ("r", "reader")):
        catalogue = serve(name, role)
        assert catalogue.quarantined() == {}
        assert ids(catalogue.get("c")) == ["b"]


def test_a_writer_that_is_interrupted_after_its_put_finds_the_commit(serve: Open, monkeypatch: pytest.MonkeyPatch):
    collection = made(serve("w"))
    put = Faulty._asked

    def interrupted(self: Faulty, name: str, call: Callable[..., Any], *given: Any) -> Any:
        answer = put(self, name, call, *given)
        if name == "put_new":
            monkeypatch.undo()
            STATE["down"] = True
            raise MemoryError
        return answer

    monkeypatch.setattr(Faulty, "_asked", interrupted)
    with pytest.raises((MemoryError, StoreUnavailable)):
        write(collection, "a")
    STATE["down"] = False
    write(collection, "b")
    assert ids(collection) == ["a", "b"]
    assert ids(serve("r", "reader").get("c")) == ["a", "b"]


def test_a_copy_that_cannot_be_the_writers_disturbs_no_writer(
    serve: Open, open_catalogue: OpenCatalogue, tmp_path: Path
):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    with open_catalogue(tmp_path / "w") as alone:
        write(alone.get("c"), "own")
    healthy = serve("healthy").get("c")
    diverged = serve("w")
    for _ in range(2):
        assert diverged.describe("c").state == "quarantined"
        write(healthy, "b")
    assert ids(healthy) == ["a", "b"]


def test_a_late_writer_with_an_old_copy_fetches_it_anew(serve: Open, eventually: Eventually, tmp_path: Path):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    healthy = serve("healthy")
    STATE["cut"] = True
    late = serve("w", store=f"file://{tmp_path}/./store")
    write(healthy.get("c"), "b")
    healthy._open["c"].copy._writing.rebase()  # type: ignore[union-attr]
    STATE["cut"] = False
    eventually(lambda: is_written(late.get("c"), "c"))
    assert ids(late.get("c")) == ["a", "b", "c"]
    assert late.quarantined() == {}


def test_a_connection_whose_changes_are_not_noted_writes_nothing(serve: Open, monkeypatch: pytest.MonkeyPatch):
    collection = made(serve("w"))
    write(collection, "a")
    for connection in collection.database.part_with():
        connection.close()

    def full(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TEMP TABLE changed_documents (x)")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.replicas.writing.note_changes", full)
    with pytest.raises(StorageFull):
        write(collection, "b")
    monkeypatch.undo()
    write(collection, "c")
    assert ids(serve("r", "reader").get("c")) == ids(collection) == ["a", "c"]


def test_what_is_chosen_and_learned_beside_documents_follows(serve: Open, eventually: Eventually, tmp_path: Path):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    first = serve("first").get("c")
    reader = serve("r", "reader").get("c")
    STATE["cut"] = True
    late = serve("w", store=f"file://{tmp_path}/./store").get("c")
    first.pin_fusion("reciprocal_rank")
    first.learned.note(5.0, 3.0)
    first.keep_learned()

    def followed() -> bool:
        with reader.snapshot():
            return reader.published.commit == first.published.commit

    eventually(followed)
    assert reader.spec.fusion == "reciprocal_rank"
    assert reader.learned.asked == first.learned.asked
    STATE["cut"] = False
    eventually(lambda: is_written(late, "b"))
    assert ids(late) == ["a", "b"]
    assert late.spec == first.spec
    assert late.learned.asked == first.learned.asked


def test_a_late_writer_goes_on_with_tasks_that_another_accepted(serve: Open, eventually: Eventually, tmp_path: Path):
    with serve("w") as catalogue:
        made(catalogue)
    first = serve("first")
    STATE["cut"] = True
    late = serve("w", store=f"file://{tmp_path}/./store")
    held = first.tasks("c")
    held.stop()
    upload = ImportUpload(first.get("c"), held, "stop")
    upload.write(b'{"id": "a", "text": "an owl"}\n')
    task = upload.commit()
    STATE["cut"] = False
    eventually(lambda: is_written(late.get("c"), "b"))
    eventually(lambda: task.id in late.tasks("c").known and late.task(task.id).finished is not None)
    assert sorted(ids(late.get("c"))) == ["a", "b"]


@pytest.mark.parametrize("ignored", ["put_new", "replace"])
def test_a_store_that_keeps_no_conditions_is_told_before_it_has_anything(
    serve: Open, ignored: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def whatever(self: Faulty, name: str, call: Callable[..., Any], *given: Any) -> Any:
        if name == ignored and "/probe/" in f"/{given[0]}":
            self._folder.put(given[0], BytesIO(given[1]))
            return self._folder.get(given[0])[1]
        return call(*given)

    catalogue = serve("w")
    monkeypatch.setattr(Faulty, "_asked", whatever)
    with pytest.raises(StoreRefused, match="does not keep the condition If-"):
        made(catalogue)
    assert catalogue.describe_all() == []
    assert not [path for path in (tmp_path / "store" / "histories").rglob("*") if path.is_file()]


def test_a_history_whose_log_is_missing_is_told_and_not_begun_anew(serve: Open, tmp_path: Path):
    with serve("w") as catalogue:
        write(made(catalogue), "a")
    (log,) = (tmp_path / "store" / "histories").iterdir()
    shutil.move(log, tmp_path / "elsewhere")
    catalogue = serve("w")
    assert ids(catalogue.get("c")) == ["a"]
    with pytest.raises(StoreUnavailable, match="has no log of collection c"):
        write(catalogue.get("c"), "b")
    assert not (log / "head").exists()
    shutil.rmtree(log, ignore_errors=True)
    shutil.move(tmp_path / "elsewhere", log)
    write(catalogue.get("c"), "b")
    assert ids(catalogue.get("c")) == ["a", "b"]


def test_a_base_is_due_by_commits_or_by_bytes_whatever_the_last_one_had(serve: Open):
    catalogue = serve("w")
    made(catalogue)
    writing = catalogue._open["c"].copy._writing  # type: ignore[union-attr]
    writing._base_size = 2**40
    for since, due in (([1, 2**28 - 1], False), ([1, 2**28], True), ([1_000, 0], True)):
        writing._since = since
        assert writing.base_due is due
    writing._since = [0, 0]
