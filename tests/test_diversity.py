"""Diversity: the order of the first hits against the one page, in every mode, for any segments, pages and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MakeCollection, pages, write_in_segments

from app import reference
from app.boosts.asked import parse as parse_boosts
from app.collection.collection import Collection
from app.collection.layers import POOLED
from app.collection.spec import PassageSpec
from app.diversity.likeness import STEP, stepped
from app.diversity.order import Diversity, diverse, scaled
from app.errors import Invalid
from app.filters import parse as parse_filter
from app.ingest import delete_ids
from app.query.examples import Example, Like
from app.rerank.order import Rerank
from app.results.grouping import GroupBy
from app.results.sorting import SortKey
from app.search import Query, SearchResult, search
from app.types import F32, Document

WEIGHTS: dict[Any, dict[Any, float]] = {
    "multi_vector": {"words": 0.2, "tokens": 0.4, "pooled": 0.4}, "dense": {"words": 0.4, "pooled": 0.6}
}  # fmt: skip
TEXT: dict[str, Any] = {"text": "word1 word5 word3"}
SEARCHES: list[dict[str, Any]] = [
    {"mode": "lexical", **TEXT},
    {"mode": "semantic", **TEXT},
    {"mode": "semantic", **TEXT, "exact": True, "filter": parse_filter({"kind": {"eq": "a"}})},
    {"mode": "semantic", **TEXT, "boosts": parse_boosts([{"filter": {"kind": {"eq": "b"}}, "weight": 0.2}])},
    {"mode": "semantic", "like": Like([Example(None, "word3 word5")])},
    {"mode": "dense", **TEXT, "candidates": 9},
    {"mode": "hybrid", **TEXT},
    {"mode": "hybrid", **TEXT, "weights": "reciprocal_rank"},
]


def drawn(count: int) -> list[Document]:
    """Some of them twice."""
    random, found = np.random.default_rng(1), list[Document]()
    for i in range(count):
        words = random.choice([f"word{n}" for n in range(25)], size=int(random.integers(2, 9)))
        text = found[-1].text if i % 5 == 4 else " ".join(words)
        found.append(Document(f"{random.integers(1_000)}-{i}", text, "", {"kind": "abc"[int(random.integers(3))]}))
    return found


def filled(collection: Collection, every: int) -> None:
    documents = drawn(90)
    write_in_segments(collection, documents, every)
    delete_ids(collection, [one.id for one in documents[::11]])


def ask(collection: Collection, asked: dict[str, Any], **more: Any) -> SearchResult:
    asked = {"weights": WEIGHTS[collection.spec.kind] if asked["mode"] == "hybrid" else None, **asked}
    return search(collection, Query(**{"include": frozenset(), **asked, **more}))


def found(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


def vectors_of(collection: Collection) -> dict[str, F32]:
    """The pooled vector of each document that stands; each has one row."""
    with collection.snapshot() as snapshot:
        own = {
            int(seq): view.part.flat(POOLED).range(place, place + 1)[0]
            for view in snapshot.views
            for place, seq in enumerate(view.part.seqs.tolist())
            if view.alive[place]
        }
        return {name.decode(): own[seq] for seq, name in snapshot.identify(list(own)).items()}


def truth_of(collection: Collection, whole: list[tuple[str, float]], asked: Diversity) -> list[tuple[str, float]]:
    scores, vectors = dict(whole), vectors_of(collection)
    first = dict(whole[: asked.among])
    order = reference.diverse(first, {name: vectors[name] for name in first}, asked.weight)
    return [(name, scores[name]) for name in order] + whole[asked.among :]


@pytest.mark.parametrize(("kind", "every"), [("multi_vector", 40), ("dense", 200)])
def test_the_first_hits_are_ordered_as_on_the_one_page(make_text: MakeCollection, kind: Any, every: int):
    collection = make_text(kind)
    filled(collection, every)
    for asked in SEARCHES:
        whole = found(ask(collection, asked, k=1_000))
        for how in (Diversity(0.3, 50), Diversity(1.0, 12)):
            truth = truth_of(collection, whole, how)
            assert truth != whole
            for offset, k in ((0, 1_000), (0, 1), (7, 10), (45, 20)):
                page = ask(collection, asked, diversity=how, offset=offset, k=k)
                assert found(page) == truth[offset : offset + k], (asked, how, offset, k)
        ordered = sorted(whole[:20], key=lambda one: -one[1]) + whole[20:]
        assert found(ask(collection, asked, diversity=Diversity(0.0, 20), k=1_000)) == ordered


def test_the_answer_is_the_same_for_any_segments(make_text: MakeCollection):
    answers = []
    for name, every in (("one", 200), ("many", 13)):
        collection = make_text(name=name)
        filled(collection, every)
        answers.append([found(ask(collection, one, diversity=Diversity(0.5), k=60, exact=True)) for one in SEARCHES])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("mode", ["lexical", "semantic", "hybrid"])
def test_pages_and_groups_are_of_the_new_order(make_text: MakeCollection, mode: Any):
    collection = make_text()
    filled(collection, 40)
    asked: dict[str, Any] = {"mode": mode, **TEXT}
    how = Diversity(0.6, 25)
    whole = found(ask(collection, asked, diversity=how, k=1_000))
    seen = list[tuple[str, float]]()
    for page in pages(lambda cursor: ask(collection, asked, diversity=how, k=7, cursor=cursor)):
        seen += found(page)
        if page.next is not None:
            with pytest.raises(Invalid, match="another search"):
                ask(collection, asked, diversity=Diversity(0.6, 26), k=7, cursor=page.next)
    assert seen == whole
    kinds = {one.id: one.metadata["kind"] for one in drawn(90)}
    groups: dict[Any, list[str]] = {}
    for name, _ in whole:
        groups.setdefault(kinds[name], []).append(name)
    result = ask(collection, asked, diversity=how, group_by=GroupBy("kind", 4), k=2)
    assert [(one.value, [hit.id for hit in one.hits]) for one in result.groups or ()] == [
        (kind, names[:4]) for kind, names in list(groups.items())[:2]
    ]


def test_only_what_reaches_a_score_is_ordered(make_text: MakeCollection):
    collection = make_text()
    filled(collection, 40)
    for asked in SEARCHES[:2]:
        whole = found(ask(collection, asked, k=1_000))
        reaching = [one for one in whole if one[1] >= whole[14][1]]
        how = Diversity(0.8, 30)
        result = ask(collection, asked, diversity=how, min_score=whole[14][1], k=100)
        assert found(result) == truth_of(collection, reaching, how) != reaching
        assert result.next is None
        assert ask(collection, asked, diversity=how, min_score=whole[0][1] + 1).hits == []


def test_the_reasons_say_why_a_hit_is_where_it_is(make_text: MakeCollection):
    collection = make_text()
    filled(collection, 40)
    whole = found(ask(collection, SEARCHES[1], k=30))
    own = vectors_of(collection)
    vectors = {name: stepped(vector[None])[0].astype(np.float64) * STEP for name, vector in own.items()}
    hits = ask(collection, SEARCHES[1], diversity=Diversity(0.4, 30), k=35, explain=True).hits
    span = whole[0][1] - whole[-1][1]
    for rank, hit in enumerate(hits[:30]):
        why = hit.explanation.diversity
        assert whole[why.place] == (hit.id, hit.score)
        assert why.relevance == pytest.approx((hit.score - whole[-1][1]) / span)
        if not rank:
            assert (why.place, why.similarity, why.nearest) == (0, None, None)
            continue
        alike = [float(vectors[hit.id] @ vectors[other.id]) for other in hits[:rank]]
        assert why.similarity == max(alike) == alike[why.nearest]
    assert all(hit.explanation.diversity is None for hit in hits[30:])
    assert len(hits) == 35


def test_what_says_the_same_comes_last(make_text: MakeCollection):
    collection = make_text(kind="dense")
    texts = ["word1 word2 word3", "word1 word2 word4", "word1 word9 word8"]
    documents = [Document(f"{text[-1]}{i}", text) for text in texts for i in range(4)]
    write_in_segments(collection, documents, 5)
    hits = ask(collection, {"mode": "semantic", "text": "word1 word2 word3"}, diversity=Diversity(0.8), k=12).hits
    assert len({hit.id[0] for hit in hits[:3]}) == 3


@pytest.mark.parametrize("partial", [False, True])
def test_passages_of_long_texts_are_those_that_were_found(make_text: MakeCollection, partial: bool):
    collection = make_text(passages=PassageSpec(size=8, overlap=0))
    documents = [Document(one.id, f"{one.text} {one.text[::-1]} " * 3, "", one.metadata) for one in drawn(40)]
    write_in_segments(collection, documents, 25)
    asked = SEARCHES[1]
    whole, how = ask(collection, asked, k=30, partial=partial), Diversity(0.6, 30)
    result = ask(collection, asked, k=30, diversity=how, partial=partial)
    assert sorted(found(result)) == sorted(found(whole))
    assert found(result) != found(whole)
    assert found(ask(collection, asked, k=5, diversity=how, partial=partial)) == found(result)[:5]


HITS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 1.5, 7.0]), st.lists(st.integers(-3, 3), min_size=3, max_size=3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(HITS, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_the_order_is_that_of_the_one_page(hits: Any, weight: float):
    """Equal ones in their order, vectors of zeros among them."""
    vectors = stepped(np.array([vector for _, vector in hits], np.float32))
    alike = (vectors.astype(np.float64) @ vectors.astype(np.float64).T) * STEP**2
    scores = [score for score, _ in hits]
    made = diverse(scaled(scores), lambda place: alike[place], weight, len(hits))
    truth = reference.diverse(
        {str(i): score for i, score in enumerate(scores)},
        {str(i): np.array(vector, np.float32) for i, (_, vector) in enumerate(hits)},
        weight,
    )
    assert [str(one.place) for one in made] == truth
    short = diverse(scaled(scores), lambda place: alike[place], weight, 2)
    assert short == made[:2]


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "browse"},
        {"mode": "semantic", **TEXT, "sort": [SortKey("kind")]},
        {"mode": "semantic", **TEXT, "rerank": Rerank("words")},
    ],
)
def test_what_has_another_order_is_not_diversified(make_text: MakeCollection, other: dict[str, Any]):
    collection = make_text()
    with pytest.raises(Invalid) as caught:
        ask(collection, other, diversity=Diversity())
    assert caught.value.problems[0].pointer == "/diversity"
