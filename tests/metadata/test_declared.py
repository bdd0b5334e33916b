"""Declared fields: dates as moments, points on the earth, what does not fit; against plain Python, wherever it lies."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_plain_loops import drawn
from made import MakeCollection

from app.collection.collection import Collection
from app.errors import Invalid
from app.filters import parse
from app.indexing.sealing import merge, seal
from app.ingest import delete_ids, write_documents
from app.metadata.dates import moment, written
from app.metadata.declared import FieldType, read_changes
from app.metadata.geo import EARTH_M, Point, distances
from app.results.facets import parse as parse_facets
from app.results.sorting import parse as parse_sort
from app.search import Query, search
from app.types import Document

FOUND_AT = 240


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.datetimes(timezones=st.timezones() | st.just(UTC), allow_imaginary=False))
def test_moments_are_those_of_python(at: datetime) -> None:
    if at.utcoffset() is None or at.utcoffset().total_seconds() % 60:  # type: ignore[union-attr]
        return
    found = moment(at.isoformat())
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    assert found == ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1_000
    assert moment(written(found)) == found or not 2 <= at.year <= 9998


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2024-05-01", "2024-05-01T00:00:00.000000001Z"),
        ("2024-05-01T23:30+02:00", "2024-05-01T22:00:00Z"),
        ("2024-05-02T00:30:00+02:00", "2024-05-01T23:00:00Z"),
        ("0001-01-01", "9999-12-31"),
    ],
)
def test_zones_and_fractions_decide(earlier: str, later: str) -> None:
    first, second = moment(earlier), moment(later)
    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-13-01", "2024-02-30", "2024-05-01T10:00", "2024-05-01T25:00Z", "2024-05-01T10:60Z",
     "2024-05-01T10:00:00+24:00", " 2024-05-01", "2024-05-01Z", "٢٠٢٤-05-01", "2024-05-01T10:00:61Z"],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    assert moment(text) is None


places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(places, places)
def test_distances_are_those_along_the_sphere(a: tuple[float, float], b: tuple[float, float]) -> None:
    """By the angle between two vectors from the centre, which knows neither poles nor the antimeridian."""
    found = float(distances(Point(*a), np.array([b[0]]), np.array([b[1]]))[0])
    assert math.isclose(found, apart(a, b), rel_tol=1e-9, abs_tol=0.2)
    assert math.isclose(found, float(distances(Point(*b), np.array([a[0]]), np.array([a[1]]))[0]), abs_tol=1e-3)


def straight(lat: float, lon: float) -> tuple[float, float, float]:
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


def apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    p, q = (straight(*map(math.radians, one)) for one in (a, b))
    cross = (p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0])
    return EARTH_M * math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(p, q, strict=True)))


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [((0, 179.5), (0, -179.5), 1), ((89.5, 0), (89.5, 180), 1), ((90, 10), (90, -120), 0), ((-90, 0), (90, 77), 180)],
)
def test_poles_and_the_antimeridian(a: tuple[float, float], b: tuple[float, float], degrees: float) -> None:
    found = distances(Point(*a), np.array([float(b[0])]), np.array([float(b[1])]))[0]
    assert math.isclose(found, math.radians(degrees) * EARTH_M, rel_tol=1e-9, abs_tol=1e-6)


DATES = ["2024-01-31", "2024-02-01T00:30:00+02:00", "2024-01-31T23:00:00Z", "2023-12-31T23:59:59.5-01:00", "1969-07-20"]
UNFIT: list[Any] = ["no day", 7, True, {"y": 2024}, "2024-05-01T10:00:00", ["2024-01-31", "no day"]]
SPOTS: list[Any] = [
    {"lat": 48.2, "lon": 16.4},
    {"lat": 48.3, "lon": 16.3, "name": "x"},
    {"lat": 0, "lon": 179.9},
    {"lat": 0, "lon": -179.9},
]
NO_SPOTS: list[Any] = [{"lat": 91, "lon": 0}, {"lat": 1}, [16.4, 48.2], "48.2,16.4", {"lat": "1", "lon": 2}]
DECLARED: dict[str, FieldType] = {"on": "date", "at.place": "geo", "n": "integer"}


def rows(count: int) -> list[dict[str, Any]]:
    own = random.Random(3)
    found = []
    for _ in range(count):
        row: dict[str, Any] = {}
        if own.random() < 0.85:
            row["on"] = own.choice([*DATES, *DATES, DATES[:2], [], None, *UNFIT])
        if own.random() < 0.85:
            row["at"] = {"place": own.choice([*SPOTS, *SPOTS, None, *NO_SPOTS])}
        if own.random() < 0.85:
            row["n"] = own.choice([1, 2, 2.0, 2.5, "2", None, [1, "x"]])
        found.append(row)
    return found


def at(text: object) -> datetime | None:
    """Python's own reading of what a date may be."""
    if not isinstance(text, str):
        return None
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found.astimezone(UTC)


