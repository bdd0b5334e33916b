"""Imports: on disk before they are accepted, applied line by line, to the end."""

from __future__ import annotations

import codecs
import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from embedding_server import EmbeddingServer
from made import DIM, OneEncoder, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.encoders.deterministic import MAX_WORDS, DeterministicEncoder
from app.errors import Conflict
from app.ingest import write_documents
from app.main import HANDLERS
from app.search import Query, search
from app.settings import DeterministicModel, RemoteModel, Settings
from app.tasks.importing import BATCH_LINES, LONGEST_LINE, ImportUpload
from app.tasks.records import ENDED, LISTED, Task, TaskError
from app.tasks.tasks import Running
from app.types import Document, Encoded, Kind


def upload(catalogue: Catalogue, body: bytes, on_error: Any = "stop", piece: int = 1000) -> Task:
    begun = ImportUpload(catalogue.get("c"), catalogue.tasks("c"), on_error)
    for start in range(0, len(body), piece):
        begun.write(body[start : start + piece])
    return begun.commit()


def wait(catalogue: Catalogue, task: Task, errors_after: int = -1) -> Task:
    deadline = time.monotonic() + 60
    while (now := catalogue.task(task.id, errors_after)).state not in ENDED:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return now


def line(i: int) -> str:
    return json.dumps({"id": f"d{i}", "text": f"text {i}", "metadata": {"n": i}})


def bodies(collection: Collection) -> list[Path]:
    return list((collection.folder / "imports").iterdir())


def assert_no_body_stays(collection: Collection) -> None:
    """A body is removed after its task has ended durably, a moment later."""
    deadline = time.monotonic() + 60
    while bodies(collection):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    catalogue = open_catalogue(tasks=True, seal_documents=300)
    catalogue.create("c", model="words", kind="multi_vector")
    return catalogue


def test_every_line_is_applied_and_indexed(catalogue: Catalogue) -> None:
    count = 2 * BATCH_LINES + 77
    lines = [line(i) for i in range(count)]
    # Blank lines, \r\n, a document twice, no newline at the end.
    body = "\r\n".join([*lines[:10], "", "   ", *lines[10:], line(3)]).encode()
    task = upload(catalogue, body)
    assert (task.kind, task.state, task.collection) == ("import", "queued", "c")
    ended = wait(catalogue, task)
    assert (ended.state, ended.phase, ended.errors) == ("succeeded", "done", ())
    assert ended.done == ended.total == count + 3
    assert ended.created <= (ended.finished or "")
    collection = catalogue.get("c")
    assert [d.id for d in collection.listing(None, 10_000)[0]] == sorted(f"d{i}" for i in range(count))
    assert collection.get("d5") == Document("d5", "text 5", metadata={"n": 5})
    assert collection.published.tail.part.size == 0
    assert catalogue.describe("c").tail == 0
    assert search(collection, Query(text="text 588", k=1)).hits[0].id == "d588"
    assert_no_body_stays(collection)


BAD = [
    ("{", "malformed_body"),
    ('{"id": "x"}', "invalid"),
    ('{"id": "", "text": "x"}', "invalid"),
    ('{"id": "x", "text": "x", "metadata": {"n": [1e999]}}', "invalid"),
    ('{"id": "x", "text": "x", "vectors": [[1]]}', "invalid"),
    ('{"id": "x", "text": 1}', "invalid"),
    ('{"id": "x", "text": "x", "more": 1}', "invalid"),
    ("[]", "invalid"),
    ('{"id": "x", "text": "\\ud800"}', "malformed_body"),
]


def test_with_stop_a_bad_line_leaves_the_collection_as_it_was(catalogue: Catalogue) -> None:
    collection = catalogue.get("c")
    write_documents(collection, [Document("d0", "before")])
    before = collection.published.next_seq, collection.published.generation
    body = "\n".join([*(line(i) for i in range(600)), BAD[1][0], line(601), "{"]).encode()
    ended = wait(catalogue, upload(catalogue, body))
    assert ended.state == "failed"
    assert [(error.line, error.code) for error in ended.errors] == [(601, "invalid")]
    assert ended.errors[0].message.endswith("nothing was applied")
    assert (collection.published.next_seq, collection.published.generation) == before
    assert collection.get("d0").text == "before"
    assert_no_body_stays(collection)


