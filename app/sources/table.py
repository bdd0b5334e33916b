"""CSV (RFC 4180) and TSV (IANA text/tab-separated-values: no quotes), whose columns a header or the caller names.

Nothing guesses whether a first line is a header: taken for one where it is none, it would be lost in silence. Where the
columns that are asked for are not in it, the error says how to name them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from app.errors import Invalid, MalformedBody, RequestError
from app.sources.fields import TYPES, Fields
from app.sources.lines import MAX_LINE, Lines
from app.sources.protocol import Entry, Unreadable

MSMARCO = {2: ("id", "text"), 4: ("id", "url", "title", "text")}
"""The columns of MS MARCO's passages and documents, which have no header."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file. header: the names of all of one that does not begin with them. delimiter: between cells of
    CSV. other_charset: of lines that are not of ``charset``. msmarco: the header is what MS MARCO's files have.

    >>> Columns.parse("id", "body", metadata=["year:int", "author"]).fields.select
    (('year', 'int'), ('author', 'str'))
    """

    fields: Fields
    header: tuple[str, ...] = ()
    delimiter: str = ","
    charset: str = "utf-8"
    other_charset: str | None = None
    msmarco: bool = False

    @classmethod
    def parse(
        cls, id: str, text: str, title: str | None = None, metadata: Sequence[str] = (), header: Sequence[str] = ()
    ) -> Columns:
        """metadata: as ``selected`` reads it."""
        return cls(Fields(id, (text,), title, select=selected(metadata)), tuple(header))


def selected(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`name` or `name:type`, with a type of ``TYPES``. Raises Invalid for another."""
    pairs = []
    for given in names:
        name, _, kind = given.rpartition(":") if ":" in given else (given, "", "str")
        if kind not in TYPES:
            raise Invalid(f"metadata column {given!r}: the type is one of {', '.join(TYPES)}, not {kind!r}")
        pairs.append((name, kind))
    return tuple(pairs)


class Table:
    """The line of an entry is the one on which its record begins, or the quote that is never closed."""

    unit: Literal["bytes", "documents"] = "bytes"

    def __init__(self, path: Path | None, columns: Columns, form: Literal["csv", "tsv"], prefix: str | None = None):
        """path: None reads standard input. prefix: of ids, as ``Fields`` has it."""
        # In a quoted cell of CSV the ends of lines are part of the text.
        self._lines = Lines(path, ends=form == "csv", charset=columns.charset)
        self._columns = columns
        self._fields = columns.fields if prefix is None else replace(columns.fields, prefix=prefix)
        self.name = self._lines.name
        # Of a file of a folder messages say the path already.
        self._called = "the file" if self._fields.prefix else self.name
        self._form = form
        self.skipped = 0

    @property
    def total(self) -> int | None:
        return self._lines.total

    @property
    def done(self) -> int:
        return self._lines.done

    def entries(self) -> Iterator[Entry]:
        records = _records(self._lines, self._form, self._columns)
        first = None
        if self._columns.msmarco:
            first = next(records, None)
            header = MSMARCO.get(len(first[1]) if first and isinstance(first[1], list) else 0, ())
            if first and not header:
                raise Invalid(f"{self._called}: MS MARCO's files have 2 or 4 columns, with tabs between")
        else:
            header = self._columns.header or tuple(self._header(next(records, None)))
        names = self._names(header)
        for line, cells in chain([first] if first else [], records):
            yield from self._entry(line, cells, names)

    def _entry(self, line: int, cells: list[str] | RequestError, names: Sequence[str]) -> Iterator[Entry]:
        if isinstance(cells, RequestError):
            yield Entry(line, cells)
        elif len(cells) != len(names):
            yield Entry(line, MalformedBody(f"expected {len(names)} columns as in the header, got {len(cells)}"))
        else:
            try:
                found = self._fields.document(dict(zip(names, cells, strict=True)), line)
            except RequestError as error:
                yield Entry(line, error)
                return
            if found is None:
                self.skipped += 1
            else:
                yield Entry(line, found)

    def _header(self, first: tuple[int, list[str] | RequestError] | None) -> list[str]:
        if first is None:
            raise Invalid(f"{self._called} is empty: expected a header that names the columns")
        if isinstance(first[1], RequestError):
            raise Unreadable(f"the header of {self._called}: {first[1].message}", first[0])
        return first[1]

    def _names(self, header: Sequence[str]) -> list[str]:
        new = dict(self._fields.rename)
        names = [new.get(name, name) for name in header]
        shown = ", ".join(cell if len(cell) <= 40 else f"{cell[:40]}..." for cell in names)
        hint = "" if self._columns.header else ". Where its first line is no header, name its columns (--header)"
        for name in self._fields.named or names:
            if names.count(name) != 1:
                count = "no" if name not in names else "more than one"
                raise Invalid(f"{self._called} has {count} column {name!r}; its columns: {shown}{hint}")
        if not self._fields.says_text(names):
            raise Invalid(f"which column of {self._called} is the text (--text-field)? Its columns: {shown}{hint}")
        # The others may have one name: they are told apart, and kept.
        return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names, 1)]


class _Text:
    """Lines as text for ``csv``, which asks for the next one whenever a quoted cell goes on.

    An iterator and no generator, so that it goes on after a line that cannot be decoded. opened: the line with the
    quote that is open, if one is.
    """

    def __init__(self, lines: Lines, other_charset: str | None) -> None:
        self._charset = lines.charset
        self._other = other_charset
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
            text = self._decoded(line)
        except UnicodeDecodeError as error:
            name = "UTF-8" if self._charset == "utf-8" else self._charset
            raise MalformedBody(f"not {name}: {error}; name the charset that it has (--charset)") from error
        # Two quotes are an empty cell outside of one, and a quote as text inside: neither opens nor closes.
        if count := text.replace('""', "").count('"'):
            self.opened = self.number if (count + (self.opened is not None)) % 2 else None
        return text

    def _decoded(self, line: bytes) -> str:
        try:
            return line.decode(self._charset)
        except UnicodeDecodeError:
            if self._other is None:
                raise
            return line.decode(self._other)


def _records(
    lines: Lines, form: Literal["csv", "tsv"], columns: Columns
) -> Iterator[tuple[int, list[str] | RequestError]]:
    csv.field_size_limit(MAX_LINE)  # of the process; the default of 131,072 is less than a long text
    text = _Text(lines, columns.other_charset)
    reader = (
        csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        if form == "tsv"
        else csv.reader(text, delimiter=columns.delimiter, strict=True)
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
