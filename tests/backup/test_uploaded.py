"""Archives whose sender made every checksum right: no native code reads their indexes, or wrong shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from archives import contents, in_database, joined, listed, resummed, shaped, upload
from brute_force import ranking
from made import OpenCatalogue

from app import vector_index
from app.backup.saved import SavedSnapshots
from app.catalogue.catalogue import Catalogue
from app.catalogue.restoring import restore_file
from app.collection.chunks import _checksum
from app.collection.collection import Collection
from app.collection.passages import Passages
from app.errors import BadArchive, Damaged
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.search import Query, search
from app.store.requests import SCHEMA
from app.types import F32, Document, Owners, TokenVectors

DIM = 4


def vectors(number: int) -> F32:
    return np.random.default_rng(number).normal(size=(3, DIM)).astype(np.float32)


def found(collection: Collection, *, exact: bool = False) -> list[list[tuple[str, float]]]:
    """The hits of some queries."""
    queries = [np.random.default_rng([1, n]).normal(size=(2, DIM)).astype(np.float32) for n in range(5)]
    asked = [Query(vectors=query, k=5, exact=exact) for query in queries]
    return [[(hit.id, hit.score) for hit in search(collection, one).hits] for one in asked]


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments have codes too."""
    monkeypatch.setattr(vector_index, "choose", lambda size, dim, tuned, *, walked=False: "pq2")


@pytest.fixture
def catalogue(open_catalogue: OpenCatalogue) -> Catalogue:
    return open_catalogue(seal_documents=10_000)


@pytest.fixture
def collection(catalogue: Catalogue) -> Collection:
    """Two segments, one with a dead row, and a tail."""
    made = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    for start, stop in ((0, 40), (40, 80)):
        write_documents(
            made, [Document(f"d{n}", "text", metadata={"n": n}, vectors=vectors(n)) for n in range(start, stop)]
        )
        seal(made)
    write_documents(made, [Document(f"d{n}", "text", vectors=vectors(n)) for n in range(80, 85)])
    delete_ids(made, ["d1"])
    return made


@pytest.fixture
def archive(collection: Collection) -> Path:
    snapshots = SavedSnapshots(collection.files.parent)
    snapshots.take(collection, "0" * 32, lambda: None)
    return snapshots.get("c", "0" * 32)[1]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every content that faiss was asked to read an index from."""
    seen: list[bytes] = []
    pointer, real = faiss.swig_ptr, faiss.ZeroCopyIOReader
    given: dict[int, np.ndarray] = {}

    def remember(array: np.ndarray) -> Any:
        made = pointer(array)
        given[id(made)] = array
        return made

    def reader(at: Any, length: int) -> Any:
        seen.append(given[id(at)].tobytes())
        return real(at, length)

    monkeypatch.setattr(faiss, "swig_ptr", remember)
    monkeypatch.setattr(faiss, "ZeroCopyIOReader", reader)
    return seen


def wrong_counts(name: str, content: bytes) -> bytes:
    """Faiss's part says that it holds more vectors than it does; the header before it, and the length, stay."""
    if not name.endswith(".index"):
        return content
    start = 64
    count = (40).to_bytes(8, "little")
    assert count in content[start:]
    return content[:start] + content[start:].replace(count, (41).to_bytes(8, "little"))


@pytest.mark.usefixtures("coded")
def test_an_index_that_came_is_never_read(
    catalogue: Catalogue, collection: Collection, archive: Path, tmp_path: Path, read: list[bytes]
) -> None:
    sent = resummed(archive, tmp_path / "changed", wrong_counts)
    came = {content for name, content in contents(written(tmp_path, sent))[1].items() if name.endswith(".index")}
    came |= {content[64:] for content in came}
    assert len(came) == 8
    before, exact = found(collection), found(collection, exact=True)
    restored = upload(catalogue, sent)
    assert read, "indexes of our own making are read"
    assert not came & set(read)
    assert found(restored) == before
    assert found(restored, exact=True) == exact
    truth = [(f"d{n}", vectors(n)) for n in range(85) if n != 1]
    query = np.ones((2, DIM), np.float32)
    hits = search(restored, Query(vectors=query, k=9, exact=True)).hits
    assert [(hit.id, hit.score) for hit in hits] == ranking(truth, query, 9, restored.spec)
    # The outcome otherwise: the same archive, taken for one of ours.
    with pytest.raises(Damaged):
        restore_file(catalogue, "own", written(tmp_path, sent), replace=False)
    assert came & set(read)


def written(folder: Path, archive: bytes) -> Path:
    path = folder / "sent.tar"
    path.write_bytes(archive)
    return path


