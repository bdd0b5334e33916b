"""The collections of a folder: names, creation, deletion, discovery, one server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import DIM, OpenCatalogue

from app.errors import Conflict, EncoderRefused, Invalid, NotFound, SheafError, Unavailable
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.search import Query, search
from app.settings import DeterministicModel
from app.store.database import Database
from app.types import Document

ROOT = Path(__file__).parents[2]


def test_a_collection_is_what_it_was_created_as(open_catalogue: OpenCatalogue) -> None:
    with open_catalogue() as catalogue:
        catalogue.create("a", model="words", kind="multi_vector")
        catalogue.create(
            "b", model=None, kind="dense", dim=3, similarity="inner_product", keep_vectors=False, precision="float32"
        )
        write_documents(catalogue.get("a"), [Document("x", "text"), Document("y", "text")])
        before = [replace(info, bytes=0) for info in catalogue.describe_all()]
    catalogue = open_catalogue()
    assert [replace(info, bytes=0) for info in catalogue.describe_all()] == before
    a, b = before
    assert (a.name, a.encoder.model, a.encoder.kind, a.encoder.dim, a.similarity, a.precision, a.keep_vectors) == (
        "a", "words", "multi_vector", DIM, "cosine", "8bit", True
    )  # fmt: skip
    assert (b.name, b.encoder.model, b.encoder.kind, b.encoder.dim, b.similarity, b.precision, b.keep_vectors) == (
        "b", None, "dense", 3, "inner_product", "float32", False
    )  # fmt: skip
    assert (a.documents, a.passages, a.tail, a.generation, a.state, a.error, a.read_only) == (
        2, 2, 2, 0, "ready", None, None
    )  # fmt: skip
    seal(catalogue.get("a"))
    sealed = catalogue.describe("a")
    assert (sealed.documents, sealed.tail, sealed.generation) == (2, 0, 1)
    files = [path for path in catalogue.get("a").folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    assert 0.5 * size <= sealed.bytes <= size


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "A"}, "/name"),
        ({"name": "-a"}, "/name"),
        ({"name": "a b"}, "/name"),
        ({"name": ".."}, "/name"),
        ({"name": "a/b"}, "/name"),
        ({"name": "a\n"}, "/name"),
        ({"name": "é"}, "/name"),
        ({"name": "a" * 64}, "/name"),
        ({"model": "unknown"}, "/encoder/model"),
        ({"model": "words", "dim": DIM + 1}, "/encoder/dim"),
        ({"dim": None}, "/encoder/dim"),
        ({"dim": 0}, "/encoder/dim"),
        ({"dim": 16_385}, "/encoder/dim"),
        ({"similarity": "inner_product", "precision": "float16"}, "/precision"),
        ({"kind": "dense", "precision": "1bit"}, "/precision"),
        ({"kind": "dense", "precision": "float16"}, "/precision"),
        ({"kind": "dense", "token_pooling": 2}, "/token_pooling"),
        ({"token_pooling": 0}, "/token_pooling"),
        ({"token_pooling": 33}, "/token_pooling"),
    ],
)
def test_what_cannot_be_is_refused(open_catalogue: OpenCatalogue, options: dict[str, Any], pointer: str) -> None:
    catalogue = open_catalogue()
    wanted = {"name": "a", "model": None, "kind": "dense", "dim": 2, **options}
    with pytest.raises(Invalid) as caught:
        catalogue.create(wanted.pop("name"), **wanted)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert list(catalogue.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "0", "a" * 63, "a_b-c", "0-"])
def test_names_that_can_be(open_catalogue: OpenCatalogue, name: str) -> None:
    assert open_catalogue().create(name, model=None, kind="dense", dim=1).name == name


def test_a_kind_that_the_model_has_not_is_refused(open_catalogue: OpenCatalogue) -> None:
    models = {"far": {"type": "remote", "url": "http://127.0.0.1:9/v1", "model": "m", "dim": 4}}
    with pytest.raises(Invalid, match="dense") as caught:
        open_catalogue(models=models).create("a", model="far", kind="multi_vector")
    assert caught.value.problems[0].pointer == "/encoder/kind"


def test_an_encoder_that_does_not_open_creates_nothing(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    models = {"gone": {"type": "sentence_transformer", "path": str(tmp_path / "nowhere")}}
    catalogue = open_catalogue(models=models)
    with pytest.raises(SheafError):
        catalogue.create("a", model="gone", kind="dense")
    assert catalogue.describe_all() == []
    assert EncoderRefused.status == 503


def test_of_many_that_create_one_name_one_succeeds(open_catalogue: OpenCatalogue) -> None:
    catalogues = [open_catalogue() for _ in range(3)]
    start = threading.Barrier(6)

    def create(number: int) -> None:
        start.wait()
        catalogues[number % 3].create("a", model=None, kind="dense", dim=2)

    with ThreadPoolExecutor(6) as pool:
        errors = [future.exception() for future in [pool.submit(create, number) for number in range(6)]]
    assert errors.count(None) == 1
    assert {error.code for error in errors if isinstance(error, Conflict)} == {"collection_exists"}
    assert sum(isinstance(error, Conflict) for error in errors) == 5
    assert [path.name for path in catalogues[0].folder.iterdir()] == ["a"]


def test_what_is_not_there(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue()
    (catalogue.folder / "empty").mkdir()
    for name in ("a", "empty", "..", "a/b", ""):
        for attempt in (catalogue.get, catalogue.describe, catalogue.delete, catalogue.tasks, catalogue.begin_rebuild):
            with pytest.raises(NotFound) as caught:
                attempt(name)
            assert caught.value.code == "collection_not_found"
    for ask in (catalogue.task, catalogue.cancel_task):
        with pytest.raises(NotFound) as caught:
            ask("no")
        assert caught.value.code == "task_not_found"


def test_a_deleted_collection_is_gone_and_its_name_is_free(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True)
    old = catalogue.create("a", model="words", kind="multi_vector")
    write_documents(old, [Document("x", "old text")])
    catalogue.delete("a")
    assert list(catalogue.folder.iterdir()) == []
    with pytest.raises(NotFound):
        catalogue.get("a")
    new = catalogue.create("a", model="words", kind="multi_vector")
    write_documents(new, [Document("y", "new text")])
    # A holder of the old one must not meet the new one's documents.
    for attempt in (
        lambda: search(old, Query(text="text")),
        lambda: old.get("x"),
        lambda: write_documents(old, [Document("z", "text")]),
        lambda: seal(old),
    ):
        with pytest.raises(Unavailable):
            attempt()
    assert [hit.id for hit in search(new, Query(text="text")).hits] == ["y"]
    catalogue.close()
    assert [d.id for d in open_catalogue().get("a").listing(None, 10)[0]] == ["y"]


def test_writers_of_a_collection_that_is_deleted(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(tasks=True, seal_documents=5)
    collection = catalogue.create("a", model="words", kind="multi_vector")
    started = threading.Barrier(3)

    def write(prefix: str) -> None:
        started.wait()
        for i in range(10_000):
            write_documents(collection, [Document(f"{prefix}{i}", f"text {i}")])

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, "x"), pool.submit(write, "y")]
        started.wait()
        while collection.count() < 20:
            pass
        catalogue.delete("a")
    for writer in writers:
        with pytest.raises(Unavailable, match="deleted"):
            writer.result()
    assert list(catalogue.folder.iterdir()) == []


def test_a_collection_that_another_process_built_is_found(open_catalogue: OpenCatalogue) -> None:
    server = open_catalogue(tasks=True)
    server.serve("http://here")
    assert server.describe_all() == []
    script = """
