"""Two processes on one folder: one writes, the other reads, follows, and takes over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import prestarted
import pytest
from made import OpenCatalogue
from writing_process import DIM, document, settings, vectors

from app.changes.patch import Patch
from app.collection.spec import SparseSpec, ValueSpec
from app.errors import Conflict
from app.filters import parse
from app.indexing.sealing import seal
from app.ingest import delete_ids, delete_matching, patch_document, write_documents
from app.search import Query, search
from app.store.database import IDLE
from app.tasks.tasks import Tasks

SCRIPT = Path(__file__).with_name("writing_process.py")
ROOT = Path(__file__).parents[2]


class Writer:
    """The other process."""

    def __init__(self, folder: Path) -> None:
        self.process = prestarted.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), str(folder), "write", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        assert self.read() == ["open", True]

    def read(self) -> list[Any]:
        assert self.process.stdout is not None
        answer: list[Any] = json.loads(self.process.stdout.readline())
        return answer

    def send(self, *command: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def do(self, *command: object) -> int:
        """Its generation, once it is done."""
        self.send(*command)
        word, generation = self.read()
        assert word == "done"
        return int(generation)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture
def open_writer(tmp_path: Path) -> Iterator[Callable[[], Writer]]:
    with ExitStack() as stack:

        def opened() -> Writer:
            writer = Writer(tmp_path)
            stack.enter_context(writer.process)
            stack.callback(writer.process.kill)
            return writer

        yield opened


def own_settings(folder: Path) -> dict[str, Any]:
    chosen = settings(folder)
    return {"models": chosen.models, "seal_documents": chosen.seal_documents}


@pytest.mark.parametrize("own", [False, True])
def test_a_reader_follows_refuses_and_takes_over(
    tmp_path: Path, open_catalogue: OpenCatalogue, open_writer: Callable[[], Writer], own: bool
) -> None:
    with open_catalogue(tmp_path, **own_settings(tmp_path)) as catalogue:
        sparse, values = (SparseSpec(), ValueSpec(dim=2)) if own else (None, None)
        model = None if own else "words"
        catalogue.create("c", model=model, kind="multi_vector", dim=DIM, sparse=sparse, values=values)
    writer = open_writer()
    writer.do("upsert", "early", 1)
    catalogue = open_catalogue(tmp_path, **own_settings(tmp_path))
    collection = catalogue.get("c")
    assert not collection.is_writer
    assert catalogue.describe("c").read_only is not None

    def found() -> dict[str, object]:
        query = np.ones((1, DIM), np.float32)
        exact = search(collection, Query(vectors=query, k=100, exact=True)).hits
        assert search(collection, Query(vectors=query, k=100)).hits == exact
        assert collection.count() == len(exact)
        for hit in exact:
            assert collection.get(hit.id).text == hit.text
        return {hit.id: (hit.metadata or {})["v"] for hit in exact}

    assert found() == {"early": 1}
    writer.do("upsert", "late", 2)
    assert found() == {"early": 1, "late": 2}
    generation = writer.do("seal")
    assert found() == {"early": 1, "late": 2}
    assert collection.published.generation.number == generation == 1
    writer.do("upsert", "early", 3)
    writer.do("delete", "late")
    assert found() == {"early": 3}
    writer.do("upsert", "third", 4)
    writer.do("seal")
    generation = writer.do("merge")
    assert found() == {"early": 3, "third": 4}
    assert search(collection, Query(vectors=np.ones((1, DIM), np.float32))).generation == generation == 3

    for attempt in (
        lambda: write_documents(collection, [document("mine", 5, own=own)]),
        lambda: delete_ids(collection, ["early"]),
        lambda: delete_matching(collection, parse({"v": {"exists": True}})),
        lambda: patch_document(collection, "early", Patch(metadata={"x": 1})),
        lambda: seal(collection),
        lambda: Tasks(collection, {}).submit("rebuild", {}),
        lambda: catalogue.delete("c"),
    ):
        with pytest.raises(Conflict, match="another process") as caught:
            attempt()
        assert caught.value.code == "collection_busy"
    assert catalogue.get("c") is collection
    assert found() == {"early": 3, "third": 4}

    writer.end()
    write_documents(collection, [document("mine", 5, own=own)])
    assert collection.is_writer
    assert catalogue.describe("c").read_only is None
    assert found() == {"early": 3, "third": 4, "mine": 5}
    if own:
        stored = collection.stored_vectors([collection.published.next_seq - 1], collection.published)
        (kept,) = stored.values()
        assert np.array_equal(kept.ragged("raw").values, vectors("mine", 5))


def test_a_reader_that_rested_sees_what_was_written_meanwhile(
    tmp_path: Path, open_catalogue: OpenCatalogue, open_writer: Callable[[], Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that takes over, whose database has been written and closed by the other."""
    monkeypatch.setattr(IDLE, "most", 0)
    with open_catalogue(tmp_path, **own_settings(tmp_path)) as catalogue:
        catalogue.create("c", model="words", kind="multi_vector")
    writer = open_writer()
    writer.do("upsert", "early", 1)
    collection = open_catalogue(tmp_path, **own_settings(tmp_path)).get("c")
    assert not collection.is_writer

    def found() -> dict[str, object]:
        assert collection.database.kept == 0
        hits = search(collection, Query(vectors=np.ones((1, DIM), np.float32), k=100)).hits
        return {hit.id: (hit.metadata or {})["v"] for hit in hits}

    assert found() == {"early": 1}
    writer.do("upsert", "late", 2)
    assert found() == {"early": 1, "late": 2}
    writer.do("seal")
    writer.do("upsert", "early", 3)
    assert found() == {"early": 3, "late": 2}
    with collection.snapshot() as snapshot:
        writer.do("delete", "late")
        assert collection.database.kept == 0
        assert sum(view.live for view in snapshot.views) == 2
    assert found() == {"early": 3}
    writer.end()
    write_documents(collection, [document("mine", 5, own=False)])
    assert collection.is_writer
    assert found() == {"early": 3, "mine": 5}


def test_a_reader_keeps_up_with_a_busy_writer(
    tmp_path: Path, open_catalogue: OpenCatalogue, open_writer: Callable[[], Writer]
) -> None:
    with open_catalogue(tmp_path, **own_settings(tmp_path)) as catalogue:
        catalogue.create("c", model=None, kind="multi_vector", dim=DIM, sparse=SparseSpec(), values=ValueSpec(dim=2))
    writer = open_writer()
    writer.do("flood", 0, 1)
    collection = open_catalogue(tmp_path, **own_settings(tmp_path)).get("c")
    writer.send("flood", 1, 80)
    seen = set()
    while True:
        hits = search(collection, Query(vectors=np.ones((1, DIM), np.float32), k=100, exact=True)).hits
        # One write has all five documents of one version.
        assert sorted(hit.id for hit in hits) == [f"f{i}" for i in range(5)]
        (version,) = {(hit.metadata or {})["v"] for hit in hits}
        assert [hit.text for hit in hits] == [f"version{version} of {hit.id}" for hit in hits]
        seen.add(version)
        if version == 79:
            break
    assert len(seen) > 1
    assert writer.read()[0] == "done"
