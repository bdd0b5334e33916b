"""Searches by sparse vectors: brute force over plain dictionaries, for any segments, deletions and passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import DIM, MakeCollection, OpenCatalogue, write_in_segments

from app import reference
from app.boosts.asked import parse as parse_boosts
from app.changes.patch import Patch
from app.collection.collection import Collection
from app.collection.spec import SparseSpec
from app.diversity.order import Diversity
from app.errors import Invalid
from app.filters import parse as parse_filter
from app.fusion.formulas import weights_at
from app.fusion.hybrid import sides_of
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, patch_document, write_documents
from app.query.alike import INDICES, sparse_rocchio
from app.query.examples import Example, Like
from app.results.grouping import GroupBy
from app.results.sorting import SortKey
from app.search import Query, SearchResult, search, search_batch
from app.types import Document, SparseVector

GIVEN = SparseSpec()


def vector(weights: dict[int, float]) -> SparseVector:
    indices = sorted(weights)
    return SparseVector(np.array(indices, np.int32), np.array([weights[i] for i in indices], np.float32))


def drawn(count: int, seed: int = 0, **more: Any) -> tuple[list[Document], dict[str, dict[int, float]]]:
    """Documents, and their weights by id. Every seventh has none, and weights are few, so that scores tie."""
    random = np.random.default_rng(seed)
    documents, weights = [], {}
    for i in range(count):
        name = f"{random.integers(1_000)}-{i}"
        picked = random.choice(40, int(random.integers(1, 9)), replace=False).tolist() if i % 7 else []
        weights[name] = {index: float(random.choice([0.25, 0.5, 1.0, 1.75])) for index in picked}
        sparse = vector(weights[name]) if picked else None
        text = " ".join(f"word{j}" for j in random.integers(0, 30, 6))
        documents.append(Document(name, text, metadata={"n": i % 3}, sparse=sparse, **more))
    return documents, weights


def truth(weights: dict[str, dict[int, float]], query: dict[int, float]) -> list[tuple[str, float]]:
    scores = [(name, reference.sparse_product(query, own)) for name, own in weights.items()]
    return sorted([one for one in scores if one[1]], key=lambda one: (-one[1], one[0].encode()))


def found(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


QUERIES = [{3: 1.0, 11: 0.5, 29: 2.0}, {0: 0.75}, {5: 1.0, 39: 1.0, 100_000: 3.0}]


@pytest.mark.parametrize("every", [17, 50, 1_000])
def test_every_document_is_scored_whatever_the_segments(make_text: MakeCollection, every: int):
    collection = make_text("dense", sparse=GIVEN)
    documents, weights = drawn(120)
    gone = [Document(f"gone{i}", "word1", sparse=vector({3: 9.0, 0: 9.0})) for i in range(9)]
    write_in_segments(collection, [*documents[:60], *gone, *documents[60:]], every)
    delete_ids(collection, [one.id for one in gone])
    for query in QUERIES:
        result = search(collection, Query(sparse=vector(query), mode="sparse", k=200))
        assert found(result) == truth(weights, query)
        assert (result.exact, result.total and result.total.count) == (True, len(truth(weights, query)))
        short = search(collection, Query(sparse=vector(query), mode="sparse", k=7))
        assert found(short) == found(result)[:7]
    while merge(collection):
        pass
    seal(collection)
    assert [found(search(collection, Query(sparse=vector(q), mode="sparse", k=200))) for q in QUERIES] == [
        truth(weights, query) for query in QUERIES
    ]


def test_filter_sort_group_boost_and_pages_are_of_the_same_list(make_text: MakeCollection):
    collection = make_text("dense", sparse=GIVEN)
    documents, weights = drawn(90)
    write_in_segments(collection, documents, 40)
    query = Query(sparse=vector(QUERIES[0]), mode="sparse", k=90)
    every, n = truth(weights, QUERIES[0]), {one.id: one.metadata["n"] for one in documents}
    filtered = search(collection, replace(query, filter=parse_filter({"n": {"eq": 1}})))
    assert found(filtered) == [one for one in every if n[one[0]] == 1]
    ids = [documents[i].id for i in range(0, 90, 4)]
    assert found(search(collection, replace(query, ids=ids))) == [one for one in every if one[0] in ids]
    ordered = search(collection, replace(query, sort=(SortKey("n", True),)))
    assert sorted(found(ordered)) == sorted(every)
    assert [n[hit.id] for hit in ordered.hits] == sorted((n[name] for name, _ in every), reverse=True)
    first = search(collection, replace(query, k=10))
    second = search(collection, replace(query, k=90, cursor=first.next))
    assert found(first) + found(second) == every
    boosts = parse_boosts([{"filter": {"n": {"eq": 2}}, "weight": 10.0}])
    boosted = search(collection, replace(query, boosts=boosts))
    assert sorted(found(boosted)) == sorted((name, score + 10 * (n[name] == 2)) for name, score in every)
    groups = search(collection, replace(query, k=3, group_by=GroupBy("n", 2))).groups
    assert groups is not None
    for group in groups:
        own = [one for one in every if n[one[0]] == group.value][:2]
        assert [(hit.id, hit.score) for hit in group.hits] == own


def test_a_hybrid_search_fuses_all_sides_as_the_one_page_does(make_text: MakeCollection):
    collection = make_text("dense", sparse=GIVEN)
    documents, weights = drawn(90)
    write_in_segments(collection, documents, 40)
    given = {"words": 0.2, "sparse": 0.5, "pooled": 0.3}
    for query, text in zip(QUERIES, ("word3 word9", "word1", "word29 word2 word0"), strict=True):
        one = Query(text=text, sparse=vector(query), mode="hybrid", k=90, exact=True, weights=given, explain=True)
        alone = {
            "words": dict(found(search(collection, Query(text=text, mode="lexical", k=90)))),
            "sparse": {name: reference.sparse_product(query, own) for name, own in weights.items()},
            "pooled": dict(found(search(collection, Query(text=text, mode="dense", exact=True, k=90)))),
        }
        sides = {side: {d.id: scores.get(d.id, 0.0) for d in documents} for side, scores in alone.items()}
        expected = list(reference.fused(sides, given).items())
        result = search(collection, one)
        assert [score for _, score in found(result)] == pytest.approx([score for _, score in expected], abs=1e-6)
        for hit in result.hits:
            said = {side.side: side for side in hit.explanation.sides}
            assert said["sparse"].score == sides["sparse"][hit.id]
            assert sum(side.weight * side.standard for side in said.values()) == pytest.approx(hit.score, abs=1e-6)
            assert sum(part.score for part in hit.explanation.indices) == pytest.approx(said["sparse"].score)
            own = weights[hit.id]
            assert {part.index for part in hit.explanation.indices} == own.keys() & query.keys()


def test_a_hybrid_search_has_the_sides_that_its_query_brings(make_text: MakeCollection):
    collection = make_text("dense", sparse=GIVEN)
    documents, _ = drawn(60)
    write_documents(collection, documents)
    one, text = vector(QUERIES[0]), "word3 word9"
    meaning = np.random.default_rng(0).standard_normal((1, DIM)).astype(np.float32)
    asked = [
        (Query(text=text, mode="hybrid"), {"words", "pooled"}),
        (Query(text=text, sparse=one, mode="hybrid"), {"words", "sparse", "pooled"}),
        (Query(vectors=meaning, sparse=one, mode="hybrid"), {"sparse", "pooled"}),
    ]
    for query, sides in asked:
        weights = search(collection, query).weights
        assert weights is not None
        assert weights.keys() == sides
        assert sum(weights.values()) == pytest.approx(1)
    assert weights_at(1.3, sides_of(collection.spec, words=False, sparse=True)) == {"sparse": 0.5, "pooled": 0.5}
    ranks = search(collection, replace(asked[1][0], weights="reciprocal_rank", explain=True))
    for hit in ranks.hits:
        places = [rank for rank in hit.explanation.ranks.values() if rank is not None]
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in places))
    without = make_text("dense", "without", lexical=None, sparse=GIVEN)
    write_documents(without, documents)
    assert search(without, Query(text=text, sparse=one, mode="hybrid")).weights == {"sparse": 0.5, "pooled": 0.5}


@pytest.mark.parametrize(
    ("query", "at"),
    [
        (Query(mode="sparse"), ""),
        (Query(text="word1", mode="sparse"), "/query"),
        (Query(text="word1", sparse=vector({1: 1.0}), mode="sparse"), ""),
        (Query(text="word1", sparse=vector({1: 1.0}), mode="semantic"), "/sparse_vector"),
        (Query(text="word1", sparse=vector({1: 1.0}), mode="lexical"), "/sparse_vector"),
        (Query(vectors=np.ones((1, DIM), np.float32), mode="hybrid"), "/mode"),
        (Query(sparse=vector({1: 1.0}), mode="browse"), "/mode"),
    ],
)
def test_what_no_search_can_be_by_is_refused(make_text: MakeCollection, query: Query, at: str):
    collection = make_text("dense", sparse=GIVEN)
    write_documents(collection, drawn(5)[0])
    with pytest.raises(Invalid) as error:
        search(collection, query)
    assert error.value.problems[0].pointer == at


def test_a_collection_without_them_takes_none(make_text: MakeCollection):
    collection = make_text("dense")
    with pytest.raises(Invalid, match="its `sparse` is null"):
        write_documents(collection, [Document("a", "word1", sparse=vector({1: 1.0}))])
    write_documents(collection, [Document("a", "word1")])
    with pytest.raises(Invalid, match="its `sparse` is null"):
        search(collection, Query(sparse=vector({1: 1.0}), mode="sparse"))


def listed(collection: Collection) -> dict[str, SparseVector | None]:
    documents, _ = collection.listing(None, 100, include={"vectors"})
    return {one.id: one.sparse for one in documents}


@pytest.mark.parametrize("dim", [None, 4])
@pytest.mark.parametrize("sealed", [False, True])
def test_writes_keep_and_change_them(open_catalogue: OpenCatalogue, dim: int | None, sealed: bool):
    model = "words" if dim is None else None
    collection = open_catalogue().create("c", model=model, kind="dense", dim=dim, sparse=GIVEN)
    more = {} if dim is None else {"vectors": np.ones((1, dim), np.float32)}
    one, other = vector({3: 1.0, 8: 0.5}), vector({3: 2.0})
    document = Document("a", "word1 word2", metadata={"n": 1}, sparse=one, **more)
    write_documents(collection, [document, Document("b", "word3", **more)])
    if sealed:
        seal(collection)
    first = write_documents(collection, [document])
    assert (first.changed, first.written) == (0, 1)
    patch_document(collection, "a", Patch(metadata={"n": 2}))
    kept = listed(collection)
    assert kept["b"] is None
    assert one.same(kept["a"])
    changed = write_documents(collection, [replace(document, metadata={"n": 2}, sparse=other)])
    assert changed.changed == 1
    assert other.same(listed(collection)["a"])
    assert found(search(collection, Query(sparse=vector({3: 1.5}), mode="sparse"))) == [("a", 3.0)]
    assert write_documents(collection, [replace(document, metadata={"n": 2}, sparse=None)]).changed == 1
    assert listed(collection) == {"a": None, "b": None}
    assert found(search(collection, Query(sparse=vector({3: 1.5}), mode="sparse"))) == []


def test_they_are_there_after_a_restart(open_catalogue: OpenCatalogue):
    documents, weights = drawn(40)
    with open_catalogue() as catalogue:
        collection = catalogue.create("c", model="words", kind="dense", sparse=GIVEN)
        write_in_segments(collection, documents, 15)
    with open_catalogue() as catalogue:
        collection = catalogue.get("c")
        assert collection.spec.sparse == GIVEN
        results = search_batch(collection, [Query(sparse=vector(one), mode="sparse", k=50) for one in QUERIES])
        assert [found(one) for one in results] == [truth(weights, query) for query in QUERIES]


def test_a_list_ends_at_a_score_and_its_first_are_unlike_each_other(make_text: MakeCollection):
    collection = make_text("dense", sparse=GIVEN)
    documents, weights = drawn(120)
    write_in_segments(collection, documents, 50)
    query = Query(sparse=vector(QUERIES[0]), mode="sparse", k=200)
    whole = truth(weights, QUERIES[0])
    least = whole[len(whole) // 2][1]
    reaching = [one for one in whole if one[1] >= least]
    result = search(collection, replace(query, min_score=least))
    assert found(result) == reaching != whole
    assert (result.total and result.total.count, result.next) == (len(reaching), None)
    diverse = search(collection, replace(query, min_score=least, diversity=Diversity(0.9, 200)))
    assert found(diverse) != reaching
    assert sorted(found(diverse)) == sorted(reaching)
    with pytest.raises(Invalid, match="is by no words"):
        search(collection, replace(query, field_weights={"title": 2.0}))


Weights = dict[int, float]


def ids(*names: str) -> list[Example]:
    return [Example(name, at=f"/like/positive/{i}") for i, name in enumerate(names)]


def combined(more: Sequence[Weights], less: Sequence[Weights], weight: float) -> Weights:
    """In the order of the examples, as sums are."""
    every = {index for one in (*more, *less) for index in one}
    made = {}
    for index in every:
        value = sum(one.get(index, 0.0) / len(more) for one in more)
        value -= sum(weight * one.get(index, 0.0) / len(less) for one in less)
        made[index] = float(np.float32(value))
    kept = sorted((one for one in made if made[one] > 0), key=lambda one: (-made[one], one))[:INDICES]
    return {index: made[index] for index in sorted(kept)}


@pytest.mark.parametrize("every", [17, 1_000])
def test_documents_are_asked_for_by_the_mean_of_their_vectors(make_text: MakeCollection, every: int):
    collection = make_text("dense", sparse=GIVEN)
    documents, weights = drawn(90)
    gone = [Document(f"gone{i}", "word1", sparse=vector({i: 9.0})) for i in range(9)]
    write_in_segments(collection, [*documents[:40], *gone, *documents[40:]], every)
    delete_ids(collection, [one.id for one in gone])
    names = [one.id for one in documents]
    # Every seventh document has none, and counts as 0.
    for more, less, weight in (([1], [], 0.2), ([2, 3, 7, 50], [], 0.2), ([5, 60], [8, 14, 71], 0.2), ([4], [9], 10.0)):
        asked = combined([weights[names[i]] for i in more], [weights[names[i]] for i in less], weight)
        like = Like(ids(*(names[i] for i in more)), ids(*(names[i] for i in less)), weight)
        others = {name: own for i, (name, own) in enumerate(weights.items()) if i not in (*more, *less)}
        result, expected = search(collection, Query(like=like, mode="sparse", k=200)), truth(others, asked)
        assert dict(found(result)) == pytest.approx(dict(expected), rel=1e-6)
        scores = [score for _, score in found(result)]
        assert scores == sorted(scores, reverse=True)
        assert expected
        assert found(search(collection, Query(like=like, mode="sparse", k=5))) == found(result)[:5]
        page = search(collection, Query(like=like, mode="sparse", k=5, cursor=_next(search, collection, like)))
        assert found(page) == found(result)[5:10]
        own = Like(like.positive, like.negative, weight, include=True)
        every_one = search(collection, Query(like=own, mode="sparse", k=200))
        assert dict(found(every_one)) == pytest.approx(dict(truth(weights, asked)), rel=1e-6)
        for hit in search(collection, Query(like=like, mode="sparse", explain=True)).hits:
            assert {part.index for part in hit.explanation.indices} == asked.keys() & weights[hit.id].keys()


def _next(ask: Any, collection: Any, like: Like) -> str:
    cursor: str = ask(collection, Query(like=like, mode="sparse", k=5)).next
    return cursor


def test_the_largest_weights_are_kept():
    random = np.random.default_rng(3)
    drawn_ones = [{int(i): float(random.choice([0.25, 0.5, 1.0])) for i in random.choice(300, 90)} for _ in range(3)]
    made = sparse_rocchio([vector(one) for one in drawn_ones[:2]], [vector(drawn_ones[2])], 0.5)
    assert dict(zip(made.indices.tolist(), made.values.tolist(), strict=True)) == combined(
        drawn_ones[:2], drawn_ones[2:], 0.5
    )
    assert len(made.indices) == INDICES


@pytest.mark.parametrize("lexical", [True, False])
def test_a_hybrid_search_has_them_as_a_side(make_text: MakeCollection, lexical: bool):
    collection = make_text("dense", sparse=GIVEN, **({} if lexical else {"lexical": None}))
    documents, weights = drawn(90)
    write_in_segments(collection, documents, 40)
    names = [one.id for one in documents]
    like = Like(ids(names[1], names[2]), ids(names[3]))
    given = {"words": 0.2, "sparse": 0.5, "pooled": 0.3} if lexical else {"sparse": 0.6, "pooled": 0.4}
    others = [name for name in names if name not in names[1:4]]
    asked = combined([weights[names[1]], weights[names[2]]], [weights[names[3]]], 0.2)
    sides = {"sparse": {name: reference.sparse_product(asked, weights[name]) for name in others}}
    for side, mode in (("words", "lexical"), ("pooled", "dense")):
        if side in given:
            alone = dict(found(search(collection, Query(like=like, mode=mode, exact=True, k=90))))
            sides[side] = {name: alone.get(name, 0.0) for name in others}
    expected = reference.fused({side: sides[side] for side in given}, given)
    one = Query(like=like, mode="hybrid", k=90, exact=True, weights=given, explain=True)
    result = search(collection, one)
    assert dict(found(result)) == pytest.approx(dict(expected), abs=1e-6)
    for hit in result.hits:
        said = {side.side: side.score for side in hit.explanation.sides}
        assert said["sparse"] == pytest.approx(sides["sparse"][hit.id])
    # Of a document that has none the side is there and says nothing.
    bare = search(collection, Query(like=Like(ids(names[0])), mode="hybrid", k=5, explain=True))
    assert bare.weights is not None
    assert bare.weights.keys() == given.keys()
    assert bare.hits
    assert all(s.standard == 0 for hit in bare.hits for s in hit.explanation.sides if s.side == "sparse")


def test_what_has_no_sparse_vector_is_refused(make_text: MakeCollection):
    collection = make_text("dense", sparse=GIVEN)
    documents, _ = drawn(20)
    write_in_segments(collection, documents, 40)
    names = [one.id for one in documents]
    for like in (Like(ids(names[0], names[7])), Like([Example(text="word1")]), Like(ids(names[1]), ids(names[1]), 1.0)):
        with pytest.raises(Invalid) as caught:
            search(collection, Query(like=like, mode="sparse"))
        assert caught.value.problems[0].pointer == "/like/positive"
    without = make_text("dense", "without")
    write_in_segments(without, [Document("one", "word1")], 40)
    with pytest.raises(Invalid) as caught:
        search(without, Query(like=Like(ids("one")), mode="sparse"))
    assert caught.value.problems[0].pointer == "/mode"
