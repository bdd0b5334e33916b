"""Collections begin, end and are replaced while their background is at work: nobody waits, nothing is mixed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from made import OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import restore_file
from app.catalogue.snapshotting import begin_snapshot
from app.collection.collection import Collection
from app.compute.turns import Turns
from app.errors import Conflict, Damaged, MemoryShort, NotFound, Unavailable
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.store import faults
from app.store.local_directory import LocalDirectory
from app.tasks.importing import ImportUpload
from app.tasks.records import ENDED, Task, insert_task
from app.types import Document

T = TypeVar("T")


def until(done: Callable[[], bool]) -> None:
    """A minute is a limit against hanging, not a measure."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def without_waiting(work: Callable[[], T]) -> T:
    """Its result, or an error where it waits for what this test holds."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work).result(timeout=60)
    finally:
        pool.shutdown(wait=False)


def some(start: int, stop: int, what: str = "text") -> list[Document]:
    return [Document(f"d{i}", f"{what} {i}") for i in range(start, stop)]


def ended(catalogue: Catalogue, task: Task) -> Task:
    until(lambda: catalogue.task(task.id).state in ENDED)
    return catalogue.task(task.id)


class Held:
    """Background work that stands still at a step, until ``go``."""

    def __init__(self, step: str, lane: str) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._step, self._lane = step, lane

    def __call__(self, step: str) -> None:
        if step == self._step and threading.current_thread().name.startswith(self._lane):
            self.begun.set()
            assert self.go.wait(120)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Held]]:
    found: list[Held] = []

    def make(step: str, lane: str) -> Held:
        found.append(Held(step, lane))
        monkeypatch.setattr(faults, "hook", found[-1])
        return found[-1]

    yield make
    for held in found:
        held.go.set()


Hold = Callable[[str, str], Held]
STEPS = [("segment.begun", "indexing"), ("file.written", "indexing"), ("segment.begun", "learning")]
"""In the middle of sealing, before a file is named, and of giving segments a first stage that was learned."""


def busy(catalogue: Catalogue, held: Held) -> Collection:
    """A collection whose background is held."""
    collection = catalogue.create("busy", model="words", kind="multi_vector")
    write_documents(collection, some(0, 20))
    assert held.begun.wait(60)
    return collection


@pytest.mark.parametrize(("step", "lane"), STEPS)
def test_nobody_waits_for_the_background_of_a_collection(
    open_catalogue: OpenCatalogue, hold: Hold, step: str, lane: str
) -> None:
    catalogue, held = open_catalogue(tasks=True, seal_documents=10, learn_documents=15), hold(step, lane)
    old = busy(catalogue, held)
    without_waiting(lambda: catalogue.create("other", model="words", kind="multi_vector"))
    without_waiting(lambda: catalogue.delete("other"))
    without_waiting(lambda: catalogue.delete("busy"))
    with pytest.raises(NotFound):
        catalogue.get("busy")
    assert list(catalogue.folder.iterdir()) == []
    # Its name is free, and what has it next is another.
    new = without_waiting(lambda: catalogue.create("busy", model="words", kind="multi_vector"))
    assert new is not old
    write_documents(new, some(0, 5, "new"))
    held.go.set()
    write_documents(new, some(5, 20, "new"))
    until(lambda: new.published.tail.part.size == 0 and new.published.generation.stage is not None)
    assert {document.text for document in new.listing(None, 100)[0]} == {f"new {i}" for i in range(20)}
    catalogue.close()
    # The former one's work has left nothing in the folder of its name.
    named = {record.name for record in new.published.generation.segments}
    assert {path.name for path in (new.folder / "segments").iterdir()} == named
    assert {path.name for path in (new.folder / "encodings").iterdir()} == {new.published.generation.stage.file}
    assert open_catalogue().get("busy").count() == 20


@pytest.mark.parametrize(("step", "lane"), STEPS)
def test_a_collection_that_is_deleted_while_it_works_leaves_nothing(
    open_catalogue: OpenCatalogue, hold: Hold, step: str, lane: str
) -> None:
    catalogue, held = open_catalogue(tasks=True, seal_documents=10, learn_documents=15), hold(step, lane)
    busy(catalogue, held)
    without_waiting(lambda: catalogue.delete("busy"))
    held.go.set()
    catalogue.close()
    assert list(catalogue.folder.iterdir()) == []


def test_a_collection_is_restored_while_the_one_it_replaces_is_at_work(
    open_catalogue: OpenCatalogue, hold: Hold
) -> None:
    catalogue = open_catalogue(tasks=True, seal_documents=10)
    write_documents(catalogue.create("first", model="words", kind="multi_vector"), some(0, 3, "kept"))
    task = ended(catalogue, begin_snapshot(catalogue, "first"))
    archive = catalogue.snapshots.get("first", task.id)[1]
    held = hold("segment.begun", "indexing")
    busy(catalogue, held)
    assert without_waiting(lambda: restore_file(catalogue, "busy", archive, replace=True))
    found = search(catalogue.get("busy"), Query(text="kept")).hits
    assert {hit.text for hit in found} == {"kept 0", "kept 1", "kept 2"}
    held.go.set()
    catalogue.close()
    assert {path.name for path in catalogue.folder.iterdir()} == {"first", "busy", ".snapshots"}
    assert list((catalogue.folder / "busy" / "segments").iterdir()) == []
    assert open_catalogue().get("busy").count() == 3


def test_a_late_reader_of_a_deleted_collection_takes_nothing_from_its_successor(open_catalogue: OpenCatalogue) -> None:
    """The last connection that SQLite closes removes the log beside the database, by its name."""
    catalogue = open_catalogue()
    old = catalogue.create("c", model="words", kind="multi_vector")
    write_documents(old, some(0, 3, "old"))
    with old.snapshot() as snapshot:
        catalogue.delete("c")
        new = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(new, some(0, 5, "new"))
        assert {document.text for document in snapshot.documents([1, 2, 3]).values()} == {"old 0", "old 1", "old 2"}
    with pytest.raises(Unavailable):
        old.get("d0")
    write_documents(new, some(5, 6, "new"))
    catalogue.close()
    assert open_catalogue().get("c").count() == 6


def test_a_folder_is_made_for_no_collection_that_was_closed(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue()
    collection = catalogue.create("c", model="words", kind="multi_vector")
    write_documents(collection, some(0, 3))
    catalogue.delete("c")
    for late in (lambda: collection.make_folder("segments", "x"), collection.sweep_stages, lambda: seal(collection)):
        with pytest.raises(Unavailable):
            late()
    assert list(catalogue.folder.iterdir()) == []


def test_what_is_quarantined_while_it_works_can_be_rebuilt_at_once(open_catalogue: OpenCatalogue, hold: Hold) -> None:
    catalogue, held = open_catalogue(tasks=True, seal_documents=10), hold("segment.begun", "indexing")
    old = busy(catalogue, held)
    without_waiting(lambda: catalogue.quarantine(old, Damaged("a block is not what was written")))
    assert set(catalogue.quarantined()) == {"busy"}
    task = without_waiting(lambda: catalogue.begin_rebuild("busy"))
    assert catalogue.get("busy").is_writer
    held.go.set()
    assert ended(catalogue, task).state == "succeeded"
    assert catalogue.get("busy").count() == 20
    assert catalogue.describe("busy").state == "ready"


def test_a_damaged_collection_that_another_process_held_can_be_rebuilt_once_it_is_free(
    open_catalogue: OpenCatalogue,
) -> None:
    """Opened without its indexes it takes over without them too."""
    with open_catalogue() as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, some(0, 20))
        seal(collection)
        write_documents(collection, some(20, 25))
    other, server = open_catalogue(), open_catalogue(tasks=True)
    other.get("c")
    (segment,) = (collection.folder / "segments").iterdir()
    (segment / "manifest.json").write_bytes(b"damaged")
    with pytest.raises(Damaged):
        server.get("c")
    for _ in range(2):
        with pytest.raises(Exception, match="another process writes"):
            server.begin_rebuild("c")
    other.close()
    assert ended(server, server.begin_rebuild("c")).state == "succeeded"
    assert server.get("c").count() == 25


def saved(catalogue: Catalogue, name: str) -> Path:
    """An archive of the collection as it is."""
    return catalogue.snapshots.get(name, ended(catalogue, begin_snapshot(catalogue, name)).id)[1]


def test_a_restore_loses_no_task(open_catalogue: OpenCatalogue, hold: Hold) -> None:
    """It is refused while one runs or waits; those that have ended can still be asked for."""
    catalogue = open_catalogue(tasks=True)
    collection = catalogue.create("c", model="words", kind="multi_vector")
    write_documents(collection, some(0, 3))
    archive = saved(catalogue, "c")
    held = hold("segment.begun", "tasks")
    upload = ImportUpload(collection, catalogue.tasks("c"), "skip")
    upload.write(b'{"id": "x", "text": "imported"}\nno line\n')
    running = upload.commit()
    assert held.begun.wait(60)
    with pytest.raises(Conflict, match=f"task {running.id} of collection c .import. is running") as caught:
        restore_file(catalogue, "c", archive, replace=True)
    assert caught.value.code == "task_running"
    held.go.set()
    assert ended(catalogue, running).state == "succeeded"
    before = [catalogue.task(task.id) for task in catalogue.list_tasks()[0]]
    assert [(task.kind, len(task.errors)) for task in before] == [("import", 1), ("snapshot", 0)]
    following = collection.published.next_seq
    assert restore_file(catalogue, "c", archive, replace=True)
    assert catalogue.get("c").count() == 3
    assert catalogue.get("c").published.next_seq == following
    assert [catalogue.task(task.id) for task in before] == before
    # And over a restart, with those that come after.
    after = ended(catalogue, begin_snapshot(catalogue, "c"))
    catalogue.close()
    again = open_catalogue()
    again.get("c")
    assert [task.id for task in again.list_tasks()[0]] == [after.id, *(task.id for task in before)]


def test_what_is_accepted_while_an_archive_is_read_is_not_lost(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at again in the database, once the collection is closed and takes nothing more; then it goes on."""
    catalogue = open_catalogue(tasks=True)
    collection = catalogue.create("c", model="words", kind="multi_vector")
    write_documents(collection, some(0, 3))
    archive, accepted = saved(catalogue, "c"), list[Task]()
    closing = Collection.close

    def close(closed: Collection) -> None:
        if closed is collection and not accepted:
            accepted.append(catalogue.begin_rebuild("c"))
        closing(closed)

    monkeypatch.setattr(Collection, "close", close)
    with pytest.raises(Conflict, match=r"task \w+ of collection c .rebuild."):
        restore_file(catalogue, "c", archive, replace=True)
    assert ended(catalogue, accepted[0]).state == "succeeded"
    assert catalogue.get("c").count() == 3


