"""Facets: counts equal those of a dictionary, for any segments, deletions and mixtures of types."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from in_plain_loops import VALUES, drawn, fill
from made import MakeCollection

from app.compute.deadline import Deadline, deadline
from app.errors import Invalid, TooSlow
from app.filters import parse as parse_filter
from app.ingest import write_documents
from app.results.facets import MOST_VALUES, Counted, FacetCount, parse
from app.search import Query, Total, search
from app.types import Document


def typed(value: Any) -> tuple[int, Any]:
    return (0 if isinstance(value, bool) else 1 if isinstance(value, int | float) else 2), value


def said(document: Document, field: str) -> set[tuple[int, Any]]:
    """The values that a document has."""
    value = document.metadata.get(field, [])
    return {typed(one) for one in (value if isinstance(value, list) else [value])}


def by_terms(documents: list[Document], field: str, most: int) -> Counted:
    counts = Counter(value for one in documents for value in said(one, field))
    best = sorted(counts, key=lambda one: (-counts[one], one))[:most]
    missing = sum(not said(one, field) for one in documents)
    return Counted([FacetCount(counts[one], one[1]) for one in best], len(counts), missing)


def by_dates(documents: list[Document], field: str, length: int) -> Counted:
    dates = [{value[:length] for _, value in said(one, field) if str(value)[:2] == "20"} for one in documents]
    counts = Counter(date for own in dates for date in own)
    return Counted([FacetCount(counts[one], one) for one in sorted(counts)], len(counts), dates.count(set()))


def by_ranges(documents: list[Document], field: str, ranges: list[dict[str, Any]]) -> Counted:
    conditions = [parse_filter({"and": [{field: {name: bound}} for name, bound in one.items()]}) for one in ranges]
    counts = [sum(one.matches(document.metadata) for document in documents) for one in conditions]
    missing = sum(not any(one.matches(document.metadata) for one in conditions) for document in documents)
    found = [FacetCount(count, range=one) for one, count in zip(ranges, counts, strict=True)]
    return Counted(found, len(ranges), missing)


RANGES: list[dict[str, Any]] = [{"lt": 0}, {"gte": 0, "lte": 1}, {"gt": 0.5}, {"gte": 2**53 + 1}, {"gte": "a"}]


@pytest.mark.parametrize("every", [200, 50, 23])
def test_counts_are_those_of_a_dictionary(make_collection: MakeCollection, every: int) -> None:
    collection = make_collection()
    # A list that says one thing twice counts once; a list of dates is one as any other.
    extra: list[dict[str, Any]] = [{"tags": ["x", "x"]}, {"day": ["2024-01-05", "2024-01-06", "2024-01-06"]}]
    written = [Document(one.id, one.text, "", one.metadata) for one in drawn(140)]
    written += [Document(f"extra{i}", "word3", "", metadata) for i, metadata in enumerate(extra)]
    stands = list(fill(collection, written, every).values())
    for condition in (None, {"kind": {"eq": "class"}}, {"n": {"eq": "never"}}):
        allowed = None if condition is None else parse_filter(condition)
        passing = [one for one in stands if allowed is None or allowed.matches(one.metadata)]
        having = [one for one in passing if "word3" in one.text.split()]
        for mode, matching in (("browse", passing), ("semantic", passing), ("hybrid", passing), ("lexical", having)):
            text = None if mode == "browse" else "word3"
            for most in (1, 3, MOST_VALUES):
                asked = parse({field: {"terms": most} for field in (*VALUES, "never")})
                result = search(collection, Query(text=text, mode=mode, facets=asked, filter=allowed, k=1))
                assert result.total == Total(len(matching), exact=True)
                for field, counted in result.facets.items():
                    assert counted == by_terms(matching, field, most), field
            for unit, length in (("year", 4), ("month", 7), ("day", 10)):
                asked = parse({"day": {"dates": unit}, "n": {"ranges": RANGES}, "mixed": {"ranges": RANGES}})
                result = search(collection, Query(text=text, mode=mode, facets=asked, filter=allowed, k=1))
                assert result.facets == {
                    "day": by_dates(matching, "day", length),
                    "n": by_ranges(matching, "n", RANGES),
                    "mixed": by_ranges(matching, "mixed", RANGES),
                }


def test_of_many_dates_the_latest_are_counted(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=1)
    days = [
        f"{year}-{month:02}-{day:02}" for year in (2020, 2021, 2022) for month in range(1, 13) for day in range(1, 31)
    ]
    one = np.ones((1, 1), np.float32)
    write_documents(collection, [Document(day, "", "", {"day": day}, one) for day in days])
    (counted,) = search(collection, Query(mode="browse", facets=parse({"day": {"dates": "day"}}))).facets.values()
    assert counted == Counted([FacetCount(1, day) for day in days[-MOST_VALUES:]], len(days), 0)


def test_counting_ends_with_the_time_of_the_search(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=1)
    write_documents(collection, [Document(f"d{i}", "", "", {"n": i}, np.ones((1, 1), np.float32)) for i in range(9)])
    for facet in ({"terms": 3}, {"ranges": [{"gt": 1}]}):
        looks: list[float] = []

        def clock(looks: list[float] = looks) -> float:
            looks.append(0.0)
            return 0.0

        with deadline(Deadline(1.0, clock)):
            search(collection, Query(mode="browse"))
        without = len(looks)
        looks.clear()
        with deadline(Deadline(1.0, clock)):
            search(collection, Query(mode="browse", facets=parse({"n": facet})))
        assert len(looks) > without + 1
        late = iter([0.0] * (without) + [9.0] * 99)
        with pytest.raises(TooSlow), deadline(Deadline(1.0, lambda late=late: next(late))):
            search(collection, Query(mode="browse", facets=parse({"n": facet})))


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], ""),
        ({}, ""),
        ({f"f{i}": {"terms": 1} for i in range(17)}, ""),
        ({"a b": {"terms": 1}}, ""),
        ({"and": {"terms": 1}}, ""),
        ({"a": 1}, "/a"),
        ({"a": {}}, "/a"),
        ({"a": {"terms": 1, "dates": "day"}}, "/a"),
        ({"a": {"counts": 1}}, "/a"),
        ({"a": {"terms": 0}}, "/a/terms"),
        ({"a": {"terms": 1_001}}, "/a/terms"),
        ({"a": {"terms": True}}, "/a/terms"),
        ({"a": {"dates": "week"}}, "/a/dates"),
        ({"a": {"dates": []}}, "/a/dates"),
        ({"a": {"ranges": []}}, "/a/ranges"),
        ({"a": {"ranges": [{"gt": 1}, {}]}}, "/a/ranges/1"),
        ({"a": {"ranges": [{"eq": 1}]}}, "/a/ranges/0"),
        ({"a": {"ranges": [{"gt": True}]}}, "/a/ranges/0/gt"),
        ({"a": {"ranges": [{"gt": 10**309}]}}, "/a/ranges/0/gt"),
    ],
)
def test_a_wrong_facet_is_refused_at_its_place(value: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(value)
    assert caught.value.problems[0].pointer == pointer


def test_what_no_document_has_is_told(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    fill(collection, drawn(30), 12)
    facets = parse({"kind": {"terms": 3}, '"a b"': {"terms": 3}, "day": {"dates": "year"}})
    for asked in ({"mode": "browse"}, {"vectors": np.ones((1, 3), np.float32)}):
        (notice,) = search(collection, Query(**asked, facets=facets)).warnings
        assert (notice.code, notice.pointer) == ("unknown_field", '/facets/"a b"')