import sys
from pathlib import Path
from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.ingest import write_documents
from app.settings import Settings
from app.types import Document
settings = Settings(indexes=Path(sys.argv[1]), models={"words": {"type": "deterministic", "dim": 32}})
with Catalogue(settings.indexes, Encoders(settings.models), settings) as catalogue:
    write_documents(catalogue.create("built", model="words", kind="multi_vector"), [Document("x", "some text")])
"""
    subprocess.run([sys.executable, "-c", script, str(server.folder)], check=True, cwd=ROOT)
    assert [info.name for info in server.describe_all()] == ["built"]
    assert [hit.id for hit in search(server.get("built"), Query(text="text")).hits] == ["x"]
    write_documents(server.get("built"), [Document("y", "some text")])
    assert server.describe("built").documents == 2


def test_a_second_server_of_one_folder_is_refused(open_catalogue: OpenCatalogue) -> None:
    first = open_catalogue()
    assert not first.ready
    first.serve("http://first:1")
    assert first.ready
    second = open_catalogue()
    with pytest.raises(Conflict, match="http://first:1") as caught:
        second.serve("http://second:2")
    assert caught.value.code == "folder_busy"
    assert not second.ready
    # A caller refused a collection is told where its writer is.
    first.create("a", model="words", kind="multi_vector")
    with pytest.raises(Conflict, match="the server at http://first:1"):
        write_documents(second.get("a"), [Document("x", "text")])
    first.close()
    second.serve("http://second:2")
    assert second.ready
    assert (second.folder / ".server.lock").read_text() == "http://second:2"


def test_locks_end_with_the_process(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue()
    catalogue.create("a", model="words", kind="multi_vector")
    catalogue.close()
    script = """
