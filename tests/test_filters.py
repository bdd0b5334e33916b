"""Filters: what they mean, that columns mean the same, and that a wrong one is refused at its place."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.columns.column import BLOCK
from app.columns.columns import Columns, ColumnsBuilder
from app.compute.deadline import Deadline, deadline
from app.errors import Invalid, TooSlow
from app.filters import FILTER_SCHEMA, Shape, fields_of, parse, warnings_of
from app.settings import DEFAULT

LARGE = 2**53
MAX_DEPTH, MAX_CONDITIONS = DEFAULT.filter_depth, DEFAULT.filter_conditions
NUMBERS: list[Any] = [0, -0.0, 0.0, 1, 1.0, -1, 0.5, 2, LARGE, LARGE + 1, float(LARGE), float(LARGE + 2), 5e-324, 1e308]
NUMBERS += [-(2**63), 2**63 - 1, 2**63, 10**30, float(2**63), -float(2**63)]
STRINGS = ["", "a", "b", "ab", "1", "true", "é", "e\u0301", "\U0001f600", "\uffff", "\x00"]
KEYS = ["a", "b", "a.b", "_"]

scalars = st.one_of(st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(STRINGS), st.integers(-3, 3))
values = st.one_of(scalars, st.lists(st.sampled_from(STRINGS), max_size=3))
rows = st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=4), max_size=12)


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    operator = draw(st.sampled_from(["eq", "ne", "in", "gt", "gte", "lt", "lte", "exists"]))
    if operator == "exists":
        value: Any = draw(st.booleans())
    elif operator == "in":
        value = draw(st.lists(scalars, max_size=3))
    elif operator in ("eq", "ne"):
        value = draw(scalars)
    else:
        value = draw(st.one_of(st.sampled_from(NUMBERS), st.sampled_from(STRINGS)))
    return {draw(st.sampled_from(KEYS)): {operator: value}}


filters = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=250, derandomize=True, deadline=None)
@given(rows, filters)
@example([{"a": LARGE + 1}, {"a": float(LARGE)}], {"a": {"gt": float(LARGE)}})
@example([{"a": True}, {"a": 1}, {"a": 1.0}, {"a": "1"}], {"a": {"eq": 1}})
@example([{"a": []}, {"a": ["x"]}, {}], {"a": {"exists": True}})
@example([{"a": ["x", "y"]}, {"a": []}, {"a": ["y"]}], {"a": {"eq": "y"}})
def test_columns_select_what_matches(metadata: list[dict[str, Any]], value: dict[str, Any]) -> None:
    condition = parse(value)
    columns = Columns.build(metadata)
    expected = [condition.matches(row) for row in metadata]
    assert columns.select(condition).tolist() == expected
    assert Columns.build(metadata, fields_of(condition)).select(condition).tolist() == expected
    again = Columns.from_bytes(columns.to_bytes())
    assert again.select(condition).tolist() == expected
    assert again.select(condition).dtype == np.bool_


@settings(max_examples=100, derandomize=True, deadline=None)
@given(rows, st.integers(0, 12))
def test_the_batches_that_rows_come_in_do_not_matter(metadata: list[dict[str, Any]], cut: int) -> None:
    builder = ColumnsBuilder()
    builder.add(metadata[:cut])
    builder.add(metadata[cut:])
    assert builder.finish().to_bytes() == Columns.build(metadata).to_bytes()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=4), filters)
def test_a_filter_means_the_same_after_json(metadata: dict[str, Any], value: dict[str, Any]) -> None:
    """Metadata are stored as JSON; nothing may move on the way."""
    condition = parse(value)
    assert parse(json.loads(json.dumps(value))) == condition
    assert condition.matches(json.loads(json.dumps(metadata))) == condition.matches(metadata)


@pytest.mark.parametrize(
    ("metadata", "value", "expected"),
    [
        ({"a": 1}, {"a": {"eq": 1.0}}, True),
        ({"a": True}, {"a": {"eq": 1}}, False),
        ({"a": True}, {"a": {"eq": True}}, True),
        ({"a": False}, {"a": {"eq": 0}}, False),
        ({"a": True}, {"a": {"gte": 0}}, False),
        ({"a": "1"}, {"a": {"eq": 1}}, False),
        ({"a": "b"}, {"a": {"gt": "a"}}, True),
        ({"a": "b"}, {"a": {"gt": 1}}, False),
        ({"a": LARGE + 1}, {"a": {"eq": float(LARGE)}}, False),
        ({"a": LARGE + 1}, {"a": {"gt": float(LARGE)}}, True),
        ({"a": -0.0}, {"a": {"eq": 0}}, True),
        ({"a": ["x", "y"]}, {"a": {"eq": "x"}}, True),
        ({"a": ["x", "y"]}, {"a": {"ne": "x"}}, False),
        ({"a": ["x", "y"]}, {"a": {"ne": "z"}}, True),
        ({"a": ["x", "y"]}, {"a": {"in": ["z", "y"]}}, True),
        ({"a": ["x"]}, {"a": {"gte": "a"}}, False),
        ({"a": []}, {"a": {"exists": True}}, True),
        ({"a": []}, {"a": {"eq": ""}}, False),
        ({"a": []}, {"a": {"ne": "x"}}, True),
        ({}, {"a": {"ne": "x"}}, False),
        ({}, {"a": {"lt": 1}}, False),
        ({}, {"a": {"exists": False}}, True),
        ({}, {"not": {"a": {"eq": 1}}}, True),
        ({"a": 1}, {"a": {"in": []}}, False),
        ({"a": 1, "b": 2}, {"and": [{"a": {"eq": 1}}, {"b": {"eq": 2}}]}, True),
        ({"a": 1, "b": 3}, {"and": [{"a": {"eq": 1}}, {"b": {"eq": 2}}]}, False),
        ({"a": 0, "b": 2}, {"or": [{"a": {"eq": 1}}, {"b": {"eq": 2}}]}, True),
    ],
)
def test_meaning(metadata: dict[str, Any], value: dict[str, Any], expected: bool) -> None:
    assert parse(value).matches(metadata) is expected
    assert Columns.build([metadata]).select(parse(value)).tolist() == [expected]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.sampled_from(KEYS), st.lists(conditions(), min_size=1, max_size=4), scalars, rows)
def test_short_forms_mean_the_long_ones(
    key: str, several: list[dict[str, Any]], value: Any, metadata: list[dict[str, Any]]
) -> None:
    operators = {op: operand for one in several for body in one.values() for op, operand in body.items()}
    short = {"or": [{key: operators}, {"not": {key: value}}]}
    each = [{key: {op: operand}} for op, operand in operators.items()]
    long = {"or": [{"and": each}, {"not": {key: {"eq": value}}}]}
    columns = Columns.build(metadata)
    assert columns.select(parse(short)).tolist() == columns.select(parse(long)).tolist()
    assert [parse(short).matches(row) for row in metadata] == [parse(long).matches(row) for row in metadata]
    if len(each) > 1:
        assert parse(short) == parse(long)
    assert parse({key: value}) == parse({key: {"eq": value}})


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (None, "/filter"),
        ([], "/filter"),
        ({}, "/filter"),
        ({"a": {"eq": 1}, "b": {"eq": 1}}, "/filter"),
        ({"a": ["x"]}, "/filter/a"),
        ({"a": {}}, "/filter/a"),
        ({"a": float("nan")}, "/filter/a"),
        ({"a": 10**309}, "/filter/a"),
        ({"a": {"gt": 1, "lt": True}}, "/filter/a/lt"),
        ({"a": {"gt": 1, "and": []}}, "/filter/a/and"),
        ({"a": {"like": "x"}}, "/filter/a/like"),
        ({"a": {"gt": None}}, "/filter/a/gt"),
        ({"a": {"eq": {"b": 1}}}, "/filter/a/eq"),
        ({"a": {"prefix": 1}}, "/filter/a/prefix"),
        ({"a": {"ieq": None}}, "/filter/a/ieq"),
        ({"a": {"contains": ["x"]}}, "/filter/a/contains"),
        ({"a": {"empty": "x"}}, "/filter/a/empty"),
        ({"a": {"eq": ["x"]}}, "/filter/a/eq"),
        ({"a": {"eq": float("nan")}}, "/filter/a/eq"),
        ({"a": {"gt": float("inf")}}, "/filter/a/gt"),
        ({"a": {"gt": True}}, "/filter/a/gt"),
        ({"a": {"eq": -(10**309)}}, "/filter/a/eq"),
        ({"a": {"in": "x"}}, "/filter/a/in"),
        ({"a": {"in": ["x", []]}}, "/filter/a/in/1"),
        ({"a": {"exists": 1}}, "/filter/a/exists"),
        ({"and": []}, "/filter/and"),
        ({"and": {"a": {"eq": 1}}}, "/filter/and"),
        ({"or": [{"a": {"eq": 1}}, {"a": {"no": 1}}]}, "/filter/or/1/a/no"),
        ({"not": [{"a": {"eq": 1}}]}, "/filter/not"),
        ({"not": {"not": {"a": []}}}, "/filter/not/not/a"),
        ({"1a": {"eq": 1}}, "/filter/1a"),
        ({"a/b~c": {"eq": 1}}, "/filter/a~1b~0c"),
        ({"": {"eq": 1}}, "/filter/"),
        ({"$year": 1}, "/filter/$year"),
        ({'"a': 1}, '/filter/"a'),
        ({'a"b"': 1}, '/filter/a"b"'),
        ({'"a\\n"': 1}, '/filter/"a\\n"'),
        ({"a": {"x/y": 1}}, "/filter/a/x~1y"),
    ],
)
def test_a_wrong_filter_is_refused_at_its_place(value: object, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(value)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_depth_is_bounded() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {"a": {"eq": 1}}
        for _ in range(levels - 1):
            value = {"not": value}
        return value

    assert parse(nested(MAX_DEPTH)).matches({"a": 1}) is (MAX_DEPTH % 2 == 1)
    with pytest.raises(Invalid, match="levels") as caught:
        parse(nested(MAX_DEPTH + 1), "/searches/3/filter")
    assert caught.value.problems[0].pointer == "/searches/3/filter" + "/not" * MAX_DEPTH


def test_size_is_bounded() -> None:
    fits = {"or": [{"a": {"eq": i}} for i in range(MAX_CONDITIONS)]}
    assert parse(fits).matches({"a": MAX_CONDITIONS - 1})
    with pytest.raises(Invalid, match="conditions"):
        parse({"or": [*fits["or"], {"a": {"eq": 0}}]})
    with pytest.raises(Invalid, match="conditions"):
        parse({"or": [*fits["or"][1:], {"a": {"gt": 0, "lt": 1}}]})
    with pytest.raises(Invalid, match="conditions"):
        parse({"or": [*fits["or"], {"a": 0}]})
    assert parse({"a": {"in": list(range(MAX_CONDITIONS - 1))}}).matches({"a": 0})
    with pytest.raises(Invalid, match="listed values") as caught:
        parse({"a": {"in": list(range(MAX_CONDITIONS))}})
    assert caught.value.problems[0].pointer == "/filter/a/in"


def test_the_schema_has_an_example_that_parses() -> None:
    for value in FILTER_SCHEMA["examples"]:
        parse(value)


ROWS = 200_000


@pytest.fixture(scope="module")
def many() -> Columns:
    """A number of each row, a string of every second, two strings in a list of every third."""
    builder = ColumnsBuilder()
    for row in range(ROWS):
        metadata: dict[str, Any] = {"number": row % 5_000}
        if row % 2 == 0:
            metadata["word"] = f"w{row % 5_000}"
        if row % 3 == 0:
            metadata["tags"] = [f"t{row % 100}", f"t{row % 5_000}"]
        builder.add([metadata])
    return builder.finish()


def each(field: str, values: list[Any]) -> dict[str, Any]:
    return {"or": [{field: {"eq": value}} for value in values]}


@contextmanager
def looks() -> Iterator[list[int]]:
    """How often the deadline is looked at in the block."""
    seen: list[int] = []

    def clock() -> float:
        seen.append(1)
        return 0.0

    with deadline(Deadline(1.0, clock)):
        seen.clear()
        yield seen


@pytest.mark.slow
@pytest.mark.parametrize("field", ["number", "word", "tags"])
def test_many_conditions_allocate_as_much_as_few(many: Columns, field: str) -> None:
    values = list(range(4_000)) if field == "number" else [f"{field[0]}{i}" for i in range(4_000)]
    condition = parse(each(field, values))
    tracemalloc.start()
    mask = many.select(condition)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < mask.sum() < ROWS
    assert peak < 10 * ROWS


@pytest.mark.parametrize(
    ("field", "values"), [("number", range(4_000)), ("word", [f"w{i}" for i in range(4_000)]), ("tags", ["t1", "t2"])]
)
def test_in_reads_the_rows_once_for_any_number_of_values(many: Columns, field: str, values: Any) -> None:
    listed = list(values)
    with looks() as seen:
        mask = many.select(parse({field: {"in": listed}}))
    # One at the start, and one before each block of the rows that have the field.
    assert len(seen) <= 1 + -(-ROWS // BLOCK)
    assert np.array_equal(mask, many.select(parse(each(field, listed))))


def test_a_filter_ends_in_the_middle_when_its_time_is_over(many: Columns) -> None:
    """The time is over after a hundred looks at it, however many conditions are left."""
    ticks = count()
    with deadline(Deadline(100, lambda: float(next(ticks)))), pytest.raises(TooSlow):
        many.select(parse(each("number", list(range(4_000)))))
    assert next(ticks) == 102


def test_every_block_of_rows_is_looked_at(many: Columns) -> None:
    with looks() as seen:
        mask = many.select(parse({"number": {"gte": 4_999}}))
    assert len(seen) > ROWS // BLOCK > 2
    assert mask.nonzero()[0].tolist() == list(range(4_999, ROWS, 5_000))


THERE: dict[str, set[Shape]] = {"year": {"number"}, "tags": {"list"}, "mixed": {"string", "list"}, "flag": {"boolean"}}


@pytest.mark.parametrize(
    ("value", "warned"),
    [
        ({"year": {"gt": 1}}, []),
        ({"year": {"exists": False}}, []),
        ({"tags": {"eq": "a"}}, []),
        ({"mixed": {"gt": "a"}}, []),
        ({"flag": {"in": [True]}}, []),
        ({"yaer": {"gt": 1}}, ["'yaer'", "no document has", "there are 'flag', 'mixed', 'tags', 'year'"]),
        ({"yaer": {"exists": False}}, ["'yaer'", "no document has"]),
        ({"id": {"eq": "a"}}, ["'id'", "no document has", "a document's own id is $id"]),
        ({"year": None}, ["'year'", "null", "never matches", "numbers"]),
        ({"flag": {"contains": True}}, ["'flag'", "a boolean", "never matches"]),
        ({"year": {"gte": "2020"}}, ["'year'", "a string", "never matches", "numbers"]),
        ({"year": {"in": [1, True]}}, ["'year'", "a boolean", "never matches"]),
        ({"year": {"ne": "2020"}}, ["'year'", "a string", "always matches"]),
        ({"tags": {"gt": "a"}}, ["'tags'", "lists of strings, which have no order"]),
        ({"mixed": {"eq": 1}}, ["'mixed'", "a number", "strings and lists of strings"]),
        ({"not": {"or": [{"year": {"eq": 1}}, {"flag": {"eq": 1}}]}}, ["'flag'", "a number", "true or false"]),
    ],
)
def test_a_filter_that_asks_for_what_no_document_has_is_said(value: dict[str, Any], warned: list[str]) -> None:
    said = [one.message for one in warnings_of(parse(value), lambda field: THERE.get(field, set()), lambda: THERE)]
    assert len(said) == (1 if warned else 0)
    assert all(part in said[0] for part in warned)


def test_warnings_are_few_and_each_is_said_once() -> None:
    condition = parse({"and": [{f"f{i % 200}": {"eq": i}} for i in range(2_000)]})
    notices = warnings_of(
        condition, lambda field: set(), lambda: [f"x{i:04}" for i in range(1_000)], "/boosts/1/filter"
    )
    assert [one.pointer for one in notices[:2]] == ["/boosts/1/filter/and/0/f0/eq", "/boosts/1/filter/and/1/f1/eq"]
    said = [one.message for one in notices]
    assert len(said) == len(set(said)) == 20
    assert said[0].endswith("'x0009' and 990 more")


@settings(max_examples=100, derandomize=True, deadline=None)
@given(rows)
def test_columns_know_what_their_values_are(metadata: list[dict[str, Any]]) -> None:
    names: dict[type, Shape] = {bool: "boolean", str: "string", int: "number", float: "number", list: "list"}
    columns = Columns.build(metadata)
    for key in KEYS:
        assert columns.shapes(key) == {names[type(row[key])] for row in metadata if key in row}
