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

from app.errors import Invalid, NotFound
from app.sources.extras import library
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row

BATCH: Final = 256
"""Rows in memory at a time."""
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
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"not Parquet, or not whole: {_said(error)}") from error
    with closing(file):
        _names(file.schema_arrow)
        batches = file.iter_batches(BATCH)
        yield from _rows(arrow, batches, file.metadata.num_rows, "Parquet", file.schema_arrow)


def read_arrow(path: Path) -> Iterator[Row]:
    """Raises Unreadable, Invalid where pyarrow is not installed."""
    arrow = library("pyarrow", "tables", "Arrow")
    # Not mapped: a file that somebody shortens meanwhile would end the process.
    with arrow.OSFile(str(path)) as file:
        try:
            reader = arrow.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        except arrow.ArrowInvalid:
            file.seek(0)
            try:
                reader = arrow.ipc.open_stream(file)
            except (arrow.ArrowException, OSError) as error:
                raise Unreadable(f"not Arrow, or not whole: {_said(error)}") from error
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
    while True:
        try:
            batch = next(batches, None)
            if batch is not None:
                batch.validate(full=True)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise Unreadable(_why(error, form, schema), number + 1, "row") from error
        if batch is None:
            return
        batch = _in_microseconds(arrow, batch)
        for i in range(batch.num_rows):
            number += 1
            done = number / count if count else 0.5
            try:
                yield Row(number, batch.slice(i, 1).to_pylist()[0], done)
            except (arrow.ArrowException, ValueError, OverflowError) as error:
                yield Row(number, Unreadable(f"a value that cannot be read: {_said(error)}"), done)


def _why(error: Exception, form: str, schema: Any) -> str:
    said = f"not {form}, or not whole: {_said(error)}"
    if _SPANNED in str(error):
        fixed = [field.name for field in schema if "fixed_size_list" in str(field.type)]
        said += (
            f". DuckDB writes columns of fixed size so where a row has no value ({', '.join(fixed)}): cast them "
            "there to lists, such as ::FLOAT[], before they are written"
        )
    return said


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


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
