"""Vectors in files of arrays: .npy (NumPy), .fvecs (TEXMEX), and HDF5, whose data sets of one length are columns.

HDF5's own library may go round for ever in the texts of a damaged file (seen in 2.0.0, of one with changed bytes): the
build then stands still, and is to be interrupted. The other formats were damaged likewise, and none does so.

Beside .npy and .fvecs lies a file of ids, one a line; without it a vector's id is its number, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.errors import Invalid, RequestError
from app.sources.extras import foreign, library
from app.sources.fields import VECTORS
from app.sources.lines import Lines
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row
from app.types import MAX_DIM

BATCH: Final = 256
_EMBEDDED: Final = ("embeddings", "embedding", "emb", "train")
"""Names that HDF5's vectors have beside ours."""


def read_npy(path: Path, ids: Path | None = None) -> Iterator[Row]:
    """Of an array (n, dim): a vector a document; (n, tokens, dim): token vectors. Raises Unreadable, Invalid."""
    with foreign(".npy"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.dtype.kind not in "fiu":
        raise Invalid("expected an array of numbers of two or three axes: documents, token vectors of each, dimensions")
    names = None if ids is None else _ids(ids, len(array))
    for i in range(len(array)):
        yield Row(i + 1, {"id": names[i] if names else str(i), "vector": np.array(array[i])}, (i + 1) / len(array))


def read_fvecs(path: Path, ids: Path | None = None) -> Iterator[Row]:
    """Each vector after its number of dimensions. Raises Unreadable."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        dim = int.from_bytes(head, "little", signed=True)
        if not 1 <= dim <= MAX_DIM:
            raise Unreadable(f"not .fvecs: a vector has 1 to {MAX_DIM:,} dimensions, the first says {dim:,}")
        file.seek(0)
        count = -(-size // (4 + 4 * dim))
        names = None if ids is None else _ids(ids, count)
        for i in range(count):
            record = file.read(4 + 4 * dim)
            own = int.from_bytes(record[:4], "little", signed=True)
            if own != dim or len(record) != 4 + 4 * dim:
                why = f"expected {dim:,} dimensions as in the first vector, got {own:,}"
                raise Unreadable(why if own != dim else "not whole: the vector ends before its numbers", i + 1, "row")
            vector = np.frombuffer(record, "<f4", offset=4)
            yield Row(i + 1, {"id": names[i] if names else str(i), "vector": vector}, (i + 1) / count)


def read_hdf5(path: Path, vector: str | None = None) -> Iterator[Row]:
    """vector: the data set of vectors, where it has none of the usual names. Raises Unreadable, Invalid."""
    h5py = library("h5py", "tables", "HDF5")
    with foreign("HDF5"):
        file = h5py.File(path, "r")
    with closing(file):
        columns = _columns(h5py, file)
        known = [name for name in (vector, *VECTORS, *_EMBEDDED) if name in columns]
        main = columns[known[0]] if known else next(iter(columns.values()), None)
        if main is None or (vector is not None and vector not in columns):
            shown = ", ".join(columns) or "none"
            raise Invalid(f"expected a data set of vectors or texts (--vector-field, --text-field); its own: {shown}")
        kept = {name: one for name, one in columns.items() if len(one) == len(main)}
        for start in range(0, len(main), BATCH):
            with foreign("HDF5", start + 1):
                values = {name: _read(h5py, one, start) for name, one in kept.items()}
            for i in range(min(BATCH, len(main) - start)):
                row = {name: _plain(value[i]) for name, value in values.items()}
                if known and known[0] not in VECTORS and vector is None:
                    row["vector"] = row.pop(known[0])
                yield Row(start + i + 1, row, (start + i + 1) / len(main))


def _columns(h5py: Any, file: Any) -> dict[str, Any]:
    """The data sets that may be columns."""
    with foreign("HDF5"):
        return {name: one for name, one in file.items() if isinstance(one, h5py.Dataset) and one.ndim in (1, 2, 3)}


def _read(h5py: Any, column: Any, start: int) -> Any:
    if h5py.check_string_dtype(column.dtype) is not None:
        return column.asstr(errors="strict")[start : start + BATCH]
    return column[start : start + BATCH]


def _plain(value: Any) -> Any:
    """Scalars as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _ids(path: Path, count: int) -> list[str]:
    """Raises Invalid where there are not as many as vectors."""
    found: list[str] = []
    for number, line in Lines(path).entries():
        if isinstance(line, RequestError):
            raise line
        try:
            found.append(line.decode())
        except UnicodeDecodeError as error:
            raise Invalid(f"{path}, line {number}: not UTF-8: {error}") from error
    if len(found) != count:
        raise Invalid(f"{path}: expected {count:,} ids, one a line for each vector, got {len(found):,}")
    return found
