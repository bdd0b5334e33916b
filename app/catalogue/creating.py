"""The specification of a new collection, held to the encoders that there are."""

from __future__ import annotations

from app.collection.spec import PassageSpec
from app.encoders.protocol import Encoder, SparseEncoder
from app.encoders.registry import Encoders
from app.errors import Invalid
from app.types import Kind


def encoder_of(
    encoders: Encoders, model: str | None, kind: Kind, dim: int | None, passages: PassageSpec | None
) -> Encoder | None:
    """The encoder, opened; None where callers bring their vectors, whose dimensions are given then.

    Raises Invalid for what it does not make or read, EncoderError.
    """
    if model is None:
        if dim is None:
            raise Invalid.at("/encoder/dim", "expected the dimensions of the vectors that you will bring")
        return None
    if encoders.is_sparse(model):
        raise Invalid.at("/encoder/model", f"{model!r} is a sparse encoder; name it in sparse")
    if not encoders.kinds(model):
        raise Invalid.at("/encoder/model", f"{model!r} is a cross encoder, which makes no vectors: a search names it")
    if kind not in encoders.kinds(model):
        made = ", ".join(encoders.kinds(model))
        raise Invalid.at("/encoder/kind", f"the model {model!r} makes {made} vectors")
    encoder = encoders.get(model, kind)
    if dim not in (None, encoder.dim):
        raise Invalid.at("/encoder/dim", f"the model {model!r} has {encoder.dim} dimensions, got {dim}")
    size = 0 if passages is None else passages.size or 0
    if encoder.room is not None and size > encoder.room:
        reads = f"the {encoder.room:,} tokens that the model {model!r} reads of a text"
        raise Invalid.at("/passages/size", f"expected at most {reads}, got {size:,}")
    return encoder


def sparse_encoder_of(encoders: Encoders, model: str) -> SparseEncoder:
    """The sparse encoder, opened. Raises Invalid for a name of none, EncoderError."""
    able = [name for name in encoders.names() if encoders.is_sparse(name)]
    if model not in able:
        said = f"the sparse encoders here are {', '.join(able)}" if able else "this server has no sparse encoder"
        raise Invalid.at("/sparse/model", f"{said}; got {model!r}. Null is for sparse vectors that callers bring")
    return encoders.sparse_encoder(model)
