"""Approximate search along a graph of neighbours: HNSW (Malkov and Yashunin, arXiv 1603.09320) over codes of 8 bits.

A search reads some thousand codes, however many there are: it goes from neighbour to neighbour, always on from the best
that it has seen, until the best ``reach`` are no nearer than all that they lead to. Codes have a byte a number, between
the least and the largest that the number has anywhere (`QT_8bit`): a quarter of float32's bytes, and as good, for what
is found is ordered by the vectors themselves (``refined.py``).

Under a filter a walk reaches further, by as much as the filter keeps less, and of the rows that it reaches those that
are allowed are taken, once they are enough. So they are the best that are allowed, as far as the others are the best of
all: a walk that only collects what passes (as faiss's selectors do) is over before it comes to where a filter's rows
are, where these are far from the query (recall .1 of the half that is farthest). Where it would read more codes than
are allowed, the codes of all that are allowed are read one after the other.

Two walks from one vector to another may meet no row in common, so a graph is no list of neighbourhoods: recall is what
``reach`` buys, and is measured (docs/decisions.md). Vectors of very different lengths have hubs among their inner
products, which all walks end in; ``choose`` gives a graph to unit vectors alone.

The file has the header of every index, then how long the two parts of faiss are, the graph, the ranges of the codes,
and the codes. Links are read into memory, for native code follows them wherever they point; codes are read where they
lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged, Invalid
from app.types import F32, I64, Mask
from app.vector_index import content as layout
from app.vector_index.protocol import Candidates
from app.vector_index.ranking import Selector, checked, exponent_of, ranked
from app.vector_index.viewed import viewed
from app.vector_index.walk import asked, keys_of, told, walk

LINKS: Final = 16
"""Neighbours of a row on each level, twice as many on the lowest."""
BUILDING: Final = 100
"""Rows that are looked at for the neighbours of a new one."""
STEPS: Final = 16
"""Codes that a walk reads for each row that it reaches; one costs what it costs in its turn, for both lie all over
memory."""
SPARE: Final = 0.25
"""The share by which more rows are reached under a filter than should hold those that are wanted, so that most walks
are the last one; less where nearly all pass, as where a few documents are gone."""
TRIED: Final = 100
"""The reach of a walk that is tried."""
PROBED: Final = 32
"""Rows whose nearest ones are looked for to know whether a graph holds."""
HELD: Final = 0.9
CHUNK_BYTES: Final = 64 * 2**20
ADDED: Final = 2_048
"""Rows that are added at a time: about a second's work."""
_PARTS = struct.Struct("<qq")


