"""Every precision of stored token vectors, through a whole collection: held against brute force."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from brute_force import ranking, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MakeCollection, OpenCatalogue

from app.catalogue.catalogue import Catalogue
from app.encoders.registry import Encoders
from app.errors import Invalid
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.query import ranking as ranks
from app.search import Query, search
from app.settings import Settings
from app.tasks.rebuild import run_rebuild
from app.tasks.tasks import Running, Tasks
from app.types import F32, I64, Document, Precision, SimilarityName

PRECISIONS: list[Precision] = ["float32", "8bit", "4bit", "2bit", "1.25bit", "1bit"]
lawful = settings(max_examples=20, deadline=None, derandomize=True)


def drawn(seed: int, count: int, dim: int) -> list[Document]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 9, count)
    return [
        Document(f"d{i}", vectors=random.standard_normal((n, dim)).astype(np.float32)) for i, n in enumerate(lengths)
    ]


def vectors_of(documents: list[Document]) -> list[tuple[str, F32]]:
    return [(document.id, document.vectors) for document in documents if document.vectors is not None]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_collection_is_brute_force(
    make_collection: MakeCollection, precision: Precision, similarity: SimilarityName, keep: bool
) -> None:
    """In the tail, sealed, merged, rebuilt and after a deletion; the same score everywhere, exact or not."""
    collection = make_collection(
        dim=20, precision=precision, similarity=similarity, keep_vectors=keep, seal_documents=30
    )
    documents = drawn(1, 40, 20)
    query = np.random.default_rng(2).standard_normal((5, 20)).astype(np.float32)
    expected = ranking(vectors_of(documents), query, 40, collection.spec)

    def check(wanted: list[tuple[str, float]]) -> None:
        for exact in (True, False):
            for k in (3, 40):
                hits = search(collection, Query(vectors=query, k=k, exact=exact)).hits
                assert [(hit.id, hit.score) for hit in hits] == wanted[:k]

    write_documents(collection, documents[:25])
    check(ranking(vectors_of(documents[:25]), query, 40, collection.spec))
    seal(collection)
    write_documents(collection, documents[25:])
    check(expected)
    assert write_documents(collection, documents).created == 0
    seal(collection)
    check(expected)
    tasks = Tasks(collection, {})
    run_rebuild(collection, Running(tasks, len(tasks.all()), tasks.submit("rebuild", {})))
    while merge(collection):
        pass
    check(expected)
    delete_ids(collection, [expected[0][0], expected[5][0]])
    check([pair for i, pair in enumerate(expected) if i not in (0, 5)])


@lawful
@given(
    seed=st.integers(0, 10_000),
    precision=st.sampled_from(PRECISIONS),
    k=st.integers(1, 12),
    many=st.sampled_from([1, 512]),
)
def test_the_first_are_the_first_of_all(seed: int, precision: Precision, k: int, many: int) -> None:
    """Documents that are nearly equal, so that rounding decides and ties abound; with a rough pass, and without."""
    random = np.random.default_rng(seed)
    base = random.standard_normal((4, 12)).astype(np.float32)
    moved = [base + 10.0 ** random.integers(-8, -2) * random.standard_normal((4, 12)) for _ in range(12)]
    documents = [Document(f"d{i}", vectors=rows.astype(np.float32)) for i, rows in enumerate(moved)]
    documents += [Document(f"e{i}", vectors=base) for i in range(3)]
    query = random.standard_normal((3, 12)).astype(np.float32)
    with (
        TemporaryDirectory() as folder,
        Catalogue(Path(folder), Encoders({}), Settings(indexes=Path(folder), threads=1)) as catalogue,
    ):
        collection = catalogue.create("c", model=None, kind="multi_vector", dim=12, precision=precision)
        write_documents(collection, documents)
        with patch.object(ranks, "MANY", many):
            hits = search(collection, Query(vectors=query, k=k, exact=True)).hits
        assert [(hit.id, hit.score) for hit in hits] == ranking(vectors_of(documents), query, k, collection.spec)


@pytest.mark.parametrize("precision", ["8bit", "1bit", "float32"])
def test_a_rough_pass_leaves_few_of_many(
    make_collection: MakeCollection, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make_collection(dim=32, precision=precision)
    documents = drawn(5, 600, 32)
    write_documents(collection, documents[:400])
    seal(collection)
    write_documents(collection, documents[400:])
    scored: list[int] = []
    kept = ranks.keep_for_top

    def spied(scores: F32, *rest: Any) -> I64:
        scored.append(len(scores))
        return kept(scores, *rest)

    monkeypatch.setattr(ranks, "keep_for_top", spied)
    query = np.random.default_rng(6).standard_normal((5, 32)).astype(np.float32)
    hits = search(collection, Query(vectors=query, k=7, exact=True)).hits
    assert [(hit.id, hit.score) for hit in hits] == ranking(vectors_of(documents), query, 7, collection.spec)
    if precision == "float32":
        assert scored == [600]
    else:
        assert scored[0] == 600
        assert scored[1] < 200


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_vectors_of_a_hit_are_the_stored_ones_where_none_are_kept(
    make_collection: MakeCollection, precision: Precision
) -> None:
    collection = make_collection(dim=24, precision=precision, keep_vectors=False)
    documents = drawn(3, 6, 24)
    write_documents(collection, documents[:3])
    seal(collection)
    write_documents(collection, documents[3:])
    query = np.ones((1, 24), np.float32)
    found = search(collection, Query(vectors=query, k=6, include=frozenset({"vectors"}))).hits
    code = collection.spec.code
    for hit in found:
        own = documents[int(hit.id[1:])].vectors
        assert own is not None
        assert hit.vectors is not None
        assert hit.vectors.tobytes() == code.decode(code.encode(unit_rows(own))).tobytes()
        score = (hit.vectors.astype(np.float64) @ (query[0] / np.sqrt(24))).max()
        assert hit.score == pytest.approx(score, abs=1e-5)


def test_a_reopened_collection_keeps_its_precision(open_catalogue: OpenCatalogue, tmp_path: Path) -> None:
    documents, query = drawn(4, 9, 130), np.ones((2, 130), np.float32)
    folder = tmp_path / "kept"
    catalogue = open_catalogue(folder)
    collection = catalogue.create("c", model=None, kind="multi_vector", dim=130, precision="1bit", keep_vectors=False)
    write_documents(collection, documents)
    before = search(collection, Query(vectors=query, k=9)).hits
    seal(collection)
    tokens = next(folder.glob("c/segments/*/tokens.npy"))
    count = sum(len(vectors) for _, vectors in vectors_of(documents))
    assert np.load(tokens).shape == (count, 17 + 4)
    catalogue.close()
    again = open_catalogue(folder).get("c")
    assert again.spec.precision == "1bit"
    assert [(h.id, h.score) for h in search(again, Query(vectors=query, k=9)).hits] == [(h.id, h.score) for h in before]


def test_float16_is_refused_where_lengths_are_free(make_collection: MakeCollection) -> None:
    with pytest.raises(Invalid, match="float16"):
        make_collection(dim=4, similarity="inner_product", precision="float16")
