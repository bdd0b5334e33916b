"""CSV (RFC 4180) and TSV (IANA text/tab-separated-values: no quotes), whose columns a header or the caller names.

Nothing guesses whether a first line is a header: taken for one where it is none, it would be lost in silence. Where the
columns that are asked for are not in it, the error says how to name them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.documents import parse_document
from app.errors import Invalid, MalformedBody, RequestError
from app.sources.lines import MAX_LINE, Lines
from app.sources.protocol import Entry
from app.types import Document

Cell = str | int | float | bool


def _boolean(value: str) -> bool:
    match value.strip().lower():
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no":
            return False
    raise ValueError("expected true or false, 1 or 0, yes or no")


TYPES: dict[str, Callable[[str], Cell]] = {"str": str, "int": int, "float": float, "bool": _boolean}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what. metadata: (column, type) pairs; an empty cell means that the field is not there. header:
    the names of all columns of a file that does not begin with them.

    >>> Columns.parse("id", "body", metadata=["year:int", "author"]).metadata
    (('year', 'int'), ('author', 'str'))
    """

    id: str
    text: str
    title: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    header: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, id: str, text: str, title: str | None = None, metadata: Sequence[str] = (), header: Sequence[str] = ()
    ) -> Columns:
        """metadata: `name` or `name:type` with type str, int, float or bool. Raises Invalid for another type."""
        pairs = []
        for given in metadata:
            name, _, kind = given.rpartition(":") if ":" in given else (given, "", "str")
            if kind not in TYPES:
                raise Invalid(f"metadata column {given!r}: the type is one of {', '.join(TYPES)}, not {kind!r}")
            pairs.append((name, kind))
        return cls(id, text, title, tuple(pairs), tuple(header))

    def names(self) -> list[str]:
        return [self.id, self.text, *([self.title] if self.title else []), *(name for name, _ in self.metadata)]


class Table:
    """The line of an entry is the one on which its record begins, or the quote that is never closed."""

    unit: Literal["bytes", "documents"] = "bytes"

    def __init__(self, path: Path | None, columns: Columns, form: Literal["csv", "tsv"]) -> None:
        """path: None reads standard input."""
        # In a quoted cell of CSV the ends of lines are part of the text.
        self._lines = Lines(path, ends=form == "csv")
        self._columns = columns
        self._form = form
        self.name = self._lines.name
        self.skipped = 0

    @property
    def total(self) -> int | None:
        return self._lines.total

    @property
    def done(self) -> int:
        return self._lines.done

    def entries(self) -> Iterator[Entry]:
        records = _records(self._lines, self._form)
        header = list(self._columns.header) or self._header(next(records, None))
        places = self._places(header)
        for line, cells in records:
            if isinstance(cells, RequestError):
                yield Entry(line, cells)
            elif len(cells) != len(header):
                wrong = f"expected {len(header)} columns as in the header, got {len(cells)}"
                yield Entry(line, MalformedBody(wrong))
            elif cells[places[self._columns.text]].strip() or self._title(cells, places).strip():
                try:
                    yield Entry(line, self._document(cells, places))
                except RequestError as error:
                    yield Entry(line, error)
            else:
                self.skipped += 1

    def _header(self, first: tuple[int, list[str] | RequestError] | None) -> list[str]:
        if first is None:
            raise Invalid(f"{self.name} is empty: expected a header that names the columns")
        if isinstance(first[1], RequestError):
            raise first[1]
        return first[1]

    def _places(self, header: list[str]) -> dict[str, int]:
        for name in self._columns.names():
            if header.count(name) != 1:
                count = "no" if name not in header else "more than one"
                shown = ", ".join(cell if len(cell) <= 40 else f"{cell[:40]}..." for cell in header)
                hint = (
                    "" if self._columns.header else ". Where its first line is no header, name its columns (--header)"
                )
                raise Invalid(f"{self.name} has {count} column {name!r}; its columns: {shown}{hint}")
        return {name: header.index(name) for name in self._columns.names()}

    def _title(self, cells: list[str], places: dict[str, int]) -> str:
        return cells[places[self._columns.title]] if self._columns.title else ""

    def _document(self, cells: list[str], places: dict[str, int]) -> Document:
        metadata: dict[str, Cell] = {}
        for name, kind in self._columns.metadata:
            if (cell := cells[places[name]]) != "":
                try:
                    metadata[name] = TYPES[kind](cell)
                except ValueError as error:
                    raise Invalid.at(f"/metadata/{name}", f"expected {kind}, got {cell!r}") from error
        body = {
            "id": cells[places[self._columns.id]],
            "title": self._title(cells, places),
            "text": cells[places[self._columns.text]],
            "metadata": metadata,
        }
        return parse_document(json.dumps(body).encode())


class _Text:
    """Lines as text for ``csv``, which asks for the next one whenever a quoted cell goes on.

    An iterator and no generator, so that it goes on after a line that cannot be decoded. opened: the line with the
    quote that is open, if one is.
    """

    def __init__(self, lines: Lines) -> None:
        self._entries = lines.entries()
        self.number = 0
        self.opened: int | None = None

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._entries)
        if isinstance(line, RequestError):
            raise line
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise MalformedBody(f"not UTF-8: {error}") from error
        # Two quotes are an empty cell outside of one, and a quote as text inside: neither opens nor closes.
        if count := text.replace('""', "").count('"'):
            self.opened = self.number if (count + (self.opened is not None)) % 2 else None
        return text


def _records(lines: Lines, form: Literal["csv", "tsv"]) -> Iterator[tuple[int, list[str] | RequestError]]:
    csv.field_size_limit(MAX_LINE)  # of the process; the default of 131,072 is less than a long text
    text = _Text(lines)
    reader = (
        csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        if form == "tsv"
        else csv.reader(text, strict=True)
    )
    while True:
        line, text.opened = text.number + 1, None
        try:
            cells = next(reader, None)
        except RequestError as error:
            yield line, error
            continue
        except csv.Error as error:
            if form == "csv" and text.opened is not None and text.number > text.opened:
                swallowed = f"the {text.number - text.opened:,} lines after it were taken for one cell"
                yield (
                    text.opened,
                    MalformedBody(f"not CSV: a quote opens here and is not closed: {swallowed} ({error})"),
                )
            else:
                yield line, MalformedBody(f"not {form.upper()}: {error}")
            continue
        if cells is None:
            return
        if cells:
            yield line, cells
