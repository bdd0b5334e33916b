"""What an uploaded archive holds, made fit for native code.

A checksum says that a file is what its sender wrote, and the sender may be anyone. So of what he sent no vector index
is read: faiss trusts the counts that it finds in one. Indexes are made anew from the arrays, as a sealing makes them.
And the arrays, over which compiled code computes, have to have the shapes and the types that the collection's
specification gives them, with offsets that stay inside. NumPy, safetensors and JSON parse the rest without trusting it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from app.collection.chunks import ChunkStore
from app.collection.columns import Columns
from app.collection.database import Database
from app.collection.files import MappedArray, load_array, read_verified, sync_folder
from app.collection.first_stage import FirstStage, Source
from app.collection.segment import MANIFEST, Segment, SegmentRecord, finish_segment
from app.collection.spec import CollectionSpec
from app.errors import BadArchive
from app.types import I64

INDEX: Final = ".index"
_COLUMNS: Final = "columns.npz"
_PIECE: Final = 2**22
"""Numbers that are looked at in one step."""


def reindex(folder: Path, record: SegmentRecord, spec: CollectionSpec, stage: FirstStage) -> SegmentRecord:
    """The segment in ``folder`` with indexes and a manifest of our own making; the files that came for them are gone.

    stage: of the collection's segments. Durable when this returns. Raises BadArchive, Damaged, Invalid, StorageFull.
    """
    for path in folder.glob(f"*{INDEX}"):
        path.unlink()
    segment = Segment(folder, record)
    files = {name: written for name, written in segment.files.items() if not name.endswith(INDEX)}
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
    lengths: dict[str, int] = {}
    for name, (dtype, shape) in shapes.items():
        array = MappedArray(folder / f"{name}.npy", files[f"{name}.npy"])
        _hold(f"{name}.npy of {folder.name}", array.all(), dtype, shape)
        if name in ("pooled", "encoded"):
            _hold_finite(folder, array)
        lengths[name] = array.shape[0]
        array.let_go()
    for values, offsets in (("tokens", "offsets"), ("raw", "raw_offsets")):
        if values in shapes:
            _hold_offsets(folder.name, load_array(folder / f"{offsets}.npy", files[f"{offsets}.npy"]), lengths[values])
    with zipfile.ZipFile(folder / _COLUMNS) as packed:
        # Nothing unpacks to more than was sent.
        if sum(one.file_size for one in packed.infolist()) > files[_COLUMNS].size:
            raise _wrong(folder, _COLUMNS)
    if Columns.from_bytes(read_verified(folder / _COLUMNS, files[_COLUMNS])).size != n:
        raise _wrong(folder, _COLUMNS)
    (folder / MANIFEST).unlink()
    made = finish_segment(folder, spec, stage, n, files)
    sync_folder(folder)
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


def check_tail(database: Database, folder: Path, spec: CollectionSpec, stage: FirstStage) -> None:
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
            if passages.encoded is not None and stage.encoding is not None:
                _hold(at, passages.encoded, np.float32, (n, stage.encoding.encoded_dim))
            for ragged, dtype, width in (
                (passages.tokens, spec.code.dtype, spec.code.width),
                (passages.raw, np.dtype(np.float32), spec.dim),
            ):
                if ragged is not None:
                    _hold(at, ragged.values, dtype, (None, width))
                    _hold(at, ragged.offsets, np.int64, (n + 1,))
                    _hold_offsets(at, ragged.offsets, len(ragged.values))


def _hold(what: str, array: NDArray[Any], dtype: Any, shape: tuple[int | None, ...]) -> None:
    fits = len(array.shape) == len(shape) and all(w in (None, f) for w, f in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype:
        raise BadArchive(f"{what} has {array.shape} {array.dtype}, which is not what its collection has")


def _hold_offsets(what: str, offsets: I64, length: int) -> None:
    """Ascending from 0 to ``length``, and nothing is empty."""
    if offsets[0] != 0 or offsets[-1] != length or not (offsets[1:] > offsets[:-1]).all():
        raise BadArchive(f"{what} has offsets that lead nowhere")


def _hold_finite(folder: Path, array: MappedArray) -> None:
    if not all(np.isfinite(piece).all() for piece in _pieces(array)):
        raise _wrong(folder, "vector that is not finite")


def _pieces(array: MappedArray) -> Iterator[NDArray[Any]]:
    step = max(1, _PIECE // max(1, array.shape[1]))
    for start in range(0, array.shape[0], step):
        yield array.rows(start, min(start + step, array.shape[0]))


def _wrong(folder: Path, what: str) -> BadArchive:
    return BadArchive(f"segment {folder.name} of the archive has a {what} that no collection has")
