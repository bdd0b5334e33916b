"""A full disk: 507, nothing half-written, reads go on, and writes again as soon as there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import prestarted
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = '''
"""Fills the disk that the folder lies on (or what one file may hold), and makes room again."""
import resource, sys
from contextlib import contextmanager
from pathlib import Path
import numpy as np
from app.changes.patch import Patch
from app.catalogue.catalogue import Catalogue
from app.indexing.sealing import seal
from app.encoders.registry import Encoders
from app.errors import StorageFull
from app.tasks.importing import ImportUpload
from app.ingest import write_documents, patch_document
from app.search import Query, search
from app.settings import Settings
from app.types import Document

folder, tmpfs = Path(sys.argv[1]), sys.argv[2] == "tmpfs"
settings = Settings(indexes=folder / "indexes", threads=1)
DIM = 64
ballast = folder / "ballast"


@contextmanager
def full(left):
    """Room for about `left` more bytes in any file, or on the disk."""
    if tmpfs:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
            file.truncate(max(0, file.tell() - left))
        yield
        ballast.unlink()
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def vectors(i, count=40):
    return np.random.default_rng(i).normal(size=(count, DIM)).astype(np.float32)


def fails(work):
    try:
        work()
    except StorageFull as error:
        assert error.status == 507, error
        assert "nothing of this request was kept" in error.message
        return
    raise SystemExit(f"{work} found room")


def found(collection):
    hits = search(collection, Query(vectors=np.ones((1, DIM), np.float32), k=1000, exact=True)).hits
    assert search(collection, Query(vectors=np.ones((1, DIM), np.float32), k=1000)).hits == hits
    documents, _ = collection.listing(None, 1000)
    assert sorted(h.id for h in hits) == [d.id for d in documents] and collection.count() == len(hits)
    return {hit.id: hit.text for hit in hits}


def files():
    kept = {path for path in (folder / "indexes").rglob("*")}
    return {path for path in kept if not path.name.endswith(("-wal", "-shm"))}


with Catalogue(folder / "indexes", Encoders({}), settings) as catalogue:
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=DIM)
    write_documents(collection, [Document("a", "one", vectors=vectors(1)), Document("b", "two", vectors=vectors(2))])
    seal(collection)
    write_documents(collection, [Document("c", "three", vectors=vectors(3))])
    before, named = found(collection), files()
    assert before == {"a": "one", "b": "two", "c": "three"}
    for left in (0, 4_096, 40_000):
        with full(left):
            # Into the database, into a file, over several files, a new folder, a body.
            fails(lambda: write_documents(collection, [Document("a", "new", vectors=vectors(9, 2_000))]))
            many = [Document(f"m{i}", "many", vectors=vectors(i)) for i in range(100)]
            fails(lambda: write_documents(collection, many))
            fails(lambda: seal(collection))
            if left == 0:
                fails(lambda: patch_document(collection, "a", Patch(metadata={"x": "y" * 10_000})))
                fails(lambda: catalogue.create("d", model=None, kind="dense", dim=2))
            upload = ImportUpload(collection, catalogue.tasks("c"), "skip")
            def body():
                upload.write(bytes(200_000))
                upload.commit()
            fails(body)
            upload.abort()
            upload = ImportUpload(collection, catalogue.tasks("c"), "skip")

            def drop_by_drop():
                while True:
                    upload.write(bytes(1_000))
            fails(drop_by_drop)
            upload.abort()
            assert list((folder / "indexes" / "c" / "imports").iterdir()) == []
            assert found(collection) == before
        assert files() - named <= {folder / "indexes" / "c" / "imports"}, files() - named
    assert catalogue.tasks("c").all() == []
    large = Document("a", "new", vectors=vectors(9, 2_000))
    write_documents(collection, [large, Document("d", "x", vectors=vectors(4))])
    assert seal(collection)
    expected = {"a": "new", "b": "two", "c": "three", "d": "x"}
    assert found(collection) == expected
    with full(0):
        assert found(collection) == expected
with Catalogue(folder / "indexes", Encoders({}), settings) as catalogue:
    assert found(catalogue.get("c")) == expected
    catalogue.create("d", model=None, kind="dense", dim=2)
if tmpfs:
    with full(0):
        # Even then a server starts. What cannot be opened (SQLite needs 32 KiB for its index) says so.
        with Catalogue(folder / "indexes", Encoders({}), settings) as catalogue:
            catalogue.serve("http://a-rather-long-name.example:8000")
            try:
                assert found(catalogue.get("c")) == expected
            except StorageFull:
                pass
            assert catalogue.quarantined() == {}
    with Catalogue(folder / "indexes", Encoders({}), settings) as catalogue:
        assert found(catalogue.get("c")) == expected
print("as it should be")
'''


def run(folder: Path, kind: str) -> None:
    script = folder.parent / "fill_the_disk.py"
    script.write_text(SCRIPT)
    done = prestarted.run(
        [sys.executable, "-W", "error", str(script), str(folder), kind],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == b"as it should be\n", done.stdout + done.stderr


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    folder = tmp_path / "limited"
    folder.mkdir()
    run(folder, "limit")


def test_a_disk_without_room(tmp_path: Path) -> None:
    """On a real file system of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here, so a full disk is not tested: {mounted.stderr}")
    try:
        run(folder, "tmpfs")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