def days(value: Any) -> list[datetime]:
    return [found for one in (value if isinstance(value, list) else [value]) if (found := at(one)) is not None]


def spot(row: dict[str, Any]) -> tuple[float, float] | None:
    found = row.get("at", {}).get("place")
    if not isinstance(found, dict) or not all(type(found.get(name)) in (int, float) for name in ("lat", "lon")):
        return None
    return (found["lat"], found["lon"]) if abs(found["lat"]) <= 90 and abs(found["lon"]) <= 180 else None


def one_day(row: dict[str, Any]) -> list[datetime]:
    return [] if isinstance(row.get("on"), list) else days(row.get("on"))


def dated(row: dict[str, Any]) -> bool:
    """Whether there is a date, null, or a list of some."""
    return "on" in row and (row["on"] is None or isinstance(row["on"], list) or bool(days(row["on"])))


LATE = datetime(2024, 1, 31, tzinfo=UTC)
CENTER = (48.25, 16.35)
LAWS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"on": {"gt": "2024-01-31"}}, lambda r: any(d > LATE for d in one_day(r))),
    ({"on": {"lte": "2024-01-31T01:00:00+01:00"}}, lambda r: any(d <= LATE for d in one_day(r))),
    ({"on": "2024-01-31T22:30Z"}, lambda r: datetime(2024, 1, 31, 22, 30, tzinfo=UTC) in days(r.get("on"))),
    ({"on": {"in": ["2024-01-31", "no day", 7]}}, lambda r: LATE in days(r.get("on"))),
    ({"on": {"ne": "2024-01-31"}}, lambda r: dated(r) and LATE not in days(r["on"])),
    ({"on": {"exists": True}}, lambda r: dated(r)),
    ({"on": None}, lambda r: "on" in r and r["on"] is None),
    ({"on": {"prefix": "2024"}}, lambda r: False),
    ({"n": {"gte": 2}}, lambda r: type(r.get("n")) in (int, float) and r["n"] == 2),
    ({"n": {"exists": False}}, lambda r: "n" not in r or r["n"] in (2.5, "2")),
    ({"at.place": {"geo_distance": {"lat": CENTER[0], "lon": CENTER[1], "distance_m": 7_000}}},
     lambda r: (s := spot(r)) is not None and apart(CENTER, s) <= 7_000),
    ({"at.place": {"geo_distance": {"lat": 0, "lon": 180, "distance_m": 20_000}}},
     lambda r: (s := spot(r)) is not None and apart((0, 180), s) <= 20_000),
    ({"at.place": {"exists": True}}, lambda r: spot(r) is not None or ("at" in r and r["at"]["place"] is None)),
    ({"not": {"at.place": {"ne": 1}}}, lambda r: spot(r) is None and not ("at" in r and r["at"]["place"] is None)),
]  # fmt: skip