def bytes_a_row(dims: int) -> int:
    """Of a row: its code, and its links on all levels, each level with a ``LINKS``-th of the rows of the one below."""
    return dims + 4 * (2 * LINKS + LINKS // (LINKS - 1))


@dataclass(frozen=True, slots=True)
class _Arrays:
    """What walks read, where it lies in faiss's memory (``app.vector_index.walk``). codes: their address. least,
    widths: (dim,), of what a number's codes stand for."""

    codes: int
    links: NDArray[np.int32]
    offsets: I64
    starts: I64
    entry: int
    least: F32
    widths: F32

    @classmethod
    def of(cls, hnsw: Any, codes: Any) -> _Arrays:
        """Of a graph of at least one row."""
        size, entry = int(codes.ntotal), int(hnsw.entry_point)
        levels = int(hnsw.levels.at(entry))
        offsets = faiss.rev_swig_ptr(hnsw.offsets.data(), size + 1).view(np.int64)
        starts = np.array([0, *(LINKS * (level + 2) for level in range(levels))])
        address = faiss.rev_swig_ptr(codes.codes.data(), size * int(codes.d)).ctypes.data
        least, widths = faiss.vector_to_array(codes.sq.trained).reshape(2, -1)
        return cls(address, _links(hnsw), offsets, starts, entry, least, widths)


class Graph:
    """A graph of neighbours over codes. Made by ``build`` or ``load``."""

    name = "hnsw"

    def __init__(self, index: Any, codes: Any, exponent: int, held: object = None) -> None:
        """index: of faiss, without its codes. codes: an ``IndexScalarQuantizer``. held: what the codes lie in."""
        self.exponent = exponent
        self.dim, self.size = int(codes.d), int(codes.ntotal)
        self._index, self._codes, self._held = index, codes, held
        index.own_fields = False
        index.storage = codes
        self._read: _Arrays | None = None

    @classmethod
    def build(cls, name: str, vectors: NDArray[Any], check: Callable[[], None] = lambda: None) -> Graph:
        """See ``app.vector_index.build``. One row after the other on one thread: the same graph each time."""
        faiss.omp_set_num_threads(1)
        size, dim = vectors.shape
        least, largest = _ranges(vectors)
        exponent = exponent_of(np.stack([least, largest])) or 0
        index, codes = _empty(dim)
        codes.train(np.ldexp(np.stack([least, largest]), -exponent))
        made = cls(index, codes, exponent)
        for piece in _pieces(vectors, ADDED):
            check()
            index.add(np.ldexp(piece, -exponent))
        made.size = size
        return made

    @classmethod
    def load(cls, header: layout.Header, content: layout.Buffer) -> Graph:
        """See ``app.vector_index.load``; the codes stay where they lie."""
        data = np.frombuffer(content, np.uint8)[header.start :]
        codes_length = header.size * header.dim
        if len(data) < _PARTS.size:
            raise _another()
        links_length, ranges_length = _PARTS.unpack_from(data.data)
        if min(links_length, ranges_length) < 0 or _PARTS.size + links_length + ranges_length + codes_length != len(
            data
        ):
            raise _another()
        links, ranges, rows = np.split(data[_PARTS.size :], np.cumsum([links_length, ranges_length]))
        index, codes = _read(links), _read(ranges)
        if (
            type(index) is not faiss.IndexHNSW
            or type(codes) is not faiss.IndexScalarQuantizer
            or codes.sq.qtype != faiss.ScalarQuantizer.QT_8bit
            or {index.metric_type, codes.metric_type} != {faiss.METRIC_INNER_PRODUCT}
            or (index.d, index.ntotal, codes.d, codes.ntotal) != (header.dim, header.size, header.dim, 0)
            or codes.code_size != header.dim
        ):
            raise _another()
        _check_links(index.hnsw, header.size)
        codes.codes = viewed(rows)
        codes.ntotal = header.size
        return cls(index, codes, header.exponent, held=rows)

    def search(self, queries: F32, k: int, *, allowed: Mask | None = None, breadth: float = 1.0) -> Candidates:
        """See ``VectorIndex.search``. A walk reaches k rows, times ``breadth`` (1 at least), by as much further as a
        filter keeps less."""
        queries = checked(queries, self.dim, "queries")
        selector = Selector(allowed, self.size)
        if selector.count == self.size:
            allowed = None

        def reaching(depth: int) -> float:
            reach = depth * max(1.0, breadth)
            if allowed is not None:
                kept = max(1, selector.count) / self.size
                reach *= (1 + min(SPARE, 1 - kept)) / kept
            return reach

        def together(queries: F32, depth: int) -> tuple[F32, I64]:
            reach = reaching(depth)
            if reach * STEPS >= selector.count:
                return np.zeros((len(queries), depth), np.float32), np.full((len(queries), depth), -1)
            if allowed is None:
                return self._walk(queries, depth, int(reach))
            scores, rows = self._walk(queries, int(reach), int(reach))
            first = np.argsort(~((rows >= 0) & allowed[rows]), axis=1, kind="stable")[:, :depth]
            scores, rows = np.take_along_axis(scores, first, 1), np.take_along_axis(rows, first, 1)
            return scores, np.where(allowed[rows], rows, -1)

        def search(query: F32, depth: int) -> tuple[F32, I64]:
            reach = reaching(depth)
            while reach * STEPS < selector.count:
                scores, rows = self._walk(query, depth if allowed is None else int(reach), int(reach))
                passed = rows[0] >= 0 if allowed is None else (rows[0] >= 0) & allowed[rows[0]]
                if np.count_nonzero(passed) >= depth:
                    return scores[:, passed][:, :depth], rows[:, passed][:, :depth]
                reach *= 2
            rows = np.arange(self.size) if allowed is None else np.flatnonzero(allowed).astype(np.int64)
            return self._scan(query, depth, rows)

        return ranked(search, queries, k=k, available=selector.count, exponent=self.exponent, together=together)

    def holds(self, vectors: NDArray[Any]) -> bool:
        """Whether walks find what there is: of the ten best of some rows, as the codes have them, nine on average.
        Among a great many equal vectors, say, they may not. vectors: those that it was built from."""
        rows = np.sort(np.random.default_rng(0).choice(self.size, min(PROBED, self.size), replace=False))
        found = wanted = 0
        for row in rows.tolist():
            query = np.asarray(vectors[row : row + 1], np.float32)
            # Equal ones are as good.
            cut = self.search(query, 10, breadth=float(self.size)).scores[0]
            scaled = np.ldexp(query, -self.exponent)
            walked = np.ldexp(self._walk(scaled, 10, TRIED)[0][0], 2 * self.exponent)
            found, wanted = (
                found + min(10, int(np.count_nonzero(walked >= cut[-1]))),
                wanted + int(np.isfinite(cut).sum()),
            )
        return found >= HELD * wanted

    def _walk(self, queries: F32, depth: int, reach: int) -> tuple[F32, I64]:
        """The best rows that a walk from each query meets, (q, depth): of the ``reach`` nearest nearly all. Walks are
        the same whichever others are made beside them."""
        there = self._arrays()
        weights, divisors, added = asked(queries, there.least, there.widths)
        keys, _ = walk(
            there.codes,
            self.size,
            there.links,
            there.offsets,
            there.starts,
            there.entry,
            weights,
            depth,
            max(depth, reach),
        )
        return told(keys, divisors, added)

    def _scan(self, query: F32, depth: int, rows: I64) -> tuple[F32, I64]:
        """The best of some rows, depth of them at least: (1, depth)."""
        there = self._arrays()
        weights, divisors, added = asked(query, there.least, there.widths)
        keys = keys_of(there.codes, rows, weights[0])
        keys = np.sort(np.partition(keys, len(keys) - depth)[len(keys) - depth :])[::-1]
        return told(keys[None], divisors, added)

    def _arrays(self) -> _Arrays:
        if self._read is None:
            self._read = _Arrays.of(self._index.hnsw, self._codes)
        return self._read

    def write(self, write: Callable[[bytes], Any]) -> None:
        """See ``VectorIndex.write``."""
        _, ranges = _empty(self.dim)
        ranges.sq.trained, ranges.is_trained = self._codes.sq.trained, True
        parts = [
            faiss.serialize_index(self._index, faiss.IO_FLAG_SKIP_STORAGE).tobytes(),
            faiss.serialize_index(ranges).tobytes(),
        ]
        length = _PARTS.size + sum(map(len, parts)) + self.size * self.dim
        layout.write_header(write, self.name, dim=self.dim, size=self.size, exponent=self.exponent, length=length)
        write(_PARTS.pack(*map(len, parts)))
        for part in parts:
            write(part)
        rows = np.zeros(0, np.uint8)
        if self.size:
            rows = faiss.rev_swig_ptr(self._codes.codes.data(), self.size * self.dim)
        for start in range(0, len(rows), CHUNK_BYTES):
            write(rows[start : start + CHUNK_BYTES].tobytes())


def _empty(dim: int) -> tuple[Any, Any]:
    """A graph and codes, of nothing."""
    index = faiss.IndexHNSW(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILDING
    codes = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    return index, codes


def _read(content: NDArray[np.uint8]) -> Any:
    """What faiss wrote. Copied, for it is written without regard to alignment."""
    try:
        source = faiss.ZeroCopyIOReader(faiss.swig_ptr(content), len(content))
        return faiss.read_index(faiss.BufferedIOReader(source, 2**20), faiss.IO_FLAG_SKIP_STORAGE)
    except RuntimeError as error:
        raise Damaged(f"faiss cannot read the vector index: {error}") from error


def _check_links(hnsw: Any, size: int) -> None:
    """Raises Damaged unless every link is of a row that there is: native code follows it without a look."""
    levels, offsets = faiss.vector_to_array(hnsw.levels), faiss.vector_to_array(hnsw.offsets)
    links = _links(hnsw)
    if (
        len(levels) != size
        or len(offsets) != size + 1
        or (size and (levels.min() < 1 or not 0 <= hnsw.entry_point < size))
        or (np.diff(offsets.astype(np.int64)) < 0).any()
        or int(offsets[-1]) != len(links)
        or (len(links) and (links.min() < -1 or links.max() >= size))
    ):
        raise _another()


def _links(hnsw: Any) -> NDArray[np.int32]:
    found = hnsw.neighbors
    size = found.size()
    return faiss.rev_swig_ptr(found.data(), size) if size else np.zeros(0, np.int32)


def _another() -> Damaged:
    return Damaged("the vector index is not what its header says; rebuild it from the documents")


def _ranges(vectors: NDArray[Any]) -> tuple[F32, F32]:
    """(dim,) each: the least and the largest of each number. Raises Invalid for a value that is not finite."""
    dim = vectors.shape[1]
    least, largest = np.zeros(dim, np.float32), np.zeros(dim, np.float32)
    for number, piece in enumerate(_pieces(vectors)):
        low, high = piece.min(axis=0), piece.max(axis=0)
        least, largest = (low, high) if not number else (np.minimum(least, low), np.maximum(largest, high))
    return least, largest


def _pieces(vectors: NDArray[Any], most: int = 2**31) -> Iterator[F32]:
    rows = min(most, max(1, CHUNK_BYTES // (4 * vectors.shape[1])))
    for start in range(0, len(vectors), rows):
        piece = np.asarray(vectors[start : start + rows], np.float32)
        if not np.isfinite(piece).all():
            raise Invalid("vectors hold a value that is not finite")
        yield piece