@pytest.mark.slow
def test_a_bad_line_after_a_hundred_thousand(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True)
    collection = catalogue.create("c", model=None, kind="dense", dim=1)
    body = b'{"id":"a","vector":[1]}\n' * 100_000 + b'{"id":"a","vector":[NaN]}\n' + b'{"id":"b","vector":[1]}'
    assert len(body) > 2 * 2**20
    task = upload(catalogue, body, piece=2**20)
    while (ended := catalogue.task(task.id)).state not in ENDED:
        time.sleep(0.05)
    assert (ended.state, [error.line for error in ended.errors]) == ("failed", [100_001])
    assert "vector" in ended.errors[0].message
    assert ended.errors[0].message.endswith("nothing was applied")
    assert (collection.count(), collection.published.next_seq) == (0, 1)
    assert_no_body_stays(collection)


def test_with_skip_the_others_are_applied(catalogue: Catalogue) -> None:
    lines: list[str] = []
    for i, (bad, _) in enumerate(BAD):
        lines += [line(i), bad]
    ended = wait(catalogue, upload(catalogue, "\n".join(lines).encode(), "skip"))
    assert (ended.state, ended.done, ended.total) == ("succeeded", 2 * len(BAD), 2 * len(BAD))
    assert [(error.line, error.code) for error in ended.errors] == [
        (2 * i + 2, code) for i, (_, code) in enumerate(BAD)
    ]
    assert ended.errors_total == len(BAD)
    assert catalogue.get("c").count() == len(BAD)
    assert catalogue.get("c").get_many(["x"]) == []


def test_the_first_errors_are_listed_and_all_are_counted(catalogue: Catalogue) -> None:
    count = LISTED + 234
    ended = wait(catalogue, upload(catalogue, b"{\n" * count + line(1).encode(), "skip"))
    assert (ended.state, ended.errors_total) == ("succeeded", count)
    assert [error.line for error in ended.errors] == list(range(1, LISTED + 1))
    assert ended.warnings == ["1,234 errors: the first 1,000 are listed, more were not kept"]
    rest = catalogue.task(ended.id, LISTED - 10)
    assert [error.line for error in rest.errors] == list(range(LISTED - 9, LISTED + 1))
    assert catalogue.task(ended.id, LISTED).errors == ()
    assert catalogue.get("c").count() == 1
    assert catalogue.tasks("c").all()[0].errors == ()


