"""What a collection is asked to be, decided at its creation and stored with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.codes.choose import code_for
from app.codes.protocol import Code
from app.encoders.protocol import Fingerprint
from app.errors import Invalid
from app.store.layout import check_name
from app.types import MAX_DIM, MAX_TOKEN_POOLING, Kind, Precision, Similarity


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """One collection's fixed properties.

    model: the encoder's name among the operator's, or None where callers bring their vectors. similarity: cosine
    normalises every vector, of documents and queries. keep_vectors: whether callers' own vectors are also kept as they
    came, in float32, in a file that no query reads. precision: of the stored token vectors that queries read
    (app.codes); float16 holds no vectors of unbounded length (inner_product). Dense vectors are float32. token_pooling:
    a document of t token vectors is stored as t / token_pooling means of like ones (token_pooling.py); 1: as they are.
    own_axes: 8-bit codes are not of rotated axes; so it is in collections of format 2, which do not say.
    """

    name: str
    model: str | None
    kind: Kind
    dim: int
    similarity: Similarity = "cosine"
    keep_vectors: bool = True
    precision: Precision = "float16"
    token_pooling: int = 1
    own_axes: bool = True

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 1 <= self.dim <= MAX_DIM:
            raise Invalid.at("/encoder/dim", f"expected 1 to {MAX_DIM:,} dimensions, got {self.dim:,}")
        if self.kind == "dense" and self.precision not in ("float16", "float32"):
            raise Invalid.at("/precision", f"{self.precision} is a code of token vectors; dense vectors are float32")
        if self.precision == "float16" and self.similarity == "inner_product":
            raise Invalid.at(
                "/precision", "float16 holds only vectors of length 1 (cosine); inner_product needs another"
            )

        if not 1 <= self.token_pooling <= MAX_TOKEN_POOLING:
            raise Invalid.at("/token_pooling", f"expected 1 to {MAX_TOKEN_POOLING}, got {self.token_pooling}")
        if self.kind == "dense" and self.token_pooling != 1:
            raise Invalid.at("/token_pooling", "pools token vectors; a dense collection has none")

    @property
    def code(self) -> Code:
        """How token vectors are kept."""
        return code_for(self.precision, self.dim, own_axes=self.own_axes)

    @property
    def encoded_dtype(self) -> np.dtype[Any]:
        """Of stored fixed-dimensional encodings: half precision where vectors have length 1, unless all is float32."""
        exact = self.precision == "float32" or self.similarity == "inner_product"
        return np.dtype(np.float32 if exact else np.float16)

    @property
    def keeps_raw(self) -> bool:
        """Whether callers' vectors are kept beside the stored ones."""
        return self.model is None and self.keep_vectors

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fingerprint_to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    return {"model": fingerprint.model, "weights": fingerprint.weights, "details": dict(fingerprint.details)}


def fingerprint_from_json(value: dict[str, Any]) -> Fingerprint:
    return Fingerprint(value["model"], value["weights"], value["details"])
