"""Building a collection by the command: sources, bad lines, interruptions, a server that has the collection."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from commands import ROOT, Command, OpenCatalogue, eventually

from app.encoders.deterministic import MAX_WORDS
from app.search import Query, search
from app.store.layout import DATABASE
from app.types import Document

COMMAND = [sys.executable, str(ROOT / "scripts" / "build_index.py")]


def document(i: int) -> dict[str, object]:
    return {"id": f"d{i}", "title": f"number {i}", "text": f"word{i} word{i + 1}", "metadata": {"i": i}}


def lines(documents: Iterable[object]) -> bytes:
    return b"".join(json.dumps(d).encode() + b"\n" for d in documents)


def stored(open_catalogue: OpenCatalogue, name: str = "c") -> dict[str, Document]:
    with open_catalogue() as catalogue:
        collection = catalogue.get(name)
        documents, cursor = collection.listing(None, 1000, None)
        assert cursor is None
        return {document.id: document for document in documents}


def test_a_build_is_complete_searchable_and_repeats_without_change(
    command: Command, tmp_path: Path, open_catalogue: OpenCatalogue
) -> None:
    source = tmp_path / "d.ndjson.gz"
    source.write_bytes(gzip.compress(lines(document(i) for i in range(300))))
    first = command("build_index", source, "--collection", "c", "--model", "words")
    assert (first.returncode, first.stdout) == (
        0,
        "collection c: 300 written, 0 unchanged, 0 faults, 0 without title and text\n",
    )
    assert "(100%)" in first.stderr
    with open_catalogue() as catalogue:
        info = catalogue.describe("c")
        assert (info.documents, info.tail, info.encoder.kind, info.encoder.model) == (300, 0, "multi_vector", "words")
        (hit, *_) = search(catalogue.get("c"), Query(text="word123 word124")).hits
        assert (hit.id, hit.title, hit.metadata) == ("d123", "number 123", {"i": 123})
        generation = info.generation
    second = command("build_index", source, "--collection", "c", "--model", "words")
    assert second.stdout == "collection c: 0 written, 300 unchanged, 0 faults, 0 without title and text\n"
    with open_catalogue() as catalogue:
        assert catalogue.describe("c").generation == generation


def test_a_build_pins_weights_and_is_held_to_them(
    command: Command, tmp_path: Path, open_catalogue: OpenCatalogue, server: str
) -> None:
    source = tmp_path / "d.ndjson"
    source.write_bytes(lines(document(i) for i in range(3)))
    for name, fusion, pinned in (
        ("weights", "words=.4,pooled=.6", {"words": 0.4, "tokens": 0.0, "pooled": 0.6}),
        ("ranks", "reciprocal_rank", "reciprocal_rank"),
    ):
        for _ in range(2):
            done = command("build_index", source, "--collection", name, "--model", "words", "--fusion", fusion)
            assert done.returncode == 0, done.stderr
        assert httpx.get(f"{server}/v1/collections/{name}").json()["fusion"] == pinned
        other = command("build_index", source, "--collection", name, "--model", "words", "--fusion", "words=1")
        assert (other.returncode, "its fusion is" in other.stderr) == (1, True), other.stderr
    bad = command("build_index", source, "--collection", "bad", "--model", "words", "--fusion", "words=1,smell=1")
    assert (bad.returncode, "smell" in bad.stderr) == (1, True), bad.stderr
    worse = command("build_index", source, "--collection", "bad", "--model", "words", "--fusion", "words")
    assert (worse.returncode, "--fusion: expected SIDE=WEIGHT" in worse.stderr) == (2, True), worse.stderr


def test_a_build_declares_a_schema_and_is_held_to_it(
    command: Command, tmp_path: Path, open_catalogue: OpenCatalogue
) -> None:
    source = tmp_path / "d.ndjson"
    metadata = {"by": {"on": "2024-05-01", "n": None}, "a b": [1, 1.0, {"deep": [10**40]}]}
    source.write_bytes(lines([{**document(0), "metadata": metadata}, {**document(1), "metadata": {"by": {"on": 7}}}]))
    build = partial(command, "build_index", source, "--collection", "c", "--model", "words", "--on-error", "skip")
    done = build("--schema", "by.on=date")
    assert (done.returncode, "1 written, 0 unchanged, 1 fault" in done.stdout) == (0, True), done.stderr
    assert "/metadata/by/on" in done.stderr
    with open_catalogue() as catalogue:
        assert catalogue.describe("c").schema == {"by.on": "date"}
        assert json.dumps(catalogue.get("c").get("d0").metadata) == json.dumps(metadata)
    assert build("--schema", '{"by.on": "date"}').returncode == 0
    other = build("--schema", "by.on=string")
    assert (other.returncode, "its schema is" in other.stderr) == (1, True), other.stderr
    wrong = build("--schema", "by.on=day")
    assert (wrong.returncode, "expected one of string" in wrong.stderr) == (2, True), wrong.stderr


def test_a_terminal_gets_a_bar_with_rate_and_remaining_time(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "d.ndjson").write_bytes(lines(document(i) for i in range(300)))
    ours, theirs = pty.openpty()
    command = [*COMMAND, "d.ndjson", "--collection", "c", "--model", "words"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, cwd=tmp_path):
        os.close(theirs)
        shown = b""
        # At the end of the other side, reading a terminal is an error on Linux and empty elsewhere.
        with suppress(OSError):
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    assert re.search(rb"c: 100%\|.*\[\d+:\d+<\d+:\d+, .*B/s, 300 documents\]", shown), shown


def test_changed_and_new_documents_are_written_and_no_others(
    command: Command, tmp_path: Path, open_catalogue: OpenCatalogue
) -> None:
    old = [document(i) for i in range(10)]
    command("build_index", "-", "--collection", "c", "--model", "words", stdin=lines(old))
    changed = [{**old[3], "text": "new text"}, {**old[4], "metadata": {}}, old[5], document(10)]
    again = command("build_index", "-", "--collection", "c", stdin=lines(changed))
    assert again.stdout.startswith("collection c: 3 written, 1 unchanged")
    found = stored(open_catalogue)
    assert len(found) == 11
    assert (found["d3"].text, found["d4"].metadata, found["d9"].text) == ("new text", {}, "word9 word10")


def test_a_csv_file_and_a_beir_folder(command: Command, tmp_path: Path, open_catalogue: OpenCatalogue) -> None:
    (tmp_path / "d.csv").write_text("key,plot,year,genre\n1,a car chase,1968,crime\n2,two robots,1977,\n")
    done = command(
        "build_index", "d.csv", "--collection", "films", "--model", "words", "--kind", "dense",
        "--id-column", "key", "--text-column", "plot", "--metadata-columns", "year:int,genre",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert stored(open_catalogue, "films") == {
        "1": Document("1", "a car chase", metadata={"year": 1968, "genre": "crime"}),
        "2": Document("2", "two robots", metadata={"year": 1977}),
    }
    folder = tmp_path / "beir"
    folder.mkdir()
    (folder / "corpus.jsonl").write_bytes(
        lines([{"_id": "a", "title": "A", "text": "x"}, {"_id": "b", "title": "", "text": ""}])
    )
    done = command("build_index", folder, "--collection", "beir", "--model", "words")
    assert done.stdout == "collection beir: 1 written, 0 unchanged, 0 faults, 1 without title and text\n"


def test_a_tsv_file_without_a_header(command: Command, tmp_path: Path, open_catalogue: OpenCatalogue) -> None:
    (tmp_path / "collection.tsv").write_text("0\tthe presence\n1\tthe project\n")
    columns = ("--id-column", "id", "--text-column", "text")
    done = command("build_index", "collection.tsv", "--collection", "c", "--model", "words", *columns)
    assert done.returncode == 1
    assert "--header" in done.stderr
    done = command(
        "build_index", "collection.tsv", "--collection", "c", "--model", "words", *columns, "--header", "id,text"
    )
    assert done.returncode == 0, done.stderr
    assert stored(open_catalogue) == {"0": Document("0", "the presence"), "1": Document("1", "the project")}


def test_documents_with_vectors_of_their_own(command: Command, open_catalogue: OpenCatalogue) -> None:
    given = lines([{"id": "a", "vector": [3, 4]}, {"id": "b", "vector": [1, 2, 3]}, {"id": "c", "text": "no vector"}])
    options = ("--model", "none", "--kind", "dense", "--dim", "2", "--on-error", "skip")
    done = command("build_index", "-", "--collection", "c", *options, stdin=given)
    assert done.returncode == 0
    assert done.stdout.startswith("collection c: 1 written, 0 unchanged, 2 faults")
    assert "line 2: " in done.stderr
    assert "line 3: " in done.stderr
    assert list(stored(open_catalogue)) == ["a"]


def test_documents_are_linked_here_and_by_a_server(
    command: Command, open_catalogue: OpenCatalogue, server: str
) -> None:
    given = lines([{"id": f"d{i}", "vector": [1, i]} for i in range(20)])
    options = ("--model", "none", "--kind", "dense", "--dim", "2", "--neighbours", "8")
    for name, where in (("here", ()), ("there", ("--server", server))):
        done = command("build_index", "-", "--collection", name, *options, *where, stdin=given)
        assert done.returncode == 0, done.stderr
    with open_catalogue() as catalogue:
        assert catalogue.get("here").published.stage.neighbours == 8
    report = httpx.get(f"{server}/v1/collections/there").json()["first_stage"]
    assert report["neighbours"]["links"] == 8
    several = command("build_index", "-", "--collection", "several", "--neighbours", "8", stdin=given)
    assert several.returncode == 1
    assert "--neighbours links the documents of a dense collection; several is multi_vector" in several.stderr
    few = command("build_index", "-", "--collection", "few", "--neighbours", "3", stdin=given)
    assert few.returncode == 2
    assert "expected 0, or 4 to 128 links, got '3'" in few.stderr


BAD = lines([document(0)]) + b"{broken\n" + lines([document(1), {"id": "x", "text": ""}, document(2)])


def test_a_bad_line_stops_with_its_number_after_what_came_before(
    command: Command, open_catalogue: OpenCatalogue
) -> None:
    done = command("build_index", "-", "--collection", "c", "--model", "words", stdin=BAD)
    assert done.returncode == 1
    assert "standard input, line 2: expected JSON" in done.stderr
    assert done.stderr.count("expected JSON") == 1
    assert done.stdout == ""
    assert list(stored(open_catalogue)) == ["d0"]


def names(open_catalogue: OpenCatalogue) -> list[str]:
    with open_catalogue() as catalogue:
        return [info.name for info in catalogue.describe_all()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{broken\n" + lines([document(0)]), "standard input, line 1: expected JSON"),
        (lines([{"id": "a", "vectors": [[1, 2]]}]), "standard input, line 1: /vectors"),
        (b"", "standard input holds no document"),
    ],
)
def test_a_build_of_nothing_leaves_no_collection(
    command: Command, open_catalogue: OpenCatalogue, content: bytes, said: str
) -> None:
    done = command("build_index", "-", "--collection", "c", "--model", "words", stdin=content)
    assert done.returncode == 1
    assert said in done.stderr
    assert ("Nothing is written" in done.stderr) == bool(content)
    assert names(open_catalogue) == []
    # Documents of before stay.
    command("build_index", "-", "--collection", "c", "--model", "words", stdin=lines([document(0)]))
    done = command("build_index", "-", "--collection", "c", "--model", "words", stdin=content)
    assert done.returncode == 1
    assert list(stored(open_catalogue)) == ["d0"]


def test_cut_texts_are_counted_and_named(command: Command, server: str) -> None:
    content = lines({"id": f"long{i}", "title": "word " * MAX_WORDS, "text": f"{i}"} for i in range(12))
    said = "12 texts are longer than the encoder reads; what lies beyond is not searched: long0, long1,"
    for _ in range(2):
        # The second time nothing is written, and what lies beyond is searched no more than before.
        done = command("build_index", "-", "--collection", "here", "--model", "words", stdin=content)
        assert said in done.stdout
    done = command("build_index", "-", "--collection", "there", "--model", "words", "--server", server, stdin=content)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr


def test_bad_lines_are_skipped_told_and_counted(command: Command, open_catalogue: OpenCatalogue) -> None:
    done = command("build_index", "-", "--collection", "c", "--model", "words", "--on-error", "skip", stdin=BAD)
    assert done.returncode == 0
    assert [line[:7] for line in done.stderr.splitlines() if line.startswith("line ")] == ["line 2:", "line 4:"]
    assert done.stdout == "collection c: 3 written, 0 unchanged, 2 faults, 0 without title and text\n"
    assert list(stored(open_catalogue)) == ["d0", "d1", "d2"]


def committed(folder: Path) -> int:
    """Documents on disk. Looked up in the file, for opening the collection could make this process its writer."""
    if not (folder / DATABASE).exists():
        return 0
    with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True)) as connection:
        count: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        return count


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_an_interrupted_build_goes_on_where_it_was(
    command: Command,
    environment: dict[str, str],
    tmp_path: Path,
    open_catalogue: OpenCatalogue,
    number: signal.Signals,
    code: int,
) -> None:
    documents = [document(i) for i in range(400)]
    with subprocess.Popen(
        [*COMMAND, "-", "--collection", "c", "--model", "words"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=tmp_path,
    ) as building:
        assert building.stdin is not None
        assert building.stderr is not None
        # Two batches come through, and it waits for the rest of the third.
        building.stdin.write(lines(documents[:300]))
        building.stdin.flush()
        try:
            eventually(lambda: committed(tmp_path / "indexes" / "c") == 256)
        finally:
            building.send_signal(number)
        assert building.wait() == code
        said = building.stderr.read().decode()
        assert ("the same command goes on from here" in said) == (number == signal.SIGINT)
    done = command("build_index", "-", "--collection", "c", "--model", "words", stdin=lines(documents))
    assert done.stdout.startswith("collection c: 144 written, 256 unchanged")
    assert len(stored(open_catalogue)) == 400


def test_who_interrupts_its_start_is_told_in_a_line(environment: dict[str, str], tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "pydantic.py").write_text(f"import time\nopen({str(started)!r}, 'w').close()\ntime.sleep(600)\n")
    slow = {**environment, "PYTHONPATH": f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"}
    with subprocess.Popen(
        [*COMMAND, "-", "--collection", "c"], stderr=subprocess.PIPE, env=slow, text=True
    ) as building:
        assert building.stderr is not None
        try:
            eventually(started.exists)
        finally:
            building.send_signal(signal.SIGINT)
        assert (building.wait(), building.stderr.read()) == (130, "interrupted; the same command goes on from here\n")


def test_a_collection_that_is_something_else_is_not_touched(command: Command, open_catalogue: OpenCatalogue) -> None:
    command("build_index", "-", "--collection", "c", "--model", "words", stdin=lines([document(0)]))
    done = command("build_index", "-", "--collection", "c", "--kind", "dense", stdin=lines([document(1)]))
    assert done.returncode == 1
    assert "its kind is multi_vector, not dense" in done.stderr
    assert list(stored(open_catalogue)) == ["d0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.ndjson", "--collection", "c"), "none.ndjson is not there"),
        (("-", "--collection", "Not A Name", "--model", "words"), "a collection's name matches"),
        (("-", "--collection", "c", "--model", "unheard-of"), "unheard-of"),
        (("nowhere", "--collection", "c"), "nowhere is not there"),
        (("-", "--collection", "c", "--sync"), "--source NAME"),
        (("-", "--collection", "c", "--rename", "a"), "--rename: expected FIELD=NAME"),
        (("-", "--collection", "c", "--rename", "a=b", "--select", "a:int"), "'a' is renamed to 'b': call it so"),
        (("-", "--collection", "c", "--delimiter", "ab"), "--delimiter: expected one character"),
        (("-", "--collection", "c", "--charset", "klingon"), "--charset: expected a charset"),
    ],
)
def test_what_cannot_be_is_refused_by_name(command: Command, arguments: tuple[str, ...], message: str) -> None:
    done = command("build_index", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_are_refused(command: Command, environment: dict[str, str]) -> None:
    environment["SHEAF_PORT"] = "no-number"
    done = command("build_index", "-", "--collection", "c")
    assert done.returncode == 2
    assert "SHEAF_PORT" in done.stderr
    assert "no-number" not in done.stderr


def test_another_writer_is_respected(command: Command, open_catalogue: OpenCatalogue) -> None:
    with open_catalogue() as catalogue:
        catalogue.create("c", model="words", kind="multi_vector")
        done = command("build_index", "-", "--collection", "c", stdin=lines([document(0)]))
        assert done.returncode == 1
        assert "another process writes collection c" in done.stderr
    assert stored(open_catalogue) == {}


def create(server: str, name: str = "c") -> None:
    body = {"name": name, "encoder": {"model": "words", "kind": "multi_vector"}}
    assert httpx.post(f"{server}/v1/collections", json=body).status_code == 201


def ids(server: str, name: str = "c") -> list[str]:
    answer = httpx.get(f"{server}/v1/collections/{name}/documents", params={"limit": 1000}).json()
    return [document["id"] for document in answer["documents"]]


def test_where_a_server_has_the_collection_it_gets_the_documents(command: Command, server: str) -> None:
    create(server)
    content = lines(document(i) for i in range(300))
    done = command("build_index", "-", "--collection", "c", stdin=content)
    assert done.returncode == 0, done.stderr
    assert f"the server at {server} has collection c open" in done.stderr
    assert done.stdout.startswith("collection c: 300 applied by the server")
    assert len(ids(server)) == 300
    found = httpx.post(f"{server}/v1/collections/c/search", json={"query": "word7 word8", "k": 1}).json()
    assert found["hits"][0]["id"] == "d7"
    assert found["hits"][0]["metadata"] == {"i": 7}


def test_a_new_collection_is_seen_by_a_running_server(command: Command, server: str) -> None:
    done = command("build_index", "-", "--collection", "new", "--model", "words", stdin=lines([document(5)]))
    assert done.returncode == 0, done.stderr
    assert "sending" not in done.stderr
    assert ids(server, "new") == ["d5"]


@pytest.mark.parametrize("served", [True, False])
def test_sparse_vectors_come_with_the_documents(
    command: Command, server: str, open_catalogue: OpenCatalogue, served: bool
) -> None:
    sparse = {"indices": [7, 3], "values": [0.1, 2]}
    content = lines([{"id": "a", "text": "one", "sparse_vector": sparse}, {"id": "b", "text": "two"}])
    options = ("--model", "words", "--sparse", "none", *(("--server", server) if served else ()))
    done = command("build_index", "-", "--collection", "sparse", *options, stdin=content)
    assert done.returncode == 0, done.stderr
    if served:
        asked = {"sparse_vector": {"indices": [3], "values": [1]}}
        hits = httpx.post(f"{server}/v1/collections/sparse/search", json=asked).json()["hits"]
        assert [(hit["id"], hit["score"]) for hit in hits] == [("a", 2.0)]
        return
    with open_catalogue() as catalogue:
        documents, _ = catalogue.get("sparse").listing(None, 10, include={"vectors"})
        assert documents[0].sparse is not None
        assert documents[0].sparse.values.tolist() == [2.0, float(np.float32(0.1))]
    again = command("build_index", "-", "--collection", "sparse", "--sparse", "other", stdin=content)
    assert again.returncode == 1
    assert "its sparse is" in again.stderr


def test_a_server_by_name_makes_the_collection_and_takes_vectors(command: Command, server: str) -> None:
    content = lines([{"id": "a", "vectors": [[1, 2], [3, 4]], "text": "x"}, {"id": "b", "vectors": [[0.5, 0.25]]}])
    options = ("--server", server, "--model", "none", "--dim", "2")
    done = command("build_index", "-", "--collection", "own", *options, stdin=content)
    assert done.returncode == 0, done.stderr
    search = {"vectors": [[0.5, 0.25]], "k": 2, "include": ["vectors"]}
    hits = httpx.post(f"{server}/v1/collections/own/search", json=search).json()["hits"]
    assert sorted(hit["id"] for hit in hits) == ["a", "b"]


def test_bad_lines_through_a_server_keep_their_numbers(command: Command, server: str) -> None:
    # Line 2 is no document here; line 4 is one that only the server can refuse.
    content = lines([document(0)]) + b"{broken\n" + lines([document(1), {"id": "x", "vectors": [[1]]}, document(2)])
    create(server)
    stopped = command("build_index", "-", "--collection", "c", stdin=content)
    assert stopped.returncode == 1
    assert "standard input, line 2: expected JSON" in stopped.stderr
    assert ids(server) == []
    skipped = command("build_index", "-", "--collection", "c", "--on-error", "skip", stdin=content)
    assert skipped.returncode == 0, skipped.stderr
    assert [line[:7] for line in skipped.stderr.splitlines() if line.startswith("line ")] == ["line 2:", "line 4:"]
    # The sent bytes are told whole, also of a source that goes in one piece.
    assert f"c: sending: {len(content)} of {len(content)} B (100%)" in skipped.stderr
    assert skipped.stdout.startswith("collection c: 3 applied by the server, 2 faults")
    assert ids(server) == ["d0", "d1", "d2"]


def test_a_line_that_the_server_refuses_stops_the_import(command: Command, server: str) -> None:
    create(server)
    content = lines([document(0)]) + b"\n" + lines([{"id": "x", "vectors": [[1]]}])
    done = command("build_index", "-", "--collection", "c", stdin=content)
    assert done.returncode == 1
    assert "line 3: " in done.stderr
    assert "failed" in done.stderr
    assert ids(server) == []
    # One that the command itself has made goes again.
    for given in (content, lines([{"id": "x", "vectors": [[1]]}]), b"{broken\n", b""):
        done = command("build_index", "-", "--collection", "new", "--model", "words", "--server", server, stdin=given)
        assert done.returncode == 1
        assert httpx.get(f"{server}/v1/collections/new").status_code == 404


def test_a_server_that_is_not_there(command: Command) -> None:
    done = command(
        "build_index", "-", "--collection", "c", "--server", "http://127.0.0.1:9", stdin=lines([document(0)])
    )
    assert done.returncode == 1
    assert "the server at http://127.0.0.1:9 does not answer" in done.stderr
