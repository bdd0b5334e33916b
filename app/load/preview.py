"""The first documents of a source as they would be written, for a person to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from app.errors import RequestError
from app.sources.protocol import Source
from app.types import Document

SHOWN: Final = 3
LONG: Final = 1_000
"""Characters of a text that are shown."""


def first(source: Source) -> Iterator[str]:
    """The first three documents, and the faults before and between them."""
    count = 0
    for entry in source.entries():
        if isinstance(entry.found, RequestError):
            yield f"{entry.place or source.name}: {entry.found.message}"
        elif isinstance(entry.found, Document):
            yield json.dumps(shown(entry.found), ensure_ascii=False, indent=2)
            count += 1
        if count == SHOWN:
            return


def shown(document: Document) -> dict[str, Any]:
    """As JSON has it, with the sizes of vectors in their place, and the beginning of a long text.

    >>> shown(Document("a", "one", metadata={"year": 2024}))
    {'id': 'a', 'title': '', 'text': 'one', 'metadata': {'year': 2024}}
    """
    text = document.text
    if len(text) > LONG:
        text = f"{text[:LONG]}... ({len(text):,} characters)"
    body: dict[str, Any] = {"id": document.id, "title": document.title, "text": text, "metadata": document.metadata}
    if document.vectors is not None:
        body["vectors"] = " x ".join(map(str, document.vectors.shape))
    if document.values is not None:
        body["values"] = f"{len(document.values)} vectors of {document.values.shape[1]} dimensions"
    if document.sparse is not None:
        body["sparse_vector"] = f"{len(document.sparse)} indices"
    return body
