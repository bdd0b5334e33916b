"""Exact search: every allowed vector is scored. `flat_f32` keeps float32, `flat_f16` float16.

Float16 halves the bytes and the time, which is the time to read them. Scores are computed in float32 from what is
stored, each by itself: neither the number of queries, nor the filter, nor the threads change a bit of one.

Vectors are stored times a power of two, chosen so that the largest value of the first chunk is between 1/2 and 1:
float16 ends at 65,504, and a caller's own vectors may not. Only where a later chunk would not fit is it chosen again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged, Invalid
from app.types import F32, Mask
from app.vector_index import content as layout
from app.vector_index.protocol import Candidates
from app.vector_index.ranking import Selector, checked, exponent_of, ranked

HEADROOM = 15
"""Powers of two by which later values may be larger than the first chunk's: float16 holds less than 2**16."""
DTYPES: dict[str, Any] = {"flat_f32": np.float32, "flat_f16": np.float16}


class Flat:
    """All vectors in one array, (size, dim). Made by ``build`` or ``load``."""

    def __init__(self, name: str, index: Any, exponent: int, keep: Any = None) -> None:
        self.name, self.dim, self.size, self.exponent = name, int(index.d), int(index.ntotal), exponent
        self._index = index
        self._keep = keep  # the memory that a loaded index reads in place

    @classmethod
    def build(cls, name: str, chunks: Iterable[F32], size: int, dim: int) -> Flat:
        """See ``app.vector_index.build``."""
        index = _empty(name, dim)
        index.codes.resize(size * index.code_size)
        index.ntotal = size
        stored = _stored(index, DTYPES[name])
        row, exponent = 0, None
        for chunk in chunks:
            chunk = checked(chunk, dim, "vectors")
            if row + len(chunk) > size:
                raise Invalid(f"more vectors came than the {size} announced")
            needed = exponent_of(chunk)
            if needed is not None and (exponent is None or needed > exponent + HEADROOM):
                if exponent is not None:
                    np.ldexp(stored[:row], exponent - needed, out=stored[:row])
                exponent = needed
            stored[row : row + len(chunk)] = np.ldexp(chunk, -(exponent or 0))
            row += len(chunk)
        if row != size:
            raise Invalid(f"{row} vectors came, {size} were announced")
        return cls(name, index, exponent or 0)

    @classmethod
    def load(cls, header: layout.Header, content: layout.Buffer) -> Flat:
        """See ``app.vector_index.load``; the vectors stay in ``content``."""
        data = np.frombuffer(content, np.uint8)[header.start :]
        expected = _empty(header.name, header.dim)
        if header.length != _prefix_bytes(expected) + header.size * expected.code_size:
            raise Damaged(f"{header.length} bytes cannot hold {header.size} vectors; rebuild the index")
        try:
            index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(data), len(data)))
        except RuntimeError as error:
            raise Damaged(f"faiss cannot read the vector index: {error}") from error
        if (
            type(index) is not type(expected)
            or (index.d, index.ntotal, index.code_size) != (header.dim, header.size, expected.code_size)
            or index.metric_type != faiss.METRIC_INNER_PRODUCT
            or index.codes.size() != header.size * expected.code_size
        ):
            raise Damaged("the vector index is not what its header says; rebuild it from the documents")
        return cls(header.name, index, header.exponent, keep=data)

    def search(self, queries: F32, k: int, *, allowed: Mask | None = None, breadth: float = 1.0) -> Candidates:
        """See ``VectorIndex.search``; exact, so ``breadth`` is ignored."""
        queries = checked(queries, self.dim, "queries")
        selector = Selector(allowed, self.size)
        parameters = faiss.SearchParameters(sel=selector.faiss)

        def search(queries: F32, depth: int) -> Any:
            return self._index.search(queries, depth, params=parameters)

        return ranked(search, queries, k=k, available=selector.count, exponent=self.exponent)

    def rows(self, start: int, stop: int) -> F32:
        """Vectors start to stop as they are stored, (n, dim) float32, times 2**-exponent."""
        return np.asarray(_stored(self._index, DTYPES[self.name])[start:stop], np.float32)

    def to_bytes(self) -> bytes:
        """See ``VectorIndex.to_bytes``."""
        parts: list[bytes] = []
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(parts.append))
        aligned = _prefix_bytes(self._index)
        return layout.write(
            self.name, dim=self.dim, size=self.size, exponent=self.exponent, parts=parts, aligned=aligned
        )


def _empty(name: str, dim: int) -> Any:
    if name == "flat_f32":
        return faiss.IndexFlatIP(dim)
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def _stored(index: Any, dtype: Any) -> NDArray[Any]:
    """The vectors where faiss keeps them, (size, dim); a view."""
    if index.ntotal == 0:
        return np.empty((0, index.d), dtype)
    codes = faiss.rev_swig_ptr(index.codes.data(), index.ntotal * index.code_size)
    return codes.view(dtype).reshape(index.ntotal, index.d)  # type: ignore[no-any-return]


def _prefix_bytes(index: Any) -> int:
    """What faiss writes before the vectors; they are the last thing in its file."""
    return 45 if isinstance(index, faiss.IndexFlatIP) else 81
