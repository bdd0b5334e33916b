"""Databases that nobody uses: few keep connections, and those that keep none answer and take writes as before."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import Damaged, Unavailable
from app.store.database import IDLE, Database, read_state
from app.store.layout import DATABASE
from app.store.mark import read_mark, write_mark

MOST = 4
COUNT = "SELECT count(*) FROM live"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two databases that are read and written."""
    monkeypatch.setattr(IDLE, "most", MOST)


def made(folder: Path) -> Database:
    folder.mkdir()
    Database.create(folder, folder.name, {})
    database = Database(folder, folder.name)
    database.check()
    return database


def write(database: Database, key: int) -> None:
    with database.write() as txn:
        txn.execute("INSERT INTO live VALUES (?, ?)", (str(key).encode(), key))


def count(database: Database) -> int:
    with database.read() as connection:
        (found,) = connection.execute(COUNT).fetchone()
    return int(found)


def files() -> Counter[Path]:
    """Files of databases that the process has open, by folder."""
    found = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return Counter(path.parent for path in found if path.name.startswith(DATABASE))


def opened(database: Database) -> int:
    return files()[database.folder.resolve()]


def rest(tmp_path: Path, *databases: Database) -> None:
    """By the use of others."""
    for number in range(MOST):
        other = made(tmp_path / f"other{number}")
        count(other)
    assert [opened(database) for database in databases] == [0] * len(databases)


@pytest.mark.slow
def test_those_unused_for_longest_close_their_files_and_open_them_when_asked(tmp_path: Path) -> None:
    databases = [made(tmp_path / f"c{number}") for number in range(20)]
    for turn in range(3):
        for place, database in enumerate(databases):
            write(database, turn)
            assert count(database) == turn + 1
            open_now = files()
            keeping = {one for one in databases if open_now[one.folder]}
            assert {database, databases[place - 1]} <= keeping or turn == place == 0
            assert sum(one.kept for one in databases) <= MOST
            assert len(keeping) == MOST // 2 or turn == 0
    for database in databases:
        database.close()
        assert opened(database) == 0


def test_nothing_that_is_under_way_is_closed(tmp_path: Path) -> None:
    read, written = made(tmp_path / "read"), made(tmp_path / "written")
    write(read, 1)
    with read.read() as connection, written.write() as txn:
        assert connection.execute(COUNT).fetchone() == (1,)
        txn.execute("INSERT INTO live VALUES (?, ?)", (b"1", 1))
        write(read, 2)
        rest(tmp_path)
        # Both, whoever else has used them meanwhile, and all that the reader sees is of its moment.
        assert connection.execute(COUNT).fetchone() == (1,)
        txn.execute("INSERT INTO live VALUES (?, ?)", (b"2", 2))
        read.rest()
        assert connection.execute(COUNT).fetchone() == (1,)
    assert (count(read), count(written)) == (2, 2)


@pytest.mark.slow
def test_many_threads_use_more_databases_than_may_rest(tmp_path: Path) -> None:
    databases = [made(tmp_path / f"c{number}") for number in range(8)]
    turns = [threading.Lock() for _ in databases]

    def work(thread: int) -> None:
        for number in range(30):
            place = (number * (thread + 1)) % len(databases)
            with turns[place]:
                write(databases[place], thread * 1_000 + number)
            assert count(databases[place]) >= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert sum(count(database) for database in databases) == 6 * 30
    assert sum(database.kept for database in databases) <= MOST
    assert all(database.uses == 0 for database in databases)


def test_counters_are_of_one_commit_though_others_write_meanwhile(tmp_path: Path) -> None:
    database = made(tmp_path / "c")
    connection = sqlite3.connect(database.folder / DATABASE, isolation_level=None)
    keys = itertools.count()
    # Before each statement that reads.
    connection.set_trace_callback(lambda _: write(database, next(keys)))
    for _ in range(3):
        before = next(keys)
        assert read_state(connection).commits > 0
        assert next(keys) == before + 2
    connection.close()


def test_what_was_acknowledged_and_is_lost_while_nobody_looked_is_damage(tmp_path: Path) -> None:
    database = made(tmp_path / "c")
    write(database, 1)
    before = (database.folder / DATABASE).read_bytes()
    rest(tmp_path, database)
    assert (database.folder / DATABASE).read_bytes() != before
    write_mark(database.folder, read_mark(database.folder, "c") + 1)
    for _ in range(2):
        with pytest.raises(Damaged, match="commit 2 was acknowledged"):
            count(database)
        with pytest.raises(Damaged, match="commit 2 was acknowledged"):
            write(database, 2)
    assert opened(database) == 0


def test_another_database_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    """As where another process, which wrote it, replaced or deleted the collection."""
    database = made(tmp_path / "c")
    write(database, 1)
    rest(tmp_path, database)
    database.folder.rename(tmp_path / "former")
    with pytest.raises(Unavailable, match="deleted"):
        count(database)
    other = made(tmp_path / "c")
    write(other, 1)
    write(other, 2)
    for use in (lambda: count(database), lambda: write(database, 3)):
        with pytest.raises(Unavailable, match="replaced"):
            use()
    assert count(other) == 2


def test_what_is_closed_for_good_while_it_rests_opens_nothing(tmp_path: Path) -> None:
    database = made(tmp_path / "c")
    rest(tmp_path, database)
    database.close()
    with pytest.raises(Unavailable):
        count(database)
    with pytest.raises(Unavailable):
        write(database, 1)
    assert opened(database) == 0


def test_a_reader_that_outlives_the_closing_leaves_nothing_open(tmp_path: Path) -> None:
    database = made(tmp_path / "c")
    with database.read() as connection:
        database.close()
        assert connection.execute(COUNT).fetchone() == (0,)
    assert (opened(database), database.kept) == (0, 0)
    rest(tmp_path)


def test_pages_are_given_back_by_one_that_has_no_writer_yet(tmp_path: Path) -> None:
    database = made(tmp_path / "c")
    with database.write() as txn:
        txn.executemany("INSERT INTO live VALUES (?, ?)", [(b"%d" % n * 100, n) for n in range(2_000)])
    with database.write() as txn:
        txn.execute("DELETE FROM live")
    rest(tmp_path, database)
    full = (database.folder / DATABASE).stat().st_size
    database.reclaim()
    assert (database.folder / DATABASE).stat().st_size < full // 2
