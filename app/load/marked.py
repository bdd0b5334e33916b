"""Documents that carry the name of their source, so that those that it no longer has can be told from all others.

The mark is a metadata field. Only what carries it is ever deleted, and only after all of the source was read: a fault,
or a source that holds nothing, deletes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

from app.collection.collection import Collection
from app.errors import Invalid
from app.filters import parse
from app.ingest import delete_ids
from app.load.bulk import Summary
from app.sources.protocol import Entry, Source
from app.types import Document

MARK: Final = "_source"
"""The metadata field with the name of a document's source."""
PAGE: Final = 1_000
"""Ids that are looked at, or deleted, at a time."""


class Marked:
    """The documents of a source, each with its mark. ``ids``: of all that came so far."""

    def __init__(self, source: Source, mark: str) -> None:
        self._source = source
        self.mark = mark
        self.ids: set[str] = set()
        self.name = source.name
        self.unit: Literal["bytes", "documents"] = source.unit

    @property
    def total(self) -> int | None:
        return self._source.total

    @property
    def done(self) -> int:
        return self._source.done

    @property
    def skipped(self) -> int:
        return self._source.skipped

    def entries(self) -> Iterator[Entry]:
        for entry in self._source.entries():
            found = entry.found
            if not isinstance(found, Document):
                yield entry
            elif MARK in found.metadata:
                why = f"the field marks documents with their source (--source); rename it (--rename {MARK}=...)"
                yield entry._replace(found=Invalid.at(f"/metadata/{MARK}", why))
            else:
                self.ids.add(found.id)
                yield entry._replace(found=replace(found, metadata={**found.metadata, MARK: self.mark}))


def marked(mark: str) -> dict[str, object]:
    """The filter that documents of a source pass."""
    return {MARK: {"eq": mark}}


def why_not(source: Marked, summary: Summary) -> str:
    """Why nothing may be deleted; empty where it may."""
    if summary.bad:
        return f"{summary.bad:,} faults: what they stand for may be in the source"
    return "" if source.ids else "the source holds no document"


def delete_gone(collection: Collection, source: Marked) -> int:
    """Deletes what carries the mark and is not in the source; how many those were. For ``why_not`` is empty."""
    condition = parse(marked(source.mark))
    gone: list[str] = []
    cursor: str | None = None
    while True:
        found, cursor = collection.listing(cursor, PAGE, condition, frozenset())
        gone += [document.id for document in found if document.id not in source.ids]
        if cursor is None:
            break
    return sum(delete_ids(collection, gone[at : at + PAGE]) for at in range(0, len(gone), PAGE))
