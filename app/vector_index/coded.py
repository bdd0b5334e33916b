"""Approximate search: vectors as small codes, in one list or in lists around centroids.

A name is a code (`pq2`), or a code behind an inverted file (`ivf_pq2`). Alone, every code is read; behind an inverted
file a query reads the most promising lists, and more of them until enough allowed rows are found, in the end all.

`pq1` and `pq2` take half a byte for every four, or every two, numbers: 1 or 2 bits a number (product quantisation),
summed from tables in registers ("fast scan"). Other codes lost to them (``choose.py``).

Alone, a code is faiss's inverted file with one list: its flat fast-scan indexes refuse selectors. The vector itself is
coded, not its difference from the centroid, so a score is the same whatever list a vector is in.

Half a byte is shared among numbers; where their variances differ (those of a learned encoding fall steeply), each group
gets one of every part of the order of variance, so that the half byte goes to the number that varies most. Of 100,000
made passages (scripts/scale_data.py), 256 numbers each, half a byte for four neighbours keeps .65 of the best 400 in a
list of 1,600, shared so .98.

A filter skips codes 32 rows at a time. Scores are of the codes; exact ones are made from the vectors
(``refined.py``).

A vector belongs to the centroid of largest inner product, as a query reads them; k-means normalises the centroids
(spherical), without which the long ones would draw everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged
from app.types import F32, I64, Mask
from app.vector_index import content as layout
from app.vector_index.protocol import Candidates
from app.vector_index.ranking import Selector, checked, exponent_of, ranked

NUMBERS: Final = {"pq1": 4, "pq2": 2}
"""Numbers that share half a byte."""
SEED = 1_234
ITERATIONS = 10
"""Of k-means."""
SAMPLE_PER_LIST = 40
"""Vectors that k-means sees for each list; faiss warns below 39."""
SAMPLE = 20_000
"""Vectors that a code is trained on; those of k-means, where there are more."""
FEWEST = 16
"""Vectors that a code can be trained on; fewer are repeated."""
SAMPLE_BYTES = 512 * 2**20
"""Float32 bytes of a sample at most; fewer lists are made where it would not suffice."""
LISTS_PER_ROOT = 2.0
"""Lists for each square root of size: the time to rank centroids and the time to read lists then grow alike."""
PROBES = 192
"""Lists that a search of breadth 1 reads. A number and not a share: as size grows, so do the lists, and what is near a
query stays in about as many of them (recall@100 of means of token vectors at 128: .996 of 10,000, .982 of 100,000)."""
CHUNK_BYTES = 64 * 2**20
_BLOCK = 32
"""Rows that are scored at a time."""


class Coded:
    """An inverted file, of one list or many. Made by ``build`` or ``load``."""

    def __init__(self, name: str, index: Any, exponent: int) -> None:
        self.name, self.exponent = name, exponent
        self.dim, self.size = int(index.d), int(index.ntotal)
        self._index = index
        self._ivf = faiss.downcast_index(index.index)

    @classmethod
    def build(cls, name: str, vectors: NDArray[Any], check: Callable[[], None] = lambda: None) -> Coded:
        """See ``app.vector_index.build``."""
        # Two threads that train wait for each other actively: beside searches 140 s and 40 s of processor time, where
        # one takes 8 to 20 s, 3.4 of processor time (22,000 x 384).
        faiss.omp_set_num_threads(1)
        size, dim = vectors.shape
        most = max(1, SAMPLE_BYTES // (4 * dim))
        lists = 1
        if name.startswith("ivf_"):
            lists = max(1, min(int(LISTS_PER_ROOT * size**0.5), min(size, most) // SAMPLE_PER_LIST))
        exponent = max((e for e in map(exponent_of, _pieces(vectors)) if e is not None), default=0)
        sample = _sample(vectors, min(size, most, max(SAMPLE, lists * SAMPLE_PER_LIST)), exponent) if size else None
        index = _empty(name, dim, lists, sample)
        if sample is not None:
            index.train(sample)
            for piece in _pieces(vectors):
                check()
                index.add(np.ldexp(piece, -exponent))
        return cls(name, index, exponent)

    @classmethod
    def load(cls, header: layout.Header, content: layout.Buffer) -> Coded:
        """See ``app.vector_index.load``; copies, since faiss writes the lists without regard to alignment."""
        data = np.frombuffer(content, np.uint8)[header.start :]
        # Kept, since it owns the inverted file inside it, which Python holds by a bare pointer.
        empty = _empty(header.name, header.dim, 1)
        expected = faiss.downcast_index(empty.index)
        if header.size and header.length < header.size * expected.code_size:
            raise Damaged(f"{header.length} bytes cannot hold {header.size} codes; rebuild the index")
        try:
            source = faiss.ZeroCopyIOReader(faiss.swig_ptr(data), len(data))
            index = faiss.read_index(faiss.BufferedIOReader(source, 2**20))
        except RuntimeError as error:
            raise Damaged(f"faiss cannot read the vector index: {error}") from error
        if not isinstance(index, faiss.IndexPreTransform) or index.chain.size() != 1:
            raise Damaged("the vector index is not what its header says; rebuild it from the documents")
        found = faiss.downcast_index(index.index)
        if (
            type(found) is not type(expected)
            or index.metric_type != faiss.METRIC_INNER_PRODUCT
            or (index.d, index.ntotal, found.quantizer.d) != (header.dim, header.size, header.dim)
            or found.code_size != expected.code_size
            or (found.invlists.nlist != found.quantizer.ntotal and header.size)
            or sum(map(found.invlists.list_size, range(found.nlist))) != header.size
        ):
            raise Damaged("the vector index is not what its header says; rebuild it from the documents")
        return cls(header.name, index, header.exponent)

    def search(self, queries: F32, k: int, *, allowed: Mask | None = None, breadth: float = 1.0) -> Candidates:
        """See ``VectorIndex.search``. ``breadth`` multiplies the number of lists read.

        A filter spreads the best allowed rows over more lists, so that number also grows as the allowed share shrinks,
        which costs little: reading a list takes about the time of its allowed rows.
        """
        queries = checked(queries, self.dim, "queries")
        selector = Selector(allowed, self.size)
        lists = int(self._ivf.nlist)
        share = selector.count / max(1, self.size)
        probes = min(lists, max(1, int(np.ceil(PROBES * breadth / max(share, 1e-9)))))
        wanted = min(k, selector.count)

        def search(queries: F32, depth: int) -> tuple[F32, I64]:
            scores = np.empty((len(queries), depth), np.float32)
            rows = np.empty((len(queries), depth), np.int64)
            left, reach = np.arange(len(queries)), probes
            while len(left):
                scores[left], rows[left] = self._search(queries[left], depth, selector, reach)
                short = rows[left, wanted - 1] < 0
                if reach == lists:
                    for query in left[short].tolist():
                        _complete(scores[query], rows[query], allowed, self.size)
                left, reach = left[short] if reach < lists else left[:0], min(2 * reach, lists)
            return scores, rows

        return ranked(search, queries, k=k, available=selector.count, exponent=self.exponent)

    def _search(self, queries: F32, depth: int, selector: Selector, reach: int) -> tuple[F32, I64]:
        lists = faiss.SearchParametersIVF(sel=selector.faiss, nprobe=reach, quantizer_params=_SINGLY)
        scores, rows = self._index.search(queries, depth, params=faiss.SearchParametersPreTransform(index_params=lists))
        return scores, rows

    def write(self, write: Callable[[bytes], Any]) -> None:
        """See ``VectorIndex.write``."""
        length = 0

        def count(part: bytes) -> None:
            nonlocal length
            length += len(part)

        # faiss says how long it is only by writing it: once to count, once for good.
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count))
        layout.write_header(write, self.name, dim=self.dim, size=self.size, exponent=self.exponent, length=length)
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(write))


def _complete(scores: F32, rows: I64, allowed: Mask | None, size: int) -> None:
    """Fills the places of one query that all lists left empty, by row: fast scan does not report a row whose every
    number is the lowest of its table. They get the lowest score there is."""
    found = int(np.count_nonzero(rows >= 0))
    missing = np.ones(size, np.bool_) if allowed is None else allowed.copy()
    missing[rows[:found]] = False
    more = np.flatnonzero(missing)[: len(rows) - found]
    rows[found : found + len(more)] = more
    scores[found : found + len(more)] = scores[found - 1] if found else 0.0


_EVERY = faiss.IDSelectorAll()
_SINGLY = faiss.SearchParameters(sel=_EVERY)
"""Centroids are scored one by one, not in blocks; see ``Selector``."""


def _empty(name: str, dim: int, lists: int, sample: F32 | None = None) -> Any:
    """An index without a row. sample: whose variances decide which numbers share a code; by default neighbours do."""
    shared = math.gcd(dim, NUMBERS[name.removeprefix("ivf_")])
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFPQFastScan(quantizer, dim, lists, dim // shared, 4, faiss.METRIC_INNER_PRODUCT, _BLOCK)
    index.by_residual = False
    index.pq.cp.seed, index.pq.cp.min_points_per_centroid = SEED, 1
    # The one list of a code alone has the mean for its centroid, as it is.
    index.cp.seed, index.cp.niter, index.cp.spherical = SEED, ITERATIONS, lists > 1
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = SAMPLE_PER_LIST, 1
    order = np.arange(dim) if sample is None else np.argsort(-sample.var(axis=0), kind="stable")
    ordered = faiss.RemapDimensionsTransform(dim, dim, False)
    faiss.copy_array_to_vector(order.reshape(shared, -1).T.ravel().astype(np.int32), ordered.map)
    whole = faiss.IndexPreTransform(ordered, index)
    for part in (quantizer, ordered, index):
        part.this.disown()
    index.own_fields = whole.own_fields = True
    return whole


def _pieces(vectors: NDArray[Any]) -> Iterator[F32]:
    size, dim = vectors.shape
    step = max(1, CHUNK_BYTES // (4 * dim))
    return (checked(vectors[start : start + step], dim, "vectors") for start in range(0, size, step))


def _sample(vectors: NDArray[Any], n: int, exponent: int) -> F32:
    """n rows drawn evenly, (n, dim) float32."""
    rows = np.sort(np.random.default_rng(SEED).choice(len(vectors), n, replace=False))
    sample = np.ldexp(vectors[rows].astype(np.float32), -exponent)
    return np.resize(sample, (max(n, FEWEST), sample.shape[1]))
