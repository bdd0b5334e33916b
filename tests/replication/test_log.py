"""A log in a folder and in a bucket: what its users are promised, one process at a time, and what it costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from s3_server import KEYS, S3Server
from simulated import Process, Weather, World

from app.errors import Damaged, Fenced, FormatTooNew, Invalid, ObjectMissing, ReaderBehind
from app.objects.clock import Clock
from app.objects.opening import open_objects
from app.objects.protocol import Objects
from app.replication.head import HEAD, decode_head, encode_head
from app.replication.protocol import Stored
from app.replication.reader import LogReader, open_reader
from app.replication.records import decode, encode, record_name
from app.replication.terms import Terms
from app.replication.writer import LogWriter, claim

_PLACES = count()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> Objects:
    if request.param == "file":
        return open_objects(tmp_path.as_uri())
    return open_objects(f"s3://{s3.bucket}/log{next(_PLACES)}", endpoint=s3.endpoint, **KEYS)


@pytest.fixture
def here(tmp_path: Path) -> Objects:
    """In a folder alone, where the store makes no difference."""
    return open_objects(tmp_path.as_uri())


def nothing(base: Stored | None) -> None:
    assert base is None


def commit(writer: LogWriter, *contents: bytes, files: tuple[str, ...] = ()) -> None:
    for content in contents:
        writer.append(writer.draft(content, files))


def contents(opened: Any) -> list[bytes]:
    return [one.content for one in (opened if isinstance(opened, list) else opened.commits)]


class Later:
    """A clock that is put forward."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.clock = replace(Clock(), now=lambda: self.time, passed=lambda: self.time)


def test_what_one_writes_another_reads_and_the_next_goes_on(objects: Objects) -> None:
    first = claim(objects, nothing, note="first")
    assert (first.epoch, first.number, first.opened.commits) == (1, 0, ())
    reader = open_reader(objects, nothing)
    commit(first, b"one", b"")
    assert contents(reader.poll()) == [b"one", b""]
    assert reader.poll() == []
    second = claim(objects, nothing, note="second")
    assert contents(second.opened) == [b"one", b""]
    commit(second, b"three")
    # The former one finds out at its next commit, and stays so.
    for _ in range(2):
        with pytest.raises(Fenced, match=r"another writer \(second\) has taken over .* epoch 2"):
            commit(first, b"late")
    for call in (lambda: first.rebase(1, Stored("x", 1, ""), []), first.collect, first.settle, first.look):
        with pytest.raises(Fenced):
            call()
    assert contents(reader.poll()) == [b"three"]
    assert reader.number == second.number == 3
    latest = open_reader(objects, nothing)
    assert [(one.number, one.content) for one in latest.opened.commits] == [(1, b"one"), (2, b""), (3, b"three")]
    assert [one.chain for one in second.opened.commits] == [one.chain for one in latest.opened.commits[:2]]


def test_a_base_begins_the_log_later_and_garbage_goes_after_its_time(objects: Objects) -> None:
    later = Later()
    writer = claim(objects, nothing, terms=Terms(lease_s=10, grace_s=100), clock=later.clock)
    dropped, kept = (writer.put_file(BytesIO(f"file {i}".encode()), "segment") for i in range(2))
    commit(writer, b"1", files=(dropped.name,))
    commit(writer, b"2", files=(kept.name,))
    reader = open_reader(objects, nothing, clock=later.clock)
    base = writer.put_file(BytesIO(b"state of 2"), "base")
    commit(writer, b"3")
    writer.rebase(2, base, [kept.name])
    assert writer.collect() == []

    fetched: list[bytes] = []
    opened = open_reader(
        objects, lambda base: fetched.append(objects.read(base.name, 0, base.size)), clock=later.clock
    ).opened
    assert (fetched, opened.base, opened.number, contents(opened)) == ([b"state of 2"], base, 2, [b"3"])

    # The first reader holds what it was opened with, as long as it comes by.
    for _ in range(12):
        later.time += 9
        reader.poll()
    assert writer.collect() == []
    reader.hold(2)
    later.time += 9
    reader.poll()
    assert set(writer.collect()) == {dropped.name, record_name(1, 1), record_name(1, 2)}
    for name in (dropped.name, record_name(1, 1)):
        with pytest.raises(ObjectMissing):
            objects.get(name)
    # What is needed is there, and the next writer begins at the base.
    assert objects.get(kept.name)[0] == b"file 1"
    again = claim(objects, lambda base: fetched.append(objects.get(base.name)[0]), clock=later.clock)
    assert (fetched[-1], again.opened.number, contents(again.opened)) == (b"state of 2", 2, [b"3"])
    assert again.opened.chain == opened.chain


