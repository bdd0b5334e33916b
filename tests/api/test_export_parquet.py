"""Exports as Parquet: what comes back is what went in, a row group at a time, and other programs can read it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as arrow
import pyarrow.parquet
import pytest
from made import MakeCollection

from app.backup import parquet as writing
from app.client import Sheaf
from app.collection.spec import SparseSpec
from app.errors import MalformedBody
from app.load.bulk import OnError
from app.load.client import send
from app.sources.choose import open_source
from app.types import Document, SparseVector

VALUES = {
    "text": "naïve \u2028 line",
    "empty": "",
    "yes": True,
    "one": 1,
    "float": 1.0,
    "small": 5e-324,
    "large": 2**63 - 1,
    "third": 1 / 3,
    "tags": ["a", "ä\n", ""],
    "none": [],
    "deep.key": "x",
    "nothing": None,
    "nested": {"a b": [1, 2.5, {"b": None}], "": []},
}
WRITTEN: list[dict[str, Any]] = [
    {"id": "a/b ?#%", "title": "Straße", "text": 'Übermäßig "große" Füße\r\n🐈', "metadata": VALUES},
    {"id": "7", "title": "", "text": "a cat", "metadata": {"one": "of another type", "tags": True}},
    {"id": "titled", "title": "only a title", "text": "", "metadata": {}},
]
TEXT: dict[str, Any] = {"encoder": {"model": "words"}, "sparse": {}}
TOKENS: dict[str, Any] = {"encoder": {"model": None, "dim": 3}, "precision": "2bit"}
DENSE: dict[str, Any] = {"encoder": {"model": None, "kind": "dense", "dim": 3}, "similarity": "inner_product"}
EVERYTHING = {"include": ["text", "metadata", "vectors"]}


def documents(spec: dict[str, Any]) -> list[dict[str, Any]]:
    drawn = np.random.default_rng(3).normal(size=(3, 3, 3)).astype(np.float32)
    made = [dict(one) for one in WRITTEN]
    for i, one in enumerate(made):
        if spec is TOKENS:
            one["vectors"] = drawn[i, : i + 1].tolist()
        if spec is DENSE:
            one["vector"] = drawn[i, 0].tolist()
        if spec is TEXT and i != 1:
            one["sparse_vector"] = {"indices": [i, 9_000], "values": [0.5, 1.25]}
    return made


def imported(server: str, address: str, path: Path, kind: Any, on_error: OnError = "stop") -> None:
    """As `scripts/build_index.py FILE --server` does."""
    with Sheaf(server) as sheaf:
        faults: list[Any] = []
        source = open_source(str(path), kind=kind)
        task, *_ = send(
            sheaf.collection(address.rpartition("/")[2]), kind, source, on_error, lambda *one: faults.append(one),
            lambda _: None,
        )  # fmt: skip
        sheaf.follow(task)
        assert faults == []
        assert source.skipped == 0


@pytest.mark.parametrize(("kind", "spec"), [("multi_vector", TEXT), ("multi_vector", TOKENS), ("dense", DENSE)])
def test_there_and_back(
    server: Any, client: httpx.Client, create: Callable[..., str], tmp_path: Path, kind: str, spec: dict[str, Any]
) -> None:
    one, other = create(**spec), create(**spec)
    assert client.post(f"{one}/documents", json=documents(spec)).status_code == 200
    whole = client.get(f"{one}/export", params={**EVERYTHING, "format": "parquet"})
    assert whole.headers["content-type"] == "application/vnd.apache.parquet"
    assert whole.headers["content-disposition"] == f'attachment; filename="{one.rpartition("/")[2]}.parquet"'
    path = tmp_path / "all.parquet"
    path.write_bytes(whole.content)
    table = pyarrow.parquet.read_table(path)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["metadata"].startswith("extension<arrow.json")
    if spec is TOKENS:
        assert types["vectors"] == "list<element: list<element: float>>"
        assert table["vectors"].to_pylist() == [one["vectors"] for one in documents(spec)]
    if spec is DENSE:
        assert types["vector"] == "list<element: float>"
    if spec is TEXT:
        assert types.keys() == {"id", "title", "text", "metadata", "sparse_vector"}
        assert table["sparse_vector"].to_pylist()[:2] == [documents(spec)[0]["sparse_vector"], None]
    imported(server.url, other, path, kind)
    lines = [client.get(f"{address}/export", params=EVERYTHING).content for address in (one, other)]
    assert json.loads(lines[0].split(b"\n")[0])["metadata"] == VALUES
    assert lines[0] == lines[1]
    again = client.get(f"{other}/export", params={**EVERYTHING, "format": "parquet"})
    assert pyarrow.parquet.read_table(io.BytesIO(again.content)).equals(table)


def test_what_is_asked_for(client: httpx.Client, collection: str, create: Callable[..., str]) -> None:
    def asked(address: str, **params: Any) -> Any:
        answer = client.get(f"{address}/export", params={"format": "parquet", **params})
        return pyarrow.parquet.read_table(io.BytesIO(answer.content))

    assert asked(collection, include="text", filter='{"legs": 2}').to_pylist() == [
        {"id": "hen", "title": "", "text": "a hen lays eggs"}
    ]
    # The encoder makes them again.
    assert asked(collection, **EVERYTHING).column_names == ["id", "title", "text", "metadata"]
    empty = asked(create(encoder={"model": None, "dim": 2}), **EVERYTHING)
    assert (empty.num_rows, empty.column_names) == (0, ["id", "title", "text", "metadata", "vectors"])


@pytest.mark.parametrize(
    ("params", "pointer"),
    [({"format": "csv"}, "/format"), ({"format": "parquet", "vectors_format": "base64"}, "/vectors_format")],
)
def test_bad_input(client: httpx.Client, collection: str, params: dict[str, str], pointer: str) -> None:
    answer = client.get(f"{collection}/export", params=params)
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer])


def test_an_import_takes_it(client: httpx.Client, create: Callable[..., str], finished: Callable[[str], Any]) -> None:
    one, other = create(**TOKENS), create(**TOKENS)
    client.post(f"{one}/documents", json=documents(TOKENS))
    whole = client.get(f"{one}/export", params={**EVERYTHING, "format": "parquet"})
    task = client.post(
        f"{other}/import", content=whole.content, headers={"Content-Type": whole.headers["content-type"]}
    )
    assert finished(task.headers["location"])["state"] == "succeeded"
    assert client.get(f"{other}/export", params={**EVERYTHING, "format": "parquet"}).content == whole.content


def test_a_missing_library_is_named(client: httpx.Client, collection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = client.get(f"{collection}/export", params={"format": "parquet"})
    assert answer.status_code == 422
    assert "Parquet is written by pyarrow, which is not installed: install sheaf[tables]" in answer.json()["detail"]


def test_row_groups_go_out_as_they_are_full(monkeypatch: pytest.MonkeyPatch, make_collection: MakeCollection) -> None:
    """No more is read than a group before its bytes are given, and no piece is empty, which would be the end."""
    monkeypatch.setattr(writing, "GROUP", 10)
    read = 0

    def batches() -> Iterator[list[Document]]:
        nonlocal read
        for start in range(0, 35, 5):
            read += 5
            sparse = SparseVector(np.array([1], np.int32), np.ones(1, np.float32))
            yield [
                Document(f"d{i}", "text", "", {"n": i}, np.full((2, 2), i, np.float32), sparse=sparse)
                for i in range(start, start + 5)
            ]

    spec = make_collection(dim=2, sparse=SparseSpec()).spec
    seen, content = [], b""
    for piece in writing.parquet(batches(), spec, {"text", "metadata", "vectors"}):
        assert piece
        content += piece
        seen.append(read)
    assert seen == [10, 20, 30, 35]
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 10, 5]
    rows = file.read().to_pylist()
    assert [one["vectors"] for one in rows] == [[[i, i]] * 2 for i in range(35)]
    monkeypatch.setattr(writing, "GROUP_BYTES", 100)
    assert len([*writing.parquet(batches(), spec, {"text"})]) > 4


def test_a_file_that_is_cut_or_has_another_json_is_told(tmp_path: Path) -> None:
    schema = arrow.schema([("id", arrow.string()), ("text", arrow.string()), ("metadata", arrow.json_())])
    columns = [["a", "b", "c"], ["x"] * 3, ['{"n": 1}', "nope", None]]
    table = arrow.table([arrow.array(one, field.type) for one, field in zip(columns, schema, strict=True)], schema)
    path = tmp_path / "foreign.parquet"
    pyarrow.parquet.write_table(table, path)
    # Of another program: JSON is read as what it is, and what is none is a fault of its row.
    first, second, third = [entry.found for entry in open_source(str(path)).entries()]
    assert isinstance(first, Document)
    assert first.metadata == {"n": 1}
    assert isinstance(second, MalformedBody)
    assert isinstance(third, Document)
    assert third.metadata == {}
    path.write_bytes(path.read_bytes()[:-7])
    (fault,) = [entry.found for entry in open_source(str(path)).entries()]
    assert isinstance(fault, MalformedBody)
