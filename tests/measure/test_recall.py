"""Measured recall against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from made import DIM, MakeCollection

from app.errors import Conflict
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.measure.recall import draw_queries, measure_recall
from app.search import Query, search
from app.types import Document


def words(count: int) -> list[Document]:
    rng = np.random.default_rng(3)
    names = [f"w{i}" for i in range(40)]
    return [Document(f"d{i}", " ".join(rng.choice(names, 12)) + ". Rest.", f"t{i}") for i in range(count)]


@pytest.mark.parametrize("sealed", [False, True])
def test_it_is_the_share_of_the_exact_top_k(make_collection: MakeCollection, sealed: bool) -> None:
    collection = make_collection()
    write_documents(collection, words(200))
    if sealed:
        seal(collection)
    queries = [Query(text=f"w{i} w{i + 1} w{i + 7}") for i in range(20)]
    measured = measure_recall(collection, queries, k=5, candidates=8)
    shares = []
    for query in queries:
        quick = search(collection, Query(text=query.text, k=5, candidates=8)).hits
        exact = search(collection, Query(text=query.text, k=5, exact=True)).hits
        shares.append(len({hit.id for hit in quick} & {hit.id for hit in exact}) / 5)
    assert measured.recall == pytest.approx(np.mean(shares))
    assert measured.worst == min(shares)
    assert 0 < measured.recall < 1, "too easy or too hard to tell a wrong measure from a right one"
    assert (measured.queries, measured.candidates, measured.drawn) == (20, 8, False)


def test_wider_is_better_and_all_is_perfect(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, words(200))
    narrow, wide, all_of_them = (measure_recall(collection, 30, candidates=n).recall for n in (12, 60, 200))
    assert narrow < wide <= all_of_them == 1


def test_a_drawn_query_is_a_title_and_leaves_its_document_out(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document("a", "One thing. Another."), Document("b", "Text.", "A title")])
    drawn = draw_queries(collection, 10)
    assert dict(zip(drawn.owners, [query.text for query in drawn.queries], strict=True)) == {
        "a": "One thing.",
        "b": "A title",
    }
    # Two documents: only the other one is left to be found, by both paths.
    assert measure_recall(collection, 10, k=1).recall == 1
    assert draw_queries(collection, 10).owners == drawn.owners


@pytest.mark.parametrize("kind", ["dense", "multi_vector"])
def test_queries_are_drawn_from_callers_vectors(make_collection: MakeCollection, kind: str) -> None:
    collection = make_collection(kind=kind, dim=DIM)
    rng = np.random.default_rng(0)
    rows = 1 if kind == "dense" else 40
    vectors = rng.standard_normal((50, rows, DIM)).astype(np.float32)
    write_documents(collection, [Document(f"d{i}", vectors=vectors[i]) for i in range(50)])
    measured = measure_recall(collection, 7, k=3)
    assert (measured.queries, measured.drawn, measured.recall) == (7, True, 1.0)


def test_an_empty_collection_has_no_recall(make_collection: MakeCollection) -> None:
    with pytest.raises(Conflict, match="no documents"):
        measure_recall(make_collection(), 5)