def test_a_reader_without_a_lease_finds_out_and_opens_anew(here: Objects) -> None:
    later = Later()
    writer = claim(here, nothing, terms=Terms(lease_s=10, grace_s=100), clock=later.clock)
    commit(writer, b"1")
    asleep = open_reader(here, nothing, clock=later.clock)
    commit(writer, b"2")
    writer.rebase(2, writer.put_file(BytesIO(b"base"), "base"), [])
    later.time += 1_000
    assert len(writer.collect()) == 3  # two commits, and the lease that ended
    with pytest.raises(ReaderBehind, match=r"begins after commit 2 .* open it anew"):
        asleep.poll()
    assert open_reader(here, lambda base: None, clock=later.clock).number == 2


def test_files_of_a_writer_that_ended_are_collected(here: Objects) -> None:
    later = Later()
    lost = claim(here, nothing, clock=later.clock).put_file(BytesIO(b"never named"), "segment")
    writer = claim(here, nothing, clock=later.clock)
    coming = writer.put_file(BytesIO(b"not named yet"), "segment")
    # Folders tell the time of the machine.
    later.time = Clock().now() + 1_000
    assert writer.collect() == [lost.name]
    commit(writer, b"1", files=(coming.name,))
    assert here.get(coming.name)[0] == b"not named yet"


def in_rows(call: Callable[[Objects], Any], build: Callable[[Objects], Any]) -> tuple[float, int]:
    """(requests of ``call`` in a row, requests of it in all), after ``build``."""
    world = World(1, Weather())
    world.rng.uniform = lambda low, high: 0.5  # type: ignore[method-assign]
    process = Process(world, "one", 0.0)
    found: list[Any] = []

    def run() -> None:
        made = build(process.objects)
        began, before = world.time, world.requests
        call(made)
        found.extend((world.time - began, world.requests - before))

    world.start(process, run)
    world.run()
    return found[0], found[1]


def written(objects: Objects) -> tuple[Objects, LogWriter]:
    """Two writers, a base, and 30 commits after it."""
    writer = claim(objects, nothing)
    commit(writer, b"1", b"2")
    writer.rebase(1, writer.put_file(BytesIO(b"base"), "base"), [])
    writer = claim(objects, lambda base: None)
    commit(writer, *[b"%d" % i for i in range(30)])
    return objects, writer


def test_a_reader_opens_by_two_requests_in_a_row() -> None:
    fetch = lambda objects: lambda base: objects.read(base.name, 0, base.size)  # noqa: E731
    rows, requests = in_rows(lambda made: open_reader(made[0], fetch(made[0])), written)
    # The head and a listing; the base, a lease, 30 commits, a commit and a seal of the epoch before, and two that may
    # come next.
    assert (rows, requests) == (2, 2 + 2 + 34)


@pytest.mark.parametrize(
    ("call", "requests"),
    [
        (lambda made: commit(made[1], b"x"), 1),
        (lambda made: made[1].draft(b"x"), 0),
        (lambda made: made[1].settle(), 0),
    ],
)
def test_a_commit_is_one_request(call: Callable[[Any], Any], requests: int) -> None:
    assert in_rows(call, written) == (requests, requests)


def test_looking_for_news_is_one_request_where_there_are_none() -> None:
    def opened(objects: Objects) -> LogReader:
        return open_reader(written(objects)[0], lambda base: None)

    assert in_rows(lambda reader: reader.poll(), opened) == (1, 1)


def test_what_is_asked_in_the_wrong_order_is_refused(here: Objects) -> None:
    writer = claim(here, nothing)
    first, second = writer.draft(b"a"), writer.draft(b"b")
    with pytest.raises(Invalid, match="is not the one that was drafted last"):
        writer.append(first)
    writer.append(second)
    with pytest.raises(Invalid):
        writer.append(second)
    with pytest.raises(Invalid, match="from 0 to 1, not of 2"):
        writer.rebase(2, Stored("files/x", 1, ""), [])
    with pytest.raises(Invalid, match="is no name of an object"):
        writer.draft(b"c", ["../x"])
    assert writer.settle() is None


