"""The types that a collection declares for fields of its metadata.

A declaration decides what a write may hold there, and what filters, orders and counts take its values for: a string as
a moment, say. It never changes what is stored. So a declaration may come later, or go: what does not fit it stays, and
is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

from app.errors import Invalid
from app.metadata import dates
from app.metadata.geo import is_point
from app.metadata.names import EXPECTED, FIELD, OWN, RESERVED, named, outermost, rendered, under
from app.metadata.reading import Unfit
from app.metadata.values import Scalar, named_values
from app.schema.faults import name_of, pointer
from app.types import Metadata

FieldType: TypeAlias = Literal["string", "integer", "number", "boolean", "date", "geo"]
Declared: TypeAlias = Mapping[str, FieldType]
"""Field -> its type, by the one spelling of its name."""
MOST_FIELDS: Final = 256
NOTHING: Final[Declared] = {}

_WANTED: Final[dict[FieldType, str]] = {
    "string": "expected a string",
    "integer": "expected a whole number",
    "number": "expected a number",
    "boolean": "expected true or false",
    "date": dates.EXPECTED,
    "geo": "expected an object with lat from -90 to 90 and lon from -180 to 180",
}

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "maxProperties": MOST_FIELDS,
    "propertyNames": {"pattern": f"^{FIELD.pattern}$", "not": {"enum": [*OWN, *sorted(RESERVED)]}},
    "additionalProperties": {"enum": list(get_args(FieldType))},
    "description": "Types of metadata fields: string, integer, number, boolean, date (ISO 8601, compared as moments; a "
    "date alone is midnight in UTC, a date-time says its zone) or geo (an object with `lat` and `lon`). A document "
    "whose field has another value is refused; null fits any type, and so does a list of such values (but of geo). "
    "Fields that are not declared go by their values.",
    "examples": [{"published": "date", "place": "geo", "author.name": "string"}],
}


def read_declared(value: object, at: str = "") -> dict[str, FieldType]:
    """From parsed JSON. Raises Invalid, pointing at the place.

    >>> read_declared({'"year"': "integer"})
    {'year': 'integer'}
    """
    return {name: kind for name, kind in read_changes(value, at).items() if kind is not None}


def read_changes(value: object, at: str = "") -> dict[str, FieldType | None]:
    """The same, where null takes a field's declaration away."""
    if not isinstance(value, Mapping):
        raise Invalid.at(at, f"expected an object of fields and their types, got {name_of(value)}")
    if len(value) > MOST_FIELDS:
        raise Invalid.at(at, f"at most {MOST_FIELDS} fields are declared; got {len(value):,}")
    found: dict[str, FieldType | None] = {}
    for field, kind in value.items():
        here = at + pointer([field])
        if not isinstance(field, str) or not FIELD.fullmatch(field) or field in RESERVED or field in OWN:
            raise Invalid.at(here, f"{EXPECTED}, which have their types; and, or, not are quoted, too")
        if kind is not None and kind not in get_args(FieldType):
            raise Invalid.at(here, f"expected one of {', '.join(get_args(FieldType))}; got {str(kind)[:50]!r}")
        found[named(field)] = kind
    return found


def cast(kind: FieldType, value: Scalar) -> Scalar | None:
    """What a scalar is as a value of the type: a date's moment, else itself; None where it does not fit.

    >>> cast("date", "1970-01-01"), cast("integer", 2.0), cast("number", True), cast("string", 1)
    (0, 2.0, None, None)
    """
    if kind == "date":
        return dates.moment(value) if isinstance(value, str) else None
    if isinstance(value, str):
        return value if kind == "string" else None
    if isinstance(value, bool):
        return value if kind == "boolean" else None
    fits = kind == "number" or (kind == "integer" and value == int(value))
    return value if fits else None


def check(metadata: Metadata, declared: Declared) -> None:
    """Raises Unfit where a value is not what is declared of its field."""
    if not declared:
        return
    values = named_values(metadata)
    for field, kind in declared.items():
        if field in values and not _fits(kind, values[field]):
            raise Unfit(_place(metadata, field, kind), f"{_WANTED[kind]}, as the collection's schema says of {field}")


def _fits(kind: FieldType, value: Any) -> bool:
    if value is None:
        return True
    if kind == "geo":
        return is_point(value)
    if isinstance(value, list):
        return all(_fits(kind, item) for item in value)
    return not isinstance(value, dict) and cast(kind, value) is not None


def _place(metadata: Metadata, field: str, kind: FieldType) -> tuple[str | int, ...]:
    """The keys and places of the first value that does not fit."""
    for key, value in metadata.items():
        for name, beginning in ((outermost(key), under(key)), (key, key)):
            found = _search(value, (name, beginning), (key,), field, kind)
            if found is not None:
                return found
    return ()


def _search(
    value: Any, names: tuple[str, str], at: tuple[str | int, ...], field: str, kind: FieldType
) -> tuple[str | int, ...] | None:
    """names: of the value, and the beginning of those within it."""
    own, beginning = names
    if isinstance(value, list) and not (own == field and kind == "geo"):
        tried = (_search(item, names, (*at, i), field, kind) for i, item in enumerate(value))
    elif isinstance(value, dict) and own != field:
        inner = ((f"{beginning}.{rendered(key)}", key, item) for key, item in value.items())
        tried = (_search(item, (name, name), (*at, key), field, kind) for name, key, item in inner)
    else:
        return at if own == field and not _fits(kind, value) else None
    return next((found for found in tried if found is not None), None)
