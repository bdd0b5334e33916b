"""Which reader reads a source: by what it is, by its suffix, or as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, cast, get_args

from app.errors import Invalid, NotFound
from app.sources.beir import Beir
from app.sources.fields import Fields
from app.sources.folder import FILES, Chosen, FileForm, Folder
from app.sources.lines import COMPRESSED, wide
from app.sources.ndjson import Ndjson
from app.sources.protocol import Source
from app.sources.records.arrow import is_data_set, is_export, read_arrow, read_data_set, read_parquet
from app.sources.records.hdf5 import read_hdf5
from app.sources.records.json import read_json
from app.sources.records.rows import Reader, Records, Row
from app.sources.records.trec import read_trec
from app.sources.records.vectors import read_fvecs, read_npy
from app.sources.records.xlsx import read_xlsx
from app.sources.several import Several
from app.sources.table import Columns, Table
from app.sources.zipped import Zipped
from app.types import Kind

RecordForm: TypeAlias = Literal[
    "ndjson", "json", "csv", "tsv", "msmarco", "trec", "xlsx", "parquet", "arrow", "npy", "fvecs", "hdf5"
]
Format: TypeAlias = Literal["folder", "beir", "dataset", "zip"] | FileForm | RecordForm
FORMATS: tuple[Format, ...] = tuple(form for part in get_args(Format) for form in get_args(part))
RECORDS: dict[str, RecordForm] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".trec": "trec",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".npy": "npy",
    ".fvecs": "fvecs",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
"""Suffix -> what reads a file of many documents."""
PACKED: frozenset[RecordForm] = frozenset({"ndjson", "json", "csv", "tsv", "msmarco", "trec"})
"""Those that may be compressed, or come on standard input."""
_NO_NAME = str.maketrans({"/": "_", "\0": "_"})


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read. fields: which is what, of records. header, delimiter: of CSV and TSV. chosen: files of
    folders. charset: of text files that are not UTF-8. ids: a file of them, beside one of vectors."""

    fields: Fields = field(default_factory=Fields)
    header: tuple[str, ...] = ()
    delimiter: str = ","
    chosen: Chosen = field(default_factory=Chosen)
    charset: str | None = None
    ids: Path | None = None


def format_of(source: str) -> Format:
    """Raises Invalid where the name does not tell.

    >>> format_of("a/b.jsonl.gz"), format_of("-"), format_of("x.tsv"), format_of("x.PDF")
    ('ndjson', 'ndjson', 'tsv', 'pdf')
    """
    if source == "-":
        return "ndjson"
    path = Path(source)
    if path.is_dir():
        if any((path / f"corpus.jsonl{suffix}").is_file() for suffix in ("", *COMPRESSED)):
            return "beir"
        return "dataset" if is_data_set(path) else "folder"
    form = "zip" if path.suffix.lower() == ".zip" else FILES.get(path.suffix.lower()) or _record_form(path)
    if form is None:
        raise Invalid(
            f"cannot tell the format of {source!r} by its name; name it (--format), one of {', '.join(FORMATS)}"
        )
    return form


def _record_form(path: Path) -> RecordForm | None:
    packed = path.suffix in COMPRESSED
    form = RECORDS.get((Path(path.stem).suffix if packed else path.suffix).lower())
    return None if packed and form not in PACKED else form


