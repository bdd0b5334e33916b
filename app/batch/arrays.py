"""Many searches by vectors at once, as arrays: what is asked, what is found, and both as bytes without JSON.

Two forms: NumPy's .npy (NEP 1), and Arrow's stream, where pyarrow is installed. Of .npy the header alone is parsed, and
held to the bytes that there are before an array is made of them; nothing is unpickled.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.batch.messages import check_message
from app.collection.view import Reached
from app.errors import Invalid, MalformedBody
from app.filters import Filter
from app.schema.notices import Notice
from app.sources.extras import foreign, library
from app.sources.protocol import Unreadable
from app.types import F32, F64, MAX_DIM, Room, TokenVectors

NPY: Final = "application/x-npy"
ARROW: Final = "application/vnd.apache.arrow.stream"
FORMS: Final = (NPY, ARROW)
"""Content types."""


@dataclass(frozen=True, slots=True)
class Many:
    """The questions. vectors: (n, dim) of a dense collection, (n, q, dim) of another, float32. k, filter,
    candidates, exact: of each, as a ``Query`` has them. values: whether what hits carry is asked for."""

    vectors: F32
    k: int = 10
    filter: Filter | None = None
    candidates: int | None = None
    exact: bool = False
    values: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """The answers, best first: (n, m) each, m the smaller of k and how many documents match, which is the same for all.
    ids: in UTF-8, as wide as the longest. scores: as a hit has them. values: what they carry, flat, hit after hit, and
    counts of each (n, m); None where it was not asked for. reached: how many segments are asked, where not all are."""

    ids: NDArray[np.bytes_]
    scores: F64
    generation: int
    took_ms: float
    stages: Mapping[str, float]
    warnings: list[Notice] = field(default_factory=list)
    values: TokenVectors | None = None
    reached: Reached | None = None

    def taken(self, media: str) -> int:
        """Bytes of all hits in this form, its header aside: as .npy each has a place for the values of the largest."""
        a_hit = self.ids.itemsize + self.scores.itemsize + (0 if media == NPY else 4)
        if self.values is None:
            return self.scores.size * a_hit
        if media == NPY:
            most = int(self.values.counts.max(initial=0))
            return self.scores.size * (a_hit + 4 + 4 * most * self.values.dim)
        return self.scores.size * (a_hit + 4) + self.values.values.nbytes


def read_queries(content: bytes | bytearray, media: str) -> F32:
    """The array of a body of this content type; it may share the body's memory. Raises MalformedBody, Invalid."""
    found = _of_npy(content) if media == NPY else _of_arrow(content)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, np.float32)


def _check(kind: np.dtype[Any], shape: Sequence[int]) -> None:
    """Raises Invalid for what is no array of queries."""
    if kind.kind != "f" or kind.itemsize > 8:
        raise Invalid.at("", f"expected numbers of float32, float16 or float64, got {str(kind)[:200]}")
    if len(shape) not in (2, 3) or not all(shape) or shape[-1] > MAX_DIM:
        got = ", ".join(f"{size:,}" for size in shape[:4])
        raise Invalid.at(
            "",
            "expected an array (queries, dim), or (queries, vectors, dim) of token vectors, with at most "
            f"{MAX_DIM:,} dimensions, got ({got}{', ...' if len(shape) > 4 else ''})",
        )


