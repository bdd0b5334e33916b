"""A segment: an immutable folder of files with the vectors, columns and indexes of a run of documents.

Written whole into a new folder, fsynced, and only then named by a transaction of the database; a folder that no
manifest names is deleted at start. Never changed afterwards: documents that die are masked by the snapshot, and their
rows go when the segment is merged. indexes/README.md specifies the files.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import vector_index
from app.codes.choose import code_for
from app.codes.protocol import Code
from app.collection.columns import Columns
from app.collection.first_stage import Source
from app.collection.passages import Passages, decoded
from app.errors import FormatTooNew
from app.filters import Filter
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import (
    FileRecord,
    MappedArray,
    damaged,
    expected,
    load_array,
    map_verified,
    read_verified,
)
from app.store.layout import FORMAT
from app.types import F32, I64, Mask, Precision, TokenVectors
from app.vector_index.protocol import Candidates, VectorIndex
from app.vector_index.refined import Refined

MANIFEST: Final = "manifest.json"
_COPIES: Final = frozenset({"flat_f16", "flat_f32"})
_MAPPED: Final = frozenset({"pooled.npy", "tokens.npy", "encoded.npy", "raw.npy"})
FLAT: Final = "flat"
"""The kind of a source whose vectors are searched where they lie; it has no file of its own. (Early segments have a
second copy, and call it `flat_f16`: it is not read.)"""


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """How the database names a segment: its folder, its rows, and the CRC-32 of its manifest."""

    name: str
    passages: int
    crc: int


class Segment:
    """A sealed part. ``open_all`` reads and checks small arrays, columns and indexes, and maps the vectors."""

    def __init__(self, folder: Directory, record: SegmentRecord) -> None:
        """Reads the manifest alone; each file is opened at first use. Raises Damaged, SystemFault, FormatTooNew."""
        self.folder, self.record = folder, record
        with expected(folder, MANIFEST):
            content = folder.read(MANIFEST)
        if zlib.crc32(content) != record.crc:
            raise damaged(folder, MANIFEST, "its checksum differs")
        manifest = json.loads(content)
        if manifest["format"] > FORMAT:
            raise FormatTooNew(
                f"segment {folder.name} has format {manifest['format']}, this Sheaf reads up to {FORMAT}"
            )
        self._files = {name: FileRecord.from_json(value) for name, value in manifest["files"].items()}
        self._kinds: dict[Source, str] = manifest["indexes"]
        if manifest["format"] == 1:
            # Its indexes were copies of the vectors, which are searched as well where they lie.
            self._kinds = {source: FLAT if kind in _COPIES else kind for source, kind in self._kinds.items()}
        self._precision: Precision | None = manifest.get("precision")
        self._own_axes: bool = manifest.get("own_axes", True)
        self.size: int = manifest["passages"]

    @classmethod
    def open_all(cls, folder: Directory, record: SegmentRecord) -> Segment:
        """Ready to be searched: every file is there and has its size, and all but the vectors is checked."""
        segment = cls(folder, record)
        _ = segment.seqs, segment.norms, segment._columns, segment._pooled, segment._indexes
        _ = segment._offsets, segment._tokens, segment._encoded, segment._raw_offsets, segment._raw
        return segment

    @cached_property
    def seqs(self) -> I64:
        return self._load("seqs")

    @cached_property
    def norms(self) -> F32:
        return self._load("norms")

    @cached_property
    def _columns(self) -> Columns:
        return Columns.from_bytes(read_verified(self.folder, "columns.npz", self._files["columns.npz"]))

    @cached_property
    def _pooled(self) -> MappedArray:
        return self._map("pooled")

    @cached_property
    def _offsets(self) -> I64 | None:
        return self._load("offsets") if "offsets.npy" in self._files else None

    @cached_property
    def _tokens(self) -> MappedArray | None:
        return self._map("tokens") if "tokens.npy" in self._files else None

    @cached_property
    def _encoded(self) -> MappedArray | None:
        return self._map("encoded") if "encoded.npy" in self._files else None

    @cached_property
    def _raw_offsets(self) -> I64 | None:
        return self._load("raw_offsets") if "raw_offsets.npy" in self._files else None

    @cached_property
    def _raw(self) -> MappedArray | None:
        return self._map("raw") if "raw.npy" in self._files else None

    @cached_property
    def _indexes(self) -> dict[Source, VectorIndex | Refined]:
        found: dict[Source, VectorIndex | Refined] = {}
        for source, kind in self._kinds.items():
            vectors = self._encoded if source == "fde" else self._pooled
            assert vectors is not None
            if kind.startswith(FLAT):
                found[source] = vector_index.scan(vectors.all())
                continue
            name = f"{source}.index"
            content = map_verified(self.folder, name, self._files[name])
            index = vector_index.load(kind, content, size=self.size, dim=vectors.shape[1])
            found[source] = Refined(index, vectors.take)
        return found

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """Every file of the folder but the manifest, as it was written."""
        return self._files

    @property
    def nbytes(self) -> int:
        """On disk, the cold files of callers' vectors included."""
        return sum(record.size for record in self._files.values())

    @property
    def token_nbytes(self) -> int:
        """Of the token vectors alone, as they are stored."""
        return self._files["tokens.npy"].size if "tokens.npy" in self._files else 0

    @property
    def loaded(self) -> int:
        """Bytes that are held in memory once it is open: all but the arrays that are mapped."""
        return sum(record.size for name, record in self._files.items() if name not in _MAPPED)

    def select(self, condition: Filter) -> Mask:
        return self._columns.select(condition)

    def nearest(self, source: Source, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        # FAISS's own threads wait for each other under concurrent searches: 28 ms instead of .4 on a busy machine.
        vector_index.set_threads(1)
        index, mask = self._indexes[source], None if allowed.all() else allowed
        if isinstance(index, Refined):
            return index.search(query, k, allowed=mask, wide=wide)
        found = index.search(query[None], k, allowed=mask)
        keep = found.rows[0] >= 0
        return Candidates(found.rows[0][keep], found.scores[0][keep])

    def pooled(self, start: int, stop: int) -> F32:
        return self._pooled.rows(start, stop)

    def pooled_of(self, rows: I64) -> F32:
        return self._pooled.take(rows)

    @cached_property
    def code(self) -> Code:
        dim = self._pooled.shape[1]
        if self._precision is not None:
            return code_for(self._precision, dim, own_axes=self._own_axes)
        # Format 1 has no codes but these two, and does not name them.
        half = self._tokens is not None and self._tokens.dtype == np.float16
        return code_for("float16" if half else "float32", dim)

    def tokens(self, start: int, stop: int) -> TokenVectors:
        return decoded(self.codes(start, stop), self.code)

    def codes(self, start: int, stop: int) -> TokenVectors:
        assert self._tokens is not None
        assert self._offsets is not None
        first, last = int(self._offsets[start]), int(self._offsets[stop])
        return TokenVectors(self._tokens.rows(first, last), self._offsets[start : stop + 1] - first)

    def codes_of(self, rows: I64) -> TokenVectors:
        assert self._tokens is not None
        assert self._offsets is not None
        return TokenVectors(self._tokens.ranges(self._offsets[rows], self._offsets[rows + 1]), self._offsets)

    def metadata(self, rows: I64) -> None:
        return None

    def passages(self, rows: I64, *, encoded: bool = True) -> Passages:
        return Passages(
            self.pooled_of(rows),
            None if self._tokens is None else self.codes_of(rows).take(rows),
            self.norms[rows],
            self._encoded.take(rows).astype(np.float32) if encoded and self._encoded is not None else None,
            self.raw_of(rows),
        )

    def raw_counts(self, rows: I64) -> I64:
        """Callers' vectors that are kept of each row."""
        return np.zeros(len(rows), np.int64) if self._raw_offsets is None else np.diff(self._raw_offsets)[rows]

    def token_counts(self, rows: I64) -> I64:
        """Token vectors of each row."""
        return np.zeros(len(rows), np.int64) if self._offsets is None else np.diff(self._offsets)[rows]

    def let_go(self) -> None:
        """Of the pages of its vectors; see ``MappedArray.let_go``."""
        for array in (self._pooled, self._tokens, self._encoded, self._raw):
            if array is not None:
                array.let_go()

    def delete(self) -> None:
        """Removes the manifest first, so that a stop in the middle leaves nothing that looks like a segment."""
        reach("segment.replaced")
        self.folder.remove(MANIFEST)
        reach("segment.unnamed")
        self.folder.parent.remove(self.folder.name)
        reach("segment.removed")

    def raw_of(self, rows: I64) -> TokenVectors | None:
        """Callers' vectors of the named rows as they came, a copy; None where none are kept."""
        if self._raw is None or self._raw_offsets is None:
            return None
        values = self._raw.ranges(self._raw_offsets[rows], self._raw_offsets[rows + 1])
        return TokenVectors(values, self._raw_offsets).take(rows)

    def _load(self, name: str) -> NDArray[Any]:
        return load_array(self.folder, f"{name}.npy", self._files[f"{name}.npy"])

    def _map(self, name: str) -> MappedArray:
        return MappedArray(self.folder, f"{name}.npy", self._files[f"{name}.npy"])
