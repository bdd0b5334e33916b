"""Files that are whole or absent, and are not trusted when they are read."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import Damaged, StorageFull
from app.store.files import (
    BLOCK,
    ArrayWriter,
    FileRecord,
    MappedArray,
    load_array,
    map_verified,
    read_verified,
    write_file,
)
from app.store.local_directory import LocalDirectory
from app.store.lock import FileLock
from app.store.system import room


@pytest.mark.parametrize("position", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 9])
def test_a_map_is_given_out_only_when_all_of_it_is_checked(tmp_path: Path, position: int) -> None:
    content = bytearray(np.random.default_rng(1).bytes(2 * BLOCK + 10))
    record = write_file(LocalDirectory(tmp_path), "file", content)
    assert map_verified(LocalDirectory(tmp_path), "file", record).tobytes() == content
    for harm in (lambda: content.__setitem__(position, content[position] ^ 1), content.pop):
        harm()
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(Damaged):
            map_verified(LocalDirectory(tmp_path), "file", record)
    (tmp_path / "file").unlink()
    with pytest.raises(Damaged, match="missing"):
        map_verified(LocalDirectory(tmp_path), "file", record)


def test_pages_that_are_let_go_come_again(tmp_path: Path) -> None:
    def held() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))

    array = np.random.default_rng(0).integers(0, 9, (64, BLOCK), np.uint8)
    writer = ArrayWriter(LocalDirectory(tmp_path), "a.npy", np.uint8, array.shape)
    writer.write(array)
    mapped = MappedArray(LocalDirectory(tmp_path), "a.npy", writer.finish())
    assert np.array_equal(mapped.all(), array)
    before = held()
    mapped.let_go()
    assert held() < before - 32 * BLOCK
    assert np.array_equal(mapped.all(), array)


def test_taken_rows_are_checked_alone(tmp_path: Path) -> None:
    """Rows of several blocks at once: those that touch a damaged block are refused, no other one."""
    array = np.arange(4 * BLOCK // 8 * 3, dtype=np.int64).reshape(-1, 3)
    np.save(tmp_path / "whole.npy", array)
    content = bytearray((tmp_path / "whole.npy").read_bytes())
    record = write_file(LocalDirectory(tmp_path), "a.npy", content)
    content[5 * BLOCK + 7] ^= 1
    (tmp_path / "a.npy").write_bytes(content)
    first, last = ((5 * BLOCK - 128) // 24, (6 * BLOCK - 128) // 24)
    mapped = MappedArray(LocalDirectory(tmp_path), "a.npy", record)
    around = np.array([len(array) - 1, last + 1, 0, first - 1, 0])
    assert np.array_equal(mapped.take(around), array[around])
    for row in (first, (first + last) // 2, last):
        with pytest.raises(Damaged):
            mapped.take(np.array([0, row]))


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_file_comes_back_as_it_was_written(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    record = write_file(LocalDirectory(tmp_path), "file", content)
    assert record.size == size
    assert len(record.checksums) == -(-size // BLOCK)
    assert read_verified(LocalDirectory(tmp_path), "file", FileRecord.from_json(record.to_json())) == content


def test_checksums_do_not_depend_on_the_pieces(tmp_path: Path) -> None:
    array = np.arange(600_000, dtype=np.float32).reshape(-1, 3)
    records = []
    for number, step in enumerate((1_000, 77_777, len(array))):
        writer = ArrayWriter(LocalDirectory(tmp_path), str(number), np.float32, array.shape)
        for start in range(0, len(array), step):
            writer.write(array[start : start + step])
        records.append(writer.finish())
    assert records[0] == records[1] == records[2]
    np.save(tmp_path / "plain.npy", array)
    assert (tmp_path / "plain.npy").stat().st_size == records[0].size
    assert np.array_equal(np.load(tmp_path / "0"), array)


def test_an_array_is_what_was_announced(tmp_path: Path) -> None:
    writer = ArrayWriter(LocalDirectory(tmp_path), "a", np.float32, (2, 3))
    for wrong in (np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float64)):
        with pytest.raises(ValueError, match="expected rows"):
            writer.write(wrong)
    writer.write(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="expected 2 rows, got 1"):
        writer.finish()
    writer.close()


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    write_file(LocalDirectory(tmp_path), "file", b"first")
    with pytest.raises(FileExistsError):
        write_file(LocalDirectory(tmp_path), "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def stored(path: Path, array: Any) -> FileRecord:
    writer = ArrayWriter(LocalDirectory(path.parent), path.name, array.dtype, array.shape)
    writer.write(array)
    return writer.finish()


def test_ranges_check_what_they_read_alone(tmp_path: Path) -> None:
    array = np.arange(3 * BLOCK // 8, dtype=np.float64).reshape(-1, 4)
    path = tmp_path / "a.npy"
    record = stored(path, array)
    content = bytearray(path.read_bytes())
    content[BLOCK + 5] ^= 1
    path.write_bytes(content)
    mapped = MappedArray(LocalDirectory(tmp_path), path.name, record)
    per_block = BLOCK // 32
    assert np.array_equal(mapped.rows(0, 100), array[:100])
    assert np.array_equal(mapped.rows(3 * per_block - 100, 3 * per_block), array[-100:])
    rows = np.array([5, 3 * per_block - 5])
    assert np.array_equal(mapped.ranges(rows, rows + 1)[rows], array[rows])
    for start, stop in ((per_block - 5, per_block + 5), (per_block + 5, per_block + 6), (0, 3 * per_block)):
        with pytest.raises(Damaged, match="block 1"):
            mapped.rows(start, stop)
        with pytest.raises(Damaged, match="block 1"):
            mapped.ranges(np.array([0, start]), np.array([1, stop]))
    with pytest.raises(Damaged, match="block 1"):
        mapped.all()
    with pytest.raises(Damaged, match="block 1"):
        load_array(LocalDirectory(tmp_path), path.name, record)


def test_a_map_outlives_the_name(tmp_path: Path) -> None:
    array = np.arange(BLOCK, dtype=np.float32).reshape(-1, 2)
    mapped = MappedArray(LocalDirectory(tmp_path), "a.npy", stored(tmp_path / "a.npy", array))
    (tmp_path / "a.npy").unlink()
    assert np.array_equal(mapped.all(), array)


@pytest.mark.parametrize("content", [b"", b"no array at all", b"\x93NUMPY\x01\x00\x05\x00{}   "])
def test_what_is_no_array_is_refused_though_its_checksum_is_right(tmp_path: Path, content: bytes) -> None:
    record = write_file(LocalDirectory(tmp_path), "a.npy", content)
    with pytest.raises(Damaged):
        load_array(LocalDirectory(tmp_path), "a.npy", record)


def test_objects_are_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], object), allow_pickle=True)
    content = (tmp_path / "o.npy").read_bytes()
    record = write_file(LocalDirectory(tmp_path), "a.npy", content)
    with pytest.raises(Damaged):
        load_array(LocalDirectory(tmp_path), "a.npy", record)
    with pytest.raises(Damaged):
        MappedArray(LocalDirectory(tmp_path), "a.npy", record)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_has_one_error(number: int) -> None:
    with pytest.raises(StorageFull, match="make room"), room():
        raise OSError(number, os.strerror(number))
    with pytest.raises(PermissionError), room():
        raise PermissionError(errno.EACCES, "denied")


def test_a_full_database_has_the_same(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("PRAGMA max_page_count = 10")
    connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StorageFull), room():
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    with pytest.raises(sqlite3.OperationalError), room():
        connection.execute("no such statement")
    connection.close()


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert second.note() == ""
    assert first.acquire("a long note")
    assert first.acquire("ignored")
    assert (first.held, second.held) == (True, False)
    assert not second.acquire("x")
    assert second.note() == "a long note"
    first.release()
    first.release()
    assert second.acquire("short")
    assert first.note() == "short"
    second.release()
