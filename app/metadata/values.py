"""Which values metadata has under which names.

A name leads through objects, and through lists into each of their items: ``authors.name`` of a list of authors is the
list of their names. A list in a list counts as its items. So under one name a document has nothing, or one scalar, null
or object, or a list of such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from app.metadata.names import is_dotted, outermost, rendered, under
from app.types import Metadata

Scalar: TypeAlias = str | bool | int | float
Named: TypeAlias = Mapping[str, Any]
"""Name -> a scalar, None, an object, or a list of these."""

_SIMPLE: Final = frozenset({str, bool, int, float, type(None)})


def named_values(metadata: Metadata) -> Named:
    """Its values by name; the metadata itself where its keys are the names, as of most it is.

    >>> named_values({"by": {"name": "Ada"}, "on": [{"day": 1}, {"day": 2}], "a b": None})
    {'by': {'name': 'Ada'}, 'by.name': 'Ada', 'on': [{'day': 1}, {'day': 2}], 'on.day': [1, 2], '"a b"': None}
    """
    if all(map(_is_flat, metadata.keys(), metadata.values())):
        return metadata
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        _add(found, outermost(key), under(key), value, listed=False)
        if is_dotted(key):
            _add(found, key, key, value, listed=False)
    return found


def _is_flat(key: str, value: Any) -> bool:
    if outermost(key) is not key:
        return False
    kind = type(value)
    return kind in _SIMPLE or (kind is list and _SIMPLE.issuperset(map(type, value)))


def _add(found: dict[str, Any], name: str, beginning: str, value: Any, *, listed: bool) -> None:
    """beginning: of the names of what lies under it."""
    if isinstance(value, list):
        items = _listed(found, name)
        for item in value:
            if isinstance(item, list):
                _add(found, name, beginning, item, listed=True)
            else:
                items.append(item)
                _within(found, beginning, item, listed=True)
        return
    if listed or name in found:
        _listed(found, name).append(value)
    else:
        found[name] = value
    _within(found, beginning, value, listed=listed)


def _within(found: dict[str, Any], beginning: str, value: Any, *, listed: bool) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            name = f"{beginning}.{rendered(key)}"
            _add(found, name, name, item, listed=listed)


def _listed(found: dict[str, Any], name: str) -> list[Any]:
    """What is there as a list of its own, never a caller's."""
    there = found.get(name)
    if not isinstance(there, list):
        there = found[name] = [there] if name in found else []
    return there