@pytest.mark.usefixtures("coded")
def test_a_snapshot_of_ours_brings_its_indexes(
    catalogue: Catalogue, collection: Collection, archive: Path, read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("an index was made anew")

    before, ours = found(collection), {c for p, c in contents(archive)[1].items() if p.endswith(".index")}
    monkeypatch.setattr(vector_index, "build", never)
    restore_file(catalogue, "r", archive, replace=False)
    assert {content[64:] for content in ours} <= {content[-len(content) :] for content in read}
    assert found(catalogue.get("r")) == before


@pytest.mark.usefixtures("coded")
def test_what_came_goes_on_as_any_collection(
    catalogue: Catalogue, archive: Path, open_catalogue: OpenCatalogue
) -> None:
    restored = upload(catalogue, archive.read_bytes())
    before = found(restored)
    folder = restored.folder
    names = {path.name for path in folder.glob("segments/*/*")}
    assert names == {Path(path).name for path in contents(archive)[1] if path.startswith("segments/")}
    # Whole by its own sums: it can be saved, and opened again.
    SavedSnapshots(catalogue.files).take(restored, "1" * 32, lambda: None)
    catalogue.close()
    again = open_catalogue().get("r")
    assert found(again) == before
    write_documents(again, [Document("new", vectors=vectors(7))])
    seal(again)
    assert again.count() == 85


def later(array: np.ndarray) -> np.ndarray:
    """Offsets that lead beyond the values, the last of them right."""
    changed = array.copy()
    changed[1:-1] += 10**6
    return changed


def not_a_number(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[3, 1] = np.nan
    return changed


@pytest.mark.parametrize(
    "change",
    [
        shaped("pooled.npy", lambda a: a[:-1]), shaped("pooled.npy", lambda a: a[:, :2]),
        shaped("pooled.npy", lambda a: a.astype(">f4")), shaped("pooled.npy", not_a_number),
        shaped("encoded.npy", lambda a: np.concatenate([a, a])), shaped("encoded.npy", lambda a: a.ravel()),
        shaped("encoded.npy", not_a_number), shaped("norms.npy", lambda a: a[:1]),
        shaped("seqs.npy", lambda a: a.astype(np.int32)), shaped("seqs.npy", lambda a: a[:-1]),
        shaped("tokens.npy", lambda a: a[:, :1]), shaped("tokens.npy", lambda a: a.astype(np.float64)),
        shaped("tokens.offsets.npy", later), shaped("tokens.offsets.npy", lambda a: a * 2),
        shaped("tokens.offsets.npy", lambda a: -a), shaped("tokens.offsets.npy", lambda a: a[::-1]),
        shaped("raw.offsets.npy", later), shaped("raw.npy", lambda a: a[:1]),
        shaped("seqs.npy", lambda a: a[::-1]), shaped("seqs.npy", lambda a: a - 1),
        lambda file, content: b"" if file == "pooled.npy" else content,
    ],
)  # fmt: skip
def test_arrays_of_other_shapes_are_refused(
    catalogue: Catalogue, archive: Path, tmp_path: Path, change: Callable[[str, bytes], bytes]
) -> None:
    with pytest.raises(BadArchive):
        upload(catalogue, resummed(archive, tmp_path / "changed", change))
    assert {path.name for path in catalogue.folder.iterdir()} <= {"c", ".snapshots"}


def test_the_unharmed_arrays_are_taken(catalogue: Catalogue, archive: Path, tmp_path: Path) -> None:
    """So that the refusals above are for what was changed."""
    upload(catalogue, resummed(archive, tmp_path / "changed", lambda file, content: content))


@pytest.mark.parametrize("harm", ["nothing", "offsets", "width", "pooled", "encoded", "flat", "owners", "count"])
def test_a_tail_of_other_shapes_is_refused(catalogue: Catalogue, archive: Path, tmp_path: Path, harm: str) -> None:
    def change(txn: Any) -> None:
        (first, count, data), *_ = txn.execute("SELECT first, count, data FROM tail").fetchall()
        passages = Passages.from_bytes(data, count)
        tokens = passages.ragged("tokens")
        match harm:
            case "offsets":
                passages = passages.with_layer("tokens", TokenVectors(tokens.values, later(tokens.offsets)))
            case "width":
                passages = passages.with_layer("tokens", TokenVectors(tokens.values[:, :1], tokens.offsets))
            case "pooled":
                passages = passages.with_layer("pooled", passages.flat("pooled")[:, :1])
            case "encoded":
                passages = passages.with_layer("encoded", None)
            case "flat":
                passages = passages.with_layer("tokens", tokens.values)
            case "owners":
                passages = Passages(Owners(count, np.arange(count + 1) * 2), passages.arrays)
            case "count":
                count = 10**12
        content = passages.to_bytes()
        txn.execute(
            "UPDATE tail SET count = ?, data = ?, size = ?, crc = ? WHERE first = ?",
            (count, content, len(content), _checksum(first, count, None, content), first),
        )

    listing, files = contents(archive)
    in_database(files, tmp_path / "changed", change)
    sent = joined(listed(listing, files), files)
    if harm == "nothing":
        upload(catalogue, sent)
        return
    with pytest.raises(BadArchive, match="tail"):
        upload(catalogue, sent)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX more ON documents (title)",
        "CREATE INDEX more ON documents (upper(title))",
        "CREATE TABLE more (x)",
        "ALTER TABLE documents ADD COLUMN more TEXT GENERATED ALWAYS AS (upper(title)) VIRTUAL",
        "ALTER TABLE documents ADD COLUMN more TEXT",
        "ALTER TABLE dead RENAME TO more",
    ],
)
def test_a_database_with_another_schema_is_refused(
    catalogue: Catalogue, archive: Path, tmp_path: Path, statement: str
) -> None:
    listing, files = contents(archive)
    in_database(files, tmp_path / "changed", lambda txn: txn.execute(statement))
    with pytest.raises(BadArchive, match="which no collection has"):
        upload(catalogue, joined(listed(listing, files), files))


def test_the_table_of_requests_may_be_there(catalogue: Catalogue, collection: Collection) -> None:
    with collection.database.write() as txn:
        for statement in SCHEMA:
            txn.execute(statement)
    snapshots = SavedSnapshots(catalogue.files)
    snapshots.take(collection, "2" * 32, lambda: None)
    upload(catalogue, snapshots.get("c", "2" * 32)[1].read_bytes())