def test_bad_lines_cost_no_statement_each(open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    catalogue = open_catalogue(tasks=True)
    catalogue.create("c", model="words", kind="multi_vector")
    counts = []
    for bad in (2 * LISTED, 6 * LISTED):
        before = len(seen)
        assert wait(catalogue, upload(catalogue, b"x\n" * bad, "skip")).errors_total == bad
        counts.append(sum(text.startswith(("INSERT", "UPDATE", "SELECT count")) for text in seen[before:]))
    assert counts[0] == counts[1] < LISTED + 50


def test_why_a_task_failed_is_listed_after_any_number_of_bad_lines(open_catalogue: OpenCatalogue) -> None:
    with open_catalogue() as catalogue:
        catalogue.create("c", model="words", kind="multi_vector")
        running = Running(catalogue.tasks("c"), 1, upload(catalogue, line(1).encode()))
        running.fail_lines([TaskError(i, "invalid", "bad") for i in range(1, LISTED + 5)])
        running.fail_lines([TaskError(0, "encoder_refused", "why"), TaskError(9_999, "invalid", "bad")])
        task = catalogue.task(running.task.id)
        assert task.errors_total == LISTED + 6
        assert task.errors[0] == TaskError(0, "encoder_refused", "why")
        assert catalogue.task(running.task.id, LISTED - 1).errors == (TaskError(LISTED, "invalid", "bad"),)


@pytest.mark.slow
def test_a_line_that_is_too_long_is_not_held(catalogue: Catalogue) -> None:
    long = b'{"id": "x", "text": "' + b"x" * (2 * LONGEST_LINE) + b'"}'
    body = b"\n".join([line(0).encode(), long, line(1).encode()])
    ended = wait(catalogue, upload(catalogue, body, "skip", piece=2**22))
    assert [(error.line, error.code) for error in ended.errors] == [(2, "invalid")]
    assert "longer than" in ended.errors[0].message
    assert [d.id for d in catalogue.get("c").listing(None, 10)[0]] == ["d0", "d1"]


@pytest.mark.parametrize("body", [b"", b"\n \n\n", codecs.BOM_UTF8])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_body_without_a_document_fails_and_says_so(catalogue: Catalogue, body: bytes, on_error: str) -> None:
    ended = wait(catalogue, upload(catalogue, body, on_error))
    assert (ended.state, ended.done, ended.total) == ("failed", 0, None)
    assert [(error.line, error.code) for error in ended.errors] == [(0, "invalid")]
    assert "the body holds no document: expected one JSON object a line (NDJSON)" in ended.errors[0].message


@pytest.mark.parametrize(
    "body",
    [
        b'[{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]',
        b'{"id": "a", "text": "x"} {"id": "b", "text": "y"}',
        b'[\n  {"id": "a", "text": "x"}\n]',
        b'{\n  "id": "a",\n  "text": "x"\n}',
        b"id,text\na,x\n",
    ],
)
def test_what_is_not_one_object_a_line_is_told_so(catalogue: Catalogue, body: bytes) -> None:
    ended = wait(catalogue, upload(catalogue, body))
    assert (ended.state, ended.errors[0].line) == ("failed", 1)
    assert "object a line (NDJSON)" in ended.errors[0].message
    assert catalogue.get("c").count() == 0


def test_cut_texts_are_counted_and_named(catalogue: Catalogue) -> None:
    title = "word " * MAX_WORDS
    long = [json.dumps({"id": f"long{i}", "title": title, "text": f"{i}"}) for i in range(2 * BATCH_LINES)]
    ended = wait(catalogue, upload(catalogue, "\n".join([line(0), *long]).encode()))
    assert ended.result == {"truncated": len(long), "truncated_ids": [f"long{i}" for i in range(10)]}
    (warning,) = ended.warnings
    assert warning.startswith("512 texts are longer than the encoder reads; what lies beyond is not searched: long0,")
    short = wait(catalogue, upload(catalogue, line(0).encode()))
    assert (short.result, short.warnings) == (None, [])


def test_an_aborted_upload_leaves_nothing(catalogue: Catalogue) -> None:
    begun = ImportUpload(catalogue.get("c"), catalogue.tasks("c"), "stop")
    begun.write(line(1).encode())
    assert len(bodies(catalogue.get("c"))) == 1
    begun.abort()
    assert bodies(catalogue.get("c")) == []
    assert catalogue.list_tasks() == ([], None)


def test_vectors_come_in_too(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True)
    catalogue.create("c", model=None, kind="dense", dim=2)
    body = b'{"id": "a", "vector": [1, 2]}\n{"id": "b", "vectors": [[1, 2]]}\n{"id": "c", "vector": [1]}\n'
    ended = wait(catalogue, upload(catalogue, body, "skip"))
    assert [(error.line, error.code) for error in ended.errors] == [(2, "invalid"), (3, "invalid")]
    assert [d.id for d in catalogue.get("c").listing(None, 10)[0]] == ["a"]


class HeldEncoder(DeterministicEncoder):
    """Waits before a batch until it is let go."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(DIM, kind)
        self.go, self.waits = threading.Semaphore(0), threading.Semaphore(0)

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        self.waits.release()
        assert self.go.acquire(timeout=60)
        return super().encode_documents(texts)


def held(folder: Path) -> tuple[Catalogue, HeldEncoder]:
    settings = Settings(indexes=folder, models={"words": DeterministicModel(type="deterministic")}, threads=1)
    encoder = HeldEncoder("multi_vector")
    return Catalogue(folder, OneEncoder(settings, encoder), settings, HANDLERS), encoder


def test_cancelled_it_keeps_what_it_applied_and_starts_no_more(tmp_path: Path) -> None:
    catalogue, encoder = held(tmp_path)
    with catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        body = "\n".join(line(i) for i in range(3 * BATCH_LINES)).encode()
        first, second = upload(catalogue, body), upload(catalogue, body)
        assert encoder.waits.acquire(timeout=60)
        # Queued, it ends at once; running, at the next batch.
        assert catalogue.cancel_task(second.id).state == "cancelled"
        running = catalogue.cancel_task(first.id)
        assert (running.state, running.phase) == ("running", "applying")
        encoder.go.release()
        ended = wait(catalogue, first)
        assert (ended.state, ended.done, ended.total) == ("cancelled", BATCH_LINES, 3 * BATCH_LINES)
        assert collection.count() == BATCH_LINES
        assert_no_body_stays(collection)
        assert catalogue.cancel_task(first.id) == ended
        assert [task.id for task in catalogue.list_tasks()[0]] == [second.id, first.id]


def test_interrupted_it_goes_on_from_its_last_batch(tmp_path: Path) -> None:
    count = 3 * BATCH_LINES
    body = "\n".join([*(line(i) for i in range(count)), "{"]).encode()
    catalogue, encoder = held(tmp_path)
    with catalogue:
        collection = catalogue.create("c", model="words", kind="multi_vector")
        task = upload(catalogue, body, "skip")
        assert encoder.waits.acquire(timeout=60)
        encoder.go.release()
        assert encoder.waits.acquire(timeout=60)
        now = catalogue.task(task.id)
        assert (now.state, now.phase, now.done, now.total) == ("running", "applying", BATCH_LINES, count + 1)
        assert now.rate >= 0
        assert collection.count() == BATCH_LINES
        # The stop comes while the second batch is encoded; that one is applied still.
        closing = threading.Thread(target=catalogue.close)
        closing.start()
        encoder.go.release()
        closing.join()
    stray = tmp_path / "c" / "imports" / "left-behind.ndjson"
    stray.write_text("x")
    catalogue, encoder = held(tmp_path)
    encoder.go.release()
    with catalogue:
        ended = wait(catalogue, catalogue.tasks("c").get(task.id))
        assert (ended.state, ended.done, ended.total) == ("succeeded", count + 1, count + 1)
        assert [error.line for error in ended.errors] == [count + 1]
        # One batch alone was left to encode.
        assert encoder.waits.acquire(timeout=1)
        assert not encoder.waits.acquire(blocking=False)
        assert catalogue.get("c").count() == count
        assert_no_body_stays(catalogue.get("c"))


def test_interrupted_while_it_indexes_it_only_indexes(open_catalogue: OpenCatalogue) -> None:
    with open_catalogue() as catalogue:
        catalogue.create("c", model="words", kind="multi_vector")
        body = "\n".join(line(i) for i in range(5)).encode()
        task = upload(catalogue, body)
    # As a kill between the last batch and the end would leave it, the body gone already.
    with open_catalogue() as catalogue:
        collection = catalogue.get("c")
        write_documents(collection, [Document(f"d{i}", f"text {i}", metadata={"n": i}) for i in range(5)])
        running = Running(catalogue.tasks("c"), 1, catalogue.task(task.id))
        running.update(state="running", phase="indexing", done=5, total=5)
        running.folder.remove(running.file)
    with open_catalogue(tasks=True) as catalogue:
        catalogue.serve("http://here")
        ended = wait(catalogue, task)
        assert (ended.state, ended.done, ended.errors) == ("succeeded", 5, ())
        assert catalogue.describe("c").tail == 0


def test_an_import_waits_for_the_writer(open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that starts while a script writes must not lose what it had accepted."""
    monkeypatch.setattr("app.compute.background.RETRY_S", 0.05)
    with open_catalogue() as catalogue:
        catalogue.create("c", model="words", kind="multi_vector")
        task = upload(catalogue, line(1).encode())
    script = open_catalogue()
    assert script.get("c").is_writer
    server = open_catalogue(tasks=True)
    server.serve("http://here")
    with pytest.raises(Conflict) as caught:
        upload(server, line(2).encode())
    assert caught.value.code == "collection_busy"
    time.sleep(0.2)
    assert server.task(task.id).state == "queued"
    script.close()
    assert wait(server, task).state == "succeeded"
    assert server.get("c").get("d1").text == "text 1"


def test_an_encoder_that_is_down_keeps_an_accepted_import_waiting(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.compute.background.RETRY_S", 0.01)
    with closing(EmbeddingServer()) as server, ExitStack() as before:
        model = RemoteModel(type="remote", url=server.url, model="m", dim=server.dim, retries=0)
        catalogue = open_catalogue(tasks=True, models={"remote": model})
        # The server waits for the encoder's connections.
        before.callback(catalogue.encoders.close)
        before.callback(catalogue.close)
        collection = catalogue.create("c", model="remote", kind="dense")
        asked = len(server.requests)
        # The first batch goes through; then the encoder is down for a while.
        down = (503, {"Content-Type": "application/json"}, b"{}")
        server.script = [server.right, *[lambda body: down] * 5]
        lines = [line(i) for i in range(BATCH_LINES + 40)]
        task = wait(catalogue, upload(catalogue, "\n".join(lines).encode()))
        assert (task.state, task.errors, task.done) == ("succeeded", (), len(lines))
        assert collection.count() == len(lines)
        assert server.script == []
        assert len(server.requests) - asked > 6


def test_a_text_that_the_encoder_refuses_is_a_bad_line(open_catalogue: OpenCatalogue) -> None:
    with closing(EmbeddingServer()) as server, ExitStack() as before:
        model = RemoteModel(type="remote", url=server.url, model="m", dim=server.dim)
        catalogue = open_catalogue(tasks=True, models={"remote": model})
        before.callback(catalogue.encoders.close)
        before.callback(catalogue.close)
        collection = catalogue.create("c", model="remote", kind="dense")
        right = server.right
        refusal = 413, {"Content-Type": "application/json"}, b'"too long"'
        server.right = lambda body: refusal if any(len(t) > 99 for t in body["input"]) else right(body)  # type: ignore[method-assign]
        lines = [line(i) for i in range(2 * BATCH_LINES)]
        # The same document twice: of those that are taken the last stands.
        lines[7] = json.dumps({"id": "d3", "text": "too long " * 100})
        lines[BATCH_LINES + 40] = json.dumps({"id": "x", "text": "too long " * 100})
        lines[9] = "{"
        body = "\n".join(lines).encode()
        task = wait(catalogue, upload(catalogue, body, "skip"))
        assert (task.state, task.errors_total, task.done) == ("succeeded", 3, len(lines))
        assert [(e.line, e.code) for e in task.errors] == [
            (8, "text_refused"),
            (10, "malformed_body"),
            (BATCH_LINES + 41, "text_refused"),
        ]
        assert "status 413" in task.errors[0].message
        assert collection.count() == len(lines) - 3
        assert collection.get("d3").text == "text 3"
        lines[9], lines[7] = line(9), line(7)
        task = wait(catalogue, upload(catalogue, "\n".join(lines).encode(), "stop"))
        assert (task.state, [error.line for error in task.errors]) == ("failed", [BATCH_LINES + 41])
        assert task.errors[0].message.endswith(
            f"of the lines before {BATCH_LINES + 1} all are applied, of those after none"
        )


@pytest.mark.parametrize("harm", ["changed", "gone", "a folder"])
def test_a_body_that_is_not_what_was_accepted_is_not_applied(open_catalogue: OpenCatalogue, harm: str) -> None:
    with open_catalogue() as catalogue:
        collection = catalogue.create("rotten", model="words", kind="multi_vector")
        tasks = catalogue.tasks("rotten")
        upload = ImportUpload(collection, tasks, "stop")
        upload.write(b'{"id": "a", "text": "one"}\n')
        task = upload.commit()
        path = tasks.folder.path / tasks.file(task.id)
        if harm == "changed":
            path.write_bytes(path.read_bytes().replace(b"one", b"two"))
        else:
            path.unlink()
        if harm == "a folder":
            path.mkdir()
    with open_catalogue(tasks=True) as catalogue:
        catalogue.serve("http://here")
        deadline = time.monotonic() + 60
        while (found := catalogue.task(task.id)).state not in ENDED:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (found.state, found.errors[0].code) == ("failed", "collection_damaged")
        assert path.name in found.errors[0].message
        assert "send the import again" in found.errors[0].message
        assert catalogue.get("rotten").count() == 0