def test_there_is_no_log_to_read_before_one_wrote(here: Objects) -> None:
    with pytest.raises(ObjectMissing):
        open_reader(here, nothing)


def change(objects: Objects, name: str, how: Callable[[bytes], bytes]) -> None:
    content, tag = objects.get(name)
    objects.replace(name, how(content), tag)


def newer(content: bytes) -> bytes:
    """A record of a later format, whose checksum is right."""
    rest = content[40:].replace(b'"format":1', b'"format":2')
    return content[:8] + hashlib.sha256(rest).digest() + rest


def of_another_place(content: bytes) -> bytes:
    record, _ = decode(content, "")
    return encode(replace(record, before="0" * 64))[0]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], type[Exception], str]] = {
    "a bit": (record_name(1, 2), lambda b: b[:-1] + bytes([b[-1] ^ 1]), Damaged, "not as they were written"),
    "cut": (record_name(1, 2), lambda b: b[:-3], Damaged, "not as they were written"),
    "nothing": (record_name(1, 2), lambda b: b"", Damaged, "0 bytes that are no record"),
    "another": (record_name(1, 2), of_another_place, Damaged, "expected the record 2 of epoch 1 after"),
    "newer": (record_name(1, 2), newer, FormatTooNew, "format 2 of the log"),
    "head": (HEAD, lambda b: b.replace(b'"epoch": 1', b'"epoch": 9'), Damaged, "not as they were written"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told_before_anything_is_used(here: Objects, kind: str) -> None:
    writer = claim(here, nothing)
    commit(writer, b"1", b"2", b"3")
    name, how, error, words = DAMAGE[kind]
    change(here, name, how)
    for open_it in (open_reader, claim):
        with pytest.raises(error, match=words):
            open_it(here, nothing)


def test_a_base_that_is_missing_is_damage(here: Objects) -> None:
    writer = claim(here, nothing)
    commit(writer, b"1")
    base = writer.put_file(BytesIO(b"base"), "base")
    writer.rebase(1, base, [])
    here.remove([base.name])
    for open_it in (open_reader, claim):
        with pytest.raises(Damaged, match="the base that its head names is missing"):
            open_it(here, lambda base: here.get(base.name))


def test_the_head_tells_what_it_was_told() -> None:
    world = World(1, Weather())
    process = Process(world, "one", 0.0)
    world.start(process, lambda: written(process.objects))
    world.run()
    content = world.store.get(HEAD)[0]
    head = decode_head(content, "here")
    assert encode_head(head) == content
    assert (head.epoch, head.start.number, head.base.size) == (2, 1, 4)
    assert json.loads(content.partition(b"\n")[2])["gone"][0][0] == 1


def test_what_is_not_the_logs_own_is_neither_collected_nor_in_the_way(here: Objects, tmp_path: Path) -> None:
    later = Later()
    lost = claim(here, nothing, clock=later.clock).put_file(BytesIO(b"never named"), "segment")
    writer = claim(here, nothing, clock=later.clock)
    foreign = ["leases/notes.txt", "leases/abc", "leases/a b", "files/a b", "files/README"]
    for name in foreign:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "leases/cde").write_text("not JSON")
    later.time = Clock().now() + 1_000
    assert writer.collect() == [lost.name]
    assert all((tmp_path / name).exists() for name in foreign)


def test_what_was_taken_of_an_opening_is_not_kept(here: Objects) -> None:
    commit(claim(here, nothing), b"1")
    for opened in (claim(here, nothing), open_reader(here, nothing)):
        assert contents(opened.opened) == [b"1"]
        opened.took()
        assert (opened.opened.number, opened.opened.commits) == (0, ())


def test_an_interruption_after_a_put_is_settled_as_a_lost_answer(here: Objects, monkeypatch: Any) -> None:
    writer = claim(here, nothing)
    put = here.put_new

    def interrupted(name: str, content: bytes) -> str:
        put(name, content)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(here, "put_new", interrupted)
    drafted = writer.draft(b"1")
    with pytest.raises(KeyboardInterrupt):
        writer.append(drafted)
    assert writer.unsure == drafted
    assert writer.settle() == drafted
    commit(writer, b"2")
    assert contents(open_reader(here, nothing).opened) == [b"1", b"2"]
