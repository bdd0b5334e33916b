"""Browsing and sorting: against one stable sort of a dictionary, for any segments, deletions and mixtures of types."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from in_plain_loops import drawn, fill, in_order
from made import MakeCollection, OpenCatalogue

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.compute.deadline import Deadline, deadline
from app.errors import Invalid, TooSlow
from app.filters import parse as parse_filter
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.query.asked import SORTED
from app.results.sorting import SortKey, parse
from app.schema.notices import Notice
from app.search import Query, Total, search, search_batch
from app.types import Document

BROWSE: dict[str, Any] = {"mode": "browse"}
ORDERS = [
    [],
    [{"n": "asc"}],
    [{"n": "desc"}],
    [{"mixed": "asc"}],
    [{"mixed": "desc"}],
    [{"kind": "asc"}, {"n": "desc"}],
    [{"kind": "desc"}, {"mixed": "asc"}, {"n": "asc"}],
    [{"tags": "asc"}],
    [{"never": "desc"}, {"kind": "asc"}],
]


def ids(collection: Collection, **asked: Any) -> list[str]:
    return [hit.id for hit in search(collection, Query(**asked)).hits]


@pytest.mark.parametrize("every", [200, 60, 23])
def test_browsing_is_sorting_a_dictionary(make_collection: MakeCollection, every: int) -> None:
    collection = make_collection(dim=3)
    stands = fill(collection, drawn(150), every)
    for condition in (None, {"kind": {"eq": "class"}}, {"n": {"gte": 1}}, {"n": {"eq": "never"}}):
        allowed = None if condition is None else parse_filter(condition)
        passing = [one for one in stands.values() if allowed is None or allowed.matches(one.metadata)]
        for order in ORDERS:
            keys = parse(order) if order else ()
            truth = in_order(passing, keys)
            for k in (1, 2, 7, 40, 1_000):
                result = search(collection, Query(**BROWSE, filter=allowed, sort=keys, k=k))
                assert [hit.id for hit in result.hits] == truth[:k]
                assert result.total == Total(len(passing), exact=True)
                assert result.exact
                assert {hit.score for hit in result.hits} <= {0.0}


def test_ids_are_searched_among_beside_the_filter(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    stands = fill(collection, drawn(90), 30)
    some = sorted(stands)[::3]
    condition = parse_filter({"kind": {"eq": "class"}})
    passing = {i for i in some if condition.matches(stands[i].metadata)}
    vectors = np.ones((2, 3), np.float32)
    for asked in (
        BROWSE,
        {"vectors": vectors},
        {"vectors": vectors, "exact": True},
        {"vectors": vectors, "mode": "dense"},
    ):
        result = search(collection, Query(**asked, ids=[*some, some[0], "never"], filter=condition, k=1_000))
        assert {hit.id for hit in result.hits} == passing
        assert result.total == Total(len(passing), exact=True)
        assert result.warnings == [Notice("unknown_ids", "of 1 of the ids there is no document", "/ids")]
        assert search(collection, Query(**asked, ids=[])).hits == []
        assert search(collection, Query(**asked, ids=some)).warnings == []


def test_ids_are_of_the_moment_of_the_search(open_catalogue: OpenCatalogue) -> None:
    """Writes while a search goes on change neither which ids there are nor their order."""
    with open_catalogue() as catalogue:
        collection = catalogue.create("c", model=None, kind="dense", dim=1)
        one = np.ones((1, 1), np.float32)
        write_documents(collection, [Document(i, vectors=one) for i in "abcd"])
        seal(collection)
        before = collection.published
        write_documents(collection, [Document(i, "new", vectors=one) for i in "aef"])
        delete_ids(collection, ["b"])
        # A commit ahead of what is published, as between a commit and its publishing.
        after, collection._published = collection._published, before
        with collection.snapshot() as snapshot:
            assert snapshot.published is before
            assert list(snapshot.identify(snapshot.versions("abef").tolist()).values()) == [b"a", b"b"]
            assert len(snapshot.versions("abcdef")) == 4
            assert list(snapshot.first_by_id(snapshot.versions("abcd"), 3)) == [1, 2, 3]
        collection._published = after
        assert ids(collection, **BROWSE, ids=list("abef")) == ["a", "e", "f"]


def test_matches_by_words_are_all_sorted_and_those_by_meaning_the_best(make_collection: MakeCollection) -> None:
    collection = make_collection()
    documents = [Document(one.id, one.text, "", one.metadata) for one in drawn(200)]
    stands = fill(collection, documents, 70)
    keys = parse([{"mixed": "desc"}, {"n": "asc"}])
    having = [one for one in stands.values() if "word3" in one.text.split()]
    for k in (1, 10, 500):
        result = search(collection, Query(text="word3", mode="lexical", sort=keys, k=k))
        assert [hit.id for hit in result.hits] == in_order(having, keys)[:k]
        assert result.total == Total(len(having), exact=True)
    scores = {hit.id: hit.score for hit in search(collection, Query(text="word3", mode="lexical", k=500)).hits}
    assert {hit.id: hit.score for hit in result.hits} == scores
    for mode in ("semantic", "dense", "hybrid"):
        asked: dict[str, Any] = {"text": "word3 word5", "mode": mode, "weights": "reciprocal_rank"}
        ranked = {hit.id: hit.score for hit in search(collection, Query(**asked, k=1_000)).hits}
        assert ranked.keys() == stands.keys()
        for k in (1, 10, 1_000):
            result = search(collection, Query(**asked, sort=keys, k=k))
            assert [hit.id for hit in result.hits] == in_order(stands.values(), keys)[:k]
            assert all(hit.score == ranked[hit.id] for hit in result.hits)


def test_of_many_documents_the_best_by_meaning_are_sorted(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=2, kind="dense")
    count = SORTED + 200
    angles = np.linspace(0, 1.5, count)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    write_documents(collection, [Document(f"d{i:04}", "", "", {"n": -i}, vectors[i : i + 1]) for i in range(count)])
    for exact in (True, False):
        query = Query(vectors=vectors[:1], sort=parse([{"n": "asc"}]), k=5, exact=exact, candidates=count)
        result = search(collection, query)
        assert [hit.id for hit in result.hits] == [f"d{i:04}" for i in range(SORTED - 1, SORTED - 6, -1)]
        assert result.total == Total(SORTED, exact=True)


def test_an_order_that_nothing_has_is_told(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    assert search(collection, Query(**BROWSE, sort=[SortKey("never")])).warnings == []
    fill(collection, drawn(60), 25)
    result = search(collection, Query(**BROWSE, sort=parse([{"never": "asc"}, {"tags": "asc"}, {"n": "asc"}])))
    assert result.warnings == [
        Notice("unknown_field", "the search sorts by 'never', a metadata field that no document has", "/sort/0/never"),
        Notice("no_order", "the search sorts by 'tags', whose values are lists, which have no order", "/sort/1/tags"),
    ]


def test_a_batch_may_browse_beside_searches(make_collection: MakeCollection) -> None:
    collection = make_collection()
    write_documents(collection, [Document(i, f"word{i}") for i in "bca"])
    browsed, found = search_batch(collection, [Query(**BROWSE), Query(text="wordb", k=1)])
    assert [hit.id for hit in browsed.hits] == ["a", "b", "c"]
    assert [hit.id for hit in found.hits] == ["b"]


@pytest.mark.parametrize("asked", [{"text": "x"}, {"explain": True}, {"passages": 1}])
def test_browsing_has_neither_query_nor_reasons(make_collection: MakeCollection, asked: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        search(make_collection(), Query(**BROWSE, **asked))


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({}, ""),
        ([], ""),
        ("year", ""),
        ([{"year": "asc"}] * 9, ""),
        (["year"], "/0"),
        ([{"year": "asc"}, {}], "/1"),
        ([{"a": "asc", "b": "asc"}], "/0"),
        ([{"a b": "asc"}], "/0"),
        ([{"not": "asc"}], "/0"),
        ([{"year": "up"}], "/0/year"),
        ([{"year": None}], "/0/year"),
        ([{"year": []}], "/0/year"),
    ],
)
def test_a_wrong_order_is_refused_at_its_place(value: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(value)
    assert caught.value.problems[0].pointer == pointer


@pytest.mark.slow
def test_sorting_costs_arrays_and_reads_no_document_but_the_hits(
    make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20,000 documents those of 10 hits are read, and of all that are alike the ids of few."""
    collection = make_collection(kind="dense", dim=1)
    count, one = 20_000, np.ones((1, 1), np.float32)
    write_documents(collection, [Document(f"d{i:05}", "", "", {"n": i % 5, "m": i}, one) for i in range(count)])
    seal(collection)
    read: list[int] = []
    real = Collection.documents

    def counted(self: Collection, connection: Any, published: Any, seqs: Any, *rest: Any) -> Any:
        read.append(len(seqs))
        return real(self, connection, published, seqs, *rest)

    monkeypatch.setattr(Collection, "documents", counted)
    asked: list[int] = []
    identify = Snapshot.identify

    def counting(self: Snapshot, seqs: Any) -> Any:
        asked.append(len(seqs))
        return identify(self, seqs)

    monkeypatch.setattr(Snapshot, "identify", counting)
    for order, first in (([{"n": "desc"}], "d00004"), ([{"n": "asc"}, {"m": "desc"}], "d19995"), ([], "d00000")):
        keys = parse(order) if order else ()
        tracemalloc.start()
        assert ids(collection, **BROWSE, sort=keys)[0] == first
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * count
    assert set(read) == {10}
    assert sum(asked) <= 10


def test_sorting_ends_with_the_time_of_the_search(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=1)
    write_documents(collection, [Document(f"d{i}", "", "", {"n": i}, np.ones((1, 1), np.float32)) for i in range(9)])
    looks = iter([0.0] * 4 + [9.0] * 99)
    with pytest.raises(TooSlow), deadline(Deadline(1.0, lambda: next(looks))):
        search(collection, Query(**BROWSE, sort=[SortKey("n")]))
    assert next(looks) == 9.0
