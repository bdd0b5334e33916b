"""What begins, ends and replaces a collection while its background is at work: nobody waits, nothing is mixed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from made import OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import restore_file
from app.catalogue.snapshotting import begin_snapshot
from app.collection.collection import Collection
from app.compute.turns import Turns
from app.errors import Damaged, NotFound, Unavailable
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.store import faults
from app.tasks.records import ENDED, Task
from app.types import Document

T = TypeVar("T")


def until(done: Callable[[], bool]) -> None:
    """A minute is a limit against hanging, not a measure."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def without_waiting(work: Callable[[], T]) -> T:
    """What it gives, or an error where it waits for what this test holds."""
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
    # What the former one was at has left nothing in the folder of its name.
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
