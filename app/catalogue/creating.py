"""The specification of a new collection, held to the encoders that there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Required, TypedDict, Unpack

from app.codes.choose import default_precision
from app.collection.spec import (
    FINGERPRINT,
    ONE,
    SPARSE_FINGERPRINT,
    WORDS,
    CollectionSpec,
    EncoderSpec,
    LexicalSpec,
    PassageSpec,
    SparseSpec,
    ValueSpec,
    VectorSpec,
)
from app.encoders.protocol import Encoder, Fingerprint, MatryoshkaEncoder, NetworkEncoder, SparseEncoder, several
from app.encoders.registry import Encoders
from app.encoders.turns import TurnsSpec
from app.errors import Invalid
from app.metadata.declared import Declared
from app.scoring.similarities.measures import NONE, Options
from app.types import Kind, Pooling, Precision, SimilarityName, Weights


class Choices(TypedDict, total=False):
    """What is decided of a new collection. dim: required without a model, else the model's. precision: None for what
    suits the dimensions. passages: how texts are split; None: as is best for the encoder, and not at all without one.
    sparse: None for no sparse vectors. options: of the similarity. fusion: as of a specification, but sides that weigh
    nothing may be left out.
    declared: the types of metadata fields. turns: how conversations are read; None: there are none.
    segments_per_second: as of a specification."""

    model: Required[str | None]
    kind: Required[Kind]
    dim: int | None
    similarity: SimilarityName
    options: Options
    keep_vectors: bool
    precision: Precision | None
    token_pooling: Pooling
    passages: PassageSpec | None
    lexical: LexicalSpec | None
    sparse: SparseSpec | None
    values: ValueSpec | None
    fusion: Weights | Literal["reciprocal_rank"] | None
    declared: Declared
    turns: TurnsSpec | None
    segments_per_second: float | None


def specified(
    encoders: Encoders, name: str, **choices: Unpack[Choices]
) -> tuple[CollectionSpec, dict[str, Fingerprint]]:
    """The specification, and the encoders that make its vectors, by the record that keeps the fingerprint of each.

    Raises Invalid, EncoderError.
    """
    model, kind, passages, sparse = choices["model"], choices["kind"], choices.get("passages"), choices.get("sparse")
    dim, made_by = choices.get("dim"), dict[str, Fingerprint]()
    similarity, precision = choices.get("similarity", "cosine"), choices.get("precision")
    encoder = encoder_of(encoders, model, kind, dim, passages)
    if encoder is not None:
        if isinstance(encoder, NetworkEncoder) and similarity != "inner_product":
            raise Invalid.at(
                "/similarity",
                f"the networks that {model!r} makes of queries take its vectors as they come: expected inner_product, "
                f"got {similarity}",
            )
        dim, passages = encoder.dim, passages or (PassageSpec() if choices.get("turns") is None else ONE)
        made_by[FINGERPRINT] = encoder.fingerprint
    if sparse is not None and sparse.model is not None:
        made_by[SPARSE_FINGERPRINT] = sparse_encoder_of(encoders, sparse.model).fingerprint
    assert dim is not None, "callers' vectors have dimensions"
    if kind == "dense" and precision not in (None, "float32"):
        raise Invalid.at("/precision", f"{precision} is of token vectors; dense vectors are float32")
    if precision is None:
        precision = "float32" if kind != "multi_vector" else default_precision(dim, similarity)
    keep, pooling = choices.get("keep_vectors", True), choices.get("token_pooling", 1)
    spec = CollectionSpec(
        name=name,
        encoder=EncoderSpec(model=model, kind=kind, dim=dim),
        similarity=similarity,
        options=choices.get("options", NONE),
        vectors=VectorSpec(precision=precision, token_pooling=pooling, keep=keep),
        passages=passages or ONE,
        lexical=choices.get("lexical", WORDS),
        sparse=sparse,
        turns=choices.get("turns"),
        segments_per_second=choices.get("segments_per_second"),
        values=choices.get("values"),
    )
    fusion = choices.get("fusion")
    if fusion is not None:
        whole = fusion if isinstance(fusion, str) else {**dict.fromkeys(spec.sides, 0.0), **fusion}
        spec = replace(spec, fusion=whole)
    return spec, made_by


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
    encoder = encoders.get(model, kind, dim)
    if dim not in (None, encoder.dim):
        dims = encoder.dims if isinstance(encoder, MatryoshkaEncoder) else (encoder.dim,)
        raise Invalid.at("/encoder/dim", f"the model {model!r} has {several(dims)} dimensions, got {dim}")
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
