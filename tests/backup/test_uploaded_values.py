"""Uploaded archives whose every checksum is right and whose numbers or documents are none that a write takes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import contents, in_database, joined, listed, resummed, shaped, upload
from made import OpenCatalogue
from numpy.typing import NDArray

from app.backup.saved import SavedSnapshots
from app.catalogue.catalogue import Catalogue
from app.collection.chunks import _checksum
from app.collection.collection import Collection
from app.collection.passages import Passages
from app.collection.spec import PassageSpec, SparseSpec
from app.errors import BadArchive
from app.filters import parse
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.search import Query, search
from app.store.database import read_state, write_counters
from app.store.rows import live_sum, row_sum
from app.types import F32, Document, SparseVector, TokenVectors

DIM = 24
Array = NDArray[Any]
PRECISIONS = ["1bit", "1.25bit", "2bit", "4bit", "8bit", "float16", "float32"]


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    return open_catalogue(seal_documents=10_000)


def vectors(number: int, kind: str = "multi_vector") -> F32:
    shape = (1 if kind == "dense" else 3, DIM)
    return np.random.default_rng(number).normal(size=shape).astype(np.float32)


def taken(catalogue: Catalogue, **options: Any) -> Path:
    """The archive of a segment, in which a document is dead, and a tail."""
    options.setdefault("kind", "multi_vector")
    made: Collection = catalogue.create("c", model=None, dim=DIM, **options)
    for start, stop in ((0, 30), (30, 35)):
        own = {n: vectors(n, options["kind"]) for n in range(start, stop)}
        sparse = SparseVector(np.array([2, 9], np.int32), np.ones(2, np.float32)) if "sparse" in options else None
        write_documents(
            made, [Document(f"d{n}", "text", metadata={"n": n}, vectors=own[n], sparse=sparse) for n in own]
        )
        if start == 0:
            seal(made)
    delete_ids(made, ["d1"])
    snapshots = SavedSnapshots(catalogue.files)
    snapshots.take(made, "0" * 32, lambda: None)
    return snapshots.get("c", "0" * 32)[1]


def refused(catalogue: Catalogue, sent: bytes, match: str) -> None:
    with pytest.raises(BadArchive, match=match) as raised:
        upload(catalogue, sent)
    assert raised.value.status == 400
    assert {path.name for path in catalogue.folder.iterdir()} <= {"c", ".snapshots"}


def scaled(value: float) -> Callable[[Array], Array]:
    """A row of codes with another scale."""

    def change(array: Array) -> Array:
        changed = array.copy()
        changed[4, -4:] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
        return changed

    return change


def put(value: float) -> Callable[[Array], Array]:
    """One number of a row is another."""

    def change(array: Array) -> Array:
        changed = array.copy()
        changed[(4,) if array.ndim == 1 else (4, 1)] = value
        return changed

    return change


def harmful(precision: str) -> Iterator[Callable[[Array], Array]]:
    values = [np.nan, np.inf, -np.inf]
    if precision.startswith("float"):
        yield from map(put, values if precision == "float16" else [*values, 1e30])
    else:
        yield from map(scaled, [*values, -1.0, 1e30])


def in_tail(archive: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The archive with other arrays in its tail, all sums right."""

    def rewrite(txn: Any) -> None:
        ((first, count, data),) = txn.execute("SELECT first, count, data FROM tail").fetchall()
        found = Passages.from_bytes(data, count)
        arrays = dict(found.arrays)
        change(arrays)
        content = Passages(found.owners, arrays).to_bytes()
        crc = _checksum(first, count, None, content)
        txn.execute("UPDATE tail SET data = ?, size = ?, crc = ?", (content, len(content), crc))

    listing, files = contents(archive)
    in_database(files, folder, rewrite)
    return joined(listed(listing, files), files)


def changed(name: str, change: Callable[[Array], Array]) -> Callable[[dict[str, Any]], None]:
    def work(arrays: dict[str, Any]) -> None:
        value = arrays[name]
        ragged = isinstance(value, TokenVectors)
        arrays[name] = TokenVectors(change(value.values), value.offsets) if ragged else change(value)

    return work


def unharmed(array: Array) -> Array:
    return array


