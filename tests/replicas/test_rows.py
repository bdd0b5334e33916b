"""A database that is replayed from a copy and the commits since equals the writer's, whatever was done."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made import OpenCatalogue

from app.collection.collection import Collection
from app.errors import Damaged, FormatTooNew, Invalid
from app.evaluation.judged import Judged, delete_set, has_set, write_set
from app.indexing.reindexing import reindex
from app.indexing.restaging import rewidth
from app.indexing.sealing import merge, seal
from app.ingest import write_documents
from app.replicas import rows
from app.replicas.rows import KEYS, apply, changes, note_changes, prepare
from app.store.database import SCHEMA, Database
from app.store.layout import DATABASE, MARK
from app.store.requests import SCHEMA as REQUESTS
from app.store.requests import Answer
from app.tasks.records import TaskError
from app.tasks.tasks import Tasks
from app.types import Document


class Kept:
    """A home that keeps every commit, by number."""

    def __init__(self) -> None:
        self.commits: dict[int, bytes] = {}

    def watch(self, connection: sqlite3.Connection) -> None:
        note_changes(connection)

    def send(self, files: Sequence[tuple[str, str]]) -> None: ...

    def put(self, connection: sqlite3.Connection, commits: int) -> None:
        self.commits[commits] = changes(connection)

    def done(self) -> None: ...

    def settle(self) -> None: ...


def act(collection: Collection, tasks: Tasks, chance: random.Random, step: int) -> None:
    """One operation of any kind."""
    some = [f"d{chance.randrange(60)}" for _ in range(chance.randint(1, 12))]
    match chance.choice(
        ["write"] * 4 + ["delete", "seal", "merge", "declare", "judge", "task", "work", "index", "note"]
    ):
        case "write":
            documents = [Document(key, f"{key} \u00e9 {step}", "t" * (step % 2), {"n": step}) for key in some]

            def note(txn: sqlite3.Connection, _: Any) -> None:
                collection.requests.note(txn, f"k{step}", "d", Answer("{}", 200, {}))

            write_documents(collection, documents, also=note if step % 3 == 0 else None)
        case "delete":
            collection.delete(some)
        case "seal":
            seal(collection)
        case "merge":
            merge(collection)
        case "declare":
            collection.declare({f"f{step % 5}": chance.choice(["integer", None])})
        case "judge":
            if has_set(collection, "s"):
                delete_set(collection, "s")
            else:
                write_set(collection, "s", [Judged("q", {"d1": 1}, f"words {step}")])
        case "task":
            tasks.submit("rebuild", {"step": step})
        case "work":
            for identifier in list(tasks.open)[:1]:
                running = tasks.running(identifier)
                running.fail_lines([TaskError(i, "invalid", f"line {i}") for i in some_numbers(chance)])
                tasks.work(running)
        case "index":
            if collection.published.segments:
                reindex(collection, chance.choice(["flat", "pq1"]), 3, {}, reason="tried")
                rewidth(collection, 50 + step, {}, reason="tried")
        case "note":
            collection.keep_learned()


def some_numbers(chance: random.Random) -> list[int]:
    return [chance.randrange(9) for _ in range(3)]


def rows_of(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}


TABLES = [*KEYS, "sqlite_sequence"]


@pytest.mark.parametrize("seed", range(4))
def test_a_replayed_database_equals_the_writers(open_catalogue: OpenCatalogue, tmp_path: Path, seed: int):
    chance, kept = random.Random(seed), Kept()
    collection = open_catalogue(seal_documents=8, learn_documents=0).create("c", model="words", kind="multi_vector")
    collection.database.home = kept
    tasks = Tasks(collection, {"rebuild": lambda collection, running: None})
    copied, step = tmp_path / "copy", 0
    copied.mkdir()
    for step in range(40):
        if step == 10:
            with collection.database.read() as connection, closing(sqlite3.connect(copied / DATABASE)) as target:
                connection.backup(target)
            since = collection.published.commit
        act(collection, tasks, chance, step)
    shutil.copy(collection.folder / MARK, copied / MARK)
    assert sorted(kept.commits) == list(range(min(kept.commits), collection.published.commit + 1))

    with closing(sqlite3.connect(copied / DATABASE, isolation_level=None)) as connection:
        prepare(connection)
        connection.execute("BEGIN")
        for number in range(since, collection.published.commit + 1):
            # From one that the copy has already: to apply it twice is to apply it once, where all that follow come.
            apply(connection, kept.commits[number], "c")
        connection.execute("COMMIT")
    assert rows_of(copied / DATABASE) == rows_of(collection.folder / DATABASE)
    database = Database(copied, "c")
    database.check()
    database.close()


def test_every_table_is_noted_by_its_primary_key():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(";".join([SCHEMA, *REQUESTS]))
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        found = {
            table: tuple(
                row[1]
                for row in sorted(connection.execute(f"PRAGMA table_info({table})"), key=lambda r: r[5])
                if row[5]
            )
            for (table,) in connection.execute(tables).fetchall()
        }
    assert found == KEYS


def test_a_commit_that_is_not_as_it_was_put_is_refused_whole():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        note_changes(connection)
        connection.execute("BEGIN")
        connection.execute("INSERT INTO live VALUES (?, 7)", (b"a",))
        connection.execute("INSERT INTO tail VALUES (1, 1, NULL, ?, 3, 4)", (b"abc",))
        content = changes(connection)
        connection.execute("ROLLBACK")
        for place in range(len(content)):
            for wrong in (content[:place], content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]):
                with pytest.raises((Damaged, FormatTooNew)):
                    apply(connection, wrong, "c")
        assert connection.execute("SELECT count(*) FROM live").fetchone() == (0,)
        apply(connection, content, "c")
        assert connection.execute("SELECT * FROM live").fetchall() == [(b"a", 7)]
        assert connection.execute("SELECT * FROM tail").fetchall() == [(1, 1, None, b"abc", 3, 4)]


def packed(tables: object, contents: bytes = b"", *, text: str | None = None) -> bytes:
    head = zlib.compress((json.dumps(tables) if text is None else text).encode())
    return struct.pack("<8sII", b"sheafcm1", zlib.crc32(head + contents, len(head)), len(head)) + head + contents


def live(*columns: object, gone: object = ()) -> dict[str, Any]:
    return {"live": {"stand": columns, "gone": gone}}


@pytest.mark.parametrize(
    "content",
    [
        packed([]),
        packed({"live": []}),
        packed({}, text="[" * 100_000),
        packed(live({"lengths": [-1]}, [1]), b""),
        packed(live({"lengths": [4, -4]}, [1, 2]), b""),
        packed(live({"lengths": [True]}, [1]), b"a"),
        packed(live({"lengths": [9]}, [1]), b"abc"),
        packed(live({"lengths": [2]}, [1]), b"abc"),
        packed(live({"lengths": None}, [1])),
        packed(live([["a"]], [1])),
        packed(live([{"a": 1}], [1])),
        packed(live(["a"], [2**70])),
        packed(live(["\ud800"], [1])),
        packed(live(["a"], [None])),
        packed(live(gone=[["a"], ["b"]])),
        packed({}, text=json.dumps({"live": {"stand": [], "gone": []}}) + " " * 10_000),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_a_commit_that_nobody_can_have_put_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "_HEAD", 5_000)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        with pytest.raises(Damaged):
            apply(connection, content, "c")


def test_a_write_whose_rows_no_reader_would_take_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "_HEAD", 5_000)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        note_changes(connection)
        connection.execute("INSERT INTO meta VALUES ('a', ?, 0)", ("x" * 6_000,))
        with pytest.raises(Invalid, match="send it in parts"):
            changes(connection)


def test_what_was_rolled_back_is_not_told(open_catalogue: OpenCatalogue):
    collection, kept = open_catalogue().create("c", model="words", kind="dense"), Kept()
    collection.database.home = kept
    with pytest.raises(sqlite3.IntegrityError), collection.database.write() as txn:
        txn.executemany("INSERT INTO live VALUES (?, 1)", [(b"undone",), (b"undone",)])
    write_documents(collection, [Document("a", "stands")])
    assert b"undone" not in b"".join(kept.commits.values())
