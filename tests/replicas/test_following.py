"""A reader's copy, over a store that goes away, comes late, or holds what no writer has put there."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from app.collection.view import Generation
from app.errors import Closed, Damaged, StoreUnavailable
from app.objects.clock import Clock
from app.objects.folder import Folder
from app.objects.persistent import Persistent
from app.replicas.applying import advance, base_of
from app.replicas.following import Following, fetch_copy
from app.replicas.position import position_of
from app.replicas.rows import changes, note_changes
from app.replicas.writing import Writing
from app.replication.reader import open_reader
from app.replication.writer import LogWriter, claim
from app.store.database import Database, put_meta
from app.store.layout import DATABASE
from app.store.local_directory import LocalDirectory

HISTORY = "c-1"
Run = Callable[[sqlite3.Connection], object]


class Requests:
    """Of a folder; ``asked`` is told before each."""

    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)
        self.place = self._folder.place
        self.asked: Callable[[str, str], object] = lambda kind, name: None

    def __getattr__(self, kind: str) -> Any:
        found = getattr(self._folder, kind)

        def ask(name: Any, *given: Any) -> Any:
            self.asked(kind, name if isinstance(name, str) else name[0])
            return found(name, *given)

        return ask


class Home:
    """A history in a store, and its writer's folder."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path, self.requests = path, Requests(path / "store")
        self.objects = Persistent(self.requests, deadline_s=0.0)  # type: ignore[arg-type]
        self.files = LocalDirectory(path / "writer")
        self.writing = Writing(
            self.files, "c", self.objects, HISTORY, partial(claim, self.objects, lambda base: None, clock=clock)
        )
        self.writing.claim() if (path / "store" / "head").exists() else self.writing.adopt()
        self.database = Database(self.files.path, "c")
        self.database.home = self.writing
        self._numbers = iter(range(1, 1_000))

    @property
    def log(self) -> LogWriter:
        assert isinstance(self.writing._writer, LogWriter)
        return self.writing._writer

    def write(self, *files: bytes) -> None:
        """A commit, with a chunk of the tail for each content."""
        with self.database.write() as txn:
            put_meta(txn, {"noted": next(self._numbers)})
            for content in files:
                number = next(self._numbers)
                (self.files.path / "tail").mkdir(exist_ok=True)
                (self.files.path / "tail" / f"{number}.safetensors").write_bytes(content)
                txn.execute(
                    "INSERT INTO tail VALUES (?, 1, ?, NULL, ?, 0)", (number, f"{number}.safetensors", len(content))
                )

    def put(self, run: Run) -> None:
        """A commit that no writer of ours would make."""
        with closing(sqlite3.connect(self.files.path / DATABASE, isolation_level=None)) as connection:
            note_changes(connection)
            connection.execute("BEGIN")
            run(connection)
            self.log.append(self.log.draft(changes(connection)))
            connection.execute("ROLLBACK")

    def close(self) -> None:
        self.database.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history with one commit after its base, and a reader's copy of it."""
    path = tmp_path_factory.mktemp("home")
    LocalDirectory(path / "writer").make()
    Database.create(path / "writer", "c", {"generation": Generation(0).to_json()})
    with closing(Home(path)) as home:
        home.write()
        fetch_copy(LocalDirectory(path / "reader"), "c", home.objects, HISTORY, partial(open_reader, home.objects))
    return path


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Iterator[Home]:
    shutil.copytree(made, tmp_path / "home")
    with closing(Home(tmp_path / "home")) as found:
        yield found


@pytest.fixture
def following(home: Home) -> Iterator[Following]:
    found = follow(home)
    yield found
    home.requests.asked = lambda kind, name: None
    found.close()


def follow(home: Home, **given: Any) -> Following:
    files = LocalDirectory(home.path / "reader")
    found = Following(files, "c", home.objects, HISTORY, partial(open_reader, home.objects), **given)
    found.hold()
    return found