import sys
from pathlib import Path
from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.settings import Settings
settings = Settings(indexes=Path(sys.argv[1]))
catalogue = Catalogue(settings.indexes, Encoders({}), settings)
catalogue.serve("http://killed")
print(catalogue.get("a").is_writer, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(catalogue.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env={**os.environ, "SHEAF_PORT": "0"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with pytest.raises(Conflict, match="http://killed"):
            open_catalogue().serve("http://other")
        process.send_signal(signal.SIGKILL)
    server = open_catalogue()
    server.serve("http://other")
    assert server.get("a").is_writer


def test_leftovers_are_removed_by_the_next_server(open_catalogue: OpenCatalogue) -> None:
    with open_catalogue() as catalogue:
        collection = catalogue.create("a", model="words", kind="multi_vector")
        write_documents(collection, [Document("x", "text")])
        seal(collection)
    (segment,) = (collection.folder / "segments").iterdir()
    strays = [
        catalogue.folder / ".creating-b-1",
        catalogue.folder / ".deleted-c-2",
        collection.folder / "segments" / "stopped",
        segment.with_name("merged.gone"),
    ]
    for stray in strays:
        stray.mkdir()
        (stray / "file").write_text("x")
    (collection.folder / "tail" / "77.safetensors").write_text("x")
    (collection.folder / "imports").mkdir()
    (collection.folder / "imports" / "upload.ndjson").write_text("x")
    server = open_catalogue(tasks=True)
    server.serve("http://here")
    assert sorted(path.name for path in server.folder.iterdir()) == [".server.lock", "a"]
    assert list((collection.folder / "segments").iterdir()) == [segment]
    assert list((collection.folder / "tail").iterdir()) == []
    assert list((collection.folder / "imports").iterdir()) == []
    assert server.get("a").count() == 1


def test_a_server_that_starts_leaves_what_another_process_is_making(
    open_catalogue: OpenCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, server = open_catalogue(), open_catalogue()
    created = Database.create

    def create(folder: Path, name: str, *rest: Any) -> None:
        created(folder, name, *rest)
        if not server_started:
            server_started.append(name)
            server.serve("http://here")

    server_started: list[str] = []
    monkeypatch.setattr(Database, "create", create)
    made = script.create("a", model="words", kind="multi_vector")
    assert server_started == ["a"]
    assert write_documents(made, [Document("x", "text")]).written == 1
    assert server.get("a").count() == 1


def test_a_collection_can_be_moved(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    with open_catalogue() as catalogue:
        collection = catalogue.create("a", model="words", kind="multi_vector")
        write_documents(collection, [Document("x", "text")])
        seal(collection)
        write_documents(collection, [Document("y", "text")])
    (tmp_path / "elsewhere").mkdir()
    collection.folder.rename(tmp_path / "elsewhere" / "b")
    moved = open_catalogue(tmp_path / "elsewhere").get("b")
    assert [hit.id for hit in search(moved, Query(text="text")).hits] == ["x", "y"]
    for path in moved.folder.rglob("*"):
        if path.is_file():
            assert not re.search(re.escape(os.fsencode(tmp_path)), path.read_bytes())


def test_what_is_being_closed_keeps_no_task_of_others_from_being_seen(open_catalogue: OpenCatalogue) -> None:
    """As while it is replaced by a restore: its task thread may take a while to stop."""
    catalogue = open_catalogue()
    for name in ("a", "b", "c"):
        catalogue.create(name, model="words", kind="multi_vector")
    tasks = {name: catalogue.begin_rebuild(name).id for name in ("a", "b", "c")}
    catalogue.get("b").close()
    assert {catalogue.task(tasks[name]).collection for name in ("a", "c")} == {"a", "c"}
    assert {task.collection for task in catalogue.list_tasks()[0]} == {"a", "c"}
    # It is there, though nobody can see it now.
    with pytest.raises(Unavailable):
        catalogue.task(tasks["b"])
    with pytest.raises(NotFound):
        catalogue.task("0" * 32)
    assert [info.name for info in catalogue.describe_all()] == ["a", "b", "c"]


def test_models_are_named_by_the_operator(open_catalogue: OpenCatalogue) -> None:
    """A collection whose model is not configured any more opens, and says what is missing when it needs it."""
    with open_catalogue() as catalogue:
        write_documents(catalogue.create("a", model="words", kind="multi_vector"), [Document("x", "text")])
    catalogue = open_catalogue(models={"others": DeterministicModel(type="deterministic")})
    collection = catalogue.get("a")
    assert collection.get("x").text == "text"
    with pytest.raises(Invalid, match="words"):
        search(collection, Query(text="text"))
    assert json.loads(json.dumps(catalogue.describe("a").encoder.model)) == "words"