def browse(collection: Collection, **asked: Any) -> Any:
    return search(collection, Query(mode="browse", k=1_000, **asked))


def hold(collection: Collection, stands: dict[str, dict[str, Any]]) -> None:
    """The collection to what plain Python makes of the same documents."""
    for asked, truth in LAWS:
        found = {hit.id for hit in browse(collection, filter=parse(asked)).hits}
        assert found == {one for one, row in stands.items() if truth(row)}, asked
    by_day = [hit.id for hit in browse(collection, sort=parse_sort([{"on": "asc"}])).hits]
    single = {one: days(row.get("on")) if not isinstance(row.get("on"), list) else [] for one, row in stands.items()}
    assert by_day == sorted(stands, key=lambda one: (single[one] or [datetime.max.replace(tzinfo=UTC)], one.encode()))
    near: dict[str, Any] = {"geo_distance": {"lat": CENTER[0], "lon": CENTER[1]}}
    by_place = [hit.id for hit in browse(collection, sort=parse_sort([{"at.place": near}])).hits]
    far = {one: math.inf if (s := spot(row)) is None else round(apart(CENTER, s), 3) for one, row in stands.items()}
    assert by_place == sorted(stands, key=lambda one: (far[one], one.encode()))
    away = [hit.id for hit in browse(collection, sort=parse_sort([{"at.place": {**near, "order": "desc"}}])).hits]
    assert away == sorted(stands, key=lambda one: (far[one] == math.inf, -far[one], one.encode()))
    facets = browse(collection, facets=parse_facets({"on": {"dates": "month"}})).facets["on"]
    months = [{d.strftime("%Y-%m") for d in days(row.get("on"))} for row in stands.values()]
    assert {one.value: one.count for one in facets.counts} == {
        month: sum(month in own for own in months) for month in set().union(*months)
    }
    assert facets.missing == sum(not own for own in months)


def unfit(row: dict[str, Any]) -> dict[str, bool]:
    def wrong(value: Any) -> bool:
        return value is not None and not isinstance(value, list) and at(value) is None

    on, n = row.get("on"), row.get("n")
    return {
        "on": any(map(wrong, on)) if isinstance(on, list) else wrong(on),
        "n": n in (2.5, "2") or isinstance(n, list),
        "at.place": "at" in row and row["at"]["place"] is not None and spot(row) is None,
    }


