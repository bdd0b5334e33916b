"""A vector index: vectors -> candidates by largest inner product. One contract suite over all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from app.types import F32, I64, Mask


class Candidates(NamedTuple):
    """The result of a search, best first. rows: (q, k) int64, -1 where nothing was left. scores: (q, k) float32."""

    rows: I64
    scores: F32


class VectorIndex(Protocol):
    """An immutable index over ``size`` vectors of ``dim`` dimensions; rows are positions 0 to size - 1.

    Searches are safe from several threads at once and repeat exactly.
    """

    @property
    def name(self) -> str:
        """As stored in a manifest, e.g. `ivf_pq2`."""
        ...

    @property
    def dim(self) -> int: ...

    @property
    def size(self) -> int: ...

    def search(self, queries: F32, k: int, *, allowed: Mask | None = None, breadth: float = 1.0) -> Candidates:
        """The k rows of largest inner product with each query, of those that are allowed.

        queries: (q, dim) float32. allowed: (size,) bool, or None for all; it is applied inside the index. Exactly
        min(k, allowed rows) rows are found however selective it is: an approximate index widens its breadth until
        they are. breadth: a factor on the index's own default effort; an exact index ignores it.
        Rows come best first, equal scores by row.
        """
        ...


@runtime_checkable
class Walked(Protocol):
    """An index that may turn out not to find what it holds, which only trying tells."""

    def holds(self, vectors: NDArray[Any]) -> bool:
        """Whether it does. vectors: (size, dim) that it was built from."""
        ...


class Written(VectorIndex, Protocol):
    """An index that has a file."""

    def write(self, write: Callable[[bytes], Any]) -> None:
        """Gives the file's content, in order, in pieces; ``load`` makes an equal index of their sum."""
        ...
