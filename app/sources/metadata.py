"""Values of other formats as metadata, which has what JSON has."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.errors import Invalid
from app.metadata.reading import MAX_DEPTH
from app.schema.faults import pointer
from app.types import Metadata, MetadataValue

MOST_NUMBERS: Final = 64
"""With fractions, of a list that is no vector that somebody forgot to name."""


def kept(record: Mapping[str, Any]) -> Metadata:
    """A record as metadata: objects, lists, nulls and keys as they are, a date in its ISO form, a decimal a number.
    Raises Invalid for what metadata cannot hold, and for what is rather a vector.

    >>> kept({"Year": 2024, "by": {"name": "Ada", "born": None}, "tags": ("a", 3), "on": datetime.date(2024, 5, 1)})
    {'Year': 2024, 'by': {'name': 'Ada', 'born': None}, 'tags': ['a', 3], 'on': '2024-05-01'}
    """
    return {str(key): _value(item, (str(key),)) for key, item in record.items()}


def _value(item: Any, path: tuple[str, ...]) -> MetadataValue:
    if item is None:
        return None
    if len(path) > MAX_DEPTH:
        raise Invalid.at(pointer(["metadata", *path]), f"metadata is nested more than {MAX_DEPTH} deep")
    if isinstance(item, Mapping):
        return {str(key): _value(one, (*path, str(key))) for key, one in item.items()}
    if isinstance(item, list | tuple | set | frozenset):
        if len(item) > MOST_NUMBERS and all(isinstance(one, float) for one in item):
            raise Invalid.at(
                pointer(["metadata", *path]),
                f"a list of {len(item):,} numbers is rather a vector; name it (--vector-field), or the fields to keep "
                "(--select)",
            )
        return [_value(one, (*path, str(i))) for i, one in enumerate(item)]
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
        f"expected what metadata holds (what JSON has, and dates), got {type(item).__name__}",
    )
