"""A segment: an immutable folder of files with the vectors, columns and indexes of a run of documents.

Written whole into a new folder, fsynced, and only then named by a transaction of the database; a folder that no
manifest names is deleted at start. Never changed afterwards: documents that die are masked by the snapshot, and their
rows go when the segment is merged. indexes/README.md specifies the files.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import vector_index
from app.codes.choose import code_for
from app.codes.protocol import Code
from app.collection.layers import ENCODED, NORMS, POOLED, RAW, SPANS, SPARSE, TOKENS, VALUES
from app.collection.part import Elsewhere, Flat, Own, Ragged, gathered
from app.collection.passages import Passages
from app.columns.column import Column
from app.columns.columns import Columns
from app.errors import FormatTooNew
from app.filters import Filter, Shape
from app.lexical.files import MAPPED, read_words
from app.lexical.words import SealedWords
from app.metadata.declared import FieldType
from app.metadata.geo import Point
from app.sparse.files import POSTINGS, read_postings
from app.sparse.postings import Inverted
from app.store.directory import Directory
from app.store.faults import reach
from app.store.files import (
    FileRecord,
    InMemory,
    MappedArray,
    Rows,
    damaged,
    expected,
    load_array,
    map_verified,
    read_verified,
)
from app.store.layout import FORMAT, of_this_version
from app.types import F32, F64, I64, Mask, Owners, Precision, TokenVectors
from app.vector_index import GRAPH
from app.vector_index.neighbours import Neighbours
from app.vector_index.protocol import Candidates, VectorIndex
from app.vector_index.refined import Refined, nearest_of, reached

MANIFEST: Final = "manifest.json"
SEQS: Final = "seqs"
"""The sequence number of each document."""
OWNERS: Final = "owners"
"""The first row of each document, and how many rows there are; only where some document owns more than one."""
OFFSETS: Final = ".offsets"
NEIGHBOURS: Final = "neighbours.index"
"""The graph that networks are followed along, an array; only where the first stage asks for one."""
BY_ROWS: Final = frozenset({f"{name}.npy" for name in (POOLED, TOKENS, ENCODED, SPANS, SPARSE, VALUES, RAW)}).union(
    MAPPED, [POSTINGS]
)
"""Files that are mapped, and read by rows wherever they are read."""
FLAT: Final = "flat"
"""The kind of a layer whose vectors are searched where they lie; it has no file of its own."""


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
        if manifest["format"] != FORMAT:
            raise FormatTooNew(f"segment {folder.name} has format {manifest['format']}, this Sheaf reads {FORMAT}")
        with of_this_version(f"segment {folder.name}"):
            self._parse(manifest)

    def _parse(self, manifest: dict[str, Any]) -> None:
        self._files = {name: FileRecord.from_json(value) for name, value in manifest["files"].items()}
        self._layers: dict[str, dict[str, Any]] = {layer["name"]: layer for layer in manifest["layers"]}
        self._indexes: dict[str, str] = manifest["indexes"]
        self._precision: Precision = manifest["precision"]
        self._fields: int = manifest["word_fields"]
        self._stored: dict[str, Flat | Ragged] = {}
        self.own: dict[str, Own] = {}
        self.elsewhere: Elsewhere | None = None
        self.documents: int = manifest["documents"]
        self.size: int = manifest["passages"]

    @classmethod
    def open_all(cls, folder: Directory, record: SegmentRecord) -> Segment:
        """Ready to be searched: every file is there and has its size, and all but the vectors is checked."""
        segment = cls(folder, record)
        _ = segment.seqs, segment.owners, segment._columns, segment._searched, segment.words, segment.sparse
        for layer in segment._layers:
            segment._open(layer)
        return segment

    @classmethod
    def open_outline(cls, folder: Directory, record: SegmentRecord) -> Segment:
        """Ready for all but its vectors, which somebody else searches (``elsewhere``): they are opened where they are
        read all the same."""
        segment = cls(folder, record)
        _ = segment.seqs, segment.owners, segment._columns, segment.words, segment.sparse
        return segment

    @classmethod
    def open_vectors(cls, folder: Directory, record: SegmentRecord) -> Segment:
        """Ready for what is asked of its vectors alone."""
        segment = cls(folder, record)
        _ = segment.owners, segment._searched
        for layer in (POOLED, NORMS, TOKENS):
            if segment.has(layer):
                segment._open(layer)
        return segment

    @cached_property
    def seqs(self) -> I64:
        return self._load(SEQS)

    @cached_property
    def owners(self) -> Owners:
        return Owners(self.documents, self._load(OWNERS) if f"{OWNERS}.npy" in self._files else None)

    @property
    def norms(self) -> F32:
        return self.flat(NORMS).range(0, self.size)

    @cached_property
    def code(self) -> Code:
        return code_for(self._precision, self.flat(POOLED).values.shape[1])

    @cached_property
    def _columns(self) -> Columns:
        return Columns.from_bytes(read_verified(self.folder, "columns.npz", self._files["columns.npz"]))

    @cached_property
    def words(self) -> SealedWords | None:
        return read_words(self.folder, self._files, self._fields)

    @cached_property
    def sparse(self) -> Inverted | None:
        return read_postings(self.folder, self._files, self.size)

    @property
    def is_linked(self) -> bool:
        """Whether it has a neighbour graph."""
        return NEIGHBOURS in self._files

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """Read when it is first walked along."""
        if not self.is_linked:
            return None
        found = MappedArray(self.folder, NEIGHBOURS, self._files[NEIGHBOURS])
        if found.shape[:1] != (self.size,):
            raise damaged(self.folder, NEIGHBOURS, f"it has {len(found.all()):,} rows")
        return Neighbours(found.all())

    @cached_property
    def _searched(self) -> dict[str, VectorIndex | Refined]:
        """The index of each layer that has one."""
        found: dict[str, VectorIndex | Refined] = {}
        for layer, kind in self._indexes.items():
            vectors = self.flat(layer).values
            if kind.startswith(FLAT) and isinstance(vectors, MappedArray) and vectors.comes:
                # What is held on to could not go; made anew it costs nothing.
                continue
            if kind.startswith(FLAT):
                found[layer] = vector_index.scan(vectors.rows(0, self.size))
                continue
            name = f"{layer}.index"
            content = map_verified(self.folder, name, self._files[name])
            index = vector_index.load(kind, content, size=self.size, dim=vectors.shape[1])
            # What tokens score is asked for widely enough as it is.
            further = {} if self.has(TOKENS) else {"reached": partial(reached, kind)}
            found[layer] = Refined(index, self.flat(layer).at, **further)
        return found

    @property
    def kinds(self) -> Mapping[str, str]:
        """Of the index of each layer that candidates are found by."""
        return self._indexes

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """Every file of the folder but the manifest, as it was written."""
        return self._files

    @property
    def staged_files(self) -> frozenset[str]:
        """Of these, those that depend on the first stage: layers that it made, and every index."""
        layers = {f"{name}.npy" for name, layer in self._layers.items() if layer["staged"]}
        return frozenset(layers | {name for name in self._files if name.endswith(".index")})

    @property
    def nbytes(self) -> int:
        """On disk, the cold files of callers' vectors included."""
        return sum(record.size for record in self._files.values())

    @property
    def token_nbytes(self) -> int:
        """Of the token vectors alone, as they are stored."""
        return self._files[f"{TOKENS}.npy"].size if self.has(TOKENS) else 0

    @property
    def loaded(self) -> int:
        """Bytes that are held in memory once it is open: all but arrays that are mapped, and codes of graphs."""
        mapped = {f"{name}.npy" for name, layer in self._layers.items() if not layer["whole"]}.union(
            MAPPED, [POSTINGS, NEIGHBOURS]
        )
        codes = sum(
            self.size * self.flat(layer).values.shape[1] for layer, kind in self._indexes.items() if kind == GRAPH
        )
        return sum(record.size for name, record in self._files.items() if name not in mapped) - codes

    @property
    def outlined(self) -> int:
        """The same of ``open_outline``."""
        searched = sum(record.size for name, record in self._files.items() if name in self.staged_files)
        return max(0, self.loaded - searched)

    def has(self, layer: str) -> bool:
        return layer in self._layers

    def flat(self, layer: str) -> Flat:
        found = self._open(layer)
        assert isinstance(found, Flat), f"{layer} is ragged"
        return found

    def ragged(self, layer: str) -> Ragged:
        found = self._open(layer)
        assert isinstance(found, Ragged), f"{layer} is not ragged"
        return found

    def select(self, condition: Filter, own: Mapping[str, Column]) -> Mask:
        return self._columns.select(condition, own)

    def unfit(self, field: str, kind: FieldType) -> Mask:
        return self._columns.unfit(field, kind)

    def distances(self, field: str, center: Point) -> F64:
        return self._columns.distances(field, center)

    @property
    def fields(self) -> Set[str]:
        return self._columns.keys.keys()

    def shapes(self, field: str) -> Set[Shape]:
        return self._columns.shapes(field)

    def column(self, field: str) -> Column | None:
        return self._columns.column(field)

    def nearest(self, layer: str, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        # FAISS's own threads wait for each other under concurrent searches: 28 ms instead of .4 on a busy machine.
        vector_index.set_threads(1)
        # A layer that the first stage has no use for has no index.
        index = self._searched.get(layer) or vector_index.scan(self.flat(layer).values.rows(0, self.size))
        mask = None if allowed.all() else allowed
        if isinstance(index, Refined):
            return index.search(query, k, allowed=mask, wide=wide)
        found = index.search(query[None], k, allowed=mask)
        keep = found.rows[0] >= 0
        return Candidates(found.rows[0][keep], found.scores[0][keep])

    def nearest_many(self, layer: str, queries: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        vector_index.set_threads(1)
        index = self._searched.get(layer)
        mask = None if allowed.all() else allowed
        if isinstance(index, Refined):
            return index.search_many(queries, k, allowed=mask, wide=wide)
        # The array alone: its best are found by one product of all, and scored as its index scores them.
        values = self.flat(layer).values.rows(0, self.size)
        return nearest_of(queries, values, np.flatnonzero(allowed).astype(np.int64), k)

    def metadata(self, documents: I64) -> None:
        return None

    def passages(self, documents: I64, *, staged: bool = True) -> Passages:
        ragged = [name for name, layer in self._layers.items() if layer["ragged"]]
        flat = [name for name, layer in self._layers.items() if not layer["ragged"] and (staged or not layer["staged"])]
        found = gathered(self, documents, flat, ragged)
        return Passages(
            found.owners,
            {
                name: values
                if isinstance(values, TokenVectors)
                else values.astype(self._layers[name]["held"], copy=False)
                for name, values in found.arrays.items()
            },
        )

    def counts(self, documents: I64) -> dict[str, I64]:
        """Of each ragged layer the values of each row of some documents."""
        rows = self.owners.rows_of(documents)
        return {name: self.ragged(name).counts[rows] for name, layer in self._layers.items() if layer["ragged"]}

    def let_go(self) -> None:
        """Of the pages of its vectors; see ``MappedArray.let_go``."""
        for stored in list(self._stored.values()):
            if isinstance(stored.values, MappedArray):
                stored.values.let_go()

    def delete(self) -> None:
        """Removes the manifest first, so that a stop in the middle leaves nothing that looks like a segment."""
        reach("segment.replaced")
        self.folder.remove(MANIFEST)
        reach("segment.unnamed")
        self.folder.parent.remove(self.folder.name)
        reach("segment.removed")

    def _open(self, layer: str) -> Flat | Ragged:
        """A layer, opened at first use. Two threads may open one at once: the same file twice, and no lock."""
        found = self._stored.get(layer)
        if found is None:
            described = self._layers[layer]
            values: Rows = InMemory(self._load(layer)) if described["whole"] else self._map(layer)
            found = Ragged(values, self._load(layer + OFFSETS)) if described["ragged"] else Flat(values)
            self._stored[layer] = found
        return found

    def _load(self, name: str) -> NDArray[Any]:
        return load_array(self.folder, f"{name}.npy", self._files[f"{name}.npy"])

    def _map(self, name: str) -> MappedArray:
        return MappedArray(self.folder, f"{name}.npy", self._files[f"{name}.npy"])
