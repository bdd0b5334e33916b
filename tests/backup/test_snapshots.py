"""A query sees one moment, whatever is written, sealed, merged and purged meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from made import DIM, MakeCollection

from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.part import scored_vectors
from app.collection.view import Snapshot
from app.encoders.deterministic import DeterministicEncoder
from app.filters import parse
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, patch_document, write_documents
from app.scoring.similarity import Cosine
from app.search import Query, search
from app.store.layout import DATABASE
from app.types import Document


def contents(snapshot: Snapshot) -> dict[str, Any]:
    """Everything that a query could read: by id the text, the metadata, the dense and the token vectors."""
    found: dict[str, Any] = {}
    for view in snapshot.views:
        rows = np.flatnonzero(view.alive)
        documents = snapshot.documents(view.part.seqs[rows].tolist())
        for row in rows.tolist():
            document = documents[int(view.part.seqs[row])]
            assert document.id not in found
            dense, tokens = view.part.flat("pooled").range(row, row + 1), scored_vectors(view.part, row)
            found[document.id] = (document.text, document.metadata, dense.tobytes(), tokens.tobytes())
    return found


def test_a_snapshot_outlives_what_is_done_to_the_collection(make_collection: MakeCollection) -> None:
    collection = make_collection(seal_documents=4)
    write_documents(collection, [Document(f"d{i}", f"old {i}", metadata={"n": i}) for i in range(6)])
    seal(collection)
    write_documents(collection, [Document(f"t{i}", f"old tail {i}", metadata={"n": i}) for i in range(6)])
    folders = list((collection.folder / "segments").iterdir())
    with collection.snapshot() as snapshot:
        before = contents(snapshot)
        assert len(before) == 12
        for step in (
            lambda: write_documents(collection, [Document("d0", "new 0"), Document("t0", "new 0"), Document("x", "x")]),
            lambda: delete_ids(collection, ["d1", "t1", "x"]),
            lambda: patch_document(collection, "d2", Patch(metadata={"n": 99})),
            lambda: seal(collection),
            lambda: delete_ids(collection, ["d3", "d4", "d5", "t2", "t3"]),
            lambda: merge(collection),
            lambda: seal(collection),
        ):
            step()
            assert contents(snapshot) == before
        # Merged away and purged: nothing but this snapshot has them any more.
        assert not any(folder.exists() for folder in folders)
        assert collection.get_many(["d1"]) == []
        with collection.database.read() as connection:
            (rows,) = connection.execute("SELECT count(*) FROM documents").fetchone()
        assert rows < 12
        assert contents(snapshot) == before
    with collection.snapshot() as snapshot:
        after = contents(snapshot)
    assert {identifier: text for identifier, (text, *_) in after.items()} == {
        "d0": "new 0", "t0": "new 0", "d2": "old 2", "t4": "old tail 4", "t5": "old tail 5"
    }  # fmt: skip
    assert after["d2"][1] == {"n": 99}


def test_what_was_sealed_leaves_the_database(make_collection: MakeCollection) -> None:
    """Small writes put their vectors into it; the file shrinks again, all at once."""
    collection = make_collection(kind="dense", dim=64)
    path = collection.folder / DATABASE
    vectors = np.random.default_rng(0).normal(size=(2_000, 1, 64)).astype(np.float32)
    for start in range(0, 2_000, 500):
        write_documents(collection, [Document(f"d{i}", vectors=vectors[i]) for i in range(start, start + 500)])
    full = path.stat().st_size + path.with_name(f"{DATABASE}-wal").stat().st_size
    assert full > vectors.nbytes
    seal(collection)
    with collection.database.read() as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert path.stat().st_size < full - vectors.nbytes


def test_purged_rows_are_reclaimed(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document(f"d{i}", "long text " * 300) for i in range(200)])
    seal(collection)
    full = collection.nbytes
    delete_ids(collection, [f"d{i}" for i in range(200)])
    merge(collection)
    assert collection.nbytes < full / 5
    with collection.database.read() as connection:
        assert connection.execute(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM dead)"
        ).fetchone() == (
            0,
            0,
        )


ROUNDS = 40
IDS = [f"d{i}" for i in range(12)]


def test_readers_never_see_a_mixture(make_collection: MakeCollection) -> None:
    """Every write replaces all documents by the same version; a reader must see one version alone, whole."""
    collection = make_collection(seal_documents=30)
    encoder = DeterministicEncoder(DIM, "multi_vector")

    def write(version: int) -> None:
        write_documents(collection, [Document(i, f"word{version} {i}", metadata={"v": version}) for i in IDS])

    write(0)
    ended = threading.Event()

    def repeat(work: Callable[[], None]) -> None:
        try:
            while not ended.is_set():
                work()
        finally:
            ended.set()

    def search_once(exact: bool) -> None:
        query = Query(text="word", k=50, exact=exact, include=frozenset({"text", "metadata", "vectors"}))
        hits = search(collection, query).hits
        assert sorted(hit.id for hit in hits) == sorted(IDS)
        versions = {hit.metadata["v"] for hit in hits if hit.metadata is not None}
        assert len(versions) == 1
        for hit in hits:
            assert hit.text == f"word{hit.metadata['v']} {hit.id}" if hit.metadata else False
            tokens = encoder.encode_documents([hit.text or ""]).tokens
            assert tokens is not None
            code = collection.spec.code
            assert np.array_equal(hit.vectors, code.decode(code.encode(Cosine().document(tokens[0]))))

    def read_once() -> None:
        assert len(collection.get_many(IDS)) == len(IDS)
        found, after = collection.listing(None, 50)
        assert ([d.id for d in found], after) == (sorted(IDS), None)
        assert len({d.metadata["v"] for d in found}) == 1
        assert collection.count(parse({"v": {"gte": 0}})) == len(IDS)

    with ThreadPoolExecutor(3) as pool:
        readers = [
            pool.submit(repeat, work) for work in (lambda: search_once(True), lambda: search_once(False), read_once)
        ]
        for version in range(1, ROUNDS):
            write(version)
            if version % 5 == 0:
                seal(collection)
            if version % 9 == 0:
                merge(collection)
            if ended.is_set():
                break
        ended.set()
    for reader in readers:
        reader.result()
    assert collection.get("d0").metadata == {"v": ROUNDS - 1}


@pytest.mark.parametrize("dim", [None, 2])
def test_writers_beside_one_another(make_collection: MakeCollection, dim: int | None) -> None:
    """Upserts, patches and deletes of the same ids, with sealing beside them, all take effect, or wait."""
    collection = make_collection(seal_documents=20, dim=dim)

    def document(name: str, i: int) -> Document:
        own = None if dim is None else np.array([[1, i + 1]], np.float32)
        return Document(name, f"text {i}", metadata={"n": i}, vectors=own)

    write_documents(collection, [document("shared", 0)])

    def upsert(prefix: str) -> None:
        for i in range(25):
            write_documents(collection, [document(f"{prefix}{i}", i), document("shared", i)])
            if i % 3 == 0:
                delete_ids(collection, [f"{prefix}{i}"])

    def patch() -> None:
        for i in range(25):
            patch_document(collection, "shared", Patch(metadata={f"p{i}": True}))

    def tidy() -> None:
        for _ in range(8):
            seal(collection)
            merge(collection)

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(upsert, "x"), pool.submit(upsert, "y"), pool.submit(patch), pool.submit(tidy)]
    for one in done:
        one.result()
    expected = {f"{p}{i}" for p in "xy" for i in range(25) if i % 3} | {"shared"}
    found, _ = collection.listing(None, 1000)
    assert {d.id for d in found} == expected
    query = Query(vectors=np.ones((1, 2 if dim else DIM), np.float32), k=1000, exact=True)
    assert {hit.id for hit in search(collection, query).hits} == expected
    assert collection.count() == len(expected) == collection.published.live


def state(collection: Collection) -> int:
    return collection.published.generation.number


def test_sealing_waits_for_no_reader(make_collection: MakeCollection) -> None:
    """A reader that stays long must not keep writers waiting (SQLite's checkpoint would)."""
    collection = make_collection()
    write_documents(collection, [Document("a", "text")])
    ended = threading.Event()

    def work() -> None:
        seal(collection)
        write_documents(collection, [Document("b", "text")])
        ended.set()

    with collection.snapshot():
        thread = threading.Thread(target=work)
        thread.start()
        # Far below SQLite's 30 s of patience.
        assert ended.wait(15)
    thread.join()
    assert state(collection) == 1
