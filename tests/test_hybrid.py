"""Words and meaning in one search: against the one page, the same for any parts, and explained to the last digit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import DIM, MakeCollection, OpenCatalogue, write_in_segments

from app import reference
from app.collection.part import Part
from app.collection.spec import CollectionSpec, SparseSpec
from app.compute.workers import Workers
from app.encoders.deterministic import DeterministicEncoder
from app.errors import Invalid
from app.filters import parse as parse_filter
from app.fusion.formulas import weights_at
from app.fusion.hybrid import DEPTH
from app.ingest import delete_ids, write_documents
from app.lexical.analysis import Analyser
from app.lexical.asked import USUAL
from app.query.scores import Column, MaxSim
from app.search import Mode, Query, SearchResult, search, search_batch
from app.types import I64, Document, Kind, SparseVector

ENGLISH = Analyser("english")
WORDS = [f"word{i}" for i in range(60)]
KINDS: list[Kind] = ["multi_vector", "dense"]
WEIGHTS = {"words": 0.3, "tokens": 0.35, "pooled": 0.35}


def drawn(count: int, seed: int = 0) -> list[Document]:
    random = np.random.default_rng(seed)
    usual = 1 / np.arange(1, len(WORDS) + 1)
    found = []
    for i in range(count):
        words = random.choice(WORDS, size=int(random.integers(1, 15)), p=usual / usual.sum())
        found.append(Document(f"{random.integers(1_000)}-{i}", " ".join(words), f"title{i % 5}", {"n": int(i % 3)}))
    return found


def of(kind: Kind) -> dict[str, float]:
    return {side: weight for side, weight in WEIGHTS.items() if kind == "multi_vector" or side != "tokens"}


def found(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


def on_one_page(documents: list[Document], text: str, kind: Kind, precision: Any) -> dict[str, dict[str, float]]:
    """The score of every document by each side."""
    terms = {
        one.id: [ENGLISH.stem(w) for w in ENGLISH.words(f"{one.title}\n{one.text}") if not ENGLISH.is_stop(w)]
        for one in documents
    }
    sides = {"words": reference.bm25(terms, [ENGLISH.stem(word) for word in ENGLISH.words(text)])}
    encoder = DeterministicEncoder(DIM, kind)
    asked, made = encoder.encode_queries([text]), encoder.encode_documents([one.passage for one in documents])
    if made.tokens is not None and asked.tokens is not None:
        query = reference.normalised(asked.tokens[0])
        sides["tokens"] = {
            one.id: reference.maxsim(query, reference.stored(reference.normalised(own), precision), precision)
            for one, own in zip(documents, made.tokens, strict=True)
        }
    query, pooled = reference.normalised(asked.pooled), reference.normalised(made.pooled)
    sides["pooled"] = {
        one.id: reference.inner_product(query[0], vector) for one, vector in zip(documents, pooled, strict=True)
    }
    return sides


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_hybrid_search_is_the_one_of_the_one_page(make_text: MakeCollection, kind: Kind):
    collection, documents = make_text(kind), drawn(90)
    write_in_segments(collection, documents, 40)
    for text in ("word0 word7", "word3 word3 word50 word11", "nothing of it", "title3 word2"):
        sides = on_one_page(documents, text, kind, collection.spec.precision)
        truth = list(reference.fused(sides, of(kind)).items())[:20]
        result = search(collection, Query(text=text, mode="hybrid", exact=True, weights=of(kind), k=20))
        assert [score for _, score in found(result)] == pytest.approx([score for _, score in truth], abs=1e-6)
        assert sum(mine == other for (mine, _), (other, _) in zip(found(result), truth, strict=True)) >= 18
        assert result.exact
        assert result.weights == of(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic", "dense"])
def test_the_answer_is_the_same_for_any_segments_and_deletions(make_text: MakeCollection, kind: Kind, mode: Mode):
    documents = drawn(120)
    answers = []
    for name, every in (("one", 200), ("some", 50), ("many", 17)):
        collection = make_text(kind, name)
        extra = [Document(f"gone{i}", "word0 word1 word2 " * 3) for i in range(10)]
        write_in_segments(collection, [*documents[:60], *extra, *documents[60:]], every)
        delete_ids(collection, [one.id for one in extra])
        queries = [
            Query(text=text, mode=mode, exact=True, k=30, weights=of(kind) if mode == "hybrid" else None)
            for text in ("word0 word5", "word1 word40 title2", "word2")
        ]
        answers.append([found(result) for result in search_batch(collection, queries)])
    assert answers[0] == answers[1] == answers[2]
    assert all(answers[0])


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic", "dense"])
@pytest.mark.parametrize("weights", [None, "reciprocal_rank"])
def test_a_short_answer_is_the_beginning_of_a_long_one(make_text: MakeCollection, mode: Mode, weights: Any):
    collection, documents = make_text(), drawn(3 * DEPTH)
    write_in_segments(collection, documents, 250)
    given = {"weights": weights or WEIGHTS} if mode == "hybrid" else {}
    for text in ("word0 word9 word17", "title1"):
        long, *short = (
            found(search(collection, Query(text=text, mode=mode, exact=True, k=k, **given)))
            for k in (2 * DEPTH, DEPTH + 100, DEPTH + 1, DEPTH, 100, 10, 1)
        )
        for one in short:
            assert one == long[: len(one)]
        assert len({identifier for identifier, _ in long}) == len(long)


@pytest.mark.parametrize("weights", [WEIGHTS, "reciprocal_rank"])
def test_a_short_answer_of_candidates_is_the_beginning_of_a_long_one(make_text: MakeCollection, weights: Any):
    collection = make_text()
    write_in_segments(collection, drawn(4 * DEPTH), 500)
    for text in ("word0 word9 word17", "title1"):
        long, *short = (
            found(search(collection, Query(text=text, mode="hybrid", k=k, weights=weights)))
            for k in (2 * DEPTH + 1, 2 * DEPTH, DEPTH + 1, DEPTH, 10)
        )
        for one in short:
            assert one == long[: len(one)]


def test_no_document_is_scored_for_being_chosen_and_each_that_is_once(
    make_text: MakeCollection, monkeypatch: pytest.MonkeyPatch
):
    """The first stage says which documents are found by meaning; fusion alone scores them."""
    collection = make_text()
    write_in_segments(collection, drawn(4 * DEPTH), 500)
    fast: list[int] = []
    exact: list[tuple[int, int]] = []
    by_fast, by_reference = MaxSim.fast, MaxSim.references

    def passed(self: MaxSim, part: Part, rows: I64, *rest: Any, **more: Any) -> Column:
        fast.extend(rows.tolist())
        return by_fast(self, part, rows, *rest, **more)

    def referred(self: MaxSim, part: Part, rows: I64, workers: Workers) -> list[float]:
        exact.extend((id(part), row) for row in rows.tolist())
        return by_reference(self, part, rows, workers)

    monkeypatch.setattr(MaxSim, "fast", passed)
    monkeypatch.setattr(MaxSim, "references", referred)
    search(collection, Query(text="word0 word9 word17", mode="hybrid"))
    assert not fast
    assert len(exact) == len(set(exact))
    assert DEPTH <= len(exact) <= 2 * DEPTH


def test_reasons_add_up_to_the_score(make_text: MakeCollection):
    collection, documents = make_text(), drawn(80)
    write_in_segments(collection, documents, 30)
    result = search(collection, Query(text="word0 word8 title2", mode="hybrid", explain=True, weights=WEIGHTS))
    assert result.hits
    for hit in result.hits:
        why = hit.explanation
        assert sum(one.weight * one.standard for one in why.sides) == pytest.approx(hit.score, abs=1e-9)
        by_side = {one.side: one for one in why.sides}
        assert set(by_side) == set(WEIGHTS)
        for one in why.sides:
            assert one.standard == pytest.approx((one.score - one.mean) / one.deviation, abs=1e-9)
        assert sum(one.score for one in why.terms) == pytest.approx(by_side["words"].score, abs=1e-9)
        assert sum(one.product for one in why.shares) == pytest.approx(by_side["tokens"].score, abs=1e-5)
    for mode, side in (("semantic", "shares"), ("lexical", "terms"), ("dense", "shares")):
        hit = search(collection, Query(text="word0 word8", mode=mode, explain=True)).hits[0]
        parts = getattr(hit.explanation, side)
        assert sum(getattr(one, "product", None) or one.score for one in parts) == pytest.approx(hit.score, abs=1e-5)


def test_what_a_query_demands_narrows_meaning_too(make_text: MakeCollection):
    collection, documents = make_text(), drawn(80)
    write_in_segments(collection, documents, 30)
    having = {one.id for one in documents if "word1" in one.text.split()}
    for mode in ("hybrid", "lexical"):
        result = search(collection, Query(text="word0 +word1", syntax="query", mode=mode, k=80))
        assert {hit.id for hit in result.hits} == having
        result = search(collection, Query(text="word0 -word1", syntax="query", mode=mode, k=80))
        assert result.hits
        assert not {hit.id for hit in result.hits} & having


def test_of_the_language_what_is_asked_for_is_encoded_and_no_sign_nor_what_is_excluded(make_text: MakeCollection):
    collection, documents = make_text(), drawn(80)
    write_in_segments(collection, documents, 30)
    asked = Query(
        text='word0 -word7 "word3 word1" word2*', syntax="query", mode="hybrid", weights=WEIGHTS, explain=True
    )
    query = reference.normalised(
        DeterministicEncoder(DIM, "multi_vector").encode_queries(["word0 word3 word1 word2"]).pooled
    )
    for hit in search(collection, asked).hits:
        (document,) = (one for one in documents if one.id == hit.id)
        made = DeterministicEncoder(DIM, "multi_vector").encode_documents([document.passage]).pooled
        (pooled,) = (one.score for one in hit.explanation.sides if one.side == "pooled")
        assert pooled == pytest.approx(reference.inner_product(query[0], reference.normalised(made)[0]), abs=1e-6)
    for mode in ("semantic", "dense"):
        with pytest.raises(Invalid, match="is by no words"):
            search(collection, Query(text="+word0", syntax="query", mode=mode))


def test_errors_point_at_the_query_of_a_batch(make_text: MakeCollection):
    collection = make_text()
    good = Query(text="word0", mode="hybrid", at="/searches/0")
    bad = Query(text='"word1', mode="lexical", syntax="query", at="/searches/1")
    with pytest.raises(Invalid) as caught:
        search_batch(collection, [good, bad])
    assert caught.value.problems[0].pointer == "/searches/1/query"


def test_a_filter_is_inside_every_mode(make_text: MakeCollection):
    collection, documents = make_text(), drawn(80)
    write_in_segments(collection, documents, 30)
    chosen = {one.id for one in documents if one.metadata["n"] == 1}
    for mode in ("hybrid", "lexical", "semantic", "dense"):
        result = search(collection, Query(text="word0 word1", mode=mode, k=80, filter=parse_filter({"n": {"eq": 1}})))
        assert {hit.id for hit in result.hits} <= chosen
        if mode != "lexical":
            assert {hit.id for hit in result.hits} == chosen


def test_weights_follow_the_queries_and_outlive_a_restart(open_catalogue: OpenCatalogue):
    catalogue = open_catalogue()
    collection = catalogue.create("texts", model="words", kind="multi_vector")
    write_in_segments(collection, drawn(100), 40)
    first = search(collection, Query(text="word0", mode="hybrid"))
    assert first.weights == {"words": 0.225, "tokens": 0.3875, "pooled": 0.3875}
    for i in range(60):
        search(collection, Query(text=f"word{i} word{(7 * i) % 60}", mode="hybrid"))
    before = collection.learned.asked
    assert before.queries == 61
    last = search(collection, Query(text="word0", mode="hybrid", weights=first.weights))
    assert collection.learned.asked == before, "a query with weights of its own teaches nothing"
    assert found(last) == found(first)
    catalogue.close()
    again = open_catalogue().get("texts")
    assert again.learned.asked == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact", [False, True])
def test_pinned_weights_are_those_of_each_search_that_does_not_say(make_text: MakeCollection, kind: Kind, exact: bool):
    pinned, query = {"words": 0.7, "pooled": 0.3}, Query(text="word0 word9", mode="hybrid", exact=exact, explain=True)
    by_weights = make_text(kind, "weights", fusion=pinned)
    by_ranks = make_text(kind, "ranks", fusion="reciprocal_rank")
    free = make_text(kind, "free")
    for collection in (by_weights, by_ranks, free):
        write_in_segments(collection, drawn(90), 40)
    whole = dict.fromkeys(of(kind), 0.0) | pinned
    assert by_weights.spec.fusion == whole
    first = search(by_weights, query)
    assert first.weights == whole
    assert found(first) == found(search(free, replace(query, weights=whole)))
    ranked = search(by_ranks, query)
    assert ranked.weights is None
    assert found(ranked) == found(search(free, replace(query, weights="reciprocal_rank"))) != found(first)
    # What a search says itself wins.
    for collection in (by_weights, by_ranks):
        assert found(search(collection, replace(query, weights=of(kind)))) == found(
            search(free, replace(query, weights=of(kind)))
        )
        assert collection.learned.asked.queries == 0, "nothing was weighted by what is learned"
        learned = search(collection, replace(query, weights="learned"))
        assert collection.learned.asked.queries == 1
        # As the first search of any collection.
        assert learned.weights == weights_at(USUAL, collection.spec.sides)
    assert found(search(by_ranks, replace(query, weights="reciprocal_rank"))) == found(ranked)


def test_pages_go_on_as_the_first_was_weighted(make_text: MakeCollection):
    collection = make_text(fusion="reciprocal_rank")
    write_in_segments(collection, drawn(90), 40)
    for weights in (None, "learned"):
        query = Query(text="word0 word9", mode="hybrid", weights=weights, k=8)
        whole, pages, cursor = found(search(collection, replace(query, k=24))), [], None
        for _ in range(3):
            page = search(collection, replace(query, cursor=cursor))
            pages, cursor = pages + found(page), page.next
            for i in range(20):
                search(collection, Query(text=f"word{i} word2", mode="hybrid", weights="learned"))
        assert len(pages) == 24
        if weights is None:
            assert pages == whole
    with pytest.raises(Invalid, match="of another search"):
        search(collection, Query(text="word0 word9", mode="hybrid", cursor=cursor))


def test_a_pinned_order_outlives_a_restart(open_catalogue: OpenCatalogue):
    catalogue = open_catalogue()
    made = catalogue.create("texts", model="words", kind="dense", fusion={"words": 1})
    assert CollectionSpec.from_json(made.spec.to_json()) == made.spec
    older = {name: value for name, value in made.spec.to_json().items() if name != "fusion"}
    assert CollectionSpec.from_json(older) == replace(made.spec, fusion=None)
    catalogue.close()
    again = open_catalogue()
    assert again.get("texts").spec.fusion == again.describe("texts").fusion == {"words": 1, "pooled": 0.0}
    assert again.get("texts").spec.sides == ["words", "pooled"]


@pytest.mark.parametrize(
    ("fusion", "pointer"),
    [
        ({"words": 0.5, "smell": 0.5}, "/fusion/smell"),
        ({"words": 0.5, "pooled": -0.1}, "/fusion/pooled"),
        ({"words": 1.5}, "/fusion/words"),
        ({"words": float("nan")}, "/fusion/words"),
        ({"words": True}, "/fusion/words"),
        ({"words": 0.5, "tokens": 0.5}, "/fusion/tokens"),
        ({"words": 0, "pooled": 0.0}, "/fusion"),
        ({}, "/fusion"),
        ("ranks", "/fusion"),
    ],
)
def test_an_order_that_cannot_be_pinned_is_pointed_at(make_text: MakeCollection, fusion: Any, pointer: str):
    with pytest.raises(Invalid) as caught:
        make_text("dense", fusion=fusion)
    assert caught.value.problems[0].pointer == pointer
    with pytest.raises(Invalid, match="no index of words"):
        make_text("dense", lexical=None, fusion="reciprocal_rank")


def test_texts_beside_a_callers_vectors_are_found_by_words_and_by_both(make_collection: MakeCollection):
    collection = make_collection(dim=4)
    random = np.random.default_rng(0)
    documents = [
        Document(f"d{i}", f"about word{i % 7}", vectors=random.standard_normal((3, 4)).astype(np.float32))
        for i in range(20)
    ]
    write_documents(collection, documents)
    assert {hit.id for hit in search(collection, Query(text="word3", mode="lexical")).hits} == {"d3", "d10", "d17"}
    vectors = documents[5].vectors
    both = search(collection, Query(text="word3", vectors=vectors, mode="hybrid", weights=WEIGHTS, k=4))
    assert len({hit.id for hit in both.hits} & {"d3", "d10", "d17", "d5"}) >= 3
    assert "d5" in {hit.id for hit in both.hits[:2]}
    with pytest.raises(Invalid, match="exactly one of"):
        search(collection, Query(text="word3", vectors=vectors))


def test_a_collection_without_words_says_so(make_text: MakeCollection):
    collection = make_text(lexical=None)
    write_documents(collection, drawn(3))
    for mode in ("lexical", "hybrid"):
        with pytest.raises(Invalid, match="has no index of words"):
            search(collection, Query(text="word1", mode=mode))
    assert search(collection, Query(text="word1")).hits


def test_an_empty_collection_and_a_query_of_no_word_find_nothing(make_text: MakeCollection):
    collection = make_text()
    for mode in ("hybrid", "lexical"):
        assert search(collection, Query(text="word1", mode=mode)).hits == []
    write_in_segments(collection, drawn(30), 10)
    assert search(collection, Query(text="...", mode="lexical")).hits == []
    assert len(search(collection, Query(text="unheard", mode="hybrid")).hits) == 10


def test_pinned_weights_are_those_of_the_sides_that_a_query_has(make_text: MakeCollection):
    """As they are to each other; a query of sides that weigh nothing is weighted by what is learned."""
    pinned = {"words": 0.25, "sparse": 0.5, "pooled": 0.25}
    collection = make_text("dense", sparse=SparseSpec(), fusion=pinned)
    write_documents(collection, drawn(40))
    sparse = SparseVector(np.array([3], np.int32), np.ones(1, np.float32))
    both = Query(text="word0 word9", sparse=sparse, mode="hybrid")
    assert search(collection, both).weights == pinned
    assert search(collection, replace(both, sparse=None)).weights == {"words": 0.5, "pooled": 0.5}
    alone = make_text("dense", "alone", sparse=SparseSpec(), fusion={"sparse": 1.0})
    write_documents(alone, drawn(40))
    assert search(alone, replace(both, sparse=None)).weights == weights_at(USUAL, ["words", "pooled"])


def test_few_documents_are_found_by_their_vectors(make_collection: MakeCollection) -> None:
    """Of one vector each, all are scored: then the best are candidates, and not the first that were written."""
    collection = make_collection(kind="dense", dim=8)
    vectors = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    write_documents(collection, [Document(f"d{i}", text="a word", vectors=vectors[i : i + 1]) for i in range(400)])
    for i in (50, 200, 399):
        query = Query(
            text="word", vectors=vectors[i : i + 1], mode="hybrid", k=20, weights={"words": 0.1, "pooled": 0.9}
        )
        found, exact = (search(collection, replace(query, exact=exact)).hits for exact in (False, True))
        assert found[0].id == f"d{i}"
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in exact]
