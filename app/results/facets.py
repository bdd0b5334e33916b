"""How often documents have which values: of those that an answer's ``total`` counts, exactly, over columns.

A document counts once for each value that it has: a list has each of its items, as in a filter; null is none. Types
never mix, 1 and 1.0 are one number. A date is a string that begins as ISO 8601 has it (2024-01-31, with or without a
time), and counts for the day, month or year that it is written with, whatever its time zone. Where the collection
declares the field a date, it is a moment, and counts for its day in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from app.collection.view import Snapshot
from app.columns.column import I32, Column
from app.compute import deadline
from app.errors import Invalid
from app.filters import And, Condition
from app.filters import parse as parse_filter
from app.metadata.geo import Circle
from app.metadata.names import FIELD
from app.metadata.values import Scalar
from app.results.values import Typed, require_field, typed
from app.schema.faults import pointer
from app.schema.notices import Notice
from app.types import Mask

MOST_FACETS: Final = 16
MOST_RANGES: Final = 64
MOST_VALUES: Final = 1_000

Unit: TypeAlias = Literal["year", "month", "day"]
_LENGTH: Final[Mapping[Unit, int]] = {"year": 4, "month": 7, "day": 10}
"""Characters of a date that name it."""
_DATE: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(T.*)?", re.DOTALL)
_BOUNDS: Final = ("gt", "gte", "lt", "lte")

FACETS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": MOST_FACETS,
    "propertyNames": {"pattern": f"^{FIELD.pattern}$"},
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "terms": {"type": "integer", "minimum": 1, "maximum": MOST_VALUES},
            "ranges": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_RANGES,
                "items": {
                    "type": "object",
                    "minProperties": 1,
                    "properties": {name: {"type": ["number", "string"]} for name in _BOUNDS},
                    "additionalProperties": False,
                },
            },
            "dates": {"enum": list(get_args(Unit))},
        },
        "additionalProperties": False,
    },
    "description": 'Metadata fields, each with what is counted: `{"terms": n}`, the n most frequent values; '
    '`{"ranges": [{"gte": 2000, "lt": 2010}]}`; or `{"dates": "year" | "month" | "day"}` of strings like '
    "2024-01-31, in UTC "
    "where the schema declares a date. "
    "Counted are the documents that `total` counts.",
    "examples": [{"kind": {"terms": 10}, "year": {"ranges": [{"lt": 2020}, {"gte": 2020}]}}],
}


@dataclass(frozen=True, slots=True)
class Facet:
    """One metadata field, by its most frequent values (terms: how many), by ranges, or by dates."""

    field: str
    terms: int = 0
    ranges: tuple[And, ...] = ()
    dates: Unit | None = None


@dataclass(frozen=True, slots=True)
class FacetCount:
    """value: a term, or a date's day, month or year. range: its bounds, where ranges are counted."""

    count: int
    value: Scalar | None = None
    range: Mapping[str, Scalar] | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """counts: terms by count, then by value; ranges as they were asked; dates ascending, the latest ``MOST_VALUES``.
    distinct: how many values there are in all. missing: documents that have none of them."""

    counts: list[FacetCount]
    distinct: int
    missing: int


def parse(value: object) -> tuple[Facet, ...]:
    """Facets from parsed JSON. Raises Invalid, pointing at the place in it.

    >>> parse({"year": {"dates": "month"}})
    (Facet(field='year', terms=0, ranges=(), dates='month'),)
    """
    if not isinstance(value, dict) or not 1 <= len(value) <= MOST_FACETS:
        raise Invalid.at("", f'expected an object of 1 to {MOST_FACETS} fields such as {{"kind": {{"terms": 10}}}}')
    return tuple(_facet(field, one) for field, one in value.items())


def _facet(field: str, value: object) -> Facet:
    require_field(field, "")
    if not isinstance(value, dict) or len(value) != 1:
        raise Invalid.at(pointer([field]), "expected an object with exactly one of terms, ranges, dates")
    ((kind, given),) = value.items()
    at = pointer([field, kind])
    if kind == "terms":
        if type(given) is not int or not 1 <= given <= MOST_VALUES:
            raise Invalid.at(at, f"expected 1 to {MOST_VALUES:,}")
        return Facet(field, terms=given)
    if kind == "ranges":
        if not isinstance(given, list) or not 1 <= len(given) <= MOST_RANGES:
            raise Invalid.at(at, f"expected a list of 1 to {MOST_RANGES} ranges")
        return Facet(field, ranges=tuple(_range(field, one, f"{at}/{i}") for i, one in enumerate(given)))
    if kind == "dates":
        if given not in get_args(Unit):
            raise Invalid.at(at, "expected year, month or day")
        return Facet(field, dates=given)
    raise Invalid.at(pointer([field]), "expected terms, ranges or dates")