def test_a_collection_that_cannot_be_opened_is_replaced_whatever_waits_for_it(open_catalogue: OpenCatalogue) -> None:
    """Nothing could end its tasks; they are cancelled, and can be asked for."""
    with open_catalogue(tasks=True) as catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        write_documents(collection, some(0, 30))
        seal(collection)
        archive = saved(catalogue, "c")
    waiting = Task("1" * 32, "c", "tune", "running", params={}, created="2026-01-01T00:00:00.000")
    with open_catalogue() as script:
        script.get("c").record(lambda txn: insert_task(txn, waiting))
        following = script.get("c").published.next_seq
    (segment,) = (collection.folder / "segments").iterdir()
    (segment / "manifest.json").write_bytes(b"damaged")
    server = open_catalogue(tasks=True)
    with pytest.raises(Damaged):
        server.get("c")
    assert restore_file(server, "c", archive, replace=True)
    assert server.get("c").count() == 30
    assert server.get("c").published.next_seq == following
    assert {task.kind: task.state for task in server.list_tasks()[0]} == {"snapshot": "succeeded", "tune": "cancelled"}


def test_what_was_replaced_is_back_where_its_successor_does_not_open(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = open_catalogue(tasks=True)
    collection = catalogue.create("c", model="words", kind="multi_vector")
    write_documents(collection, some(0, 3))
    archive = saved(catalogue, "c")
    write_documents(collection, some(3, 5))
    refused: list[str] = []

    def short(name: str, needed: int) -> None:
        if name in ("c", "new") and name not in refused:
            refused.append(name)
            raise MemoryShort("it does not fit")

    monkeypatch.setattr("app.collection.opening.require_room", short)
    for name, replace in (("c", True), ("new", False)):
        with pytest.raises(MemoryShort):
            restore_file(catalogue, name, archive, replace=replace)
    # It was opened again at once, for its tasks and what is due of it.
    assert catalogue.opened("c") not in (None, collection)
    assert catalogue.get("c").count() == 5
    assert [info.name for info in catalogue.describe_all()] == ["c"]
    assert catalogue.quarantined() == {}
    write_documents(catalogue.get("c"), some(5, 6))
    assert {path.name for path in catalogue.folder.iterdir()} == {"c", ".snapshots"}


def test_the_turn_of_one_name_keeps_no_other_waiting() -> None:
    turns, order = Turns(), list[str]()

    def work(name: str) -> None:
        with turns.of(name):
            order.append(name)

    with turns.of("a"):
        other = threading.Thread(target=work, args=("a",))
        other.start()
        without_waiting(lambda: work("b"))
        assert order == ["b"]
    other.join()
    assert (order, len(turns)) == (["b", "a"], 0)


def test_a_collection_is_opened_and_missed_without_a_look_at_all_others(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a start would take the square of their number."""
    looks: list[str] = []
    for name in ("list", "has"):
        real = getattr(LocalDirectory, name)

        def counted(self: LocalDirectory, *arguments: str, real: Any = real) -> Any:
            looks.append(self.name)
            return real(self, *arguments)

        monkeypatch.setattr(LocalDirectory, name, counted)
    costs = []
    for count in (2, 12):
        with open_catalogue() as catalogue:
            for number in range(count):
                if f"c{number}" not in [info.name for info in catalogue.describe_all()]:
                    catalogue.create(f"c{number}", model=None, kind="dense", dim=2)
        with open_catalogue() as catalogue:
            catalogue.claim("http://here")
            looks.clear()
            catalogue.open_all()
            opened = len(looks) / count
            looks.clear()
            for ask in (catalogue.get, catalogue.delete, lambda name: catalogue.aliases.set("alias", name)):
                with pytest.raises(NotFound):
                    ask("nothing")
            costs.append((opened, len(looks)))
    (few, missed_among_few), (many, missed_among_many) = costs
    assert many <= few
    assert missed_among_many == missed_among_few
