"""Which reader reads a source: by what it is, by its suffix, or as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from app.errors import Invalid
from app.sources.beir import Beir
from app.sources.folder import FILES, Chosen, FileForm, Folder
from app.sources.lines import COMPRESSED
from app.sources.ndjson import Ndjson
from app.sources.protocol import Source
from app.sources.several import Several
from app.sources.table import Columns, Table
from app.types import Kind

Format: TypeAlias = Literal["ndjson", "beir", "csv", "tsv", "folder"] | FileForm
FORMATS: tuple[Format, ...] = tuple(form for part in get_args(Format) for form in get_args(part) or (part,))
SUFFIXES: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".tsv": "tsv",
    **FILES,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read. columns: of csv and tsv. kind: of the collection that the documents are for, where it is
    known. chosen: files of folders. charset: of text files that are not UTF-8."""

    columns: Columns | None = None
    kind: Kind | None = None
    chosen: Chosen = field(default_factory=Chosen)
    charset: str | None = None


def format_of(source: str) -> Format:
    """Raises Invalid where the name does not tell.

    >>> format_of("a/b.jsonl.gz"), format_of("-"), format_of("x.tsv"), format_of("x.PDF")
    ('ndjson', 'ndjson', 'tsv', 'pdf')
    """
    if source == "-":
        return "ndjson"
    path = Path(source)
    if path.is_dir():
        beir = any((path / f"corpus.jsonl{suffix}").is_file() for suffix in ("", *COMPRESSED))
        return "beir" if beir else "folder"
    suffix = Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
    form = SUFFIXES.get(suffix.lower())
    if form is None or (form in get_args(FileForm) and path.suffix in COMPRESSED):
        raise Invalid(
            f"cannot tell the format of {source!r} by its name; name it (--format), one of {', '.join(FORMATS)}"
        )
    return form


def open_source(
    source: str,
    form: Format | None = None,
    columns: Columns | None = None,
    kind: Kind | None = None,
    reading: Reading | None = None,
    prefix: str = "",
) -> Source:
    """source: a file, a folder, or `-` for standard input. columns: needed for csv and tsv.

    kind: of the collection that the documents are for, where it is known; NDJSON can carry vectors. reading: all of
    this and more, in the place of both. prefix: of the ids of a folder's files.

    Raises Invalid for what does not fit together, NotFound for what is not there.
    """
    reading = reading or Reading(columns, kind)
    form = form or format_of(source)
    path = None if source == "-" else Path(source)
    match form:
        case "beir":
            return Beir(_on_disk(path, "a BEIR folder"))
        case "folder" | "markdown" | "text" | "html" | "pdf" | "docx":
            read_as = None if form == "folder" else form
            return Folder(_on_disk(path, form), reading.chosen, reading.charset, read_as=read_as, prefix=prefix)
        case "ndjson":
            return Ndjson(path, reading.kind)
        case "csv" | "tsv":
            if reading.columns is None:
                raise Invalid(f"{form} needs --id-column and --text-column, the names of the columns that hold them")
            return Table(path, reading.columns, form)


def open_sources(sources: Sequence[str], form: Format | None, reading: Reading) -> Source:
    """One source, or several in turn: then the ids of a folder's files begin with the folder's name.

    Raises Invalid where two files would have the same ids, and as ``open_source`` does.
    """
    if len(sources) == 1:
        return open_source(sources[0], form, reading=reading)
    if "-" in sources:
        raise Invalid("standard input is a source by itself: give it alone")
    names = Counter(Path(source).resolve().name for source in sources)
    if same := [name for name, count in names.items() if count > 1]:
        raise Invalid(
            f"{names[same[0]]} sources are called {same[0]!r}, and their documents would have the same ids: give the "
            "folder that they lie in, or build them one by one"
        )
    return Several(
        [
            open_source(source, form, reading=reading, prefix=f"{Path(source).resolve().name}/" if folder else "")
            for source in sources
            for folder in [Path(source).is_dir()]
        ]
    )


def _on_disk(path: Path | None, what: str) -> Path:
    if path is None:
        raise Invalid(f"{what} cannot come on standard input")
    return path
