"""Writing a segment: a new folder of arrays, columns, indexes and a manifest, whole and durable or not there.

Written into a new folder, fsynced, and only then named by a transaction of the database. Under another first stage the
same rows have most files in common: these get a second name (files are never changed) and are not copied.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app import vector_index
from app.collection.first_stage import FirstStage
from app.collection.layers import ENCODED, POOLED, SPARSE, layers, scored
from app.collection.passages import Passages
from app.collection.segment import FLAT, MANIFEST, NEIGHBOURS, OFFSETS, OWNERS, SEQS, Segment, SegmentRecord
from app.collection.spec import CollectionSpec
from app.columns.columns import ColumnsBuilder
from app.lexical.files import write_words
from app.lexical.sequences import Sequences
from app.sparse.files import write_postings
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import (
    ArrayWriter,
    FileRecord,
    FileWriter,
    MappedArray,
    link_file,
    load_array,
    write_file,
)
from app.store.layout import FORMAT
from app.store.system import room
from app.types import F32, I64, Metadata, Owners
from app.vector_index.neighbours import FEWEST
from app.vector_index.protocol import Walked, Written


@dataclass(frozen=True, slots=True)
class Totals:
    """Sizes of a segment's contents, known before the first row is written. values: of each ragged layer, in all."""

    documents: int
    rows: int
    values: Mapping[str, int]

    @classmethod
    def of(cls, owners: Owners, counts: Mapping[str, I64]) -> Totals:
        """counts: of each ragged layer the values of each row."""
        return cls(owners.documents, owners.rows, {name: int(count.sum()) for name, count in counts.items()})

    @classmethod
    def sum(cls, totals: Iterable[Totals]) -> Totals:
        """Of one after the other."""
        documents, rows, values = 0, 0, Counter[str]()
        for one in totals:
            documents, rows = documents + one.documents, rows + one.rows
            values.update(one.values)
        return cls(documents, rows, values)


class Batch(NamedTuple):
    """Documents with sequence numbers that ascend over all batches. words: where they are indexed; of one vocabulary in
    all batches."""

    seqs: I64
    metadata: list[Metadata]
    passages: Passages
    words: Sequences | None = None


def write_segment(
    folder: Directory,
    spec: CollectionSpec,
    stage: FirstStage,
    totals: Totals,
    batches: Iterable[Batch],
    check: Callable[[], None] = lambda: None,
) -> SegmentRecord:
    """A new segment in ``folder``, which is there and empty; durable when this returns. Memory is a batch and an index.
    check: called now and then while indexes are built; raises to give the work up.

    Raises StorageFull; nothing is left then.
    """
    with _made_whole(folder):
        return _write(folder, spec, stage, totals, batches, check)


def write_restaged(
    folder: Directory, spec: CollectionSpec, stage: FirstStage, segment: Segment, encoded: Iterable[F32] | None
) -> SegmentRecord:
    """As ``write_segment``: the same rows under another first stage. Files that do not depend on it are linked, not
    copied.

    encoded: (rows, encoded_dim) of all rows in order, in batches; nothing where the stage has no encoding. None: as
    they are in ``segment``, so that the indexes alone are new.
    """
    with _made_whole(folder):
        anew = segment.staged_files if encoded is not None else {name for name in segment.files if _is_index(name)}
        files: dict[str, FileRecord] = {}
        for name, record in segment.files.items():
            if name not in anew:
                link_file(segment.folder, name, folder)
                files[name] = record
        if stage.encoding is not None and encoded is not None:
            shape = segment.size, stage.encoding.encoded_dim
            with closing(ArrayWriter(folder, f"{ENCODED}.npy", spec.encoded_dtype, shape)) as writer:
                for rows in encoded:
                    writer.write(rows.astype(spec.encoded_dtype))
                files[f"{ENCODED}.npy"] = writer.finish()
        return finish_segment(folder, spec, stage, segment.documents, segment.size, files)


def write_linked(
    folder: Directory, spec: CollectionSpec, stage: FirstStage, segment: Segment, check: Callable[[], None]
) -> SegmentRecord:
    """As ``write_segment``: the same rows and indexes, with the neighbour graph that the stage asks for, made anew."""
    with _made_whole(folder):
        files: dict[str, FileRecord] = {}
        for name, record in segment.files.items():
            if name != NEIGHBOURS:
                link_file(segment.folder, name, folder)
                files[name] = record
        return finish_segment(folder, spec, stage, segment.documents, segment.size, files, check, segment.kinds)


def _is_index(name: str) -> bool:
    return name.endswith(".index")


@contextmanager
def _made_whole(folder: Directory) -> Iterator[None]:
    """A new folder that is durable after the block, or gone. Raises StorageFull."""
    # It is made by who knows that the collection is still the one of its name (``Collection.make_folder``).
    with room():
        try:
            reach("segment.begun")
            yield
            folder.sync()
            folder.parent.sync()
        except BaseException:
            with suppress(OSError):
                folder.parent.remove(folder.name)
            raise


