"""Faults of the system that pass, or are mended outside: no damage, no restart, and the same answers afterwards."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.errors import MemoryShort, StorageFull, SystemFault
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.types import Document

ROOT = Path(__file__).parents[2]
SCRIPT = '''
"""A folder whose collections cannot be opened for a while: for want of open files, or for their mode."""
import itertools, os, resource, sys
from contextlib import contextmanager
from pathlib import Path
import numpy as np
from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.errors import SystemFault
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.settings import Settings
from app.types import Document

folder = Path(sys.argv[1])
settings = Settings(indexes=folder, threads=1)
versions = itertools.count()
NAMES = [f"c{number}" for number in range(6)]


def answers(catalogue, name):
    collection = catalogue.get(name)
    asked = [Query(vectors=np.ones((1, 8), np.float32), k=50, exact=exact) for exact in (True, False)]
    return [[(hit.id, hit.score) for hit in search(collection, query).hits] for query in asked]


def write(catalogue, name, first):
    vectors = np.random.default_rng(first).normal(size=(9, 2, 8)).astype(np.float32)
    # The vectors stay, and so the answers; another text makes it a write.
    text = f"text {next(versions)}"
    write_documents(catalogue.get(name), [Document(f"d{first + i}", text, vectors=v) for i, v in enumerate(vectors)])


def opened():
    return Catalogue(folder, Encoders({}), settings)


def refused(catalogue, name, words):
    """Whether it was, in words that name the remedy; any other error ends the test."""
    try:
        answers(catalogue, name)
    except SystemFault as fault:
        assert fault.status == 503 and fault.headers["Retry-After"], fault
        assert all(word in fault.message for word in words), fault.message
        return True
    return False


@contextmanager
def few_files(more):
    """Only so many more may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + more, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


with opened() as catalogue:
    for name in NAMES:
        catalogue.create(name, model=None, kind="multi_vector", dim=8)
        for first in (0, 5, 20):
            write(catalogue, name, first)
            if first < 20:
                seal(catalogue.get(name))
    expected = {name: answers(catalogue, name) for name in NAMES}

if sys.argv[2] == "files":
    for more in (2, 12, 30, 45):
        with opened() as catalogue:
            for _ in range(2):
                with few_files(more):
                    if not catalogue.ready:
                        catalogue.serve("http://here")
                        assert catalogue.ready
                    found = [refused(catalogue, name, ["ulimit -n"]) for name in NAMES]
                    assert any(found) or more > 30, more
                for name in NAMES:
                    assert answers(catalogue, name) == expected[name], name
                assert catalogue.quarantined() == {}
                for name in NAMES:
                    write(catalogue, name, 20)
                    assert answers(catalogue, name) == expected[name]
                catalogue.close()
                catalogue = opened()
else:
    closed = folder / "closed"
    closed.touch(0)
    if os.access(closed, os.R_OK):
        raise SystemExit("modes mean nothing")
    closed.unlink()
    kept = ["collection.sqlite", "commits.mark", "writer.lock", "segments", "tail"]
    (segment, *_) = (folder / "c0" / "segments").iterdir()
    kept += [str(path.relative_to(folder / "c0")) for path in segment.iterdir()]
    for file in ["", *kept]:
        path = folder / "c0" / file
        mode = path.stat().st_mode
        path.chmod(0)
        with opened() as catalogue:
            catalogue.serve("http://here")
            for _ in range(2):
                assert refused(catalogue, "c0", ["chown, chmod", path.name, "mode 0000"]), file
                assert catalogue.quarantined().keys() == {"c0"}
            assert catalogue.describe("c0").error
            assert answers(catalogue, "c1") == expected["c1"]
            path.chmod(mode)
            assert answers(catalogue, "c0") == expected["c0"], file
            assert catalogue.quarantined() == {}
            write(catalogue, "c0", 20)
print("as it should be")
'''


def _obey_modes() -> None:
    """Even root: without the capabilities to pass over owners and modes, which the process to come cannot get back."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["files", "modes"])
def test_what_cannot_be_opened_is_opened_when_it_can(tmp_path: Path, what: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", script, tmp_path / "indexes", what],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_obey_modes,
    )
    if done.stderr == "modes mean nothing\n":
        pytest.skip("this process may read what it likes, and cannot give that up")
    assert done.stdout == "as it should be\n", done.stdout + done.stderr


class Reads:
    """Counts what is opened, read, mapped, looked at and listed below a folder, and lets one of it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.failing, self.number = 0, -1, 0
        for name in ("open", "read_bytes", "stat", "lstat", "iterdir"):
            monkeypatch.setattr(Path, name, self._counted(getattr(Path, name)))
        monkeypatch.setattr(mmap, "mmap", self._counted(mmap.mmap))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count - 1 == self.failing:
                raise OSError(self.number, os.strerror(self.number))
            return real(*arguments, **named)

        return call

    def let_fail(self, at: int, number: int = 0) -> None:
        self.count, self.failing, self.number = 0, at, number


def filled(catalogue: Catalogue) -> None:
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=8)
    for first in (0, 6):
        vectors = np.random.default_rng(first).normal(size=(9, 400, 8)).astype(np.float32)
        write_documents(collection, [Document(f"d{first + i}", "text", vectors=v) for i, v in enumerate(vectors)])
        if not first:
            seal(collection)


def answers(catalogue: Catalogue) -> list[Any]:
    collection = catalogue.get("c")
    query = np.ones((1, 8), np.float32)
    found: list[Any] = [
        [(hit.id, hit.score) for hit in search(collection, Query(vectors=query, k=50, exact=exact)).hits]
        for exact in (True, False)
    ]
    return [*found, collection.listing(None, 100)[0], catalogue.aliases.all(), catalogue.snapshots.of("c")]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_read_that_failed_once_is_made_again(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Any read of an opening and of a search. The first answer may be an error, never damage; the second is right."""
    monkeypatch.setattr("app.collection.chunks.IN_DATABASE", 10_000)
    with open_catalogue() as catalogue:
        filled(catalogue)
        catalogue.aliases.set("live", "c")
        expected = answers(catalogue)
    reads = Reads(monkeypatch)
    with open_catalogue() as catalogue:
        reads.let_fail(-1)
        assert answers(catalogue) == expected
    assert reads.count > 20
    refused = 0
    for at in range(reads.count):
        with open_catalogue() as catalogue:
            reads.let_fail(at, number)
            try:
                found = answers(catalogue)
            except SystemFault as fault:
                refused += os.strerror(number) in fault.message
                reads.let_fail(-1)
                found = answers(catalogue)
            assert found == expected, at
            assert catalogue.quarantined() == {}
    assert refused > 10


@pytest.mark.parametrize("fault", [MemoryShort("there is no memory"), StorageFull("there is no room")])
def test_what_was_short_for_a_while_is_opened_at_the_next_request(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    with open_catalogue() as catalogue:
        filled(catalogue)
        expected = answers(catalogue)
    with open_catalogue() as catalogue:
        with monkeypatch.context() as short:

            def refuse(*_: object) -> None:
                raise fault

            short.setattr("app.collection.opening.require_room", refuse)
            catalogue.serve("http://here")
            with pytest.raises(type(fault)):
                catalogue.get("c")
        assert answers(catalogue) == expected
        assert catalogue.quarantined() == {}
