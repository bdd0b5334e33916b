"""Scores that hits have at least: the list of a search is that of one without, to where it falls below."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import pytest
from in_plain_loops import drawn, fill, in_order
from made import MakeCollection, OpenCatalogue, pages

from app.boosts.asked import parse as parse_boosts
from app.collection.collection import Collection
from app.collection.spec import PassageSpec
from app.errors import Invalid
from app.filters import parse as parse_filter
from app.query.asked import SORTED
from app.query.examples import Example, Like
from app.rerank.order import Rerank
from app.results.facets import parse as parse_facets
from app.results.grouping import GroupBy
from app.results.sorting import parse as parse_sort
from app.search import Query, SearchResult, search
from app.types import Document

WEIGHTS = {"words": 0.2, "tokens": 0.4, "pooled": 0.4}
TEXT: dict[str, Any] = {"text": "word3 word5 word7"}
BOOSTS = parse_boosts([{"filter": {"kind": {"eq": "class"}}, "weight": 0.4}])
SEARCHES: list[dict[str, Any]] = [
    {"mode": "lexical", **TEXT},
    {"mode": "lexical", **TEXT, "boosts": BOOSTS},
    {"mode": "semantic", **TEXT},
    {"mode": "semantic", **TEXT, "exact": True},
    {"mode": "semantic", **TEXT, "candidates": 7},
    {"mode": "semantic", **TEXT, "boosts": BOOSTS},
    {"mode": "semantic", "like": Like([Example(None, "word3 word5")], [Example(None, "word1")])},
    {"mode": "dense", **TEXT, "candidates": 12},
    {"mode": "hybrid", **TEXT, "weights": WEIGHTS},
    {"mode": "hybrid", **TEXT, "weights": WEIGHTS, "exact": True, "boosts": BOOSTS},
    {"mode": "hybrid", **TEXT, "weights": "reciprocal_rank"},
]

Found = list[tuple[str, float]]


def found(result: SearchResult) -> Found:
    return [(hit.id, hit.score) for hit in result.hits]


def ask(collection: Collection, asked: dict[str, Any], **more: Any) -> SearchResult:
    return search(collection, Query(**{"include": frozenset(), **asked, **more}))


def until(whole: Found, least: float, asked: dict[str, Any]) -> Found:
    """What the list of a search is that asks for no score."""
    if asked["mode"] == "lexical":
        return [one for one in whole if one[1] >= least]
    return list(takewhile(lambda one: one[1] >= least, whole))


def texts(count: int) -> list[Document]:
    return [Document(one.id, one.text, "", one.metadata) for one in drawn(count)]


def limits(whole: Found) -> list[float]:
    """Below all, the score of some, between two, above all."""
    scores = sorted(score for _, score in whole)
    middle = len(scores) // 2
    return [scores[0] - 1, scores[middle], (scores[-9] + scores[-10]) / 2, scores[-1], scores[-1] + 1]


@pytest.mark.parametrize(("every", "split"), [(300, False), (50, True)])
def test_a_list_ends_where_scores_fall_below(make_collection: MakeCollection, every: int, split: bool) -> None:
    collection = make_collection(**({"passages": PassageSpec(size=8, overlap=1)} if split else {}))
    written = texts(90)
    if split:
        written = [
            Document(one.id, f"{one.text} {written[i - 1].text}", "", one.metadata) for i, one in enumerate(written)
        ]
    fill(collection, written, every)
    narrowed = parse_filter({"kind": {"exists": True}})
    for asked in SEARCHES:
        for more in ({}, {"filter": narrowed}) if "candidates" in asked else ({},):
            whole = found(ask(collection, {**asked, **more}, k=1_000))
            for least in limits(whole):
                truth = until(whole, least, asked)
                for offset, k in ((0, 1_000), (0, 1), (4, 9), (len(truth), 5), (max(len(truth) - 2, 0), 2)):
                    result = ask(collection, {**asked, **more}, min_score=least, k=k, offset=offset)
                    assert found(result) == truth[offset : offset + k], (asked, least, offset, k)
                    assert (result.next is not None) == (bool(result.hits) and offset + k < len(truth))
                    assert result.total is not None
                    looked = len(truth) if asked["mode"] == "lexical" else min(len(truth), offset + k + 1)
                    assert result.total.count == looked
                    assert result.total.exact == (looked == len(truth)) or looked == len(truth) == offset + k + 1


@pytest.mark.parametrize("asked", SEARCHES, ids=str)
def test_cursors_lead_to_the_end_of_it_and_no_further(make_collection: MakeCollection, asked: dict[str, Any]) -> None:
    collection = make_collection()
    fill(collection, texts(80), 30)
    whole = found(ask(collection, asked, k=1_000))
    least = limits(whole)[1]
    truth, seen = until(whole, least, asked), Found()
    for page in pages(lambda cursor: ask(collection, asked, min_score=least, k=4, cursor=cursor)):
        seen += found(page)
        if page.next is not None:
            with pytest.raises(Invalid, match="another search"):
                ask(collection, asked, min_score=least + 1, k=4, cursor=page.next)
    assert seen == truth
    assert truth


@pytest.mark.parametrize("asked", SEARCHES, ids=str)
def test_what_is_counted_sorted_and_grouped_reaches_it(make_collection: MakeCollection, asked: dict[str, Any]) -> None:
    collection = make_collection()
    stands = fill(collection, texts(120), 50)
    whole = found(ask(collection, asked, k=1_000))
    least = limits(whole)[1]
    truth = dict(until(whole, least, asked))
    values: dict[Any, list[str]] = {}
    for name in truth:
        values.setdefault(stands[name].metadata.get("kind"), []).append(name)
    counts = {value: len(names) for value, names in values.items() if value is not None}
    facets = parse_facets({"kind": {"terms": 10}})
    for k in (1, 7, 1_000):
        result = ask(collection, asked, min_score=least, facets=facets, k=k)
        assert found(result) == list(truth.items())[:k]
        assert {one.value: one.count for one in result.facets["kind"].counts} == counts
        assert result.facets["kind"].missing == len(values.get(None, []))
        assert (result.total.count, result.total.exact) == (len(truth), True)  # type: ignore[union-attr]
        assert (result.next is not None) == (k < len(truth))
    keys = parse_sort([{"n": "desc"}])
    ordered = in_order([stands[name] for name in truth], keys)
    for k in (3, 1_000):
        result = ask(collection, asked, min_score=least, sort=keys, k=k)
        assert found(result) == [(name, truth[name]) for name in ordered[:k]]
        assert result.total.count == len(truth)  # type: ignore[union-attr]
    for size in (1, 100):
        result = ask(collection, asked, min_score=least, group_by=GroupBy("kind", size, "omit"), k=5)
        groups = {one.value: [hit.id for hit in one.hits] for one in result.groups or ()}
        assert groups == {value: names[:size] for value, names in values.items() if value is not None}
        assert result.total_groups == len(counts)
        assert list(groups) == [value for value in values if value is not None]


def test_of_more_than_are_looked_at_the_best_are_counted(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense")
    fill(collection, [Document(f"{i}", "zip", "", {"kind": "a"}) for i in range(1_500)], 2_000)
    facets = parse_facets({"kind": {"terms": 10}})
    asked: dict[str, Any] = {"text": "zip", "mode": "dense", "min_score": 0.5}
    result = ask(collection, asked, facets=facets)
    assert (result.total.count, result.total.exact) == (SORTED, False)  # type: ignore[union-attr]
    assert result.facets["kind"].counts[0].count == SORTED
    result = ask(collection, {**asked, "mode": "lexical", "min_score": 0}, facets=facets)
    assert (result.total.exact, result.total.count > SORTED) == (True, True)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["semantic", "dense", "hybrid"])
def test_a_search_in_time_ends_there_too(make_collection: MakeCollection, mode: str) -> None:
    collection = make_collection()
    fill(collection, texts(60), 30)
    asked: dict[str, Any] = {"mode": mode, **TEXT, "weights": WEIGHTS if mode == "hybrid" else None}
    whole = found(ask(collection, asked, k=100))
    result = ask(collection, asked, k=100, partial=True, min_score=whole[20][1])
    assert found(result) == whole[: len(result.hits)]
    assert len(result.hits) >= 21
    assert result.hits[-1].score == whole[20][1]
    assert result.next is None


def test_a_reranker_reads_only_what_reaches_it(open_catalogue: OpenCatalogue) -> None:
    collection = open_catalogue().create("c", model="words", kind="multi_vector")
    fill(collection, texts(60), 30)
    whole = found(ask(collection, {"mode": "semantic", **TEXT}, k=100))
    least = whole[11][1]
    truth = until(whole, least, {"mode": "semantic"})
    asked: dict[str, Any] = {"mode": "semantic", **TEXT, "min_score": least, "rerank": Rerank("words", 50)}
    result = ask(collection, asked, k=5)
    assert result.reranked == (len(truth), len(truth))
    pages, cursor = list(result.hits), result.next
    while cursor is not None:
        page = ask(collection, asked, k=5, cursor=cursor)
        pages, cursor = pages + page.hits, page.next
    assert {hit.id: hit.former_score for hit in pages} == dict(truth)
    assert len(pages) == len(truth)


def test_without_a_query_there_is_no_score(make_collection: MakeCollection) -> None:
    collection = make_collection()
    with pytest.raises(Invalid) as caught:
        search(collection, Query(mode="browse", min_score=0.0))
    assert caught.value.problems[0].pointer == "/min_score"