@pytest.mark.parametrize("precision", PRECISIONS)
def test_token_vectors_are_finite(catalogue: Catalogue, tmp_path: Path, precision: str) -> None:
    similarity = "inner_product" if precision == "float32" else "cosine"
    archive = taken(catalogue, precision=precision, similarity=similarity)
    for number, change in enumerate(harmful(precision)):
        refused(catalogue, resummed(archive, tmp_path / f"s{number}", shaped("tokens.npy", change)), "not finite")
    refused(catalogue, in_tail(archive, tmp_path / "tail", changed("tokens", change)), "not finite")
    # So that it was for the change alone.
    upload(catalogue, in_tail(archive, tmp_path / "unharmed", changed("tokens", unharmed)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pooled", [np.nan, np.inf, 1e30]),
        ("encoded", [np.nan, -np.inf]),
        ("raw", [np.nan, np.inf]),
        # Less than the vector's length, and more.
        ("norms", [np.nan, np.inf, -1.0, 0.25, 4.0]),
    ],
)
def test_other_vectors_and_lengths_are_true(
    catalogue: Catalogue, tmp_path: Path, name: str, values: list[float]
) -> None:
    archive = taken(catalogue)
    for number, value in enumerate(values):
        sent = resummed(archive, tmp_path / f"s{number}", shaped(f"{name}.npy", put(value)))
        refused(catalogue, sent, "vectors")
        refused(catalogue, in_tail(archive, tmp_path / f"t{number}", changed(name, put(value))), "vectors")


@pytest.mark.parametrize("name", ["pooled", "raw", "norms"])
def test_of_dense_ones_too(catalogue: Catalogue, tmp_path: Path, name: str) -> None:
    archive = taken(catalogue, kind="dense", similarity="inner_product")
    for number, value in enumerate([np.nan, 1e30]):
        sent = resummed(archive, tmp_path / f"s{number}", shaped(f"{name}.npy", put(value)))
        refused(catalogue, sent, "vectors")
        refused(catalogue, in_tail(archive, tmp_path / f"t{number}", changed(name, put(value))), "vectors")
    upload(catalogue, archive.read_bytes())


def document(seq: int, **fields: Any) -> Callable[[Any], None]:
    """Another row of a document, with its sum, and the live ids with theirs."""

    def rewrite(txn: Any) -> None:
        names = ("seq", "id", "title", "text", "metadata", "truncated")
        (row,) = txn.execute(f"SELECT {', '.join(names)} FROM documents WHERE seq = ?", (seq,)).fetchall()
        old, new = row[1], {**dict(zip(names, row, strict=True)), **fields}
        values = [new[name] for name in names]
        txn.execute("DELETE FROM documents WHERE seq = ?", (seq,))
        txn.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, row_sum(*values)))
        if new["id"] != old and fields.get("live", True):
            txn.execute("UPDATE live SET id = ? WHERE seq = ?", (new["id"], seq))
            state = read_state(txn)
            digest = state.digest + live_sum(new["id"], seq) - live_sum(old, seq)
            write_counters(txn, state.next_seq, state.live, digest)

    return rewrite


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": '{"n": NaN}'}, {"metadata": '{"n": Infinity}'}, {"metadata": '{"n": 1e999}'},
        {"metadata": "[1]"}, {"metadata": '[{}, 5, ""]'}, {"metadata": '[{}, [["user", "x"]], ""]'},
        {"metadata": '[{}, [["user", 3]], ""]'}, {"metadata": '[[], [["user", 3]], ""]', "text": "user: abc"},
        {"metadata": '[{}, [["no role", 3]], ""]', "text": "no role: abc"},
        {"metadata": '[{"n": NaN}, [["user", 3]], ""]', "text": "user: abc"},
        {"metadata": '{"n": {"deep": 1e999}}'}, {"metadata": '{"n": [null, NaN]}'},
        {"metadata": "{"}, {"metadata": nested(21)}, {"metadata": "null"}, {"metadata": f'{{"n": {10**309}}}'},
        {"metadata": nested(100_000)}, {"metadata": b"{}"}, {"title": b"\xff"}, {"text": 7}, {"truncated": "1"},
        {"id": b""}, {"id": b"\xff\xfe"}, {"id": b"x" * 513}, {"id": b"a\nb"}, {"id": b"other", "live": False},
    ],
)  # fmt: skip
def test_documents_are_such_as_a_write_takes(catalogue: Catalogue, tmp_path: Path, fields: dict[str, Any]) -> None:
    archive = taken(catalogue)
    listing, files = contents(archive)
    in_database(files, tmp_path / "changed", document(4, **fields))
    refused(catalogue, joined(listed(listing, files), files), "document|whole")


