"""Metadata of any kind: it comes back as it came, and filters mean what plain loops over it say."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from in_plain_loops import drawn
from made import MakeCollection
from plain_filters import filters, objects, passes, values, written

from app.changes.patch import Patch
from app.collection.collection import Collection
from app.columns.columns import Columns, ColumnsBuilder
from app.documents import parse_document
from app.errors import Invalid
from app.filters import parse
from app.indexing.sealing import seal
from app.ingest import patch_document, write_documents
from app.metadata.names import FIELD, keys_of, named
from app.metadata.reading import MAX_DEPTH, MAX_ITEMS, MAX_KEYS, MAX_SIZE, Unfit, read
from app.search import Query, search
from app.types import Document

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.one_of(st.integers(), st.integers(-(10**308), 10**308), st.floats(allow_nan=False, allow_infinity=False))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def exactly(value: Any) -> str:
    """Two values have one such form only where they are the same: types, signs and orders of keys included."""
    return json.dumps(value) + repr(value)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.dictionaries(texts, anything, max_size=6))
def test_any_object_is_read_as_it_was_written(metadata: dict[str, Any]) -> None:
    body = json.dumps({"id": "a", "text": "x", "metadata": metadata})
    found = parse_document(body).metadata
    assert exactly(found) == exactly(metadata)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(objects, max_size=8), filters)
def test_filters_mean_what_loops_say(rows: list[dict[str, Any]], asked: tuple[dict[str, Any], list[Any]]) -> None:
    condition = parse(asked[0])
    truth = [passes(asked[1], row) for row in rows]
    assert [condition.matches(row) for row in rows] == truth
    columns = Columns.build(rows)
    assert columns.select(condition).tolist() == truth
    assert Columns.from_bytes(columns.to_bytes()).select(condition).tolist() == truth


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(objects, max_size=8), st.integers(0, 8))
def test_rows_may_come_in_any_batches(rows: list[dict[str, Any]], cut: int) -> None:
    builder = ColumnsBuilder()
    builder.add(rows[:cut])
    builder.add(rows[cut:])
    assert builder.finish().to_bytes() == Columns.build(rows).to_bytes()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(texts, min_size=1, max_size=4), values)
def test_every_key_is_reached_by_its_quoted_name(keys: list[str], value: Any) -> None:
    metadata: Any = value
    for key in reversed(keys):
        metadata = {key: metadata}
    name = written(keys)
    assert FIELD.fullmatch(name)
    assert named(named(name)) == named(name)
    assert list(keys_of(name)) == keys
    assert parse({name: {"exists": True}}).matches(metadata)
    assert Columns.build([metadata, {}]).select(parse({name: {"exists": True}})).tolist() == [True, False]


@pytest.mark.parametrize(
    ("metadata", "value", "expected"),
    [
        ({"a": None}, {"a": None}, True),
        ({}, {"a": None}, False),
        ({"a": None}, {"a": {"exists": True}}, True),
        ({"a": None}, {"a": {"ne": 1}}, True),
        ({"a": None}, {"a": {"ne": None}}, False),
        ({"a": [1, None]}, {"a": None}, True),
        ({"a": [None]}, {"a": {"contains": None}}, True),
        ({"a": None}, {"a": {"contains": None}}, False),
        ({"a": {"b": 1}}, {"a.b": 1}, True),
        ({"a.b": 1}, {"a.b": 1}, True),
        ({"a.b": 1}, {'"a.b"': 1}, True),
        ({"a": {"b": 1}}, {'"a.b"': 1}, False),
        ({"a": {"b": 1}, "a.b": 2}, {"and": [{"a.b": 1}, {"a.b": 2}]}, True),
        ({"a": {"b": 1}}, {"a": {"exists": True}}, True),
        ({"a": {"b": 1}}, {"a": {"ne": 1}}, True),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a.b": {"in": [2, 3]}}, True),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a.b": {"gt": 0}}, False),
        ({"a": [1, 2.5]}, {"a": 2.5}, True),
        ({"a": [1, True]}, {"a": {"contains": True}}, True),
        ({"a": ["xyz"]}, {"a": {"contains": "y"}}, False),
        ({"a": "xyz"}, {"a": {"contains": "y"}}, True),
        ({"a": "Straße"}, {"a": {"ieq": "STRASSE"}}, True),
        ({"a": ["xyz"]}, {"a": {"prefix": "xy"}}, True),
        ({"and": 1}, {'"and"': 1}, True),
        ({"$id": 1}, {'"$id"': 1}, True),
        ({"and": {"or": 1}}, {"and.or": 1}, True),
        ({"a": ""}, {"a": {"empty": True}}, True),
        ({"a": []}, {"a": {"empty": True}}, True),
        ({"a": {}}, {"a": {"empty": True}}, True),
        ({"a": [None]}, {"a": {"empty": True}}, False),
        ({"a": 0}, {"a": {"empty": False}}, True),
        ({}, {"a": {"empty": True}}, False),
        ({"a": 10**40 + 1}, {"a": {"gt": 10**40}}, True),
    ],
)
def test_meaning(metadata: dict[str, Any], value: dict[str, Any], expected: bool) -> None:
    assert parse(value).matches(metadata) is expected
    assert Columns.build([metadata]).select(parse(value)).tolist() == [expected]


@pytest.mark.parametrize(
    ("metadata", "at"),
    [
        ({"a": [[1] * MAX_ITEMS, 2]}, ("a",)),
        ({"a": {str(i): i for i in range(MAX_KEYS)}}, ("a",)),
        ({"a": ["x" * MAX_SIZE]}, ("a", 0)),
        ({"x" * (MAX_SIZE + 1): 1}, ("x" * (MAX_SIZE + 1),)),
        ({"a": {"b": {1, 2}}}, ("a", "b")),
    ],
    ids=["items", "keys", "text", "a key", "a set"],
)
def test_there_are_limits(metadata: dict[str, Any], at: tuple[str | int, ...]) -> None:
    with pytest.raises(Unfit) as refused:
        read(metadata)
    assert refused.value.at in (at, (*at, 0)) or refused.value.at[: len(at)] == at


DOCUMENTS = 150
ASKED = 250


@pytest.fixture(scope="module")
def generated() -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], list[Any]]]]:
    """Metadata and filters, always the same."""
    own = random.Random(7)

    def some(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
        found: list[Any] = []

        @settings(max_examples=count, derandomize=True, deadline=None, phases=[Phase.generate], database=None)
        @given(strategy)
        def keep(one: Any) -> None:
            found.append(one)

        keep()
        own.shuffle(found)
        return found

    rows = some(objects, DOCUMENTS)
    return [rows[i % len(rows)] for i in range(DOCUMENTS)], some(filters, ASKED)


def matching(collection: Collection, condition: dict[str, Any]) -> set[str]:
    return {hit.id for hit in search(collection, Query(mode="browse", filter=parse(condition), k=1_000)).hits}


def test_the_product_means_the_same_everywhere(make_collection: MakeCollection, generated: Any) -> None:
    rows, asked = generated
    collection = make_collection(dim=3)
    documents = [Document(f"d{i}", one.text, "", rows[i], one.vectors) for i, one in enumerate(drawn(DOCUMENTS))]
    write_documents(collection, documents[:60])
    tail = [matching(collection, value) for value, _ in asked[:80]]
    assert tail == [{f"d{i}" for i in range(60) if passes(plain, rows[i])} for _, plain in asked[:80]]
    seal(collection)
    write_documents(collection, documents[60:110])
    seal(collection)
    write_documents(collection, documents[110:])
    truth = [{f"d{i}" for i, row in enumerate(rows) if passes(plain, row)} for _, plain in asked]
    assert [matching(collection, value) for value, _ in asked] == truth
    assert sum(map(bool, truth)) > ASKED // 4
    for i in range(0, DOCUMENTS, 7):
        assert exactly(collection.get(f"d{i}").metadata) == exactly(rows[i])


def test_a_patch_merges_objects_and_keeps_their_order(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    document = Document("a", "x", "", {"z": 1, "by": {"name": "Ada", "born": 1815}}, drawn(1)[0].vectors)
    write_documents(collection, [document])
    changes: dict[str, Any] = {"by": {"born": None, "died": 1852.0}, "z": [None], "a b": {}}
    found = patch_document(collection, "a", Patch(metadata=changes)).document
    assert exactly(found.metadata) == exactly({"z": [None], "by": {"name": "Ada", "died": 1852.0}, "a b": {}})
    assert matching(collection, {"by.died": {"gt": 1852}}) == set()
    assert matching(collection, {"by.died": 1852}) == {"a"}
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = {"a": deep}
    with pytest.raises(Invalid, match="nested at most") as refused:
        patch_document(collection, "a", Patch(metadata={"deep": deep}))
    assert refused.value.problems[0].pointer.startswith("/metadata/deep/a")


def test_what_differs_in_the_order_of_its_keys_alone_is_written(make_collection: MakeCollection) -> None:
    collection = make_collection(dim=3)
    vectors = drawn(1)[0].vectors
    write_documents(collection, [Document("a", "x", "", {"b": 1, "a": 2}, vectors)])
    assert write_documents(collection, [Document("a", "x", "", {"a": 2, "b": 1}, vectors)]).changed == 1
    assert list(collection.get("a").metadata) == ["a", "b"]


def test_columns_of_before_open_as_they_are() -> None:
    """The bytes of a segment's columns as they were written when metadata was flat."""
    content = (Path(__file__).parent / "flat_columns.npz").read_bytes()
    rows: list[dict[str, Any]] = [
        {"year": 2024, "a.b": "x", "tags": ["p", "q"]},
        {"year": 1999.5, "flag": True, "tags": []},
        {"a.b": "", "flag": False},
        {},
    ]
    old = Columns.from_bytes(content)
    for value in (
        {"year": {"gt": 2000}}, {"a.b": "x"}, {'"a.b"': "x"}, {"tags": "q"}, {"tags": {"ne": "p"}}, {"flag": True},
        {"tags": {"empty": True}}, {"a.b": {"empty": True}}, {"flag": None}, {"tags": {"prefix": "q"}},
        {"year": {"exists": False}},
    ):  # fmt: skip
        assert old.select(parse(value)).tolist() == Columns.build(rows).select(parse(value)).tolist()
    for field in ("year", "tags", "a.b", "flag"):
        assert old.shapes(field) == Columns.build(rows).shapes(field)