def test_a_later_declaration_applies_to_what_there_is(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    given = rows(FOUND_AT)
    documents = [Document(f"d{i}", one.text, "", given[i], one.vectors) for i, one in enumerate(drawn(FOUND_AT))]
    for start in range(0, FOUND_AT, 80):
        write_documents(collection, documents[start : start + 80])
        if start < 160:
            seal(collection)
    stands = {one.id: one.metadata for one in documents}
    before = {hit.id for hit in browse(collection, filter=parse({"on": "no day"})).hits}
    assert before
    collection.declare(DECLARED)
    delete_ids(collection, ["d0", "d100", "d239"])
    for one in ("d0", "d100", "d239"):
        del stands[one]
    hold(collection, stands)
    with collection.snapshot() as snapshot:
        counted = snapshot.unfit()
    assert counted == {field: sum(unfit(row)[field] for row in stands.values()) for field in DECLARED}
    assert all(counted.values())
    seal(collection)
    merge(collection)
    hold(collection, stands)
    assert {one: collection.get(one).metadata for one in stands} == stands
    collection.declare(None)
    assert {hit.id for hit in browse(collection, filter=parse({"on": "no day"})).hits} == before - {
        "d0",
        "d100",
        "d239",
    }


@pytest.mark.parametrize(
    ("metadata", "pointer"),
    [
        ({"on": "no day"}, "/documents/1/metadata/on"),
        ({"on": ["2024-01-01", 7]}, "/documents/1/metadata/on/1"),
        ({"on": "2024-05-01T10:00:00"}, "/documents/1/metadata/on"),
        ({"n": 1.5}, "/documents/1/metadata/n"),
        ({"n": True}, "/documents/1/metadata/n"),
        ({"n": {"a": 1}}, "/documents/1/metadata/n"),
        ({"at": {"place": {"lat": 91, "lon": 0}}}, "/documents/1/metadata/at/place"),
        ({"at": [{"place": [1, 2]}]}, "/documents/1/metadata/at/0/place"),
        ({"at.place": "x"}, "/documents/1/metadata/at.place"),
        ({"a b": {"c/d": [["x", 1]]}}, "/documents/1/metadata/a b/c~1d/0/1"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_place(
    make_collection: MakeCollection, metadata: dict[str, Any], pointer: str
) -> None:
    collection = make_collection(dim=3, declared={**DECLARED, '"a b"."c/d"': "string"})
    fits, other = drawn(2)
    fits = Document("fits", "x", "", {"on": [None, "2024-01-01"], "n": 2.0, "at": {"place": SPOTS[1]}}, fits.vectors)
    write_documents(collection, [fits])
    with pytest.raises(Invalid) as refused:
        write_documents(collection, [fits, Document("b", "x", "", metadata, other.vectors)])
    assert [one.pointer for one in refused.value.problems] == [pointer]
    assert collection.count() == 1


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], ""),
        ({"a": "text"}, "/a"),
        ({"a": {"type": "date"}}, "/a"),
        ({"$id": "string"}, "/$id"),
        ({"a b": "string"}, "/a b"),
        ({"not": "string"}, "/not"),
        ({f"f{i}": "string" for i in range(257)}, ""),
    ],
    ids=repr,
)
def test_a_wrong_declaration_is_refused_at_its_place(value: object, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_changes(value)
    assert refused.value.problems[0].pointer == pointer


def test_ids_and_titles_are_fields(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    documents = [
        Document(one.id, one.text, f"Title {i % 7}" if i % 3 else "", {"id": "x", "title": "y"}, one.vectors)
        for i, one in enumerate(drawn(60))
    ]
    write_documents(collection, documents[:40])
    seal(collection)
    write_documents(collection, documents[40:])
    for field in ("id", "title"):
        said: dict[str, str] = {one.id: getattr(one, field) for one in documents}
        some = said[documents[4].id]
        truths: list[tuple[str, Any, set[str]]] = [
            ("eq", some, {one for one, value in said.items() if value == some}),
            ("prefix", some[:2], {one for one, value in said.items() if value.startswith(some[:2])}),
            ("contains", some[1:], {one for one, value in said.items() if some[1:] in value}),
            ("empty", True, {one for one, value in said.items() if not value}),
            ("gt", some, {one for one, value in said.items() if value > some}),
        ]
        for operator, operand, truth in truths:
            found = browse(collection, filter=parse({f"${field}": {operator: operand}}))
            assert {hit.id for hit in found.hits} == truth
            assert found.warnings == []
        sort = parse_sort([{f"${field}": "desc"}])
        assert [said[hit.id] for hit in browse(collection, sort=sort).hits] == sorted(said.values(), reverse=True)
    counts = browse(collection, facets=parse_facets({"$title": {"terms": 20}})).facets["$title"].counts
    assert {one.value: one.count for one in counts} == {
        title: sum(one.title == title for one in documents) for title in {one.title for one in documents}
    }
    gone = [one.id for one in documents[:40] if one.title == "Title 1"]
    with collection.snapshot() as older:
        delete_ids(collection, gone)
        seal(collection)
        merge(collection)
        assert len(older.matching(parse({"$title": "Title 1"}))) == sum(one.title == "Title 1" for one in documents)
    left = browse(collection, filter=parse({"$title": "Title 1"}))
    assert {hit.id for hit in left.hits} == {one.id for one in documents if one.title == "Title 1"} - set(gone)