def _range(field: str, value: object, at: str) -> And:
    if not isinstance(value, dict) or not value or not value.keys() <= set(_BOUNDS):
        raise Invalid.at(at, f"expected an object with some of {', '.join(_BOUNDS)}")
    parts = []
    for name, bound in value.items():
        try:
            parts.append(parse_filter({field: {name: bound}}, ""))
        except Invalid as error:
            raise Invalid.at(f"{at}/{name}", error.problems[0].message) from None
    return And(tuple(parts))


def warnings(snapshot: Snapshot, facets: Sequence[Facet]) -> list[Notice]:
    """Where values are counted of a field that no document has; versions that were deleted lately count as
    documents."""
    unknown = [one.field for one in facets if snapshot.views and not snapshot.shapes(one.field)]
    return [
        Notice("unknown_field", f"the search counts {field!r}, a metadata field that no document has", at)
        for field in unknown
        for at in ["/facets" + pointer([field])]
    ]


def count_facets(snapshot: Snapshot, matching: Sequence[Mask], facets: Sequence[Facet]) -> dict[str, Counted]:
    """By field. matching: for each view (documents,). Raises TooSlow."""
    return {one.field: _in_ranges(snapshot, matching, one) if one.ranges else _by_value(snapshot, matching, one)
            for one in facets}  # fmt: skip


def _in_ranges(snapshot: Snapshot, matching: Sequence[Mask], facet: Facet) -> Counted:
    counts, missing = [0] * len(facet.ranges), 0
    for view, mask in zip(snapshot.views, matching, strict=True):
        left = mask.copy()
        for i, one in enumerate(facet.ranges):
            within = snapshot.select(view, one)
            within &= mask
            counts[i] += int(np.count_nonzero(within))
            left &= ~within
        missing += int(np.count_nonzero(left))
    found = [FacetCount(count, range=_bounds(one)) for one, count in zip(facet.ranges, counts, strict=True)]
    return Counted(found, len(counts), missing)


def value_counts(
    snapshot: Snapshot, matching: Sequence[Mask], field: str, label: Callable[[Scalar], Typed | None] = typed
) -> tuple[dict[Typed, int], int]:
    """How many documents have which value of a field, or which label of one, and how many have none. matching: for each
    view (documents,). Raises TooSlow."""
    counts: dict[Typed, int] = {}
    missing = 0
    for view, mask in zip(snapshot.views, matching, strict=True):
        column, left = snapshot.column(view, field), mask.copy()
        for rows, codes, value in [] if column is None else _entries(column):
            deadline.check(deadline.current())
            chosen = mask[rows]
            found, own = _count(rows[chosen], codes[chosen], value, label)
            left[found] = False
            for named, count in own.items():
                counts[named] = counts.get(named, 0) + count
        missing += int(np.count_nonzero(left))
    return counts, missing


def _by_value(snapshot: Snapshot, matching: Sequence[Mask], facet: Facet) -> Counted:
    label = _date(facet.dates) if facet.dates else typed
    counts, missing = value_counts(snapshot, matching, facet.field, label)
    if facet.dates:
        best = sorted(counts)[-MOST_VALUES:]
    else:
        best = sorted(counts, key=lambda one: (-counts[one], one))[: facet.terms]
    return Counted([FacetCount(counts[one], one[1]) for one in best], len(counts), missing)


def _entries(column: Column) -> list[tuple[I32, I32, Callable[[int], Scalar]]]:
    """Of scalars, and of those in lists: rows, codes, and what a code stands for."""
    return [
        (column.rows, column.codes, column.scalars.said),
        (column.item_rows, column.items, column.item_scalars.said),
    ]


def _count(
    rows: I32, codes: I32, value: Callable[[int], Scalar], label: Callable[[Scalar], Typed | None]
) -> tuple[I32, dict[Typed, int]]:
    """The rows that have a label, and how many have which. Of values only those that occur are looked at."""
    occurring = np.flatnonzero(np.bincount(codes)) if len(codes) else np.zeros(0, np.int64)
    places: dict[Typed, int] = {}
    of_code = np.full(int(occurring[-1]) + 1 if len(occurring) else 0, -1, np.int64)
    for code in occurring.tolist():
        named = label(value(code))
        if named is not None:
            of_code[code] = places.setdefault(named, len(places))
    own = of_code[codes]
    rows, own = rows[own >= 0], own[own >= 0]
    if len(rows) and (np.diff(rows) <= 0).any():
        # Rows of lists come more than once, and a list may say one thing twice.
        own = np.unique(rows.astype(np.int64) * len(places) + own) % len(places)
    counts = np.bincount(own, minlength=len(places)).tolist()
    return rows, {named: counts[place] for named, place in places.items()}


def _date(unit: Unit) -> Callable[[Scalar], Typed | None]:
    length = _LENGTH[unit]

    def named(value: Scalar) -> Typed | None:
        return typed(value[:length]) if isinstance(value, str) and _DATE.fullmatch(value) else None

    return named


def _bounds(one: And) -> dict[str, Scalar]:
    """A range as it was asked."""
    conditions = [part for part in one.parts if isinstance(part, Condition)]
    return {
        part.operator: part.value
        for part in conditions
        if part.value is not None and not isinstance(part.value, tuple | Circle)
    }
