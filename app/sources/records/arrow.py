"""Parquet, Arrow's files and streams (Feather), and a data set of Hugging Face as ``save_to_disk`` leaves it.

Numbers, texts, dates, dictionaries and nested fields come as Python has them; what of it metadata can hold,
``app.sources.metadata`` knows. Lists of numbers may be vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from app.errors import Invalid, NotFound, RequestError
from app.sources.extras import foreign, library, said
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row

BATCH: Final = 256
"""Rows in memory at a time."""
WRITTEN: Final = b"sheaf.export"
"""The key in a file's metadata that says that Sheaf wrote it."""
_SPANNED: Final = "Length spanned by list offsets"
STATE: Final = "state.json"
SPLITS: Final = "dataset_dict.json"


def is_data_set(folder: Path) -> bool:
    """Whether a folder is what ``save_to_disk`` leaves."""
    return (folder / SPLITS).is_file() or ((folder / STATE).is_file() and (folder / "dataset_info.json").is_file())


def read_parquet(path: Path) -> Iterator[Row]:
    """Raises Unreadable, Invalid where pyarrow is not installed."""
    arrow = library("pyarrow", "tables", "Parquet")
    parquet = library("pyarrow.parquet", "tables", "Parquet")
    with foreign("Parquet"):
        file = parquet.ParquetFile(path)
    with closing(file):
        with foreign("Parquet"):
            schema, count = file.schema_arrow, file.metadata.num_rows
            _names(schema)
        yield from _rows(arrow, file.iter_batches(BATCH), count, "Parquet", schema)


def is_export(path: Path) -> bool:
    """Whether a Parquet file is an export of Sheaf's. What cannot be read, or not here, is none."""
    try:
        parquet = library("pyarrow.parquet", "tables", "Parquet")
        with foreign("Parquet"):
            return WRITTEN in (parquet.read_schema(path).metadata or {})
    except RequestError:
        return False


def read_arrow(path: Path) -> Iterator[Row]:
    """Raises Unreadable, Invalid where pyarrow is not installed."""
    arrow = library("pyarrow", "tables", "Arrow")
    # Not mapped: a file that somebody shortens meanwhile would end the process.
    with arrow.OSFile(str(path)) as file:
        begins = file.read(6)
        file.seek(0)
        with foreign("Arrow"):
            if begins == b"ARROW1":
                reader = arrow.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                reader = arrow.ipc.open_stream(file)
                batches = iter(reader)
            _names(reader.schema)
        pieces = (batch.slice(at, BATCH) for batch in batches for at in range(0, batch.num_rows, BATCH))
        yield from _rows(arrow, pieces, 0, "Arrow", reader.schema)


def read_data_set(folder: Path) -> Iterator[Row]:
    """All splits, one after the other. Raises Unreadable, NotFound for a file that it names and that is not there."""
    if (folder / SPLITS).is_file():
        for split in _told(folder / SPLITS, "splits"):
            for row in read_data_set(folder / Path(str(split)).name):
                yield row._replace(part=str(split))
        return
    number = 0
    files = [file.get("filename") for file in _told(folder / STATE, "_data_files") if isinstance(file, dict)]
    for place, name in enumerate(files):
        # Of the folder itself, whatever the name says.
        path = folder / Path(str(name)).name
        if not path.is_file():
            raise NotFound(f"{path} is not there, and {STATE} names it")
        for row in read_arrow(path):
            number += 1
            yield row._replace(number=number, done=place / len(files))


def _told(path: Path, field: str) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())[field]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Unreadable(f"{path.name}: expected an object with {field!r}: {error}") from error
    return found if isinstance(found, list) else []


def _rows(arrow: Any, batches: Iterator[Any], count: int, form: str, schema: Any) -> Iterator[Row]:
    number = 0
    written = [field.name for field in schema if str(field.type).startswith("extension<arrow.json")]
    while True:
        with foreign(form, number + 1):
            try:
                batch = next(batches, None)
            except (arrow.ArrowException, OSError) as error:
                raise Unreadable(_why(error, form, schema), number + 1, "row") from error
            if batch is None:
                return
            batch.validate(full=True)
            batch = _in_microseconds(arrow, batch)
        for i in range(batch.num_rows):
            number += 1
            done = number / count if count else 0.5
            try:
                record = batch.slice(i, 1).to_pylist()[0]
                for name in written:
                    record[name] = None if record[name] is None else json.loads(record[name])
            except (arrow.ArrowException, ValueError, OverflowError) as error:
                yield Row(number, Unreadable(f"a value that cannot be read: {said(error)}"), done)
                continue
            yield Row(number, record, done)


def _why(error: Exception, form: str, schema: Any) -> str:
    why = f"not {form}, or not whole: {said(error)}"
    if _SPANNED in str(error):
        lists = [field.name for field in schema if "list" in str(field.type)]
        why += (
            f". DuckDB writes lists of fixed size so where a row has none ({', '.join(lists)}): cast them there to "
            "lists of any, such as ::FLOAT[], before they are written"
        )
    return why


def _names(schema: Any) -> None:
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise Invalid(f"more than one column is called {name!r}")


def _in_microseconds(arrow: Any, batch: Any) -> Any:
    """Python's dates know no nanoseconds."""
    for i, field in enumerate(batch.schema):
        kind = field.type
        if arrow.types.is_timestamp(kind) and kind.unit == "ns":
            cast = batch.column(i).cast(arrow.timestamp("us", kind.tz), safe=False)
        elif arrow.types.is_duration(kind) and kind.unit == "ns":
            cast = batch.column(i).cast(arrow.duration("us"), safe=False)
        elif arrow.types.is_time64(kind) and kind.unit == "ns":
            cast = batch.column(i).cast(arrow.time64("us"), safe=False)
        else:
            continue
        batch = batch.set_column(i, field.name, cast)
    return batch
