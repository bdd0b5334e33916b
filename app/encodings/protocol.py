"""What a fixed-dimensional encoding is: token vectors -> one vector, so that inner products rank like MaxSim."""

from __future__ import annotations

from typing import Any, Protocol

from app.types import F32, TokenVectors


class Encoding(Protocol):
    """Asymmetric: a query and a document are encoded differently; <query, document> approximates MaxSim.

    The same token vectors give the same bits whatever else is in the batch. Token values may come as float16
    or float32; both are computed in float32.

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

    def encode_documents(self, tokens: TokenVectors) -> F32:
        """(n passages) -> (n, encoded_dim) float32, not normalised."""
        ...

    def encode_queries(self, tokens: TokenVectors) -> F32:
        """(n queries) -> (n, encoded_dim) float32, not normalised."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Everything that makes an equal encoding again, as JSON; it is stored with what was encoded."""
        ...
