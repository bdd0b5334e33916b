"""NDJSON: one document a line, as ``POST /v1/collections/{name}/import`` takes it; plain, .gz, or standard input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from app.documents import parse_document
from app.errors import RequestError
from app.sources.lines import Lines
from app.sources.protocol import Entry
from app.types import Kind


class Ndjson:
    """Blank lines are passed over; they count as lines."""

    unit: Literal["bytes", "documents"] = "bytes"
    skipped = 0

    def __init__(self, path: Path | None, kind: Kind | None = None) -> None:
        """path: None reads standard input. kind: of the collection, so that `vector` or `vectors` is what it takes."""
        self._lines = Lines(path)
        self._kind = kind
        self.name = self._lines.name

    @property
    def total(self) -> int | None:
        return self._lines.total

    @property
    def done(self) -> int:
        return self._lines.done

    def entries(self) -> Iterator[Entry]:
        for number, line in self._lines.entries():
            if isinstance(line, RequestError):
                yield Entry(number, line)
            elif line.strip():
                try:
                    yield Entry(number, parse_document(line, self._kind))
                except RequestError as error:
                    yield Entry(number, error)
