"""A failure between a commit and what is published: what is durable is found, and the next write goes on."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue

from app.collection.collection import Collection
from app.collection.opening import Opener
from app.collection.tail import Tail
from app.collection.view import Published
from app.errors import Conflict
from app.ingest import delete_ids, write_documents
from app.search import Query, search
from app.store.lock import FileLock
from app.types import Document


def write(collection: Collection, *names: str) -> None:
    vectors = np.eye(4, dtype=np.float32)
    write_documents(collection, [Document(name, "text", vectors=vectors[: 1 + len(name)]) for name in names])


def found(collection: Collection) -> list[str]:
    hits = search(collection, Query(vectors=np.ones((1, 4), np.float32), k=50)).hits
    return sorted(hit.id for hit in hits)


class Failing:
    """Each of its methods raises MemoryError as often as it is told, and is itself again then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *methods: tuple[type, str]) -> None:
        self.left = dict.fromkeys(methods, 0)
        for owner, name in methods:
            monkeypatch.setattr(owner, name, self._failing((owner, name), getattr(owner, name)))

    def _failing(self, key: tuple[type, str], real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.left[key]:
                self.left[key] -= 1
                raise MemoryError
            return real(*arguments, **named)

        return call


APPEND, WRITTEN, LOAD = (Tail, "append"), (Published, "written"), (Opener, "load")


@pytest.mark.parametrize("catching_up_fails", [0, 1, 2])
@pytest.mark.parametrize("step", [APPEND, WRITTEN])
def test_memory_that_ends_after_the_commit_loses_nothing(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], catching_up_fails: int
) -> None:
    failing = Failing(monkeypatch, APPEND, WRITTEN, LOAD)
    with open_catalogue() as catalogue:
        collection = catalogue.create("c", model=None, kind="multi_vector", dim=4)
        write(collection, "a", "b")
        failing.left.update({step: 1, LOAD: catching_up_fails})
        with pytest.raises(MemoryError):
            write(collection, "b", "cc")
        assert found(collection) == (["a", "b"] if catching_up_fails else ["a", "b", "cc"])
        for _ in range(catching_up_fails - 1):
            with pytest.raises(MemoryError):
                write(collection, "d")
        write(collection, "d")
        assert found(collection) == ["a", "b", "cc", "d"]
        failing.left.update({WRITTEN: 1, LOAD: catching_up_fails})
        with pytest.raises(MemoryError):
            delete_ids(collection, ["a"])
        for _ in range(catching_up_fails - 1):
            with pytest.raises(MemoryError):
                write(collection, "e")
        write(collection, "e")
        assert found(collection) == ["b", "cc", "d", "e"]
        counted = collection.published
    with open_catalogue() as catalogue:
        now = catalogue.get("c").published
        assert found(catalogue.get("c")) == ["b", "cc", "d", "e"]
        assert (now.commit, now.next_seq, now.live, now.digest) == (
            counted.commit, counted.next_seq, counted.live, counted.digest,
        )  # fmt: skip


def test_one_that_cannot_become_the_writer_does_not_keep_the_lock(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_catalogue() as first, open_catalogue() as second:
        write(first.create("c", model=None, kind="multi_vector", dim=4), "a")
        reader = second.get("c")
        with pytest.raises(Conflict):
            reader.require_writer()
        write(first.get("c"), "b")
        first.close()
        failing = Failing(monkeypatch, LOAD)
        failing.left[LOAD] = 1
        with pytest.raises(MemoryError):
            write(reader, "cc")
        assert not reader.is_writer
        write(reader, "cc")
        assert found(reader) == ["a", "b", "cc"]


def test_a_lock_that_fails_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    lock = FileLock(tmp_path / "lock")
    with monkeypatch.context() as broken:
        broken.setattr(fcntl, "flock", refuse)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
            lock.acquire("note")
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", refuse)
        assert lock.acquire("note")
    lock.release()
    assert lock.acquire()
    lock.release()
