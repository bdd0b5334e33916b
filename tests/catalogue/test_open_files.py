"""How many files a process may have open, and what many collections take of it."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from made import OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.errors import NotFound, SystemFault
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.store.database import IDLE, Database
from app.store.system import NEEDED, SPARE, raise_open_files
from app.types import Document


@pytest.fixture(autouse=True)
def _none_of_others() -> None:
    """Files that earlier tests left open, which would be closed at some moment of this one."""
    gc.collect()
    most, IDLE.most = IDLE.most, 0
    with IDLE.in_use(Database(Path(), "none")):
        pass
    IDLE.most = most


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_what_is_sealed_keeps_no_file_open(open_catalogue: OpenCatalogue) -> None:
    collection = open_catalogue().create("c", model="words", kind="multi_vector")
    write_documents(collection, [Document("x", "text")])
    before = open_files()
    for number in range(3):
        write_documents(collection, [Document(f"d{number}", f"text {number}")])
        seal(collection)
    assert len(collection.published.segments) == 3
    assert {hit.id for hit in search(collection, Query(text="text")).hits} == {"x", "d0", "d1", "d2"}
    # A segment has a dozen files.
    assert open_files() - before <= 3


def test_a_creation_is_refused_before_the_open_files_run_out(open_catalogue: OpenCatalogue) -> None:
    """In words that name the limit, while all that is there goes on."""
    catalogue = open_catalogue()
    made = [catalogue.create("c0", model="words", kind="multi_vector")]
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = open_files() + SPARE + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, allowed[1]))

    def fill() -> None:
        made.extend(catalogue.create(f"c{number}", model="words", kind="multi_vector") for number in range(1, 60))

    try:
        with pytest.raises(SystemFault, match=f"files open as it may, {most:,}; raise its limit"):
            fill()
        assert 1 < len(made) < 50
        assert [info.name for info in catalogue.describe_all()] == sorted(one.name for one in made)
        assert catalogue.quarantined() == {}
        for collection in made:
            write_documents(collection, [Document("x", "text")])
            seal(collection)
            assert [hit.id for hit in search(collection, Query(text="text")).hits] == ["x"]
        assert most - open_files() >= SPARE // 2
        catalogue.delete(made[-1].name)
        catalogue.delete(made[-2].name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    catalogue.create("again", model="words", kind="multi_vector")


DIM = 4


def vector(number: int) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[number % DIM][None] * np.float32(1 + number)


def fill(catalogue: Catalogue, start: int, end: int) -> None:
    """Collections of one document each."""
    for number in range(start, end):
        collection = catalogue.create(f"c{number}", model=None, kind="dense", dim=DIM)
        write_documents(collection, [Document("x", f"text {number}", vectors=vector(number))])


def answers(catalogue: Catalogue, count: int) -> list[tuple[str | None, float]]:
    found = []
    for number in range(count):
        (hit,) = search(catalogue.get(f"c{number}"), Query(vectors=vector(number), k=3)).hits
        found.append((hit.text, hit.score))
    return found


@contextmanager
def allowed(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_a_collection_that_nobody_uses_costs_one_open_file(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IDLE, "most", 16)
    catalogue = open_catalogue()
    with allowed(1_024):
        fill(catalogue, 0, 1)
        # A connection has its file and its log, and those of a database share one more.
        before = open_files() + 3 * 16 - 1
        fill(catalogue, 1, 200)
        assert open_files() - before <= 200
        assert answers(catalogue, 200) == [(f"text {n}", pytest.approx(1.0)) for n in range(200)]
        assert open_files() - before <= 200
        # And all of them are written again, which is found at once and by the next opening.
        for number in range(200):
            new = [
                Document("x", f"new {number}", vectors=vector(number)),
                Document("y", "", vectors=vector(number + 1)),
            ]
            write_documents(catalogue.get(f"c{number}"), new)
        assert open_files() - before <= 200
        for number in range(200):
            collection = catalogue.get(f"c{number}")
            assert [hit.text for hit in search(collection, Query(vectors=vector(number), k=1)).hits] == [
                f"new {number}"
            ]
            assert collection.count() == 2
        for number in range(0, 200, 2):
            catalogue.delete(f"c{number}")
        assert open_files() - before <= 100
    catalogue.close()
    again = open_catalogue()
    for number in range(200):
        if number % 2:
            assert again.get(f"c{number}").get("x").text == f"new {number}"
        else:
            with pytest.raises(NotFound):
                again.get(f"c{number}")


@pytest.mark.slow
def test_a_start_leaves_open_files_to_what_is_open(open_catalogue: OpenCatalogue) -> None:
    """Those collections that would take the last ones are not opened, in words that name the limit; the others work."""
    with open_catalogue() as catalogue:
        fill(catalogue, 0, 60)
    most = open_files() + NEEDED + 45
    catalogue = open_catalogue()
    with allowed(most):
        catalogue.serve("http://here")
        closed = catalogue.quarantined()
        assert 10 < len(closed) < 50
        assert all(f"files open as it may, {most:,}; raise its limit" in reason for reason in closed.values())
        with pytest.raises(SystemFault, match="not opened now"):
            catalogue.get(min(closed))
        for name in {f"c{number}" for number in range(60)} - set(closed):
            write_documents(catalogue.get(name), [Document("z", "more", vectors=vector(0))])
            assert catalogue.get(name).count() == 2
        assert most - open_files() >= NEEDED // 2
    # The next request finds them, once there are more.
    assert [catalogue.get(name).count() for name in closed] == [1] * len(closed)
    assert catalogue.quarantined() == {}


def test_a_server_may_open_as_many_files_as_the_system_allows() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with allowed(512):
        assert raise_open_files() == (2**16 if hard == resource.RLIM_INFINITY else hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raise_open_files(), hard)
