"""Values of other formats as metadata: scalars and lists of strings under keys that a filter can name."""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.errors import Invalid
from app.metadata.names import FIELD, RESERVED
from app.schema.faults import pointer
from app.types import Metadata, MetadataValue

MAX_FIELDS: Final = 1_000
"""Of one document, those of nested objects counted."""
MAX_DEPTH: Final = 20
_OTHER: Final = re.compile(r"[^A-Za-z0-9_.]")


def flat(record: Mapping[str, Any]) -> Metadata:
    """A nested object becomes its fields, with dots between; null is no field; a list's scalars become strings, a date
    its ISO form, a decimal a number. Raises Invalid for what metadata cannot hold, and for two fields of one key.

    >>> flat({"Year": 2024, "by": {"name": "Ada", "born": None}, "tags": ["a", 3], "on": datetime.date(2024, 5, 1)})
    {'Year': 2024, 'by.name': 'Ada', 'tags': ['a', '3'], 'on': '2024-05-01'}
    """
    found: Metadata = {}
    names: dict[str, str] = {}
    for name, value in _leaves(record, (), 1):
        key = key_of(name)
        if key in found:
            raise Invalid.at(
                pointer(["metadata", key]), f"{names[key]!r} and {name!r} come to the same key; rename one (--rename)"
            )
        if len(found) == MAX_FIELDS:
            raise Invalid.at("/metadata", f"more than {MAX_FIELDS:,} fields; name those to keep (--select)")
        found[key], names[key] = value, name
    return found


def key_of(name: str) -> str:
    """The name as a metadata key: marks of letters go, other signs become `_`, other letters their code points.

    >>> key_of("Publication year"), key_of("Größe"), key_of("2nd"), key_of("and")
    ('Publication_year', 'Grou00dfe', '_2nd', 'and_')
    """
    if FIELD.fullmatch(name) and name not in RESERVED:
        return name
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    key = _OTHER.sub(lambda found: f"u{ord(found[0]):04x}" if found[0].isalnum() else "_", plain)
    if key in RESERVED:
        return f"{key}_"
    return key if FIELD.fullmatch(key) else f"_{key}"


def _leaves(value: Mapping[Any, Any], path: tuple[str, ...], depth: int) -> Iterator[tuple[str, MetadataValue]]:
    if depth > MAX_DEPTH:
        raise Invalid.at(pointer(["metadata", *path]), f"objects are nested more than {MAX_DEPTH} deep")
    for key, item in value.items():
        own = (*path, str(key))
        if isinstance(item, Mapping):
            yield from _leaves(item, own, depth + 1)
        elif item is not None:
            yield ".".join(own), _value(item, own)


def _value(item: Any, path: tuple[str, ...]) -> MetadataValue:
    if isinstance(item, list | tuple | set | frozenset):
        kept = [one for one in item if one is not None]
        if any(isinstance(one, float | list | tuple | Mapping) for one in kept):
            raise Invalid.at(
                pointer(["metadata", *path]),
                "a list of metadata holds strings, not numbers with fractions, lists or objects; name vectors "
                "(--vector-field), or the fields to keep (--select)",
            )
        return [one if isinstance(one := scalar(each, path), str) else str(one) for each in kept]
    return scalar(item, path)


def scalar(item: Any, path: tuple[str, ...] = ()) -> str | bool | int | float:
    """Raises Invalid for what is none."""
    at = pointer(["metadata", *path])
    match item:
        case str() | bool() | int():
            return item
        case float():
            if not math.isfinite(item):
                raise Invalid.at(at, f"expected a finite number, got {item}")
            return item
        case Decimal():
            return int(item) if item == item.to_integral_value() else float(item)
        case datetime.datetime() | datetime.date() | datetime.time():
            return item.isoformat()
        case datetime.timedelta():
            return item.total_seconds()
        case UUID():
            return str(item)
    raise Invalid.at(
        at,
        f"expected what metadata holds (a string, a boolean, a number, a list of strings), got {type(item).__name__}",
    )
