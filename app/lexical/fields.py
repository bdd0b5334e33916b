"""Which texts of a document are indexed as words."""

from __future__ import annotations

import json
from collections.abc import Sequence

from app.types import Document

OWN: tuple[str, ...] = ("id", "title", "text")
"""Fields that every document has; any other name is one of its metadata."""


def texts(document: Document, fields: Sequence[str]) -> list[str]:
    """The text of each field, empty where the document has none; the items of a list by lines, numbers as in JSON.

    >>> texts(Document("a-1", "It reads.", metadata={"sku": ["X 1", "Y"], "n": 2}), ["id", "text", "sku", "n", "no"])
    ['a-1', 'It reads.', 'X 1\\nY', '2', '']
    """
    return [_text(document, field) for field in fields]


def _text(document: Document, field: str) -> str:
    if field in OWN:
        found: str = getattr(document, field)
        return found
    value = document.metadata.get(field, "")
    if isinstance(value, list):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value)
