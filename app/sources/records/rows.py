"""Records of a file as a source of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from app.errors import NotFound, RequestError
from app.sources.fields import Fields
from app.sources.protocol import Entry, Unit, Unreadable


class Row(NamedTuple):
    """number: from 1 in the unit of the file; 0: it is all of it. done: the share of the file that is read, 0 to 1.
    part: of the file, such as a sheet, within which numbers count."""

    number: int
    found: Mapping[str, Any] | RequestError
    done: float
    part: str = ""
    unit: Unit = "row"


Reader: TypeAlias = Callable[["Path | None"], Iterator[Row]]


class Records:
    """Of one file, whose documents are its rows. What makes the rest of it unreadable is its last entry."""

    unit: Literal["bytes", "documents"] = "bytes"

    def __init__(self, path: Path | None, reader: Reader, fields: Fields) -> None:
        """path: None reads standard input. Raises NotFound for what is not there."""
        if path is not None and not path.exists():
            raise NotFound(f"{path} is not there")
        self.name = "standard input" if path is None else str(path)
        self._path = path
        self._reader = reader
        self._fields = fields
        self.total = None if path is None else _size(path)
        self.done = 0
        self.skipped = 0

    def entries(self) -> Iterator[Entry]:
        rows = self._reader(self._path)
        while True:
            try:
                row = next(rows, None)
            except Unreadable as error:
                yield Entry(error.number, error, unit=error.unit)
                break
            except RequestError as error:
                yield Entry(0, error)
                break
            if row is None:
                break
            self.done = int((self.total or 0) * min(1.0, row.done))
            if isinstance(row.found, RequestError):
                yield Entry(row.number, row.found, row.part, row.unit)
                continue
            try:
                document = self._fields.of_part(row.part).document(row.found, row.number)
            except RequestError as error:
                yield Entry(row.number, error, row.part, row.unit)
                continue
            if document is None:
                self.skipped += 1
            else:
                yield Entry(row.number, document, row.part, row.unit)
        self.done = self.total or 0


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    return path.stat().st_size
