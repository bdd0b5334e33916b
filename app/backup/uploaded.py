"""The contents of an uploaded archive, made fit for native code.

A checksum says that a file is what its sender wrote, and the sender may be anyone. So of what he sent no vector index
is read: faiss trusts the counts that it finds in one. Indexes are made anew from the arrays, as a sealing makes them.
And the arrays, over which compiled code computes, have to have the shapes and the types that the collection's
specification gives them, with offsets that stay inside, numbers that are finite, and lengths of vectors that are true:
by those it is decided what rounding could put into the top k. Columns are made anew of the documents, too. NumPy,
safetensors and JSON parse the rest without trusting it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.backup.uploaded_documents import derived
from app.codes.grid import GridCode
from app.collection.chunks import ChunkStore
from app.collection.first_stage import FirstStage, sources_of
from app.collection.layers import POOLED, TOKENS, Layer, layers, scored
from app.collection.segment import MANIFEST, OFFSETS, OWNERS, SEQS, Segment, SegmentRecord
from app.collection.segment_writing import finish_segment, inverted
from app.collection.spec import CollectionSpec
from app.compute.rounding import norms_up
from app.errors import BadArchive
from app.lexical.files import FILES as WORD_FILES
from app.lexical.files import write_words
from app.scoring.similarity import MAX_LENGTH
from app.sparse.files import FILES as SPARSE_FILES
from app.sparse.rows import are_vectors
from app.store.database import Database
from app.store.directory import Directory
from app.store.files import MappedArray, load_array, write_file
from app.types import F32, I64, TokenVectors
from app.vector_index.neighbours import MOST_LINKS

INDEX: Final = ".index"
_COLUMNS: Final = "columns.npz"
_MADE: Final = {*WORD_FILES, *SPARSE_FILES}
"""Files that are made anew of what was checked."""
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
    files = {name: written for name, written in segment.files.items() if not name.endswith(INDEX) and name not in _MADE}
    if not segment.files.keys() <= set(folder.list()):
        raise _wrong(folder, "set of files")
    for name in folder.list():
        if name.endswith(INDEX) or name == _COLUMNS or name in _MADE:
            folder.remove(name)
    n, documents = record.passages, segment.documents
    if any(type(number) is not int or number < 0 for number in (n, documents)) or segment.size != n or documents > n:
        raise _wrong(folder, "number of passages")
    at = f"segment {folder.name} of the archive"
    owned = documents < n
    declared = layers(spec, stage.encoded_dim)
    names = [SEQS, *([OWNERS] if owned else [])]
    names += [name for layer in declared for name in (layer.name, *([layer.name + OFFSETS] if layer.ragged else []))]
    if set(files) != {_COLUMNS, *(f"{name}.npy" for name in names)}:
        raise _wrong(folder, "set of files")
    arrays = {name: MappedArray(folder, f"{name}.npy", files[f"{name}.npy"]) for name in names}

    def small(name: str, count: int) -> I64:
        _hold(f"{name}.npy of {at}", arrays[name].all(), np.int64, (count,))
        return load_array(folder, f"{name}.npy", files[f"{name}.npy"])

    seqs = small(SEQS, documents)
    if documents and (seqs[0] < 0 or not (seqs[1:] > seqs[:-1]).all()):
        raise _wrong(folder, "order of documents")
    if owned:
        _hold_offsets(at, small(OWNERS, documents + 1), n)
    read: dict[str, tuple[_Rows, I64 | None]] = {}
    for layer in declared:
        array, offsets = arrays[layer.name], None
        if layer.ragged:
            offsets = small(layer.name + OFFSETS, n + 1)
            _hold_offsets(at, offsets, array.shape[0], empty=layer.empty)
        values = None if layer.ragged else n
        _hold(f"{layer.name}.npy of {at}", array.all(), layer.stored, layer.shape(values))
        read[layer.name] = array.rows, offsets
    _hold_values(at, declared, read, n, spec)
    for array in arrays.values():
        array.let_go()
    columns, words = derived(connection, seqs, spec)
    files[_COLUMNS] = write_file(folder, _COLUMNS, columns.to_bytes())
    if spec.lexical is not None:
        files |= write_words(folder, words, len(spec.lexical.fields), spec.lexical.analyser)
    if spec.sparse is not None:
        files |= inverted(folder, files)
    folder.remove(MANIFEST)
    made = finish_segment(folder, spec, stage, documents, n, files)
    folder.sync()
    return made


def check_stage(stage: FirstStage, spec: CollectionSpec) -> None:
    """Raises BadArchive for one that no collection of this kind has."""
    sources, encoding = stage.sources, stage.encoding
    if (
        not set(sources) <= sources_of(spec)
        or len(set(sources)) != len(sources)
        or ("fde" in sources) != (encoding is not None)
        or (encoding is not None and (scored(spec) != TOKENS or encoding.dim != spec.stored_dim))
        or any(type(number) is not int or number < 1 for number in (stage.width, stage.widening))
        or type(stage.neighbours) is not int
        or not 0 <= stage.neighbours <= (MOST_LINKS if scored(spec) == POOLED and not spec.ordered else 0)
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
    """Holds the vectors of the tail to the layers that the collection has. stage: of the tail.

    Raises BadArchive, Damaged.
    """
    declared = layers(spec, stage.encoded_dim)
    with database.read() as connection:
        for seqs, passages in ChunkStore(folder, spec.name).read(connection, 0):
            at = f"chunk {seqs[0]} of the tail"
            if set(passages.arrays) != {layer.name for layer in declared}:
                raise BadArchive(f"{at} has other vectors than its collection")
            if (starts := passages.owners.starts) is not None:
                _hold(at, starts, np.int64, (len(seqs) + 1,))
                _hold_offsets(at, starts, int(starts[-1]))
            n = passages.owners.rows
            read: dict[str, tuple[_Rows, I64 | None]] = {}
            for layer in declared:
                found = passages.arrays[layer.name]
                values, offsets = (found.values, found.offsets) if isinstance(found, TokenVectors) else (found, None)
                if (offsets is not None) != layer.ragged:
                    raise BadArchive(f"{at} has other vectors than its collection")
                if offsets is not None:
                    _hold(at, offsets, np.int64, (n + 1,))
                    _hold_offsets(at, offsets, len(values), empty=layer.empty)
                _hold(at, values, layer.held, layer.shape(None if layer.ragged else n))
                read[layer.name] = _slices(values), offsets
            _hold_values(at, declared, read, n, spec)


def _hold_values(
    what: str,
    declared: Sequence[Layer],
    read: Mapping[str, tuple[_Rows, I64 | None]],
    n: int,
    spec: CollectionSpec,
) -> None:
    """Holds the numbers of n passages to what each layer's ``check`` says of them. read: rows and offsets of each."""
    norms = next(read[layer.name][0](0, n) for layer in declared if layer.check == "norms")
    for layer in declared:
        rows, offsets = read[layer.name]
        if layer.check == "vectors":
            _hold_vectors(what, rows, n, offsets, norms if layer.name == scored(spec) else None, spec)
        elif layer.check == "spans":
            _hold_spans(what, rows(0, n))
        elif layer.check == "sparse":
            assert offsets is not None, "sparse vectors are runs"
            _hold_sparse(what, rows, offsets)
        elif layer.check == "finite":
            _hold_finite(what, rows, n if offsets is None else int(offsets[-1]), layer.width or 1)


