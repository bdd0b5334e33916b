"""Approximate search: vectors in lists around centroids, of which a query reads the most promising (`ivf_f16`).

Vectors are float16 as in `flat_f16` and are not coded against their centroid, so that a vector's score is the same
in both kinds and only the choice of lists is approximate. Searches widen until enough allowed rows are found, in the
end to all lists.

A vector belongs to the centroid of largest inner product, as a query reads them; k-means normalises the centroids
(spherical), without which the long ones would draw everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np

from app.errors import Damaged
from app.types import F32, I64, Mask
from app.vector_index import content as layout
from app.vector_index.flat import Flat
from app.vector_index.protocol import Candidates
from app.vector_index.ranking import Selector, checked, ranked

SEED = 1_234
ITERATIONS = 10
"""Of k-means."""
SAMPLE_PER_LIST = 40
"""Vectors that k-means sees for each list; faiss warns below 39."""
SAMPLE_BYTES = 512 * 2**20
"""Float32 bytes of that sample at most; fewer lists are made where it would not suffice."""
LISTS_PER_ROOT = 2.0
"""Lists for each square root of size: the time to rank centroids and the time to read lists then grow alike."""
PROBES = 192
"""Lists that a search of breadth 1 reads. A number and not a share: as size grows, so do the lists, and what is near a
query stays in about as many of them (recall@100 of means of token vectors at 128: .996 of 10,000, .982 of 100,000)."""
CHUNK_BYTES = 64 * 2**20


class Ivf:
    """An inverted file over float16 vectors. Made by ``build`` or ``load``."""

    name = "ivf_f16"

    def __init__(self, index: Any, exponent: int) -> None:
        self.dim, self.size, self.exponent = int(index.d), int(index.ntotal), exponent
        self._index = index

    @classmethod
    def build(cls, chunks: Iterable[F32], size: int, dim: int) -> Ivf:
        """See ``app.vector_index.build``."""
        staged = Flat.build("flat_f16", chunks, size, dim)
        sample_size = min(size, SAMPLE_BYTES // (4 * dim))
        lists = max(1, min(int(LISTS_PER_ROOT * size**0.5), sample_size // SAMPLE_PER_LIST))
        index = _empty(dim, lists)
        if size:
            index.train(_sample(staged, min(sample_size, lists * SAMPLE_PER_LIST)))
            step = max(1, CHUNK_BYTES // (4 * dim))
            for start in range(0, size, step):
                index.add(staged.rows(start, start + step))
        else:
            index.quantizer.add(np.zeros((1, dim), np.float32))
            index.is_trained = True
        return cls(index, staged.exponent)

    @classmethod
    def load(cls, header: layout.Header, content: layout.Buffer) -> Ivf:
        """See ``app.vector_index.load``; copies, since faiss writes the lists without regard to alignment."""
        data = np.frombuffer(content, np.uint8)[header.start :]
        if header.length < header.size * 2 * header.dim:
            raise Damaged(f"{header.length} bytes cannot hold {header.size} vectors; rebuild the index")
        try:
            source = faiss.ZeroCopyIOReader(faiss.swig_ptr(data), len(data))
            index = faiss.read_index(faiss.BufferedIOReader(source, 2**20))
        except RuntimeError as error:
            raise Damaged(f"faiss cannot read the vector index: {error}") from error
        if (
            not isinstance(index, faiss.IndexIVFScalarQuantizer)
            or index.sq.qtype != faiss.ScalarQuantizer.QT_fp16
            or index.metric_type != faiss.METRIC_INNER_PRODUCT
            or (index.d, index.ntotal, index.quantizer.d) != (header.dim, header.size, header.dim)
            or index.invlists.nlist != index.quantizer.ntotal
            or sum(map(index.invlists.list_size, range(index.nlist))) != header.size
        ):
            raise Damaged("the vector index is not what its header says; rebuild it from the documents")
        return cls(index, header.exponent)

    def search(self, queries: F32, k: int, *, allowed: Mask | None = None, breadth: float = 1.0) -> Candidates:
        """See ``VectorIndex.search``. ``breadth`` multiplies the number of lists read.

        A filter spreads the best allowed rows over more lists, so that number also grows as the allowed share shrinks,
        which costs nothing: reading a list takes the time of its allowed rows.
        """
        queries = checked(queries, self.dim, "queries")
        selector = Selector(allowed, self.size)
        lists = int(self._index.nlist)
        share = selector.count / max(1, self.size)
        probes = min(lists, max(1, int(np.ceil(PROBES * breadth / max(share, 1e-9)))))
        wanted = min(k, selector.count)

        def search(queries: F32, depth: int) -> tuple[F32, I64]:
            scores = np.empty((len(queries), depth), np.float32)
            rows = np.empty((len(queries), depth), np.int64)
            left, reach = np.arange(len(queries)), probes
            while len(left):
                parameters = faiss.SearchParametersIVF(sel=selector.faiss, nprobe=reach, quantizer_params=_SINGLY)
                scores[left], rows[left] = self._index.search(queries[left], depth, params=parameters)
                short = rows[left, wanted - 1] < 0
                left, reach = left[short] if reach < lists else left[:0], min(2 * reach, lists)
            return scores, rows

        return ranked(search, queries, k=k, available=selector.count, exponent=self.exponent)

    def to_bytes(self) -> bytes:
        """See ``VectorIndex.to_bytes``."""
        parts: list[bytes] = []
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(parts.append))
        return layout.write(self.name, dim=self.dim, size=self.size, exponent=self.exponent, parts=parts, aligned=0)


_EVERY = faiss.IDSelectorAll()
_SINGLY = faiss.SearchParameters(sel=_EVERY)
"""Centroids are scored one by one, not in blocks; see ``Selector``."""


def _empty(dim: int, lists: int) -> Any:
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    quantizer.this.disown()
    index.own_fields = True
    index.cp.seed, index.cp.niter, index.cp.spherical = SEED, ITERATIONS, True
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = SAMPLE_PER_LIST, 1
    return index


def _sample(staged: Flat, n: int) -> F32:
    """n rows drawn evenly, (n, dim) float32."""
    rows = np.sort(np.random.default_rng(SEED).choice(staged.size, n, replace=False))
    sample = np.empty((n, staged.dim), np.float32)
    for i, row in enumerate(rows.tolist()):
        sample[i] = staged.rows(row, row + 1)[0]
    return sample