def _write(
    folder: Directory,
    spec: CollectionSpec,
    stage: FirstStage,
    totals: Totals,
    batches: Iterable[Batch],
    check: Callable[[], None],
) -> SegmentRecord:
    declared = layers(spec, stage.encoded_dim)
    columns = ColumnsBuilder()
    with ExitStack() as stack:
        out: dict[str, ArrayWriter] = {}

        def begin(name: str, dtype: Any, *shape: int) -> None:
            out[name] = ArrayWriter(folder, f"{name}.npy", dtype, shape)
            stack.callback(out[name].close)

        begin(SEQS, np.int64, totals.documents)
        ends: dict[str, int] = {}
        if totals.rows > totals.documents:
            begin(OWNERS, np.int64, totals.documents + 1)
            ends[OWNERS] = 0
        for layer in declared:
            width = () if layer.width is None else (layer.width,)
            begin(layer.name, layer.stored, totals.values[layer.name] if layer.ragged else totals.rows, *width)
            if layer.ragged:
                begin(layer.name + OFFSETS, np.int64, totals.rows + 1)
                ends[layer.name + OFFSETS] = 0
        for name in ends:
            out[name].write(np.zeros(1, np.int64))

        def count(name: str, counts: I64) -> None:
            out[name].write(np.cumsum(counts) + ends[name])
            ends[name] += int(counts.sum())

        words: list[Sequences] = []
        for seqs, metadata, passages, own in batches:
            columns.add(metadata)
            if own is not None:
                words.append(own)
            out[SEQS].write(seqs)
            if OWNERS in out:
                count(OWNERS, passages.owners.counts)
            for layer in declared:
                if layer.ragged:
                    ragged = passages.ragged(layer.name)
                    out[layer.name].write(ragged.values)
                    count(layer.name + OFFSETS, ragged.counts)
                else:
                    out[layer.name].write(passages.flat(layer.name).astype(layer.stored, copy=False))
        files = {f"{name}.npy": writer.finish() for name, writer in out.items()}
    files["columns.npz"] = write_file(folder, "columns.npz", columns.finish().to_bytes())
    if spec.lexical is not None:
        files |= write_words(folder, words, len(spec.lexical.fields), spec.lexical.analyser)
    if spec.sparse is not None:
        files |= inverted(folder, files)
    return finish_segment(folder, spec, stage, totals.documents, totals.rows, files, check)


def inverted(folder: Directory, files: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
    """The postings of the sparse vectors that were written there."""
    offsets = f"{SPARSE}{OFFSETS}.npy"
    values = MappedArray(folder, f"{SPARSE}.npy", files[f"{SPARSE}.npy"])
    made = write_postings(folder, values, load_array(folder, offsets, files[offsets]))
    values.let_go()
    return made


def finish_segment(
    folder: Directory,
    spec: CollectionSpec,
    stage: FirstStage,
    documents: int,
    rows: int,
    files: dict[str, FileRecord],
    check: Callable[[], None] = lambda: None,
    kept: Mapping[str, str] | None = None,
) -> SegmentRecord:
    """Adds to a folder of arrays and columns, which ``files`` describe, the indexes over the arrays and the manifest.

    Neither may be there yet, but indexes that are kept (layer -> kind). Raises Invalid for vectors that are not finite.
    """
    indexes: dict[str, str] = dict(kept or {})
    for layer in stage.layers:
        if layer in indexes:
            continue
        array = MappedArray(folder, f"{layer}.npy", files[f"{layer}.npy"])
        walked = layer == POOLED and scored(spec) == POOLED and spec.measure.unit
        kind = vector_index.choose(rows, array.shape[1], stage.index, walked=walked)
        index = None if kind == FLAT else vector_index.build(kind, array.all(), check)
        if isinstance(index, Walked) and not index.holds(array.all()):
            kind = vector_index.choose(rows, array.shape[1])
            index = None if kind == FLAT else vector_index.build(kind, array.all(), check)
        indexes[layer] = kind
        if index is not None:
            files[f"{layer}.index"] = _write_index(folder, f"{layer}.index", index)
    if stage.neighbours and scored(spec) == POOLED and rows > FEWEST:
        files[NEIGHBOURS] = _write_neighbours(folder, stage.neighbours, files[f"{POOLED}.npy"], check)
    manifest = {
        "format": FORMAT,
        "documents": documents,
        "passages": rows,
        "precision": spec.precision,
        "word_fields": 0 if spec.lexical is None else len(spec.lexical.fields),
        "layers": [layer.to_json() for layer in layers(spec, stage.encoded_dim)],
        "first_stage": stage.to_json(),
        "indexes": indexes,
        "files": {name: record.to_json() for name, record in files.items()},
    }
    content = json.dumps(manifest, indent=1).encode()
    write_file(folder, MANIFEST, content)
    return SegmentRecord(folder.name, rows, zlib.crc32(content))


def _write_neighbours(folder: Directory, links: int, vectors: FileRecord, check: Callable[[], None]) -> FileRecord:
    array = MappedArray(folder, f"{POOLED}.npy", vectors)
    found = vector_index.linked(array.all(), links, check)
    with closing(ArrayWriter(folder, NEIGHBOURS, np.int32, found.shape)) as writer:
        writer.write(found)
        return writer.finish()


def _write_index(folder: Directory, name: str, index: Written) -> FileRecord:
    out = FileWriter(folder, name)
    try:
        index.write(out.write)
        return out.finish()
    finally:
        out.close()
