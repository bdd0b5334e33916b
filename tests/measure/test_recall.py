"""Measured recall against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made import DIM, MakeCollection

from app.collection import first_stage
from app.errors import Conflict, Invalid
from app.indexing.sealing import seal
from app.ingest import write_documents
from app.measure.drawing import draw_queries, draw_runs
from app.measure.recall import measure_recall
from app.query import reaching
from app.query.candidates import Chosen, width_for
from app.search import Query, search
from app.types import Document, Kind


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


def test_runs_of_words_are_drawn_of_titles_and_else_of_texts(make_collection: MakeCollection) -> None:
    collection = make_collection()
    long = "It's one e.g. of, say,\n four-fold words"
    documents = [Document("a", long, "A title"), Document("b", "Text."), Document("c", "x " * 400, "A title")]
    write_documents(collection, documents)
    drawn = {words: draw_runs(collection, 10, words) for words in (1, 2, 3, 7, 8, 300)}
    texts = {
        words: dict(zip(one.owners, [query.text for query in one.queries], strict=True)) for words, one in drawn.items()
    }
    # The longest word, of documents that differ; and runs that stand there.
    assert sorted(texts[1].values()) == ["Text", "title"]
    assert list(texts[2].values()) == ["A title"]
    assert {owner: len(text.split()) for owner, text in texts[3].items()} == {"a": 3, "c": 3}
    assert texts[3]["a"] in " ".join(long.split())
    assert texts[7]["a"] == "It's one e.g. of, say, four-fold words"
    assert (set(texts[8]), texts[300]) == ({"c"}, {})
    assert draw_runs(collection, 10, 3) == drawn[3], "they repeat"
    assert len(draw_runs(collection, 1, 3).queries) == 1
    # What stands after the piece that is looked at is never a part of a word.
    assert texts[8]["c"] == "x " * 7 + "x"


@pytest.mark.parametrize("kind", ["dense", "multi_vector"])
def test_recall_is_measured_by_length(make_collection: MakeCollection, kind: Kind) -> None:
    collection = make_collection(kind=kind)
    write_documents(collection, words(200))
    seal(collection)
    measured = measure_recall(collection, 20, k=5, candidates=8, lengths=[1, 3, 12, 50])
    assert [(one.words, one.queries) for one in measured.by_length] == [(1, 20), (3, 20), (12, 20)]
    for one in measured.by_length:
        drawn, shares = draw_runs(collection, 20, one.words), []
        for owner, query in zip(drawn.owners, drawn.queries, strict=True):
            asked = [Query(text=query.text, k=6, candidates=8, exact=exact) for exact in (False, True)]
            quick, exact = (
                {*[hit.id for hit in search(collection, each).hits if hit.id != owner][:5]} for each in asked
            )
            shares.append(len(quick & exact) / 5)
        assert (one.recall, one.worst) == (pytest.approx(np.mean(shares)), min(shares))
        assert one.candidates == 8
        assert one.vectors == (1 if kind == "dense" else one.words)
    assert measure_recall(collection, 20, k=5, candidates=8).by_length == []
    given = [Query(text="w1 w2"), Query(text="w3")]
    (other,) = measure_recall(collection, given, k=5, lengths=[2]).by_length
    assert (other.words, other.queries, other.recall) == (2, 2, 1.0)


def test_a_text_of_few_vectors_has_more_candidates(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are counted: each is scored, and recall says so."""
    monkeypatch.setattr(first_stage, "WIDTH", 40)
    collection = make_collection()
    write_documents(collection, words(900))
    seal(collection)
    scored: list[int] = []
    real = reaching.find_candidates

    def counted(*args: Any) -> list[Chosen]:
        found = real(*args)
        scored.append(sum(len(one.rows) for one in found))
        return found

    monkeypatch.setattr(reaching, "find_candidates", counted)
    for length, wanted in ((1, 640), (3, 640), (8, 250), (13, 95)):
        texts = draw_runs(collection, 3, length).queries
        del scored[:]
        for query in texts:
            search(collection, Query(text=query.text, k=5))
        assert scored == [wanted] * 3
        (one,) = measure_recall(collection, 3, k=5, lengths=[length]).by_length
        assert (one.vectors, one.candidates) == (length, wanted)
    assert [width_for(collection.published.stage, vectors) for vectors in (1, 19, 20, 500)] == [640, 45, 40, 40]
    # Who names a number has that many.
    del scored[:]
    search(collection, Query(text="w1", k=5, candidates=50))
    (one,) = measure_recall(collection, 3, k=5, candidates=50, lengths=[1]).by_length
    assert (scored[0], one.candidates) == (50, 50)


def test_lengths_are_of_texts_that_are_encoded(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=DIM)
    write_documents(collection, [Document("a", "text", vectors=np.ones((1, DIM), np.float32))])
    with pytest.raises(Invalid) as caught:
        measure_recall(collection, 5, lengths=[1])
    assert caught.value.problems[0].pointer == "/lengths"


def test_an_empty_collection_has_no_recall(make_collection: MakeCollection) -> None:
    with pytest.raises(Conflict, match="no documents"):
        measure_recall(make_collection(), 5)