def _hold(what: str, array: NDArray[Any], dtype: Any, shape: tuple[int | None, ...]) -> None:
    fits = len(array.shape) == len(shape) and all(w in (None, f) for w, f in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype:
        raise BadArchive(f"{what} has {array.shape} {array.dtype}, which is not what its collection has")


def _hold_offsets(what: str, offsets: I64, length: int, *, empty: bool = False) -> None:
    """Ascending from 0 to ``length``. empty: whether a run may be."""
    ascends = offsets[1:] >= offsets[:-1] if empty else offsets[1:] > offsets[:-1]
    if offsets[0] != 0 or offsets[-1] != length or not ascends.all():
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
        stop = int(np.searchsorted(offsets, offsets[first] + max(1, _PIECE // spec.stored_dim), side="right")) - 1
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


def _hold_finite(what: str, rows: _Rows, n: int, width: int) -> None:
    """n: values of ``width`` numbers."""
    step = max(1, _PIECE // width)
    if not all(np.isfinite(rows(start, min(start + step, n))).all() for start in range(0, n, step)):
        raise BadArchive(f"{what} has vectors that are not finite")


def _hold_sparse(what: str, rows: _Rows, offsets: I64) -> None:
    """offsets: (n + 1,)."""
    first, n = 0, len(offsets) - 1
    while first < n:
        stop = max(int(np.searchsorted(offsets, offsets[first] + _PIECE, side="right")) - 1, first + 1)
        if not are_vectors(rows(int(offsets[first]), int(offsets[stop])), offsets[first : stop + 1]):
            raise BadArchive(f"{what} has sparse vectors that no write takes")
        first = stop


def _hold_spans(what: str, spans: NDArray[np.int32]) -> None:
    """(n, 2): from, to."""
    if len(spans) and not (spans[:, 0].min() >= 0 and (spans[:, 0] <= spans[:, 1]).all()):
        raise BadArchive(f"{what} has passages that end before they begin")


def _wrong(folder: Directory, what: str) -> BadArchive:
    return BadArchive(f"segment {folder.name} of the archive has a {what} that no collection has")
