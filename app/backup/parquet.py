"""An export as Parquet: documents -> row groups -> bytes, a few mebibytes at a time.

Columns: `id`, `title`, then what is included: `text`, `metadata` (JSON, for keys and types of values differ from one
document to the next), `vector` (list<float32>) or `vectors` (list<list<float32>>), `sparse_vector` (a struct of two
lists), `values` (list<list<float32>>). The file says that Sheaf wrote it, so that reading it gives the same documents
(``app.sources.records.arrow``).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence, Set
from typing import Any, Final

import numpy as np

from app.collection.layers import vector_field
from app.collection.spec import CollectionSpec
from app.errors import Invalid
from app.sources.extras import library
from app.sources.records.arrow import WRITTEN
from app.types import Document

GROUP_BYTES: Final = 4 * 2**20
GROUP: Final = 4_096
"""Documents of a row group at most; it ends with the first that reaches either bound."""
COMPRESSION: Final = "zstd"


def parquet(batches: Iterable[list[Document]], spec: CollectionSpec, include: Set[str]) -> Generator[bytes, None, None]:
    """The file's bytes in pieces, none of them empty. batches: documents with what is included of them.

    Raises Invalid at once where pyarrow is not installed, and whatever ``batches`` does.
    """
    if spec.turns is not None:
        raise Invalid("Parquet has no column for turns: export NDJSON, which keeps them")
    arrow = library("pyarrow", "tables", "Parquet", "written")
    file = library("pyarrow.parquet", "tables", "Parquet", "written")
    return _pieces(arrow, file, batches, _schema(arrow, spec, include))


def _pieces(arrow: Any, parquet: Any, batches: Iterable[list[Document]], schema: Any) -> Generator[bytes, None, None]:
    sink = _Sink()
    writer = parquet.ParquetWriter(sink, schema, compression=COMPRESSION, use_dictionary=False)
    group, size = list[Document](), 0
    for batch in batches:
        group += batch
        size += sum(map(_size, batch))
        if size >= GROUP_BYTES or len(group) >= GROUP:
            writer.write_table(_table(arrow, group, schema))
            group, size = [], 0
            yield sink.taken()
    if group:
        writer.write_table(_table(arrow, group, schema))
    writer.close()
    yield sink.taken()


class _Sink:
    """A file that is only written to, and whose bytes are taken away."""

    closed = False

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, piece: Any) -> int:
        self._written += piece
        return len(memoryview(piece))

    def taken(self) -> bytes:
        found = bytes(self._written)
        self._written.clear()
        return found

    def flush(self) -> None:
        """There is nothing to do: the bytes are there."""

    def close(self) -> None:
        self.closed = True


def _schema(arrow: Any, spec: CollectionSpec, include: Set[str]) -> Any:
    numbers = arrow.list_(arrow.float32())
    fields = [("id", arrow.string()), ("title", arrow.string())]
    if "text" in include:
        fields.append(("text", arrow.string()))
    if "metadata" in include:
        fields.append(("metadata", arrow.json_()))
    if "vectors" in include and spec.model is None:
        name = vector_field(spec)
        fields.append((name, numbers if name == "vector" else arrow.list_(numbers)))
    if "vectors" in include and spec.given_sparse:
        fields.append(("sparse_vector", arrow.struct([("indices", arrow.list_(arrow.int32())), ("values", numbers)])))
    if "values" in include and spec.values is not None:
        fields.append(("values", arrow.list_(numbers)))
    return arrow.schema(fields, metadata={WRITTEN: b"1"})


def _table(arrow: Any, documents: Sequence[Document], schema: Any) -> Any:
    columns: dict[str, Any] = {"id": [one.id for one in documents], "title": [one.title for one in documents]}
    if "text" in schema.names:
        columns["text"] = [one.text for one in documents]
    if "metadata" in schema.names:
        columns["metadata"] = [json.dumps(one.metadata, ensure_ascii=False) for one in documents]
    if "sparse_vector" in schema.names:
        columns["sparse_vector"] = [
            None if one.sparse is None else {"indices": one.sparse.indices, "values": one.sparse.values}
            for one in documents
        ]
    if "values" in schema.names:
        columns["values"] = [None if one.values is None else list(one.values) for one in documents]
    made = {name: arrow.array(values, schema.field(name).type) for name, values in columns.items()}
    matrices = [one.vectors for one in documents if one.vectors is not None]
    for name in {"vector", "vectors"}.intersection(schema.names):
        assert len(matrices) == len(documents), "each document of a collection of callers' vectors has some"
        # Without an object of Python for each number.
        dim = matrices[0].shape[1]
        flat = np.concatenate([matrix.ravel() for matrix in matrices])
        rows = arrow.ListArray.from_arrays(np.arange(0, len(flat) + 1, dim, dtype=np.int32), flat)
        ends = np.cumsum([0, *map(len, matrices)], dtype=np.int32)
        made[name] = rows if name == "vector" else arrow.ListArray.from_arrays(ends, rows)
    return arrow.table([made[name] for name in schema.names], schema=schema)


def _size(document: Document) -> int:
    return document.nbytes + sum(
        one.nbytes if isinstance(one, np.ndarray) else 4 * one.size
        for one in (document.vectors, document.sparse, document.values)
        if one is not None
    )
