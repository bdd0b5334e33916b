"""Anybody's metadata in Sheaf's, without loss: stored as they are, but where a framework's filters must not look into
lists. There what filters understand is stored, and a whole copy as JSON beside it.

Documents of earlier versions have such a copy for null, nested objects and odd keys too, and are read all the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from app.metadata.names import RESERVED
from app.metadata.reading import MAX_DEPTH

FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
"""Keys that are their own names."""
INT64: Final = (-(2**63), 2**63 - 1)
COPY: Final = "_lossless"
"""The field of the copy."""
Filter = dict[str, Any]
NOTHING: Final[Filter] = {"and": [{COPY: {"exists": True}}, {COPY: {"exists": False}}]}
EVERYTHING: Final[Filter] = {"or": [{COPY: {"exists": True}}, {COPY: {"exists": False}}]}


def stored(given: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """As Sheaf takes it, where filters may not look into lists. beside: more to be kept, of which filters know nothing.

    Raises TypeError for what JSON does not have, such as a date.

    >>> stored({"year": 2024, "by": {"name": "Ada"}, "note": None})
    {'year': 2024, 'by': {'name': 'Ada'}, 'note': None}
    >>> stored({"year": 2024, "pages": [1, 2]})
    {'year': 2024, '_lossless': '{"metadata":{"year":2024,"pages":[1,2]}}'}
    """
    copy: dict[str, Any] = dict(beside or {})
    said = _text(given)
    kept = dict(given) if COPY not in given and _is_plain(given, 0) else filtered(given, None)
    # 1 and true are equal, and 1 and 1.0: their texts are not.
    if _text(kept) != said:
        copy["metadata"] = dict(given)
    return {**kept, COPY: _text(copy)} if copy else kept


def restored(kept: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata, and what was kept beside them."""
    copy = _copy(kept.get(COPY))
    if copy is None:
        return dict(kept), {}
    given = copy.pop("metadata", None)
    return ({name: value for name, value in kept.items() if name != COPY} if given is None else given), copy


def _copy(said: object) -> dict[str, Any] | None:
    """None where the field is not there, or somebody's own."""
    if not isinstance(said, str):
        return None
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_plain(value: object, depth: int) -> bool:
    """Whether Sheaf has it as it is, and there is no list in it."""
    if isinstance(value, Mapping):
        inner = depth < MAX_DEPTH and all(isinstance(key, str) for key in value)
        return inner and all(_is_plain(one, depth + 1) for one in value.values())
    return value is None or is_scalar(value)


def filterable(name: str) -> bool:
    """Whether a field of this name can be asked for."""
    return FIELD.fullmatch(name) is not None and name not in RESERVED and name != COPY


def is_scalar(value: object) -> bool:
    """Whether Sheaf has it as it is."""
    if isinstance(value, str | bool):
        return True
    if isinstance(value, int):
        return INT64[0] <= value <= INT64[1]
    return isinstance(value, float) and math.isfinite(value)


def filtered(given: Mapping[str, Any], items: str | None) -> dict[str, Any]:
    """What filters understand of it. items: the end of the name of a list's field; None leaves lists out."""
    return dict(_pairs(given, "", items))


def any_of(name: str, values: Sequence[Any]) -> Filter:
    """Whether a field has one of the values, as Python compares them: 1 is 1.0 and true."""
    known = [*values]
    known += [int(one) for one in values if isinstance(one, bool)]
    known += [bool(one) for one in values if not isinstance(one, str | bool) and one in (0, 1)]
    if not known:
        return NOTHING
    return {name: {"eq": known[0]}} if len(known) == 1 else {name: {"in": known}}


def _pairs(given: Mapping[str, Any], under: str, items: str | None) -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        name = f"{under}{key}"
        if not isinstance(key, str) or not filterable(name):
            continue
        if is_scalar(value):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _pairs(value, f"{name}.", items)
        elif items is not None and isinstance(value, list) and all(map(is_scalar, value)):
            yield f"{name}{items}", [word(one) for one in value]


def word(value: object) -> str:
    """An element of a list, as filters know it."""
    return value if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
