"""Several sources as one, in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from app.errors import RequestError
from app.sources.protocol import Entry, Source, Unreadable


class Several:
    """Their documents in the order in which they are given. What makes the rest of one unreadable is an entry, and the
    next one is read."""

    unit: Literal["bytes", "documents"] = "bytes"
    name = ""
    """Each entry names its source."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """sources: that count bytes."""
        self._sources = sources

    @property
    def total(self) -> int | None:
        totals = [source.total for source in self._sources]
        return None if None in totals else sum(total for total in totals if total is not None)

    @property
    def done(self) -> int:
        return sum(source.done for source in self._sources)

    @property
    def skipped(self) -> int:
        return sum(source.skipped for source in self._sources)

    def entries(self) -> Iterator[Entry]:
        for source in self._sources:
            try:
                for entry in source.entries():
                    yield entry._replace(file=", ".join(filter(None, (source.name, entry.file))))
            except Unreadable as error:
                yield Entry(error.number, error, source.name, error.unit)
            except RequestError as error:
                yield Entry(0, error, source.name)
