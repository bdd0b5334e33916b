"""Vectors -> candidates: which vectors have the largest inner product with a query.

Useful for: the first stage of a search. Not useful for: final scores; candidates are rescored from the vectors
themselves. This package is the only place that imports faiss, and importing it does not: a kind is imported when one
is built or loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from app.errors import Invalid
from app.vector_index.choose import choose, codes_pay
from app.vector_index.content import Buffer, read_header
from app.vector_index.protocol import Candidates, VectorIndex, Written

if TYPE_CHECKING:
    from app.vector_index.coded import Coded
    from app.vector_index.graph import Graph

__all__ = [
    "GRAPH",
    "KINDS",
    "NAMES",
    "Buffer",
    "Candidates",
    "VectorIndex",
    "Written",
    "build",
    "choose",
    "codes_pay",
    "graph_bytes",
    "load",
    "scan",
    "set_threads",
]

GRAPH = "hnsw"
NAMES = ("pq1", "pq2", "ivf_pq1", "ivf_pq2", GRAPH)
"""The kinds of index that have a file, as manifests store them; ``coded.py`` and ``graph.py`` say what each is. `flat`
has none."""
KINDS = ("flat", *NAMES)


def graph_bytes(dims: int) -> int:
    """Of a row in a graph over so many numbers: its code and its links."""
    from app.vector_index.graph import bytes_a_row

    return bytes_a_row(dims)


def scan(vectors: NDArray[Any]) -> VectorIndex:
    """An exact index over an array, read where it lies: nothing is copied, and making it takes no time.

    vectors: (n, dim) float16 or float32, contiguous, of finite values; verified by the caller, and never changed.
    """
    from app.vector_index.flat import Flat

    return Flat(vectors)


def build(name: str, vectors: NDArray[Any], check: Callable[[], None] = lambda: None) -> Written:
    """An index of kind ``name`` over the rows of an array, memory-mapped or not.

    vectors: (n, dim) float16 or float32, n may be 0; read in pieces, so that beside the codes no more than a bounded
    sample and one piece are held. check: called now and then, seconds apart; raises to give the work up.

    Raises Invalid for an unknown name or a value that is not finite.
    """
    if name not in NAMES:
        raise Invalid(f"unknown kind of vector index {name!r}; known: {', '.join(NAMES)}")
    return _made_by(name).build(name, vectors, check)


def load(name: str, content: Buffer, *, size: int | None = None, dim: int | None = None) -> Written:
    """The index whose ``write`` gave ``content``; ``size`` and ``dim``, where given, are what it must have.

    content: bytes, a memory map, any contiguous buffer, whose checksum the caller has verified; a graph keeps it.

    Raises Damaged when it is not a whole index of this kind, size and dim.
    """
    if name not in NAMES:
        raise Invalid(f"unknown kind of vector index {name!r}; known: {', '.join(NAMES)}")
    header = read_header(content, name=name, size=size, dim=dim)
    return _made_by(name).load(header, content)


def _made_by(name: str) -> type[Graph] | type[Coded]:
    """The class of this kind."""
    if name == GRAPH:
        from app.vector_index.graph import Graph

        return Graph
    from app.vector_index.coded import Coded

    return Coded


def linked(vectors: NDArray[Any], links: int, check: Callable[[], None] = lambda: None) -> NDArray[Any]:
    """A graph of neighbours; see ``app.vector_index.neighbours``."""
    from app.vector_index import neighbours

    return neighbours.linked(vectors, links, check)


def set_threads(n: int) -> None:
    """How many threads faiss may use for what is called from this thread, and from this thread alone.

    OpenMP keeps the number per calling thread, so each worker sets its own. A single query is never shared among
    threads, and only waits for them to come and go: 1 is best for it (on a busy machine 0.1 ms instead of 20).
    """
    import faiss

    faiss.omp_set_num_threads(n)
