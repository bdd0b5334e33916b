"""Which texts of a document are indexed as words."""

from __future__ import annotations

import json
from collections.abc import Sequence

from app.metadata.names import FIELD, named
from app.metadata.values import named_values
from app.types import Document

OWN: tuple[str, ...] = ("id", "title", "text")
"""Fields that every document has; any other name is one of its metadata."""


def texts(document: Document, fields: Sequence[str]) -> list[str]:
    """The text of each field, empty where the document has none; the items of a list by lines, numbers as in JSON. Null
    and objects have none; what is in an object has a name of its own.

    >>> texts(Document("a-1", "It reads.", metadata={"sku": ["X 1", "Y"], "n": 2}), ["id", "text", "sku", "n", "no"])
    ['a-1', 'It reads.', 'X 1\\nY', '2', '']
    """
    return [_text(document, field) for field in fields]


def _text(document: Document, field: str) -> str:
    if field in OWN:
        found: str = getattr(document, field)
        return found
    value = document.metadata.get(field)
    if value is None and FIELD.fullmatch(field):
        value = named_values(document.metadata).get(named(field))
    return "\n".join(_word(one) for one in (value if isinstance(value, list) else [value]))


def _word(value: object) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return value if isinstance(value, str) else json.dumps(value)