def open_source(
    source: str,
    form: Format | None = None,
    columns: Columns | None = None,
    kind: Kind | None = None,
    reading: Reading | None = None,
    prefix: str = "",
) -> Source:
    """source: a file, a folder, or `-` for standard input. columns: of csv and tsv.

    kind: of the collection that the documents are for, where it is known; records can carry vectors. reading: all of
    this and more, in the place of both. prefix: of the ids of a folder's files.

    Raises Invalid for what does not fit together, NotFound for what is not there.
    """
    if reading is None:
        told = columns or Columns(Fields(kind=kind))
        reading = Reading(told.fields, told.header, told.delimiter)
    path = None if source == "-" else Path(source)
    if path is not None and not path.exists():
        raise NotFound(f"{path} is not there")
    form = form or format_of(source)
    match form:
        case "beir":
            return Beir(_on_disk(path, "a BEIR folder"))
        case "dataset":
            return Records(_on_disk(path, "a data set"), _of_path(read_data_set), reading.fields)
        case "zip":
            return Zipped(_on_disk(path, form), partial(_unpacked, reading=reading, prefix=prefix))
        case "folder" | "markdown" | "text" | "html" | "pdf" | "docx":
            return Folder(
                _on_disk(path, form),
                reading.chosen,
                reading.charset,
                records=lambda file, name: _in_folder(file, name, reading),
                read_as=None if form == "folder" else form,
                prefix=prefix,
            )
        case _:
            return open_records(path, form, reading)


def open_records(path: Path | None, form: RecordForm, reading: Reading, prefix: str | None = None) -> Source:
    """path: None reads standard input. prefix: of ids, as ``Fields`` has it. Raises Invalid, NotFound."""
    fields = reading.fields if prefix is None else replace(reading.fields, prefix=prefix)
    if path is None and form not in PACKED - {"trec"}:
        raise Invalid(f"{form} cannot come on standard input")
    match form:
        case "ndjson":
            if prefix is None and not fields.given:
                return Ndjson(path, fields.kind)
            return Records(path, read_json, fields)
        case "json":
            return Records(path, read_json, fields)
        case "csv" | "tsv" | "msmarco":
            # Of a folder not every file need be of the charset that is named.
            sure, other = (reading.charset, None) if prefix is None else (None, reading.charset)
            charset = wide(path) or sure or "utf-8"
            columns = Columns(fields, reading.header, reading.delimiter, charset, other, msmarco=form == "msmarco")
            return Table(path, columns, "csv" if form == "csv" else "tsv")
        case "trec":
            return Records(path, _of_path(partial(read_trec, charset=reading.charset)), fields)
        case "xlsx":
            return Records(path, _of_path(read_xlsx), fields)
        case "parquet":
            assert path is not None
            whole = prefix is None and not fields.given and is_export(path)
            return Records(path, _of_path(read_parquet), replace(fields, whole=whole))
        case "arrow":
            return Records(path, _of_path(read_arrow), fields)
        case "npy" | "fvecs":
            read = read_npy if form == "npy" else read_fvecs
            return Records(path, _of_path(partial(read, ids=reading.ids)), fields)
        case "hdf5":
            return Records(path, _of_path(partial(read_hdf5, vector=fields.vector)), fields)


def _of_path(read: Callable[[Path], Iterator[Row]]) -> Reader:
    """A reader that needs a file."""

    def of(path: Path | None) -> Iterator[Row]:
        assert path is not None
        return read(path)

    return of


def _unpacked(root: Path, reading: Reading, prefix: str) -> Source:
    return Folder(
        root, reading.chosen, reading.charset, records=lambda file, name: _in_folder(file, name, reading), prefix=prefix
    )


def _in_folder(path: Path, name: str, reading: Reading) -> Source | None:
    form = _record_form(path)
    return None if form is None else open_records(path, form, reading, prefix=name)


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


@contextmanager
def open_body(body: Path, form: str, id: str | None, compression: str | None, reading: Reading) -> Iterator[Source]:
    """A file whose name says nothing of what it is, as the body of a request lies on the disk. form: of one file. id:
    of the document, where the file is one; its end may become the title. compression: `gz` or `zst`.

    Raises as ``open_source`` does.
    """
    end = f"body.{form}" if id is None else id.rpartition("/")[2].translate(_NO_NAME)[-100:] or "body"
    with TemporaryDirectory() as place:
        link = Path(place) / ".".join(filter(None, (end, compression)))
        link.symlink_to(body.absolute())
        yield open_source(str(link), cast("Format", form), reading=reading)
