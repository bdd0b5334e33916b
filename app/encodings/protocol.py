"""The protocol of a fixed-dimensional encoding: token vectors -> one vector, so that inner products rank like MaxSim.

A ``Recipe`` says how one is made; fitted on a ``Sample`` it gives an ``Encoding``, which travels as JSON and arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from app.compute.workers import Workers
from app.types import F32, I64, TokenVectors

Check = Callable[[], None]
Seen = Callable[[F32], None]
"""Is given what the documents of a sample are encoded as, to the bit, where a fit has computed that on its way."""


class Encoding(Protocol):
    """Asymmetric: a query and a document are encoded differently; <query, document> approximates MaxSim.

    The same token vectors give the same bits whatever else is in the batch. Token values may come as float16
    or float32; both are computed in float32. pooled: the passages' dense vectors, (n, dim) float32; where they are not
    given, an encoding that needs them takes the normalised means of the token vectors.

    Raises Invalid for a passage without vectors, another dim, or a value that is not finite.
    """

    @property
    def dim(self) -> int:
        """Of the vectors that come in."""
        ...

    @property
    def encoded_dim(self) -> int:
        """Of the vectors that come out."""
        ...

    def encode_documents(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        """(n passages) -> (n, encoded_dim) float32, not normalised."""
        ...

    def encode_queries(self, tokens: TokenVectors, pooled: F32 | None = None, workers: Workers | None = None) -> F32:
        """(n queries) -> (n, encoded_dim) float32, not normalised. workers: share what takes long of a query."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All but the arrays that make an equal encoding again, as JSON; it is stored with what was encoded."""
        ...

    def to_bytes(self) -> bytes:
        """The arrays that were fitted, as safetensors; empty where none were. ``load_encoding`` takes both."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample that an encoding is fitted on: documents of a collection, and queries like those that will come.

    document_pooled, query_pooled: their dense vectors, (n, dim) float32; None as in ``Encoding``. keys: (n,) int64,
    what the documents are known by.
    """

    documents: TokenVectors
    queries: TokenVectors
    document_pooled: F32 | None = None
    query_pooled: F32 | None = None
    keys: I64 | None = None


class Recipe(Protocol):
    """How an encoding is made: its kind and parameters. The same recipe and sample give the same encoding."""

    @property
    def learns(self) -> bool:
        """Whether a sample decides anything. An encoding that does not learn can encode before there are documents."""
        ...

    def fit(
        self, sample: Sample, workers: Workers | None = None, check: Check = lambda: None, seen: Seen | None = None
    ) -> Encoding:
        """workers: share the work. check: called between its parts, raises to give it up. seen: may be called once.

        Raises Invalid for a sample that cannot be fitted on.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """``recipe_from_json`` takes it."""
        ...