def _of_npy(content: bytes | bytearray) -> NDArray[Any]:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        parse = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, by_columns, kind = parse(file)
    except Exception as error:
        # Of a stranger's header its parser raises whatever it comes upon: errors of tokens, of numbers, of depth.
        raise MalformedBody(
            f"expected a .npy file of version 1.0 or 2.0: {' '.join(str(error).split())[:200]}"
        ) from error
    # Before anything is computed or told of them: numbers from outside may have thousands of digits.
    if not all(0 <= size <= len(content) for size in shape):
        raise MalformedBody(
            f"expected sizes of 0 to {len(content):,}, the bytes of the file, in the shape of its header"
        )
    if kind.hasobject:
        raise MalformedBody("expected numbers, got Python's objects, which are not unpickled")
    _check(kind, shape)
    wanted, there = math.prod(shape) * kind.itemsize, len(content) - file.tell()
    if there != wanted:
        raise MalformedBody(f"expected {wanted:,} bytes of {kind} for the shape {shape} of its header, got {there:,}")
    flat = np.frombuffer(content, kind, offset=file.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")


def _of_arrow(content: bytes | bytearray) -> NDArray[Any]:
    arrow = library("pyarrow", "tables", "Arrow")
    try:
        with foreign("an Arrow stream"):
            buffer = arrow.py_buffer(content)
            for message in arrow.ipc.MessageReader.open_stream(buffer):
                check_message(message.type, bytes(message.metadata))
            stream = arrow.ipc.open_stream(buffer)
            columns = [name for name in stream.schema.names if name in ("vector", "vectors")] or stream.schema.names
            if len(columns) != 1:
                raise Invalid.at(
                    "", f"expected one column, `vector` or `vectors`, got {', '.join(stream.schema.names)}"
                )
            # Before its rows are read: of other types there may be more of them than bytes.
            inner = stream.schema.field(columns[0]).type
            while arrow.types.is_list(inner) or (arrow.types.is_fixed_size_list(inner) and inner.list_size):
                inner = inner.value_type
            if not arrow.types.is_floating(inner):
                raise Invalid.at(
                    "", f"expected numbers of float32, float16 or float64, in lists, got {str(inner)[:200]}"
                )
            table = stream.read_all()
            table.validate(full=True)
            column = table.column(columns[0])
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            shape, values = [len(column)], column
            while not arrow.types.is_floating(values.type):
                lengths = set(values.value_lengths().unique().to_pylist())
                if len(lengths) != 1 or None in lengths:
                    raise Invalid.at("", "expected lists of one length, none of them null")
                (length,) = lengths
                shape.append(length)
                values = values.flatten()
            if values.null_count:
                raise Invalid.at("", "expected numbers, none of them null")
            found = np.asarray(values.to_numpy(zero_copy_only=False))
    except Unreadable as error:
        raise MalformedBody(error.message) from error
    _check(found.dtype, shape)
    return found.reshape(shape)


def written(table: Table, media: str, most: int) -> bytes:
    """As .npy: an array (n, m) of records, `id` (UTF-8) and `score`, with values `count` and `values` (as many as the
    most, zeros after the count). As Arrow: a row a hit, `query`, `id`, `score`, `values` (lists of lists). most: bytes
    that it may hold. Raises AnswerTooLarge before anything is made of it."""
    if table.taken(media) > most:
        raise Room(most).full()
    if media == NPY:
        columns: dict[str, NDArray[Any]] = {"id": table.ids, "score": table.scores}
        kinds: list[Any] = [(name, values.dtype.newbyteorder("<")) for name, values in columns.items()]
        if table.values is not None:
            counts = table.values.counts
            shape = int(counts.max(initial=0)), table.values.dim
            kinds += [("count", "<i4"), ("values", "<f4", shape)]
            columns["count"] = counts.reshape(table.scores.shape)
        made = np.zeros(table.scores.shape, kinds)
        for name, values in columns.items():
            made[name] = values
        if table.values is not None:
            # A place for each of the most, of which a hit fills its own.
            filled = np.arange(shape[0]) < table.values.counts[:, None]
            made["values"].reshape(-1, *shape)[filled] = table.values.values
        file = io.BytesIO()
        np.lib.format.write_array(file, made, version=(1, 0), allow_pickle=False)
        return file.getvalue()
    arrow = library("pyarrow", "tables", "Arrow", "written")
    queries, hits = table.scores.shape
    fields = {
        "query": arrow.array(np.repeat(np.arange(queries, dtype=np.int32), hits)),
        "id": arrow.array(table.ids.ravel(), arrow.binary()).cast(arrow.string()),
        "score": arrow.array(table.scores.ravel()),
    }
    if table.values is not None:
        flat = arrow.array(np.ascontiguousarray(table.values.values).ravel())
        vectors = arrow.FixedSizeListArray.from_arrays(flat, table.values.dim)
        fields["values"] = arrow.ListArray.from_arrays(table.values.offsets.astype(np.int32), vectors)
    batch = arrow.record_batch(fields)
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())
