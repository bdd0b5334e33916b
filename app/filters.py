"""Typed filters on metadata: parsing, and the meaning of each operator.

    {"field": {operator: ...}}, of eq, ne, in, gt, gte, lt, lte, exists, empty, contains, prefix, ieq
    {"and": [...]}   {"or": [...]}   {"not": {...}}

One key an object, but several operators of one field, which all must hold: ``{"year": {"gte": 2020, "lt": 2024}}``.
A value alone is ``eq``: ``{"kind": "class"}``. A field is a name as app/metadata/names.py has it: ``author.name``. The
meaning, kept in one place (``Condition.matches``) and used for every document wherever its metadata lies:

- Types never mix: true is not 1, "1" is not 1; 1 and 1.0 are the same number, compared exactly.
- A missing field matches nothing but ``exists: false`` (and what ``not`` makes of it); so ``ne`` asks for a field
  that is there and differs. A field with null is there, and equals null alone.
- A list has each of its items: ``eq``, ``in``, ``ieq`` and ``prefix`` match when one does, ``ne`` when none does. Lists
  have no order, so ranges never match them. An object is there, and equals nothing.
- Ranges compare numbers with numbers and strings with strings (by code point).
- ``geo_distance`` asks how far a point is along the earth. A list of points has no one place, and never matches.
- A field that the collection declares (app/metadata/declared.py) has values of its type alone: of dates the moments,
  and what does not fit is not there.
- ``contains`` finds a piece of a string, or an item of a list; ``ieq`` compares without regard to case (Unicode's
  case folding). ``empty`` asks of a field that is there whether it has null, "", [] or {}.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from app.errors import Invalid
from app.metadata.dates import moment
from app.metadata.declared import Declared, FieldType, cast
from app.metadata.geo import POINT_SCHEMA, Circle, distances, is_point, read_circle
from app.metadata.names import EXPECTED, FIELD, named, parts_of_point
from app.metadata.reading import MAX_INTEGER
from app.metadata.values import Scalar, named_values
from app.schema.faults import name_of
from app.schema.notices import Notice, NoticeCode
from app.settings import DEFAULT, Limits
from app.types import MetadataValue

Operand: TypeAlias = Scalar | None
Shape: TypeAlias = Literal["number", "string", "boolean", "null", "object", "list", "numbers", "booleans"]
"""The shape of a metadata value. list: one of strings, or of no scalar; numbers, booleans: a list that holds some."""
Operator: TypeAlias = Literal[
    "eq", "ne", "in", "gt", "gte", "lt", "lte", "exists", "empty", "contains", "prefix", "ieq", "geo_distance"
]

_RANGES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_FLAGS: Final = ("exists", "empty")
_TEXTS: Final = ("prefix", "ieq")
_COMPARED: Final = ("eq", "ne", *_RANGES)
_GEO: Final = "geo_distance"
_OPERATORS: Final = ("eq", "ne", "in", *_RANGES, *_FLAGS, "contains", *_TEXTS, _GEO)

_PLURAL: Final[dict[Shape, str]] = {
    "number": "numbers",
    "string": "strings",
    "boolean": "true or false",
    "null": "null",
    "object": "objects",
    "list": "lists of strings",
    "numbers": "lists with numbers",
    "booleans": "lists with true or false",
}
_LISTED: Final[dict[Shape, Shape]] = {"string": "list", "number": "numbers", "boolean": "booleans"}
"""The shape of a list that holds such."""
_LISTS: Final = frozenset(_LISTED.values())
MOST_WARNINGS: Final = 20
NAMED: Final = 10
"""Fields that a warning names."""

_ONE_KEY: Final[dict[str, Any]] = {"type": "object", "minProperties": 1, "maxProperties": 1}
_SCALAR: Final[dict[str, Any]] = {"type": ["string", "number", "boolean", "null"]}
FILTER_SCHEMA: Final[dict[str, Any]] = {
    **_ONE_KEY,
    "properties": {
        **{name: {"type": "array", "minItems": 1, "items": _ONE_KEY} for name in ("and", "or")},
        "not": _ONE_KEY,
    },
    "propertyNames": {"pattern": f"^{FIELD.pattern}$"},
    "additionalProperties": {
        "anyOf": [
            _SCALAR,
            {
                "type": "object",
                "minProperties": 1,
                "properties": {
                    **dict.fromkeys(("eq", "ne", "contains"), _SCALAR),
                    "in": {"type": "array", "items": _SCALAR},
                    **{name: {"type": ["string", "number"]} for name in _RANGES},
                    **{name: {"type": "boolean"} for name in _FLAGS},
                    **{name: {"type": "string"} for name in _TEXTS},
                    _GEO: {
                        "type": "object",
                        "required": ["lat", "lon", "distance_m"],
                        "properties": {**POINT_SCHEMA, "distance_m": {"type": "number", "minimum": 0}},
                        "additionalProperties": False,
                    },
                },
                "additionalProperties": False,
            },
        ]
    },
    "description": 'One condition `{"field": {"op": value}}` with op one of eq, ne, in, gt, gte, lt, lte, exists, '
    'empty, contains, prefix, ieq, geo_distance; or `{"and": [...]}`, `{"or": [...]}`, `{"not": {...}}`. '
    '`{"field": value}` is eq, and of several operators all must hold. A field is a metadata key, `author.name` one '
    "within an object, "
    '`"Publication year"` in double quotes one with other signs; `$id` and `$title` are the document\'s own. A missing '
    "field matches only `exists: false`; null exists, and equals null. A list has each of its items. `contains`: a "
    "piece of a string, an item of a list; `ieq`: equal but for case; `empty`: whether null, an empty string, list or "
    "object; `geo_distance`: a point (`lat`, `lon`) no further than `distance_m` metres from another. Fields that the "
    "collection's schema declares as dates are compared as moments.",
    "examples": [
        {"and": [{"year": {"gte": 2020, "lt": 2024}}, {"kind": {"in": ["function", "class"]}}]},
        {"kind": "class"},
        {"author.name": {"prefix": "Ada"}},
    ],
}


def is_number(value: object) -> bool:
    """A number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(a: object, b: object) -> bool:
    """Equal, and of one type: null, bool, number or string; an object equals nothing.

    >>> same(1, 1.0), same(True, 1), same("1", 1), same("a", "a")
    (True, False, False, True)
    """
    if a is None or b is None or isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return not isinstance(a, dict) and a == b


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one field."""

    field: str
    operator: Operator
    value: Operand | tuple[Operand, ...] | Circle
    type: FieldType | None = None
    """As the collection declares the field; its values are operands of that type then (``typed``)."""
    at: str = dataclass_field(default="", compare=False, repr=False)
    """Its place in the filter as it was written, as a JSON pointer."""

    def matches(self, metadata: Mapping[str, MetadataValue]) -> bool:
        """Whether a document with this metadata matches.

        >>> Condition("year", "gte", 2020).matches({"year": 2021.5}), Condition("year", "ne", 1).matches({})
        (True, False)
        """
        values, field = named_values(dict(metadata)), named(self.field)
        if self.type is not None and field in values:
            fitting = _fitting(self.type, values[field])
            values = {name: value for name, value in values.items() if name != field}
            if fitting is not _NOTHING:
                values[field] = fitting
        if self.operator == "exists":
            return (field in values) == self.value
        return field in values and self._holds(values[field])

    def _holds(self, value: Any) -> bool:
        if self.operator == "empty":
            return (value is None or (isinstance(value, str | list | dict) and not value)) == self.value
        if isinstance(self.value, Circle):
            if not is_point(value):
                return False
            lat, lon = (np.array([float(value[name])]) for name in ("lat", "lon"))
            return bool(distances(self.value.center, lat, lon)[0] <= self.value.distance_m)
        if self.operator == "ne":
            return not any(same(one, self.value) for one in _each(value))
        if self.operator == "contains" and isinstance(value, str):
            return isinstance(self.value, str) and self.value in value
        if self.operator == "contains":
            return isinstance(value, list) and any(same(one, self.value) for one in value)
        if self.operator in _RANGES:
            comparable = (is_number(value) and is_number(self.value)) or (
                isinstance(value, str) and isinstance(self.value, str)
            )
            return comparable and _RANGES[self.operator](value, self.value)
        if self.operator in _TEXTS:
            holds = text_test(self)
            return any(isinstance(one, str) and holds(one) for one in _each(value))
        wanted = self.value if isinstance(self.value, tuple) else (self.value,)
        return any(same(one, item) for one in _each(value) for item in wanted)


_NOTHING: Final = object()


def _fitting(kind: FieldType, value: Any) -> Any:
    """What of a value is of a declared type, as such a one."""
    if isinstance(value, list):
        items = [_fitting(kind, item) for item in value]
        return [item for item in items if item is not _NOTHING] if kind != "geo" else _NOTHING
    if value is None:
        return None
    if kind == "geo" or isinstance(value, dict):
        return value if kind == "geo" and is_point(value) else _NOTHING
    found = cast(kind, value)
    return _NOTHING if found is None else found


def typed(condition: Filter, declared: Declared) -> Filter:
    """The same, of fields as a collection declares them: dates are compared with moments.

    >>> typed(parse({"on": {"gte": "1970-01-02"}}), {"on": "date"})
    Condition(field='on', operator='gte', value=86400000000000, type='date')
    """
    if not declared:
        return condition
    match condition:
        case Condition():
            kind = declared.get(named(condition.field))
            if kind is None:
                return condition
            value = condition.value
            if kind == "date" and isinstance(value, tuple):
                value = tuple(map(_as_moment, value))
            elif kind == "date" and condition.operator in _COMPARED and not isinstance(value, Circle | tuple):
                value = _as_moment(value)
            return replace(condition, value=value, type=kind)
        case Not():
            return Not(typed(condition.part, declared))
        case And():
            return And(tuple(typed(part, declared) for part in condition.parts))
    return Or(tuple(typed(part, declared) for part in condition.parts))


def _as_moment(value: Operand) -> Operand:
    """What is no date equals none: dates are numbers here, so a number becomes its text."""
    if isinstance(value, str):
        found = moment(value)
        return value if found is None else found
    return value if value is None or isinstance(value, bool) else repr(value)


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def text_test(condition: Condition) -> Callable[[str], bool]:
    """Tells which strings a condition on strings holds of, by ``contains``, ``prefix`` or ``ieq``."""
    wanted = condition.value
    assert isinstance(wanted, str), "asked of strings alone"
    if condition.operator == "ieq":
        folded = wanted.casefold()
        return lambda text: text.casefold() == folded
    return (lambda text: wanted in text) if condition.operator == "contains" else lambda text: text.startswith(wanted)


@dataclass(frozen=True, slots=True)
class And:
    """All hold; of none, true."""

    parts: tuple[Filter, ...]

    def matches(self, metadata: Mapping[str, MetadataValue]) -> bool:
        return all(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one holds; of none, false."""

    parts: tuple[Filter, ...]

    def matches(self, metadata: Mapping[str, MetadataValue]) -> bool:
        return any(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    part: Filter

    def matches(self, metadata: Mapping[str, MetadataValue]) -> bool:
        return not self.part.matches(metadata)


Filter: TypeAlias = Condition | And | Or | Not


def conditions_of(condition: Filter) -> Iterator[Condition]:
    """Its conditions, in the order in which they are written."""
    match condition:
        case Condition():
            yield condition
        case Not():
            yield from conditions_of(condition.part)
        case And() | Or():
            for part in condition.parts:
                yield from conditions_of(part)


def warnings_of(
    condition: Filter, shapes: Callable[[str], Set[Shape]], fields: Callable[[], Iterable[str]], at: str = "/filter"
) -> list[Notice]:
    """Where it asks for what no document has, which is more often a slip than a question.

    shapes: what the values of a metadata field are, nothing where no document has it. fields: those that some has. at:
    the place of the filter in the request.

    >>> there = {"year": {"number"}, "tags": {"list"}}
    >>> def warned(value: object) -> list[str]:
    ...     found = warnings_of(parse(value), lambda field: there.get(field, set()), lambda: there)
    ...     return [one.message for one in found]
    >>> warned({"yaer": {"gt": 1}})
    ["the filter asks for 'yaer', a metadata field that no document has; there are 'tags', 'year'"]
    >>> warned({"year": {"gt": "1999"}})
    ["the filter compares 'year' with a string, and never matches: its values are numbers"]
    """
    found: dict[str, Notice] = {}
    for one in conditions_of(condition):
        there = shapes(one.field)
        code: NoticeCode = "unknown_field"
        said: Iterable[str] = ()
        if isinstance(one.value, Circle):
            if not all("number" in shapes(part) for part in parts_of_point(one.field)):
                said = [f"the filter asks how far {one.field!r} is, which in no document is a point (lat, lon)"]
        elif not there:
            said = [_unknown(one.field, sorted(fields()))]
        elif one.operator not in _FLAGS:
            code, said = "other_type", _no_dates(one) if one.type == "date" else _mismatches(one, there)
        for message in said:
            found.setdefault(message, Notice(code, message, at + one.at))
        if len(found) >= MOST_WARNINGS:
            break
    return list(found.values())


def _unknown(field: str, fields: Sequence[str]) -> str:
    said = f"the filter asks for {field!r}, a metadata field that no document has"
    if field in ("id", "title"):
        said += f" (a document's own {field} is ${field})"
    elif field == "text":
        said += " (a filter does not read a document's own text)"
    if not fields:
        return f"{said}; none has any metadata"
    more = f" and {len(fields) - NAMED:,} more" if len(fields) > NAMED else ""
    return f"{said}; there are {', '.join(map(repr, fields[:NAMED]))}{more}"


def _no_dates(one: Condition) -> Iterator[str]:
    for value in one.value if isinstance(one.value, tuple) else (one.value,):
        if isinstance(value, str | bool):
            verb = "always matches" if one.operator == "ne" else "never matches"
            what = "text" if one.operator in (*_TEXTS, "contains") else "what is no date"
            yield f"the filter compares {one.field!r}, a date, with {what}, and {verb}"


def _mismatches(one: Condition, there: Set[Shape]) -> Iterator[str]:
    ranged, within = one.operator in _RANGES, one.operator == "contains"
    assert not isinstance(one.value, Circle), "a point is looked at by itself"
    for shape in dict.fromkeys(map(_shape, one.value if isinstance(one.value, tuple) else (one.value,))):
        found = shape in there and not (within and shape != "string")
        if found or (shape == "null" and there & _LISTS) or (_LISTED.get(shape) in there and not ranged):
            continue
        verb = "always matches" if one.operator == "ne" else "never matches"
        values = " and ".join(_PLURAL[name] for name in _PLURAL if name in there)
        order = ", which have no order" if ranged and there <= _LISTS else ""
        what = shape if shape == "null" else f"a {shape}"
        yield f"the filter compares {one.field!r} with {what}, and {verb}: its values are {values}{order}"


def _shape(value: Operand) -> Shape:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def fields_of(condition: Filter) -> set[str]:
    """The metadata fields that it asks for."""
    found = {one.field for one in conditions_of(condition)}
    pointed = {one.field for one in conditions_of(condition) if isinstance(one.value, Circle) or one.type == "geo"}
    return found | {part for field in pointed for part in parts_of_point(field)}


def parse(value: object, pointer: str = "/filter", limits: Limits = DEFAULT) -> Filter:
    """A filter from parsed JSON. ``pointer`` is its place in the request body, for errors.

    Raises Invalid, pointing at the place: an unknown operator, a wrong type, a field name that cannot be, more levels
    or conditions (listed values count as such) than the limits allow.

    >>> parse({"year": {"gte": 2020}})
    Condition(field='year', operator='gte', value=2020, type=None)
    >>> parse({"year": 2020}) == parse({"year": {"eq": 2020}})
    True
    """
    return _Parser(limits, len(pointer)).parse(value, pointer, 0)


class _Parser:
    def __init__(self, limits: Limits, root: int) -> None:
        """root: characters of the pointer to the whole filter."""
        self.depth, self.most, self.root = limits.filter_depth, limits.filter_conditions, root
        self.conditions = 0

    def parse(self, value: object, at: str, depth: int) -> Filter:
        if depth >= self.depth:
            raise Invalid.at(at, f"a filter has at most {self.depth} levels")
        if not isinstance(value, dict) or len(value) != 1:
            came = f"{len(value)} keys" if isinstance(value, dict) else name_of(value)
            raise Invalid.at(at, f"expected an object with exactly one key, a field or and, or, not; got {came}")
        ((key, body),) = value.items()
        here = f"{at}/{_escape(key)}"
        if key in ("and", "or"):
            if not isinstance(body, list) or not body:
                raise Invalid.at(here, f"expected a list of at least one filter, got {name_of(body)}")
            parts = tuple(self.parse(part, f"{here}/{i}", depth + 1) for i, part in enumerate(body))
            return And(parts) if key == "and" else Or(parts)
        if key == "not":
            return Not(self.parse(body, here, depth + 1))
        if not FIELD.fullmatch(key):
            raise Invalid.at(here, f"{EXPECTED}; got {key[:100]!r}")
        return self.field(key, body, here)

    def field(self, field: str, body: object, at: str) -> Condition | And:
        if body is None or isinstance(body, bool | int | float | str):
            self.count(at)
            return Condition(field, "eq", _scalar(body, at), at=at[self.root :])
        if not isinstance(body, dict) or not body:
            came = "an empty one" if body == {} else name_of(body)
            raise Invalid.at(at, f"expected a value, or an object of operators ({', '.join(_OPERATORS)}); got {came}")
        found = tuple(self.condition(field, op, operand, at) for op, operand in body.items())
        return found[0] if len(found) == 1 else And(found)

    def count(self, at: str) -> None:
        """One condition more."""
        self.conditions += 1
        if self.conditions > self.most:
            raise Invalid.at(at, f"a filter has at most {self.most:,} conditions")

    def condition(self, field: str, op: Any, operand: object, at: str) -> Condition:
        self.count(at)
        here = f"{at}/{_escape(op)}"
        if op in _FLAGS:
            if not isinstance(operand, bool):
                raise Invalid.at(here, f"expected true or false, got {name_of(operand)}")
            return Condition(field, op, operand, at=here[self.root :])
        if op == "in":
            if not isinstance(operand, list):
                raise Invalid.at(here, f"expected a list of values, got {name_of(operand)}")
            values = tuple(_scalar(item, f"{here}/{i}") for i, item in enumerate(operand))
            self.conditions += len(values)
            if self.conditions > self.most:
                raise Invalid.at(here, f"a filter has at most {self.most:,} conditions and listed values")
            return Condition(field, "in", values, at=here[self.root :])
        if op not in _OPERATORS:
            raise Invalid.at(here, f"unknown operator {op!r}; expected one of {', '.join(_OPERATORS)}")
        if op == _GEO:
            return Condition(field, op, read_circle(operand, here), at=here[self.root :])
        value = _scalar(operand, here)
        if op in _RANGES and (value is None or isinstance(value, bool)):
            came = "null, which has" if value is None else "true or false, which have"
            raise Invalid.at(here, f"expected a number or a string, got {came} no order")
        if op in _TEXTS and not isinstance(value, str):
            raise Invalid.at(here, f"expected a string, got {name_of(value)}")
        return Condition(field, op, value, at=here[self.root :])


def _scalar(value: object, at: str) -> Operand:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise Invalid.at(at, "an integer has at most 308 digits")
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise Invalid.at(at, f"expected a string, a finite number, true, false or null; got {name_of(value)}")


def _escape(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
