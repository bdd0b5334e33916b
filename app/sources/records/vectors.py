"""Vectors in files of arrays: .npy (NumPy) and .fvecs (TEXMEX).

Beside them lies a file of ids, one a line; without it a vector's id is its number, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from app.errors import Invalid, RequestError
from app.sources.extras import foreign
from app.sources.lines import Lines
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row
from app.types import MAX_DIM


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