def test_a_document_that_a_write_takes_is_taken(catalogue: Catalogue, tmp_path: Path) -> None:
    listing, files = contents(taken(catalogue))
    metadata = json.dumps({"n": 1, "tags": ["a"], "x": 1.5, "yes": True})
    in_database(files, tmp_path / "changed", document(4, id="ü".encode(), text="new", metadata=metadata))
    restored = upload(catalogue, joined(listed(listing, files), files))
    assert restored.get("ü") == Document("ü", "new", "", json.loads(metadata))


def bomb(file: str, content: bytes) -> bytes:
    if file != "columns.npz":
        return content
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("more.npy", bytes(10**7))
    return out.getvalue()


def lying(file: str, content: bytes) -> bytes:
    """Rows beyond the segment's."""
    if file != "columns.npz":
        return content
    out = BytesIO()
    with np.load(BytesIO(content)) as arrays:
        np.savez(out, **{name: array + 10**6 if name.endswith("rows") else array for name, array in arrays.items()})
    return out.getvalue()


@pytest.mark.parametrize("change", [bomb, lying, lambda file, content: b"" if file == "columns.npz" else content])
def test_columns_that_came_are_never_read(
    catalogue: Catalogue, tmp_path: Path, change: Callable[[str, bytes], bytes]
) -> None:
    restored = upload(catalogue, resummed(taken(catalogue), tmp_path / "changed", change))
    query = np.ones((2, DIM), np.float32)
    for low, expected in ((0, {f"d{n}" for n in range(35) if n != 1}), (20, {f"d{n}" for n in range(20, 35)})):
        asked = Query(vectors=query, k=50, filter=parse({"n": {"gte": low}}))
        assert {hit.id for hit in search(restored, asked).hits} == expected
    assert all((path.stat().st_size < 10**5) for path in restored.folder.glob("segments/*/columns.npz"))


def test_passages_of_texts_come_back_and_end_behind_their_beginning(catalogue: Catalogue, tmp_path: Path) -> None:
    made = catalogue.create("c", model="words", kind="dense", passages=PassageSpec(size=12, overlap=4))
    texts = ["# Birds\n\n" + "The wren sings in the hedge. " * 9, "short", "word " * 40 + "\n\n## End\n\nThe owl sees."]
    documents = [Document(f"d{i}", text, "Title") for i, text in enumerate(texts)]
    write_documents(made, documents[:2])
    seal(made)
    write_documents(made, documents[2:])
    snapshots = SavedSnapshots(catalogue.files)
    snapshots.take(made, "0" * 32, lambda: None)
    archive = snapshots.get("c", "0" * 32)[1]

    def wrong(spans: Array) -> Array:
        changed = spans.copy()
        changed[1] = [7, 6]
        return changed

    refused(catalogue, resummed(archive, tmp_path / "segment", shaped("spans.npy", wrong)), "end before they begin")
    refused(catalogue, in_tail(archive, tmp_path / "tail", changed("spans", wrong)), "end before they begin")
    again = upload(catalogue, resummed(archive, tmp_path / "unharmed", shaped("spans.npy", unharmed)))
    query = Query(text="owl wren", passages=10)
    found = search(made, query).hits
    assert search(again, query).hits == found
    assert sum(len(hit.passages or []) for hit in found) > 10


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, -1), (0, 2), (1, 0), (1, np.float32(-1).view(np.int32)), (1, np.float32(np.nan).view(np.int32))],
)
def test_sparse_vectors_are_those_that_a_write_takes(
    catalogue: Catalogue, tmp_path: Path, column: int, value: Any
) -> None:
    def change(array: Array) -> Array:
        found = array.copy()
        # The second pair of a row: its index neither below 0 nor that of the first.
        found[5, column] = value
        return found

    archive = taken(catalogue, sparse=SparseSpec())
    refused(catalogue, resummed(archive, tmp_path / "segment", shaped("sparse.npy", change)), "sparse vectors")
    refused(catalogue, in_tail(archive, tmp_path / "tail", changed("sparse", change)), "sparse vectors")
    upload(catalogue, in_tail(archive, tmp_path / "unharmed", changed("sparse", unharmed)))


def test_postings_that_came_are_not_believed(catalogue: Catalogue, tmp_path: Path) -> None:
    archive = taken(catalogue, sparse=SparseSpec())

    def led_away(array: Array) -> Array:
        found = array.copy()
        found[:, 0] = 10**9
        return found

    made = upload(catalogue, resummed(archive, tmp_path / "led", shaped("sparse.postings.npy", led_away)))
    query = SparseVector(np.array([9], np.int32), np.ones(1, np.float32))
    assert len(search(made, Query(sparse=query, mode="sparse", k=100)).hits) == 34
