"""What an uploaded archive holds, made fit for native code.

A checksum says that a file is what its sender wrote, and the sender may be anyone. So of what he sent no vector index
is read: faiss trusts the counts that it finds in one. Indexes are made anew from the arrays, as a sealing makes them.
And the arrays, over which compiled code computes, have to have the shapes and the types that the collection's
specification gives them, with offsets that stay inside, numbers that are finite, and lengths of vectors that are true:
by those it is decided what rounding could put into the top k. Columns are made anew of the documents, too. NumPy,
safetensors and JSON parse the rest without trusting it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from app.backup.uploaded_documents import columns_of
from app.codes.grid import GridCode
from app.collection.chunks import ChunkStore
from app.collection.first_stage import FirstStage, Source
from app.collection.passages import MAX_LENGTH
from app.collection.segment import MANIFEST, Segment, SegmentRecord
from app.collection.segment_writing import finish_segment
from app.collection.spec import CollectionSpec
from app.compute.rounding import norms_up
from app.errors import BadArchive
from app.store.database import Database
from app.store.directory import Directory
from app.store.files import MappedArray, load_array, write_file
from app.types import F32, I64

INDEX: Final = ".index"
_COLUMNS: Final = "columns.npz"
_PIECE: Final = 2**22
"""Numbers that are looked at in one step."""
_LONGEST: Final = 2 * MAX_LENGTH
"""Of a stored vector: codes make one a quarter longer at most."""


def reindex(
    folder: Directory, record: SegmentRecord, spec: CollectionSpec, stage: FirstStage, connection: sqlite3.Connection
) -> SegmentRecord:
    """The segment in ``folder`` with columns, indexes and a manifest of our own making; what came for them is gone.

    stage: of the collection's segments. connection: to its documents, which were checked. Durable when this returns.
    Raises BadArchive, Damaged, Invalid, StorageFull.
    """
    segment = Segment(folder, record)
    files = {name: written for name, written in segment.files.items() if not name.endswith(INDEX)}
    for name in folder.list():
        if name.endswith(INDEX) or name == _COLUMNS:
            folder.remove(name)
    n, dim = record.passages, spec.dim
    if type(n) is not int or n < 0 or segment.size != n:
        raise _wrong(folder, "number of passages")
    shapes: dict[str, tuple[Any, tuple[int | None, ...]]] = {
        "seqs": (np.int64, (n,)),
        "pooled": (np.float32, (n, dim)),
        "norms": (np.float32, (n,)),
    }
    if spec.kind == "multi_vector":
        shapes |= {"offsets": (np.int64, (n + 1,)), "tokens": (spec.code.dtype, (None, spec.code.width))}
    if stage.encoding is not None:
        shapes["encoded"] = (spec.encoded_dtype, (n, stage.encoding.encoded_dim))
    if spec.keeps_raw:
        shapes |= {"raw_offsets": (np.int64, (n + 1,)), "raw": (np.float32, (None, dim))}
    if set(files) != {_COLUMNS, *(f"{name}.npy" for name in shapes)}:
        raise _wrong(folder, "set of files")
    at = f"segment {folder.name} of the archive"
    arrays = {name: MappedArray(folder, f"{name}.npy", files[f"{name}.npy"]) for name in shapes}
    for name, (dtype, shape) in shapes.items():
        _hold(f"{name}.npy of {at}", arrays[name].all(), dtype, shape)
    small = {
        name: load_array(folder, f"{name}.npy", files[f"{name}.npy"])
        for name in shapes
        if name in ("seqs", "norms", "offsets", "raw_offsets")
    }
    if n and (small["seqs"][0] < 0 or not (small["seqs"][1:] > small["seqs"][:-1]).all()):
        raise _wrong(folder, "order of rows")
    for values, offsets in (("tokens", "offsets"), ("raw", "raw_offsets")):
        if values in shapes:
            _hold_offsets(at, small[offsets], arrays[values].shape[0])
    _hold_vectors(at, arrays["pooled"].rows, n, None, small["norms"] if spec.kind == "dense" else None, spec)
    if "tokens" in shapes:
        _hold_vectors(at, arrays["tokens"].rows, n, small["offsets"], small["norms"], spec)
    if "raw" in shapes:
        _hold_vectors(at, arrays["raw"].rows, n, small["raw_offsets"], None, spec)
    if "encoded" in shapes:
        _hold_finite(at, arrays["encoded"])
    for array in arrays.values():
        array.let_go()
    files[_COLUMNS] = write_file(folder, _COLUMNS, columns_of(connection, small["seqs"], spec.name).to_bytes())
    folder.remove(MANIFEST)
    made = finish_segment(folder, spec, stage, n, files)
    folder.sync()
    return made


def check_stage(stage: FirstStage, spec: CollectionSpec) -> None:
    """Raises BadArchive for one that no collection of this kind has."""
    sources, encoding = stage.sources, stage.encoding
    if (
        not set(sources) <= set(get_args(Source))
        or len(set(sources)) != len(sources)
        or ("fde" in sources) != (encoding is not None)
        or (encoding is not None and (spec.kind == "dense" or encoding.dim != spec.dim))
        or any(type(number) is not int or number < 1 for number in (stage.width, stage.widening))
    ):
        raise BadArchive("the archive has a first stage that no collection has")


def check_counts(database: Database) -> None:
    """A chunk of the tail has more bytes than passages: said before anything is made of that many.

    Raises BadArchive, Damaged.
    """
    with database.read() as connection:
        if connection.execute("SELECT count(*) FROM tail WHERE NOT count BETWEEN 1 AND size").fetchone() != (0,):
            raise BadArchive("the archive has a tail that no collection has")


def check_tail(database: Database, folder: Directory, spec: CollectionSpec, stage: FirstStage) -> None:
    """Holds the vectors of the tail to the shapes that the collection gives them. stage: of the tail.

    Raises BadArchive, Damaged.
    """
    with database.read() as connection:
        for seqs, passages in ChunkStore(folder, spec.name).read(connection, 0):
            n, at = len(seqs), f"chunk {seqs[0]} of the tail"
            _hold(at, passages.pooled, np.float32, (n, spec.dim))
            _hold(at, passages.norms, np.float32, (n,))
            present = passages.tokens is not None, passages.encoded is not None
            if present != (spec.kind == "multi_vector", stage.encoding is not None):
                raise BadArchive(f"{at} has other vectors than its collection")
            dense = passages.norms if spec.kind == "dense" else None
            _hold_vectors(at, _slices(passages.pooled), n, None, dense, spec)
            if passages.encoded is not None and stage.encoding is not None:
                _hold(at, passages.encoded, np.float32, (n, stage.encoding.encoded_dim))
                if not np.isfinite(passages.encoded).all():
                    raise BadArchive(f"{at} has vectors that are not finite")
            for ragged, dtype, width, norms in (
                (passages.tokens, spec.code.dtype, spec.code.width, passages.norms),
                (passages.raw, np.dtype(np.float32), spec.dim, None),
            ):
                if ragged is not None:
                    _hold(at, ragged.values, dtype, (None, width))
                    _hold(at, ragged.offsets, np.int64, (n + 1,))
                    _hold_offsets(at, ragged.offsets, len(ragged.values))
                    _hold_vectors(at, _slices(ragged.values), n, ragged.offsets, norms, spec)


def _hold(what: str, array: NDArray[Any], dtype: Any, shape: tuple[int | None, ...]) -> None:
    fits = len(array.shape) == len(shape) and all(w in (None, f) for w, f in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype:
        raise BadArchive(f"{what} has {array.shape} {array.dtype}, which is not what its collection has")


def _hold_offsets(what: str, offsets: I64, length: int) -> None:
    """Ascending from 0 to ``length``, and nothing is empty."""
    if offsets[0] != 0 or offsets[-1] != length or not (offsets[1:] > offsets[:-1]).all():
        raise BadArchive(f"{what} has offsets that lead nowhere")


_Rows: TypeAlias = Callable[[int, int], NDArray[Any]]
"""Rows start to stop of an array."""


def _slices(array: NDArray[Any]) -> _Rows:
    return lambda start, stop: array[start:stop]


def _hold_vectors(what: str, rows: _Rows, n: int, offsets: I64 | None, norms: F32 | None, spec: CollectionSpec) -> None:
    """Holds the vectors of n passages to be finite, no longer than stored ones are, and as long as is said of them.

    offsets: (n + 1,), None where each passage has one. norms: (n,), the length of each passage's longest, where it is
    said. Vectors are codes where they are uint8, or else numbers.
    """
    offsets = np.arange(n + 1) if offsets is None else offsets
    first = 0
    while first < n:
        stop = int(np.searchsorted(offsets, offsets[first] + max(1, _PIECE // spec.dim), side="right")) - 1
        stop = max(stop, first + 1)
        found = _lengths(rows(int(offsets[first]), int(offsets[stop])), spec)
        if not (found <= _LONGEST).all():
            raise BadArchive(f"{what} has vectors that are not finite, or longer than any that are stored")
        if norms is not None:
            true, said = np.maximum.reduceat(found, offsets[first:stop] - offsets[first]), norms[first:stop]
            # A little more does no harm, and who rounds in another way is no liar.
            if not ((true <= said) & (said <= 1.01 * true + _TINY)).all():
                raise BadArchive(f"{what} says of vectors that they have another length")
        first = stop


_TINY: Final = 1e-30


def _lengths(rows: NDArray[Any], spec: CollectionSpec) -> F32:
    """Rounded up, (n,); NaN or infinite for what is not finite, and for codes whose scale is below 0."""
    code = spec.code
    if rows.dtype != np.uint8 or not isinstance(code, GridCode):
        return norms_up(rows)
    return np.where(code.scales(rows) >= 0, code.norms(rows), np.float32(np.nan))


def _hold_finite(what: str, array: MappedArray) -> None:
    if not all(np.isfinite(piece).all() for piece in _pieces(array)):
        raise BadArchive(f"{what} has vectors that are not finite")


def _pieces(array: MappedArray) -> Iterator[NDArray[Any]]:
    step = max(1, _PIECE // max(1, array.shape[1]))
    for start in range(0, array.shape[0], step):
        yield array.rows(start, min(start + step, array.shape[0]))


def _wrong(folder: Directory, what: str) -> BadArchive:
    return BadArchive(f"segment {folder.name} of the archive has a {what} that no collection has")
