"""Writing a segment: a new folder of arrays, columns, indexes and a manifest, whole and durable or not there.

Written into a new folder, fsynced, and only then named by a transaction of the database. Under another first stage the
same rows have most files in common: these get a second name (files are never changed) and are not copied.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app import vector_index
from app.collection.columns import ColumnsBuilder
from app.collection.first_stage import FirstStage, Source
from app.collection.passages import Passages
from app.collection.segment import FLAT, MANIFEST, Segment, SegmentRecord
from app.collection.spec import CollectionSpec
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import ArrayWriter, FileRecord, FileWriter, MappedArray, link_file, write_file
from app.store.layout import FORMAT
from app.store.system import room
from app.types import F32, I64, Metadata


@dataclass(frozen=True, slots=True)
class Totals:
    """What a segment will hold, known before the first row is written. tokens and raw: vectors in all."""

    passages: int
    tokens: int
    raw: int


Batch = tuple[I64, list[Metadata], Passages]
"""Sequence numbers ascending over all batches, with metadata and vectors."""


def write_segment(
    folder: Directory, spec: CollectionSpec, stage: FirstStage, totals: Totals, batches: Iterable[Batch]
) -> SegmentRecord:
    """A new segment in ``folder``, which must not exist; durable when this returns. Memory is a batch and an index.

    Raises StorageFull; nothing is left then.
    """
    with _made_whole(folder):
        return _write(folder, spec, stage, totals, batches)


def write_restaged(
    folder: Directory, spec: CollectionSpec, stage: FirstStage, segment: Segment, encoded: Iterable[F32] | None
) -> SegmentRecord:
    """As ``write_segment``: the same rows under another first stage. What does not depend on it is linked, not copied.

    encoded: (rows, encoded_dim) of all rows in order, in batches; nothing where the stage has no encoding. None: as
    they are in ``segment``, so that the indexes alone are new.
    """
    with _made_whole(folder):
        files: dict[str, FileRecord] = {}
        for name, record in segment.files.items():
            if not name.endswith(".index") and (encoded is None or name != "encoded.npy"):
                link_file(segment.folder, name, folder)
                files[name] = record
        if stage.encoding is not None and encoded is not None:
            shape = segment.size, stage.encoding.encoded_dim
            with closing(ArrayWriter(folder, "encoded.npy", spec.encoded_dtype, shape)) as writer:
                for rows in encoded:
                    writer.write(rows.astype(spec.encoded_dtype))
                files["encoded.npy"] = writer.finish()
        return finish_segment(folder, spec, stage, segment.size, files)


@contextmanager
def _made_whole(folder: Directory) -> Iterator[None]:
    """A new folder that is durable after the block, or gone. Raises StorageFull."""
    with room():
        try:
            folder.make()
            reach("segment.begun")
            yield
            folder.sync()
            folder.parent.sync()
        except BaseException:
            with suppress(OSError):
                folder.parent.remove(folder.name)
            raise


def _write(
    folder: Directory, spec: CollectionSpec, stage: FirstStage, totals: Totals, batches: Iterable[Batch]
) -> SegmentRecord:
    n, dim = totals.passages, spec.dim
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "seqs": (np.int64, (n,)),
        "pooled": (np.float32, (n, dim)),
        "norms": (np.float32, (n,)),
    }
    if spec.kind == "multi_vector":
        shapes["offsets"] = (np.int64, (n + 1,))
        shapes["tokens"] = (spec.code.dtype, (totals.tokens, spec.code.width))
    if stage.encoding is not None:
        shapes["encoded"] = (spec.encoded_dtype, (n, stage.encoding.encoded_dim))
    if spec.keeps_raw:
        shapes["raw_offsets"] = (np.int64, (n + 1,))
        shapes["raw"] = (np.float32, (totals.raw, dim))
    files: dict[str, FileRecord] = {}
    columns = ColumnsBuilder()
    with ExitStack() as stack:
        out = {name: ArrayWriter(folder, f"{name}.npy", *shape) for name, shape in shapes.items()}
        for writer in out.values():
            stack.callback(writer.close)
        ends: dict[str, int] = {name: 0 for name in ("offsets", "raw_offsets") if name in out}
        for name in ends:
            out[name].write(np.zeros(1, np.int64))
        for seqs, rows, passages in batches:
            columns.add(rows)
            out["seqs"].write(seqs)
            out["pooled"].write(passages.pooled)
            out["norms"].write(passages.norms)
            if stage.encoding is not None:
                assert passages.encoded is not None
                out["encoded"].write(passages.encoded.astype(spec.encoded_dtype))
            for values, offsets, ragged in (
                ("tokens", "offsets", passages.tokens),
                ("raw", "raw_offsets", passages.raw),
            ):
                if values in out:
                    assert ragged is not None
                    out[values].write(ragged.values)
                    out[offsets].write(ragged.offsets[1:] + ends[offsets])
                    ends[offsets] += int(ragged.offsets[-1])
        for name, writer in out.items():
            files[f"{name}.npy"] = writer.finish()
    files["columns.npz"] = write_file(folder, "columns.npz", columns.finish().to_bytes())
    return finish_segment(folder, spec, stage, n, files)


def finish_segment(
    folder: Directory, spec: CollectionSpec, stage: FirstStage, passages: int, files: dict[str, FileRecord]
) -> SegmentRecord:
    """Adds to a folder of arrays and columns, which ``files`` describe, the indexes over the arrays and the manifest.

    Neither may be there yet. Raises Invalid for vectors that are not finite.
    """
    indexes: dict[str, str] = {}
    for source in stage.sources:
        array = MappedArray(folder, f"{_VECTORS[source]}.npy", files[f"{_VECTORS[source]}.npy"])
        indexes[source] = vector_index.choose(passages, array.shape[1], stage.index)
        if indexes[source] != FLAT:
            files[f"{source}.index"] = _write_index(folder, f"{source}.index", indexes[source], array)
    manifest = {
        "format": FORMAT,
        "passages": passages,
        "precision": spec.precision,
        "own_axes": spec.own_axes,
        "first_stage": stage.to_json(),
        "indexes": indexes,
        "files": {name: record.to_json() for name, record in files.items()},
    }
    content = json.dumps(manifest, indent=1).encode()
    write_file(folder, MANIFEST, content)
    return SegmentRecord(folder.name, passages, zlib.crc32(content))


_VECTORS: Final[dict[Source, str]] = {"fde": "encoded", "pooled": "pooled"}


def _write_index(folder: Directory, name: str, kind: str, vectors: MappedArray) -> FileRecord:
    out = FileWriter(folder, name)
    try:
        vector_index.build(kind, vectors.all()).write(out.write)
        return out.finish()
    finally:
        out.close()
