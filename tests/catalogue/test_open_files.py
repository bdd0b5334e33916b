"""How many files a process may have open, and what many collections take of it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from made import OpenCatalogue

from app.errors import SystemFault
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.store.system import SPARE
from app.types import Document


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
