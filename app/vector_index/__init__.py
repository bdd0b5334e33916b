"""Vectors -> candidates: which vectors have the largest inner product with a query.

Useful for: the first stage of a search. Not useful for: final scores; candidates are rescored from the vectors
themselves. This package is the only place that imports faiss, and importing it does not: a kind is imported when one
is built or loaded.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import Invalid
from app.types import F32
from app.vector_index.choose import choose
from app.vector_index.content import Buffer, read_header
from app.vector_index.protocol import Candidates, VectorIndex

__all__ = ["NAMES", "Candidates", "VectorIndex", "build", "choose", "load", "set_threads"]

NAMES = ("flat_f32", "flat_f16", "ivf_f16")
"""The kinds of index, as manifests store them."""


def build(name: str, chunks: Iterable[F32], size: int, dim: int) -> VectorIndex:
    """An index of kind ``name`` over ``size`` vectors of ``dim`` dimensions, that come in ``chunks``.

    chunks: arrays (any number of rows, dim) float32, taken one at a time; rows are numbered as they come. Beside the
    index no more than one chunk is held (`ivf_f16` also holds its vectors twice in float16 while it is built, and a
    bounded sample). ``size`` may be 0.

    Raises Invalid for an unknown name, another dim, a value that is not finite, or chunks that do not add up to
    ``size``.
    """
    if name in ("flat_f32", "flat_f16"):
        from app.vector_index.flat import Flat

        return Flat.build(name, chunks, size, dim)
    if name == "ivf_f16":
        from app.vector_index.ivf import Ivf

        return Ivf.build(chunks, size, dim)
    raise Invalid(f"unknown kind of vector index {name!r}; known: {', '.join(NAMES)}")


def load(name: str, content: Buffer, *, size: int | None = None, dim: int | None = None) -> VectorIndex:
    """The index that ``to_bytes`` gave ``content`` of; ``size`` and ``dim``, where given, are what it must have.

    content: bytes, a memory map, any contiguous buffer, whose checksum the caller has verified. A flat index reads it
    in place and keeps it, so it must stay unchanged; nothing is copied, and loading takes no time or memory.

    Raises Damaged when it is not a whole index of this kind, size and dim.
    """
    if name not in NAMES:
        raise Invalid(f"unknown kind of vector index {name!r}; known: {', '.join(NAMES)}")
    header = read_header(content, name=name, size=size, dim=dim)
    if name == "ivf_f16":
        from app.vector_index.ivf import Ivf

        return Ivf.load(header, content)
    from app.vector_index.flat import Flat

    return Flat.load(header, content)


def set_threads(n: int) -> None:
    """How many threads faiss may use for what is called from this thread, and from this thread alone.

    OpenMP keeps the number per calling thread, so each worker sets its own. A single query is never shared among
    threads, and only waits for them to come and go: 1 is best for it (on a busy machine 0.1 ms instead of 20).
    """
    import faiss

    faiss.omp_set_num_threads(n)
