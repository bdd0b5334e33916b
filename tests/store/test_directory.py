"""The contract of ``Directory``, over every implementation; and what the one on local disk makes of faults."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_directory import MemoryDirectory

from app.collection.first_stage import FirstStage
from app.collection.passages import from_caller
from app.collection.segment import Segment, SegmentRecord
from app.collection.segment_writing import Batch, Totals, write_restaged, write_segment
from app.collection.spec import CollectionSpec, EncoderSpec, VectorSpec
from app.errors import Damaged, SystemFault
from app.store.directory import Directory
from app.store.files import MappedArray, load_array, map_verified, read_verified, write_file
from app.store.local_directory import LocalDirectory

MAKERS: dict[str, Callable[[Path], Directory]] = {
    "local disk": lambda path: LocalDirectory(path / "store"),
    "objects in memory": lambda path: MemoryDirectory(),
}


@pytest.fixture(params=MAKERS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    made = MAKERS[request.param](tmp_path)
    made.make()
    return made


def put(files: Directory, name: str, content: bytes) -> None:
    files.make()
    made = files.create(name)
    made.write(content)
    assert made.finish() == len(content)
    made.close()
    files.sync()


@pytest.mark.parametrize("pieces", [[], [b"one"], [b"one", np.arange(5, dtype=np.int64), memoryview(b"two")]])
def test_what_was_written_comes_back(files: Directory, pieces: list[Any]) -> None:
    whole = b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)
    made = files.create("a")
    for piece in pieces:
        made.write(piece)
    assert made.finish() == len(whole)
    made.close()
    assert files.read("a") == bytes(files.map("a")) == whole
    assert files.size("a") == len(whole)
    with files.open("a") as stream:
        assert stream.readline() == whole.partition(b"\n")[0]
        stream.seek(1)
        assert stream.read() == whole[1:]
    assert files.list() == ["a"]


def test_bytes_are_placed_in_any_order(files: Directory) -> None:
    size = 3 * 2**16
    placed = files.place("a", size)
    placed.write(b"last", size - 4)
    placed.write(b"first", 0)
    whole = b"first" + bytes(size - 9) + b"last"
    assert files.size("a") == size
    assert bytes(placed.map()) == bytes(files.map("a")) == files.read("a") == whole
    assert placed.written()[0][0] == 0
    assert placed.written()[-1][1] == size
    placed.finish()
    again = files.placed("a")
    again.write(b"middle", 2**16)
    mapped = again.map()
    again.close()
    files.publish("a", "b")
    assert bytes(mapped) == files.read("b") == whole[: 2**16] + b"middle" + whole[2**16 + 6 :]
    # Nothing of what had the name is left.
    files.place("b", 9).finish()
    assert files.read("b") == bytes(9)
    with pytest.raises(FileNotFoundError):
        files.placed("a")


def test_a_name_is_written_once(files: Directory) -> None:
    put(files, "a", b"first")
    with pytest.raises(FileExistsError):
        put(files, "a", b"second")
    assert files.read("a") == b"first"


def test_what_is_given_up_leaves_nothing_once_it_is_removed(files: Directory) -> None:
    made = files.create("a")
    made.write(b"half")
    made.close()
    files.remove("a")
    assert files.list() == []
    put(files, "a", b"whole")
    assert files.read("a") == b"whole"


def test_what_is_not_there_is_not_found(files: Directory) -> None:
    nowhere = files.folder("no").folder("where")
    for folder in (files, nowhere):
        assert folder.list() == []
        assert (folder.has("a"), folder.is_folder("a")) == (False, False)
        for work in (folder.read, folder.map, folder.open, folder.size):
            with pytest.raises(FileNotFoundError):
                work("a")
        with pytest.raises(FileNotFoundError):
            folder.publish("a", "b")
        with pytest.raises(FileNotFoundError):
            folder.link("a", files)
        folder.remove("a")


def test_folders_hold_files_of_their_own(files: Directory) -> None:
    inner = files.folder("x").folder("y")
    put(inner, "a", b"inner")
    put(files, "a", b"outer")
    put(files, "xx", b"another")
    assert (inner.name, inner.parent.name, inner.parent.parent.name) == ("y", "x", files.name)
    assert inner.parent.parent == files
    assert files.list() == ["a", "x", "xx"]
    assert files.folder("x").list() == ["y"]
    assert (inner.read("a"), files.read("a")) == (b"inner", b"outer")
    assert [files.is_folder(name) for name in files.list()] == [False, True, False]
    assert all(files.has(name) for name in files.list())
    files.remove("x")
    assert files.list() == ["a", "xx"]
    assert inner.list() == []


def test_a_map_outlives_the_name(files: Directory) -> None:
    put(files, "a", b"old")
    mapped = files.map("a")
    files.remove("a")
    put(files, "a", b"new")
    assert bytes(mapped) == b"old"
    assert files.read("a") == b"new"


def test_a_file_is_published_in_the_place_of_another(files: Directory) -> None:
    put(files, "a", b"old")
    before = files.map("a")
    put(files, "a.part", b"new")
    files.publish("a.part", "a")
    files.sync()
    assert (files.read("a"), bytes(before), files.list()) == (b"new", b"old", ["a"])


def test_a_folder_is_published_where_the_name_is_free(files: Directory) -> None:
    for name in ("one", "two"):
        put(files.folder(name).folder("deep"), "a", name.encode())
    files.publish("one", "three")
    assert files.list() == ["three", "two"]
    with pytest.raises(OSError, match=r".*"):
        files.publish("two", "three")
    assert files.folder("three").folder("deep").read("a") == b"one"
    assert files.folder("two").folder("deep").read("a") == b"two"


def test_a_link_is_a_file_of_its_own(files: Directory) -> None:
    put(files.folder("from"), "a", b"content")
    files.folder("to").make()
    files.folder("from").link("a", files.folder("to"))
    assert files.folder("to").read("a") == b"content"
    with pytest.raises(FileExistsError):
        files.folder("from").link("a", files.folder("to"))
    files.remove("from")
    assert files.folder("to").read("a") == b"content"


def test_an_empty_folder_is_unmade_and_no_other(files: Directory) -> None:
    put(files.folder("x"), "a", b"")
    files.folder("x").unmake()
    assert files.folder("x").read("a") == b""
    files.folder("x").remove("a")
    files.folder("x").unmake()
    files.folder("x").unmake()
    assert files.list() == []


def test_a_lock_has_one_holder(files: Directory) -> None:
    first, second = files.lock("lock"), files.lock("lock")
    assert second.note() == ""
    assert first.acquire("the first")
    assert first.acquire("again")
    assert not second.acquire("the second")
    assert (first.held, second.held, second.note()) == (True, False, "the first")
    second.release()
    first.release()
    first.release()
    assert second.acquire("the second")
    assert not first.acquire()
    second.release()


def test_there_is_room(files: Directory) -> None:
    assert files.free() > 0


def written(folder: Directory) -> SegmentRecord:
    """Segments of ten documents with vectors of their callers: one, and the same under other indexes."""
    encoder = EncoderSpec(model=None, kind="multi_vector", dim=4)
    spec = CollectionSpec(name="c", encoder=encoder, similarity="cosine", vectors=VectorSpec(precision="float16"))
    stage, random = FirstStage.default(spec), np.random.default_rng(1)
    passages = from_caller([random.normal(size=(3, 4)).astype(np.float32) for _ in range(10)], spec, stage.encoding)
    batch = Batch(np.arange(10, dtype=np.int64), [{"n": n} for n in range(10)], passages)
    for name in ("s", "again"):
        folder.folder(name).make()
    record = write_segment(folder.folder("s"), spec, stage, Totals.of(passages.owners, passages.counts), [batch])
    segment = Segment.open_all(folder.folder("s"), record)
    return write_restaged(folder.folder("again"), spec, stage, segment, None)


def test_a_segment_is_the_same_wherever_it_lies(files: Directory, tmp_path: Path) -> None:
    """Written, linked from another, opened, searched and deleted, on nothing but the protocol."""
    here, there = files.folder("segments"), LocalDirectory(tmp_path / "plain")
    assert written(here) == written(there)
    for name in ("s", "again"):
        assert here.folder(name).list() == there.folder(name).list()
        for file in here.folder(name).list():
            assert here.folder(name).read(file) == there.folder(name).read(file), file
    segment = Segment.open_all(here.folder("again"), written(LocalDirectory(tmp_path / "third")))
    everything, pooled = np.arange(segment.size), segment.flat("pooled")
    seventh, mapped = pooled.take(np.array([7]))[0], pooled.take(everything)
    found = segment.nearest("pooled", seventh, 1, everything >= 0, 4)
    assert found.rows.tolist() == [7]
    segment.let_go()
    segment.delete()
    assert here.list() == ["s"]
    assert np.array_equal(pooled.take(everything), mapped)
    segment.delete()


# Faults of the system, where files lie on local disk

FAULTS = {
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "fs.file-max",
    errno.ENOMEM: "vm.max_map_count",
    errno.EIO: "look at the disk",
    errno.EACCES: "chown, chmod",
    errno.EPERM: "chown, chmod",
    errno.ESTALE: "look at the disk",
}


class Once:
    """Lets the next call of each kind fail, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        for owner, name in ((Path, "open"), (Path, "read_bytes"), (Path, "stat"), (Path, "lstat"), (Path, "iterdir"),
                            (mmap, "mmap")):  # fmt: skip
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.number:
                number, self.number = self.number, 0
                raise OSError(number, os.strerror(number))
            return real(*arguments, **named)

        return call


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Once:
    return Once(monkeypatch)


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("work", ["read", "map", "open", "size", "has", "is_folder", "list"])
def test_a_fault_of_the_system_is_no_damage_and_passes(tmp_path: Path, once: Once, work: str, number: int) -> None:
    files = LocalDirectory(tmp_path / "papers")
    put(files, "a", b"content")

    def ask() -> None:
        method = getattr(files, work)
        found = method() if work == "list" else method("a")
        if work == "open":
            found.close()

    once.number = number
    with pytest.raises(SystemFault, match=FAULTS[number]) as caught:
        ask()
    assert "papers" in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "5")
    ask()


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("read", [read_verified, map_verified, load_array, MappedArray])
def test_a_verified_read_tells_the_system_from_damage(
    tmp_path: Path, once: Once, read: Callable[..., Any], number: int
) -> None:
    files = LocalDirectory(tmp_path / "papers")
    files.make()
    np.save(tmp_path / "plain.npy", np.arange(9))
    record = write_file(files, "a.npy", (tmp_path / "plain.npy").read_bytes())
    once.number = number
    with pytest.raises(SystemFault, match=r"a\.npy of papers"):
        read(files, "a.npy", record)
    read(files, "a.npy", record)
    (tmp_path / "papers" / "a.npy").unlink()
    with pytest.raises(Damaged, match="missing"):
        read(files, "a.npy", record)
    (tmp_path / "papers" / "a.npy").mkdir()
    with pytest.raises(Damaged, match="cannot be read"):
        read(files, "a.npy", record)