def rows(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        found: list[Any] = connection.execute("SELECT key, value FROM meta WHERE key != 'home'").fetchall()
        return sorted(found + connection.execute("SELECT * FROM tail").fetchall(), key=repr)


def refuse(kinds: Sequence[str] = (), prefix: str = "") -> Callable[[str, str], object]:
    def asked(kind: str, name: str) -> None:
        if (not kinds or kind in kinds) and name.startswith(prefix):
            raise StoreUnavailable("the store is away")

    return asked


def test_a_reader_whose_fetching_fails_skips_no_commit(home: Home, following: Following) -> None:
    following.step()
    home.write(b"a chunk")
    home.write()
    # The commits are read, their files are not, and neither is the lease given back.
    home.requests.asked = lambda kind, name: (refuse(["get"], "files/")(kind, name), refuse(["remove"])(kind, name))
    with pytest.raises(StoreUnavailable):
        following.step()
    home.requests.asked = lambda kind, name: None
    home.write()
    assert following.step() == 3
    assert rows(home.path / "reader") == rows(home.path / "writer")


def test_a_commit_is_applied_after_the_one_before_it_alone(home: Home) -> None:
    for _ in range(3):
        home.write()
    with closing(Database(home.path / "reader", "c")) as database:
        position, _ = position_of(database)
        assert position is not None
        reader = open_reader(home.objects, lambda base: None)
        commits = [one for one in reader.opened.commits if one.number > position.number]
        apply = partial(advance, LocalDirectory(home.path / "reader"), database, home.objects, HISTORY)
        for wrong in (commits[1:], [commits[0], commits[2]], [commits[0], commits[0]], [reader.opened.commits[0]]):
            with pytest.raises(Damaged, match="goes on with commit"):
                apply(wrong)
            assert position_of(database)[0] == position
        apply(commits)
    assert rows(home.path / "reader") == rows(home.path / "writer")


def test_a_reader_that_ends_while_the_store_is_away_holds_nothing(home: Home) -> None:
    following, ended = follow(home), threading.Event()
    following.step()

    def wait(kind: str, name: str) -> None:
        ended.wait(5)
        raise StoreUnavailable("the store is away")

    # It does not know yet: the request to give the lease back has no answer until after the end.
    home.requests.asked = wait
    following.close()
    assert not following.lock.held
    assert following._database is None
    ended.set()
    # It knows: nothing is asked any more.
    home.requests.asked = lambda kind, name: None
    following = follow(home)
    following.step()
    home.requests.asked = refuse()
    with pytest.raises(StoreUnavailable):
        following.step()
    asked: list[str] = []
    home.requests.asked = lambda kind, name: asked.append(kind)
    following.close()
    assert (following.lock.held, asked) == (False, [])


def test_a_step_that_is_to_end_does_so_before_the_next_piece(home: Home) -> None:
    stopping: list[bool] = []
    following = follow(home, stopped=lambda: bool(stopping))
    home.write(*(b"%d" % i for i in range(60)))
    read: list[str] = []

    def asked(kind: str, name: str) -> None:
        if name.startswith("files/"):
            read.append(name)
            stopping.append(True)

    home.requests.asked = asked
    with pytest.raises(Closed):
        following.step()
    assert len(read) <= 16
    following.close()


def test_a_lease_is_renewed_while_files_are_fetched(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "home")
    time = [1_700_000_000.0]
    clock = replace(Clock(), now=lambda: time[0], passed=lambda: time[0])
    with closing(Home(tmp_path / "home", clock=clock)) as home:
        home.write(*(b"%d" % i for i in range(20)))
        leases = home.path / "store" / "leases"
        lock, live = threading.Lock(), list[bool]()

        def asked(kind: str, name: str) -> None:
            if kind == "get" and name.startswith("files/"):
                with lock:
                    time[0] += 25
                    live.append(any(json.loads(one.read_text())["until"] > time[0] for one in leases.iterdir()))

        home.requests.asked = asked
        one_by_one = Persistent(home.requests, together=lambda calls: [call() for call in calls])  # type: ignore[arg-type]
        fetch_copy(
            LocalDirectory(home.path / "new"), "c", one_by_one, HISTORY, partial(open_reader, one_by_one, clock=clock)
        )
        assert len(live) > 20
        assert all(live)
        assert rows(home.path / "new") == rows(home.path / "writer")


def test_a_copy_whose_fetching_was_interrupted_keeps_what_it_has(home: Home) -> None:
    home.write(*(b"%d" % i for i in range(12)))
    home.writing.rebase()
    read: list[str] = []

    def asked(kind: str, name: str) -> None:
        if kind == "get" and name.startswith("files/"):
            read.append(name)
            if len(read) == 8:
                raise StoreUnavailable("the store is away")

    home.requests.asked = asked
    one_by_one = Persistent(home.requests, deadline_s=0.0, together=lambda calls: [call() for call in calls])  # type: ignore[arg-type]
    new = LocalDirectory(home.path / "new")
    fetch_copy(new, "c", one_by_one, HISTORY, partial(open_reader, one_by_one))
    assert rows(new.path) == rows(home.path / "writer")
    # The base and the one that failed are read twice, and nothing else.
    assert len(read) == len(set(read)) + 2
    home.requests.asked = refuse()
    with pytest.raises(StoreUnavailable):
        fetch_copy(LocalDirectory(home.path / "none"), "c", one_by_one, HISTORY, partial(open_reader, one_by_one))


def test_a_file_of_the_same_name_and_size_is_held_to_its_checksum(home: Home, following: Following) -> None:
    home.write(b"theirs")
    (name,) = [one.name for one in (home.path / "writer" / "tail").iterdir()]
    following.step()
    (home.path / "reader" / "tail" / name).unlink()
    following.close()
    with closing(Database(home.path / "reader", "c")) as database, database.read() as connection:
        assert connection.execute("SELECT count(*) FROM tail").fetchone() == (1,)
    # What a stop left, of a write that never was.
    shutil.rmtree(home.path / "reader")
    files = LocalDirectory(home.path / "reader")
    (files.path / "tail").mkdir(parents=True)
    (files.path / "tail" / name).write_bytes(b"unmade")
    fetch_copy(files, "c", home.objects, HISTORY, partial(open_reader, home.objects))
    assert (files.path / "tail" / name).read_bytes() == b"theirs"


def record(home: Home, unit: str, file: str) -> Run:
    stored = home.log.put_file(BytesIO(b"abc"), "x")
    return lambda txn: put_meta(txn, {f"stored:{unit}": {file: list(stored)}})


def generation(**changed: Any) -> Run:
    return lambda txn: put_meta(txn, {"generation": {**Generation(1).to_json(), **changed}})


OUTSIDE = "../../escaped"
UNNAMED: list[Callable[[Home], Run]] = [
    lambda home: record(home, "segments/s", OUTSIDE),
    lambda home: record(home, "segments/s", str(home.path / "escaped")),
    lambda home: record(home, "segments/s", ".hidden"),
    lambda home: record(home, f"tail/{OUTSIDE}", "x"),
    lambda home: record(home, "tail/..", "x"),
    lambda home: record(home, "segments/a\\b", "x"),
    lambda home: lambda txn: put_meta(txn, {"stored:tail/x": {"x": ["../../head", 3, "0" * 64]}}),
    lambda home: lambda txn: put_meta(txn, {"stored:tail/x": {"x": ["files/x", -3, "0" * 64]}}),
    lambda home: lambda txn: put_meta(txn, {"stored:tail/x": ["x"]}),
    lambda home: lambda txn: txn.execute("INSERT INTO tail VALUES (9, 1, ?, NULL, 3, 4)", (OUTSIDE,)),
    lambda home: lambda txn: txn.execute("INSERT INTO tail VALUES (9, 1, ?, NULL, 3, 4)", (b"x",)),
    lambda home: generation(segments=[{"name": OUTSIDE, "passages": 1, "crc32": 0}]),
]


def test_no_name_from_the_store_leads_out_of_the_folder(home: Home, following: Following) -> None:
    before = rows(home.path / "reader")
    for unnamed in UNNAMED:
        home.log._drafted = None
        home.put(unnamed(home))
        with pytest.raises(Damaged):
            following.step()
        assert rows(home.path / "reader") == before
        assert not list(home.path.rglob("escaped"))
        # The log goes on without it, for the next.
        (last,) = sorted((home.path / "store").glob("log/*/*"))[-1:]
        last.unlink()
        home.log._position = open_reader(home.objects, lambda base: None)._trail.position
    home.write()
    assert following.step() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER runs AFTER INSERT ON live BEGIN DELETE FROM documents; END",
        "CREATE VIEW more AS SELECT 1",
        "DROP TABLE state",
        "not a database",
    ],
)
def test_a_base_with_another_schema_is_refused_before_it_is_used(home: Home, statement: str) -> None:
    file = home.files.path / base_of(home.files)
    if statement == "not a database":
        file.write_bytes(b"not a database" * 1_000)
    else:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(statement)
    with file.open("rb") as stream:
        base = home.log.put_file(stream, "base")
    home.log.rebase(home.log.number, base, [])
    with pytest.raises(Damaged, match=r"which no collection has|lacks 'state'|not a database"):
        fetch_copy(LocalDirectory(home.path / "new"), "c", home.objects, HISTORY, partial(open_reader, home.objects))
