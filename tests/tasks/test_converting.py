"""Imports of other forms than lines: what the bulk build reads of a file is what an import of it applies."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files_made import docx, make, pdf
from made import OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.errors import Invalid
from app.sources.choose import PACKED as READ_PACKED
from app.sources.choose import RecordForm, open_source
from app.sources.folder import FileForm
from app.tasks.forms import MANY, PACKED, SINGLE, Asked
from app.tasks.importing import BATCH_LINES, ImportUpload, run_import
from app.tasks.records import Task
from app.tasks.tasks import Failed, Running, Stopping
from app.types import Document

SUFFIXES = {"csv": "csv", "json": "json", "xlsx": "xlsx", "parquet": "parquet", "arrow": "feather", "trec": "trec"}


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    catalogue = open_catalogue()
    catalogue.create("c", model="words", kind="multi_vector")
    return catalogue


def upload(catalogue: Catalogue, body: bytes, asked: Asked, on_error: Any = "stop") -> Task:
    begun = ImportUpload(catalogue.get("c"), catalogue.tasks("c"), on_error, asked)
    begun.write(body)
    return begun.commit()


def applied(catalogue: Catalogue, body: bytes, asked: Asked, on_error: Any = "stop") -> tuple[list[Document], Task]:
    """The documents of the collection afterwards, by id, and the task, which its handler has left."""
    task = upload(catalogue, body, asked, on_error)
    running = catalogue.tasks("c").running(task.id)
    run_import(catalogue.get("c"), running)
    return standing(catalogue.get("c")), catalogue.tasks("c").get(task.id)


def standing(collection: Collection) -> list[Document]:
    with collection.snapshot() as snapshot:
        seqs = [seq for view in snapshot.views for seq in view.part.seqs[view.alive].tolist()]
        found = snapshot.documents(seqs)
    return sorted(found.values(), key=lambda document: document.id)


def same(one: Document, other: Document) -> bool:
    return (one.id, one.title, one.text, one.metadata) == (other.id, other.title, other.text, other.metadata)


def test_the_forms_are_those_that_are_read() -> None:
    assert set(MANY) == {*get_args(RecordForm), "zip"}
    assert set(SINGLE) == set(get_args(FileForm))
    assert set(PACKED) == READ_PACKED


@pytest.mark.parametrize("form", SUFFIXES)
def test_records_are_what_a_bulk_build_reads_of_them(catalogue: Catalogue, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"file.{SUFFIXES[form]}"
    make(path)
    expected = [entry.found for entry in open_source(str(path)).entries()]
    found, task = applied(catalogue, path.read_bytes(), Asked(form))
    assert len(found) == len(expected) > 0
    documents = [one for one in expected if isinstance(one, Document)]
    assert all(map(same, found, sorted(documents, key=lambda document: document.id)))
    assert task.errors == ()


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("markdown", b"---\ntags: [a, b]\n---\n# The wren\nIt sings.\n"),
        ("text", "Größe\n".encode()),
        ("html", b"<title>Birds</title><main><p>The wren sings.</main>"),
        ("pdf", pdf([["The wren"], ["sings"]], "Wrens")),
        ("docx", None),
    ],
)
def test_a_file_is_one_document_under_the_id_that_is_given(
    catalogue: Catalogue, tmp_path: Path, form: str, content: bytes | None
) -> None:
    path = tmp_path / "wren.x"
    docx(path) if content is None else path.write_bytes(content)
    name: Any = form
    (entry,) = open_source(str(path), name).entries()
    assert isinstance(entry.found, Document)
    (found,), _ = applied(catalogue, path.read_bytes(), Asked(form, id="notes/a b/wren.x"))
    assert found.id == "notes/a b/wren.x"
    expected = entry.found
    assert (found.title, found.text, found.metadata) == (expected.title, expected.text, expected.metadata)


def test_fields_types_and_charsets_are_chosen(catalogue: Catalogue) -> None:
    body = "1;Größe;30;a\n2;Maß;;b\n".encode("latin-1")
    asked = Asked(
        "csv", header=("nr", "wort", "alter", "kind"), delimiter=";", charset="latin-1", id_field="number",
        text_field=("wort", "kind"), select="alter:int", rename=("nr=number",),
    )  # fmt: skip
    asked = Asked.from_params(json.loads(json.dumps(asked.to_params())))
    found, _ = applied(catalogue, body, asked)
    assert [(one.id, one.text, one.metadata) for one in found] == [
        ("1", "Größe\n\na", {"alter": 30}),
        ("2", "Maß\n\nb", found[1].metadata),
    ]
    assert not found[1].metadata.get("alter")


def test_a_compressed_file_is_read_as_what_it_holds(catalogue: Catalogue) -> None:
    body = gzip.compress(b'{"id": "a", "text": "one"}\n\n{"id": "b", "text": "two"}\n')
    found, _ = applied(catalogue, body, Asked("ndjson", compression="gz"))
    assert [one.id for one in found] == ["a", "b"]


@pytest.mark.slow  # HDF5 is read by a process of its own
def test_vectors_of_tables_and_arrays_come_to_the_bit(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    catalogue = open_catalogue()
    catalogue.create("c", model=None, kind="dense", dim=3)
    vectors = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    table = pa.table({"id": list("abcd"), "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 3)})
    pq.write_table(table, tmp_path / "t.parquet")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["vectors"] = vectors
    np.save(tmp_path / "t.npy", vectors)
    for name, form in (("t.parquet", "parquet"), ("t.npy", "npy"), ("t.h5", "hdf5")):
        before = {one.id for one in standing(catalogue.get("c"))}
        found, _ = applied(catalogue, (tmp_path / name).read_bytes(), Asked(form))
        new = [one.id for one in found if one.id not in before]
        assert len(new) == 4
        with catalogue.get("c").database.read() as connection:
            now = catalogue.get("c").published
            seqs = [seq for (seq,) in connection.execute("SELECT seq FROM live ORDER BY seq").fetchall()][-4:]
            kept = catalogue.get("c").documents(connection, now, seqs, {"vectors"}, catalogue.get("c").room())
        assert np.array_equal(np.concatenate([one.vectors for one in kept if one.vectors is not None]), vectors)


ROWS = b"id,text\na,one\n,two\nc,three\n" + b"x" * 600 + b",too long\ne,five\n"


def test_faults_have_the_numbers_of_the_file(catalogue: Catalogue) -> None:
    body = json.dumps([{"id": "a", "text": "one"}, 7, {"id": "b" * 600, "text": "x"}, {"id": "c", "text": "z"}])
    found, task = applied(catalogue, body.encode(), Asked("json"), "skip")
    assert [one.id for one in found] == ["a", "c"]
    assert [error.line for error in task.errors] == [2, 3]
    assert "512 bytes" in task.errors[1].message
    found, task = applied(catalogue, ROWS, Asked("csv", id_field="id"), "skip")
    assert [one.id for one in found] == ["a", "c", "e"]
    assert [error.line for error in task.errors] == [3, 5]
    assert task.errors_total == 2


def test_with_stop_nothing_is_applied(catalogue: Catalogue) -> None:
    task = upload(catalogue, ROWS, Asked("csv", id_field="id"))
    running = catalogue.tasks("c").running(task.id)
    with pytest.raises(Failed):
        run_import(catalogue.get("c"), running)
    (error,) = catalogue.tasks("c").get(task.id).errors
    assert error.line == 3
    assert error.message.endswith("; nothing was applied")
    assert catalogue.get("c").count() == 0


@pytest.mark.parametrize(
    "form", ["parquet", "xlsx", "pdf", "docx", "arrow", "npy", pytest.param("hdf5", marks=pytest.mark.slow)]
)
def test_what_is_no_such_file_is_told_without_a_path_of_the_server(catalogue: Catalogue, form: str) -> None:
    asked = Asked(form, id="a" if form in SINGLE else None)
    for on_error in ("stop", "skip"):
        task = upload(catalogue, b"this is no such file", asked, on_error)
        running = catalogue.tasks("c").running(task.id)
        if on_error == "stop":
            with pytest.raises(Failed):
                run_import(catalogue.get("c"), running)
        else:
            run_import(catalogue.get("c"), running)
        (error,) = catalogue.tasks("c").get(task.id).errors
        assert error.message
        for secret in (str(catalogue.folder), "/tmp", task.id):
            assert secret not in error.message
    assert catalogue.get("c").count() == 0


def test_what_is_left_out_is_told(catalogue: Catalogue) -> None:
    _, task = applied(catalogue, b'[{"id": "a", "text": "one"}, {"id": "b", "text": " "}]', Asked("json"))
    assert task.result == {"skipped": 1}
    assert task.warnings == []


def test_a_file_that_grows_beyond_the_limit_is_refused(open_catalogue: OpenCatalogue) -> None:
    catalogue = open_catalogue(max_import_bytes=20_000)
    catalogue.create("c", model="words", kind="multi_vector")
    body = gzip.compress("".join(f'{{"id": "{i}", "text": "{"x" * 900}"}}\n' for i in range(40)).encode())
    assert len(body) < 2_000
    task = upload(catalogue, body, Asked("ndjson", compression="gz"), "skip")
    with pytest.raises(Failed):
        run_import(catalogue.get("c"), catalogue.tasks("c").running(task.id))
    (error,) = catalogue.tasks("c").get(task.id).errors
    assert (error.code, "20,000 bytes" in error.message) == ("too_large", True)
    assert catalogue.get("c").count() == 0


class Interrupted(Running):
    """Stopped at a look at whether it is to go on."""

    left = 0

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopping


@pytest.mark.parametrize("harm", ["nothing", "flipped", "gone"])
def test_interrupted_anywhere_it_goes_on(catalogue: Catalogue, harm: str) -> None:
    """Though the lines that were made are no more what was made."""
    collection, tasks = catalogue.get("c"), catalogue.tasks("c")
    count = 2 * BATCH_LINES + 30
    body = "id,text,n\n" + "".join(f"d{i},word{i},{i}\n" for i in range(count))
    # The last row says nothing, which the task tells whatever happened to the lines.
    task = upload(catalogue, (body + f"d{count},,0\n").encode(), Asked("csv", select="n:int"))
    steps = 0
    while True:
        running = tasks.running(task.id)
        lines = collection.folder / "imports" / running.lines
        if lines.exists() and harm == "gone":
            lines.unlink()
        elif lines.exists() and harm == "flipped":
            content = bytearray(lines.read_bytes() or b"x")
            content[len(content) // 2] ^= 1
            lines.write_bytes(content)
        running.__class__ = Interrupted
        running.left = steps  # type: ignore[attr-defined]
        steps += 1
        try:
            run_import(collection, running)
        except Stopping:
            continue
        break
    assert steps > 5
    assert (tasks.get(task.id).result or {}).get("skipped") == 1
    found = standing(collection)
    assert {one.id: (one.text, one.metadata) for one in found} == {
        f"d{i}": (f"word{i}", {"n": i}) for i in range(count)
    }


@pytest.mark.parametrize(
    "asked",
    [
        Asked("pdf"),
        Asked("csv", id="a"),
        Asked("parquet", compression="gz"),
        Asked("csv", delimiter="ab"),
        Asked("csv", charset="no-such"),
        Asked("csv", rename=("a",)),
        Asked("csv", rename=("a=b",), select="a:int"),
        Asked("csv", select="a:complex"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_before_anything_is_sent(catalogue: Catalogue, asked: Asked) -> None:
    with pytest.raises(Invalid):
        ImportUpload(catalogue.get("c"), catalogue.tasks("c"), "stop", asked)
    folder = catalogue.get("c").folder / "imports"
    assert not folder.exists() or not list(folder.iterdir())
