"""Collections of every format that was released still open, answer, take writes and are rebuilt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made import OpenCatalogue

from app.collection.collection import Collection
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.search import Query, search
from app.settings import DeterministicModel
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import Document

FORMATS = Path(__file__).parent / "formats"
CASES = [(folder.name, name) for folder in sorted(FORMATS.glob("[0-9]*")) for name in ("words", "vectors", "dense")]
MODELS = {"words": DeterministicModel(type="deterministic", dim=8)}


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path: Path, open_catalogue: OpenCatalogue) -> tuple[Collection, list]:
    number, name = request.param
    folder = FORMATS / number
    shutil.copytree(folder / name, tmp_path / "old" / name)
    expected = json.loads((folder / "expected.json").read_text())[name]
    return open_catalogue(tmp_path / "old", models=MODELS).get(name), expected


def asked(collection: Collection) -> dict:
    if collection.spec.model is not None:
        return {"text": "red pie"}
    vectors = np.array([[1, -2, 3, 0.25], [0.5, 1, 0, -1]], np.float32)
    return {"vectors": vectors[: 1 if collection.spec.kind == "dense" else 2]}


def assert_answers(collection: Collection, expected: list) -> None:
    for exact in (True, False):
        query = Query(**asked(collection), k=9, exact=exact, include=frozenset({"vectors"}))
        hits = search(collection, query).hits
        assert [hit.id for hit in hits] == [identifier for identifier, _, _ in expected]
        for hit, (_, score, vectors) in zip(hits, expected, strict=True):
            assert hit.score == pytest.approx(score, rel=1e-6)
            assert np.array_equal(hit.vectors, np.array(vectors, np.float32))


def test_it_answers_as_it_did(case: tuple[Collection, list]) -> None:
    assert_answers(*case)


def test_a_dense_one_says_what_its_vectors_are(tmp_path: Path, open_catalogue: OpenCatalogue) -> None:
    """Whatever precision it was created with."""
    shutil.copytree(FORMATS / "1" / "dense", tmp_path / "old" / "dense")
    catalogue = open_catalogue(tmp_path / "old", models=MODELS)
    assert catalogue.get("dense").spec.precision == "float16"
    assert catalogue.describe("dense").precision == "float32"


def test_it_is_rebuilt(case: tuple[Collection, list]) -> None:
    collection, expected = case
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, len(tasks.all()), tasks.submit("rebuild", {})))
    assert_answers(collection, expected)


def test_it_takes_writes(case: tuple[Collection, list]) -> None:
    """New rows beside old ones, in the tail, sealed, and merged with them."""
    collection, expected = case
    dim, dense = collection.spec.dim, collection.spec.kind == "dense"
    own = None if collection.spec.model else np.full((1 if dense else 2, dim), 2.0, np.float32)
    new = Document("new", "green moon", vectors=own)
    for step in range(3):
        write_documents(collection, [Document(f"n{step}", new.text, vectors=own), new])
        before = {hit.id: hit.score for hit in search(collection, Query(**asked(collection), k=20, exact=True)).hits}
        seal(collection)
        after = {hit.id: hit.score for hit in search(collection, Query(**asked(collection), k=20, exact=True)).hits}
        assert before == after
        assert after["new"] == after[f"n{step}"]
        assert len(after) == len(expected) + step + 2
    while merge(collection):
        pass
    assert len(collection.published.segments) < 4
    delete_ids(collection, ["n0", "n1", "n2", "new"])
    assert_answers(collection, expected)
