"""Which reader reads a source: by what it is, by its suffix, or as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from app.errors import Invalid
from app.sources.beir import Beir
from app.sources.lines import COMPRESSED
from app.sources.ndjson import Ndjson
from app.sources.protocol import Source
from app.sources.table import Columns, Table
from app.types import Kind

Format: TypeAlias = Literal["ndjson", "beir", "csv", "tsv"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".tsv": "tsv",
}


def format_of(source: str) -> Format:
    """Raises Invalid where the name does not tell.

    >>> format_of("a/b.jsonl.gz"), format_of("-"), format_of("x.tsv")
    ('ndjson', 'ndjson', 'tsv')
    """
    if source == "-":
        return "ndjson"
    path = Path(source)
    if path.is_dir():
        return "beir"
    suffix = Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
    if suffix not in SUFFIXES:
        raise Invalid(
            f"cannot tell the format of {source!r} by its name; name it (--format), one of {', '.join(FORMATS)}"
        )
    return SUFFIXES[suffix]


def open_source(
    source: str, form: Format | None = None, columns: Columns | None = None, kind: Kind | None = None
) -> Source:
    """source: a file, a folder, or `-` for standard input. columns: needed for csv and tsv.

    kind: of the collection that the documents are for, where it is known; NDJSON can carry vectors.

    Raises Invalid for what does not fit together, NotFound for what is not there.
    """
    form = form or format_of(source)
    path = None if source == "-" else Path(source)
    match form:
        case "beir":
            if path is None:
                raise Invalid("a BEIR folder cannot come on standard input")
            return Beir(path)
        case "ndjson":
            return Ndjson(path, kind)
        case "csv" | "tsv":
            if columns is None:
                raise Invalid(f"{form} needs --id-column and --text-column, the names of the columns that hold them")
            return Table(path, columns, form)
