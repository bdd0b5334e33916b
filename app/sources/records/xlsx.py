"""XLSX, read row by row: in each sheet the first row that is not empty names the columns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from app.sources.archives import opened
from app.sources.extras import foreign, library
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row


def read_xlsx(path: Path) -> Iterator[Row]:
    """Raises Unreadable, TooLarge, Invalid where openpyxl is not installed."""
    openpyxl = library("openpyxl", "tables", "XLSX")
    with closing(opened(path, "XLSX")), warnings.catch_warnings():
        # Of features that do not touch values.
        warnings.simplefilter("ignore")
        with foreign("XLSX"):
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    with closing(book):
        sheets = book.worksheets
        for place, sheet in enumerate(sheets):
            yield from _rows(sheet, place, len(sheets))


def _rows(sheet: Any, place: int, count: int) -> Iterator[Row]:
    # The size that a file claims is not to be believed.
    sheet.reset_dimensions()
    part = str(sheet.title)
    rows = sheet.iter_rows(values_only=True)
    header: list[str] = []
    number = 0
    while True:
        with foreign(f"XLSX (sheet {part})", number + 1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cells = next(rows, None)
        if cells is None:
            return
        number += 1
        if all(cell is None or cell == "" for cell in cells):
            continue
        if not header:
            header = _header(cells)
            continue
        extra = [cell for cell in cells[len(header) :] if cell is not None]
        done = (place + 0.5) / count
        if extra:
            yield Row(number, Unreadable(f"{len(extra)} cells have no name in the first row"), done, part)
        else:
            named = zip(header, cells, strict=False)
            yield Row(number, {name: cell for name, cell in named if name and cell is not None}, done, part)


def _header(cells: tuple[Any, ...]) -> list[str]:
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    # Columns without a name, and those of one name, are kept under their numbers.
    return [
        name if name and names.count(name) == 1 else f"{name or 'column'}_{number}"
        for number, name in enumerate(names, 1)
    ]
