"""The postings of a segment as files: the indices and where they begin in one that is read whole, postings mapped."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import numpy as np

from app.sparse.postings import Inverted, invert
from app.store.directory import Directory
from app.store.files import ArrayWriter, FileRecord, MappedArray, Rows, read_verified, write_file
from app.types import I64

INDICES: Final = "sparse.npz"
POSTINGS: Final = "sparse.postings.npy"
FILES: Final = (INDICES, POSTINGS)


def write_postings(folder: Directory, values: Rows, offsets: I64) -> dict[str, FileRecord]:
    """Of the rows of a layer (app.sparse.rows); no file where all are empty."""
    if not int(offsets[-1]):
        return {}
    indices, starts, pairs = invert(values, offsets)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, indices=indices, starts=starts)
    writer = ArrayWriter(folder, POSTINGS, pairs.dtype, pairs.shape)
    try:
        writer.write(pairs)
        record = writer.finish()
    finally:
        writer.close()
    return {INDICES: write_file(folder, INDICES, content.getvalue()), POSTINGS: record}


def read_postings(folder: Directory, files: Mapping[str, FileRecord], rows: int) -> Inverted | None:
    """None where no row has a vector. Raises Damaged."""
    if INDICES not in files:
        return None
    with np.load(io.BytesIO(read_verified(folder, INDICES, files[INDICES])), allow_pickle=False) as small:
        return Inverted(rows, small["indices"], small["starts"], MappedArray(folder, POSTINGS, files[POSTINGS]))
