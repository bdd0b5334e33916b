"""Typed filters on metadata: parsing, and the meaning of each operator.

    {"field": {"eq" | "ne" | "in" | "gt" | "gte" | "lt" | "lte" | "exists": ...}}
    {"and": [...]}   {"or": [...]}   {"not": {...}}

One key an object, but several operators of one field, which all must hold: ``{"year": {"gte": 2020, "lt": 2024}}``.
A value alone is ``eq``: ``{"kind": "class"}``. The meaning, kept in one place (``Condition.matches``) and used for
every document wherever its metadata lies:

- Types never mix: true is not 1, "1" is not 1; 1 and 1.0 are the same number, compared exactly.
- A missing field matches nothing but ``exists: false`` (and what ``not`` makes of it); so ``ne`` asks for a field
  that is there and differs.
- A list of strings has each of its strings: ``eq`` and ``in`` match when one does, ``ne`` when none does. Lists have
  no order, so ranges never match them.
- Ranges compare numbers with numbers and strings with strings (by code point).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from app.errors import Invalid
from app.settings import DEFAULT, Limits
from app.types import MetadataValue

Scalar: TypeAlias = str | bool | int | float
Shape: TypeAlias = Literal["number", "string", "boolean", "list"]
"""The shape of a metadata value. A list holds strings."""
Operator: TypeAlias = Literal["eq", "ne", "in", "gt", "gte", "lt", "lte", "exists"]

FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
RESERVED: Final = frozenset({"and", "or", "not"})
INT64: Final = (-(2**63), 2**63 - 1)

_RANGES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_OPERATORS: Final = ("eq", "ne", "in", *_RANGES, "exists")

_PLURAL: Final[dict[Shape, str]] = {
    "number": "numbers",
    "string": "strings",
    "boolean": "true or false",
    "list": "lists of strings",
}
MOST_WARNINGS: Final = 20
NAMED: Final = 10
"""Fields that a warning names."""

_ONE_KEY: Final[dict[str, Any]] = {"type": "object", "minProperties": 1, "maxProperties": 1}
_SCALAR: Final[dict[str, Any]] = {"type": ["string", "number", "boolean"]}
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
                    **dict.fromkeys(("eq", "ne"), _SCALAR),
                    "in": {"type": "array", "items": _SCALAR},
                    **{name: {"type": ["string", "number"]} for name in _RANGES},
                    "exists": {"type": "boolean"},
                },
                "additionalProperties": False,
            },
        ]
    },
    "description": 'One condition `{"field": {"op": value}}` with op one of eq, ne, in, gt, gte, lt, lte, exists; '
    'or `{"and": [...]}`, `{"or": [...]}`, `{"not": {...}}`. `{"field": value}` is eq, and of several operators '
    "all must hold. A missing field matches only `exists: false`.",
    "examples": [
        {"and": [{"year": {"gte": 2020, "lt": 2024}}, {"kind": {"in": ["function", "class"]}}]},
        {"kind": "class"},
    ],
}


def is_number(value: object) -> bool:
    """A number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(a: object, b: object) -> bool:
    """Equal, and of one type: bool, number or string.

    >>> same(1, 1.0), same(True, 1), same("1", 1), same("a", "a")
    (True, False, False, True)
    """
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return a == b


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one field."""

    field: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]

    def matches(self, metadata: Mapping[str, MetadataValue]) -> bool:
        """Whether a document with this metadata matches.

        >>> Condition("year", "gte", 2020).matches({"year": 2021.5}), Condition("year", "ne", 1).matches({})
        (True, False)
        """
        here = self.field in metadata
        if self.operator == "exists":
            return here == self.value
        return here and self._holds(metadata[self.field])

    def _holds(self, value: MetadataValue) -> bool:
        if isinstance(value, list):
            if self.operator in _RANGES:
                return False
            if self.operator == "ne":
                return self.value not in value
            wanted = self.value if isinstance(self.value, tuple) else (self.value,)
            return any(item in value for item in wanted if isinstance(item, str))
        if self.operator == "eq":
            return same(value, self.value)
        if self.operator == "ne":
            return not same(value, self.value)
        if self.operator == "in":
            assert isinstance(self.value, tuple)
            return any(same(value, item) for item in self.value)
        comparable = (is_number(value) and is_number(self.value)) or (
            isinstance(value, str) and isinstance(self.value, str)
        )
        return comparable and _RANGES[self.operator](value, self.value)


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
    condition: Filter, shapes: Callable[[str], Set[Shape]], fields: Callable[[], Iterable[str]]
) -> list[str]:
    """Where it asks for what no document has, which is more often a slip than a question.

    shapes: what the values of a metadata field are, nothing where no document has it. fields: those that some has.

    >>> there = {"year": {"number"}, "tags": {"list"}}
    >>> def warned(value: object) -> list[str]:
    ...     return warnings_of(parse(value), lambda field: there.get(field, set()), lambda: there)
    >>> warned({"yaer": {"gt": 1}})
    ["the filter asks for 'yaer', a metadata field that no document has; there are 'tags', 'year'"]
    >>> warned({"year": {"gt": "1999"}})
    ["the filter compares 'year' with a string, and never matches: its values are numbers"]
    """
    found: dict[str, None] = {}
    for one in conditions_of(condition):
        there = shapes(one.field)
        if not there:
            found[_unknown(one.field, sorted(fields()))] = None
        elif one.operator != "exists":
            found.update(dict.fromkeys(_mismatches(one, there)))
        if len(found) >= MOST_WARNINGS:
            break
    return list(found)


def _unknown(field: str, fields: Sequence[str]) -> str:
    said = f"the filter asks for {field!r}, a metadata field that no document has"
    if field in ("id", "title", "text"):
        said += f" (a filter does not read a document's own {field})"
    if not fields:
        return f"{said}; none has any metadata"
    more = f" and {len(fields) - NAMED:,} more" if len(fields) > NAMED else ""
    return f"{said}; there are {', '.join(map(repr, fields[:NAMED]))}{more}"


def _mismatches(one: Condition, there: Set[Shape]) -> Iterator[str]:
    ranged = one.operator in _RANGES
    for shape in dict.fromkeys(map(_shape, one.value if isinstance(one.value, tuple) else (one.value,))):
        if shape in there or (shape == "string" and "list" in there and not ranged):
            continue
        verb = "always matches" if one.operator == "ne" else "never matches"
        values = " and ".join(_PLURAL[name] for name in _PLURAL if name in there)
        order = ", which have no order" if ranged and there == {"list"} else ""
        yield f"the filter compares {one.field!r} with a {shape}, and {verb}: its values are {values}{order}"


def _shape(value: Scalar) -> Shape:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def fields_of(condition: Filter) -> set[str]:
    """The metadata fields that it asks for."""
    return {one.field for one in conditions_of(condition)}


def parse(value: object, pointer: str = "/filter", limits: Limits = DEFAULT) -> Filter:
    """A filter from parsed JSON. ``pointer`` is its place in the request body, for errors.

    Raises Invalid, pointing at the place: an unknown operator, a wrong type, a field name that cannot be, more levels
    or conditions (listed values count as such) than the limits allow.

    >>> parse({"year": {"gte": 2020}})
    Condition(field='year', operator='gte', value=2020)
    >>> parse({"year": 2020}) == parse({"year": {"eq": 2020}})
    True
    """
    return _Parser(limits).parse(value, pointer, 0)


class _Parser:
    def __init__(self, limits: Limits) -> None:
        self.depth, self.most = limits.filter_depth, limits.filter_conditions
        self.conditions = 0

    def parse(self, value: object, at: str, depth: int) -> Filter:
        if depth >= self.depth:
            raise Invalid.at(at, f"a filter has at most {self.depth} levels")
        if not isinstance(value, dict) or len(value) != 1:
            came = f"{len(value)} keys" if isinstance(value, dict) else _name(value)
            raise Invalid.at(at, f"expected an object with exactly one key, a field or and, or, not; got {came}")
        ((key, body),) = value.items()
        here = f"{at}/{_escape(key)}"
        if key in ("and", "or"):
            if not isinstance(body, list) or not body:
                raise Invalid.at(here, f"expected a list of at least one filter, got {_name(body)}")
            parts = tuple(self.parse(part, f"{here}/{i}", depth + 1) for i, part in enumerate(body))
            return And(parts) if key == "and" else Or(parts)
        if key == "not":
            return Not(self.parse(body, here, depth + 1))
        if not FIELD.fullmatch(key):
            raise Invalid.at(here, f"a field name matches {FIELD.pattern}; got {key!r}")
        return self.field(key, body, here)

    def field(self, field: str, body: object, at: str) -> Condition | And:
        if isinstance(body, bool | int | float | str):
            self.count(at)
            return Condition(field, "eq", _scalar(body, at))
        if not isinstance(body, dict) or not body:
            came = "an empty one" if body == {} else _name(body)
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
        if op == "exists":
            if not isinstance(operand, bool):
                raise Invalid.at(here, f"expected true or false, got {_name(operand)}")
            return Condition(field, "exists", operand)
        if op == "in":
            if not isinstance(operand, list):
                raise Invalid.at(here, f"expected a list of values, got {_name(operand)}")
            values = tuple(_scalar(item, f"{here}/{i}") for i, item in enumerate(operand))
            self.conditions += len(values)
            if self.conditions > self.most:
                raise Invalid.at(here, f"a filter has at most {self.most:,} conditions and listed values")
            return Condition(field, "in", values)
        if op not in _OPERATORS:
            raise Invalid.at(here, f"unknown operator {op!r}; expected one of {', '.join(_OPERATORS)}")
        value = _scalar(operand, here)
        if op in _RANGES and isinstance(value, bool):
            raise Invalid.at(here, "expected a number or a string, got true or false, which have no order")
        return Condition(field, op, value)


def _scalar(value: object, at: str) -> Scalar:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if not INT64[0] <= value <= INT64[1]:
            raise Invalid.at(at, "an integer has at most 64 bits")
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise Invalid.at(at, f"expected a string, a finite number, true or false; got {_name(value)}")


def _name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _escape(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")
