"""Texts -> vectors for a caller who keeps them himself: in pieces, so that a deadline ends a long request in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from app.compute import deadline
from app.encoders.batches import estimated
from app.encoders.prompts import Task
from app.encoders.protocol import MatryoshkaEncoder, several
from app.encoders.registry import Encoders
from app.errors import AnswerTooLarge, Invalid, NotFound
from app.types import F32, NUMBER_BYTES, Kind

PIECE: Final = 64
"""Texts between two looks at the deadline."""

Wanted: TypeAlias = Literal["pooled", "tokens"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: of each text, float32: its pooled one, (dim,), or its token vectors, (n, dim). tokens: that were read of
    all texts, by the encoder's own tokenizer, prompts and special tokens not counted. truncated: the places of texts
    that were cut."""

    vectors: list[F32]
    tokens: int
    truncated: list[int]


def embed(
    encoders: Encoders,
    model: str,
    texts: Sequence[str],
    task: Task,
    wanted: Wanted,
    dimensions: int | None = None,
    most_bytes: int | None = None,
) -> Embedded:
    """most_bytes: that the vectors may take as JSON numbers.

    Raises NotFound for a name that is no model's, Invalid for a model without such vectors or another number of
    dimensions than it has, AnswerTooLarge, TooSlow past the deadline, EncoderError, TextRefused.
    """
    kind = kind_of(encoders, model, wanted)
    encoder = encoders.get(model, kind, dimensions)
    if dimensions not in (None, encoder.dim):
        said = f"{encoder.dim:,} dimensions, which it was not trained to cut: leave it out"
        if isinstance(encoder, MatryoshkaEncoder):
            said = f"{several(encoder.dims)} dimensions, got {dimensions:,}"
        raise Invalid.at("/dimensions", f"{model!r} has {said}")
    made, left = Embedded([], 0, []), most_bytes
    read = 0
    for start in range(0, len(texts), PIECE):
        deadline.check(deadline.current())
        piece = texts[start : start + PIECE]
        if task == "query":
            encoded = encoders.encode_queries(model, kind, piece, dimensions, alone=len(texts) > PIECE)
        else:
            encoded = encoders.encode_documents(model, kind, piece, dimensions)
        made.vectors.extend(encoded.pooled if wanted == "pooled" else encoded.tokens or ())
        made.truncated.extend(start + place for place in encoded.truncated.nonzero()[0].tolist())
        counts = [len(begins) for begins in encoder.tokens(piece)]
        read += sum(counts if encoder.room is None else (min(count, encoder.room) for count in counts))
        if left is not None:
            left -= NUMBER_BYTES * sum(vectors.size for vectors in made.vectors[start:])
            if left < 0:
                raise AnswerTooLarge(
                    f"the answer would hold more than {most_bytes:,} bytes, the limit of this server: send fewer texts "
                    "at a time"
                )
    return Embedded(made.vectors, read, made.truncated)


def kind_of(encoders: Encoders, model: str, wanted: Wanted) -> Kind:
    """The kind in which a model gives such vectors. Raises NotFound, Invalid."""
    kind: Kind = "dense" if wanted == "pooled" else "multi_vector"
    able = [name for name in encoders.names() if kind in encoders.kinds(name)]
    if model not in encoders.names():
        raise NotFound(f"no model is named {model[:100]!r}; there are {', '.join(able)}", code="model_not_found")
    if model not in able:
        said = "one vector a text" if wanted == "pooled" else "a vector for each token"
        raise Invalid.at("/model", f"{model!r} does not give {said}; these do: {', '.join(able)}")
    return kind


def cut(encoders: Encoders, model: str, texts: Sequence[str], tokens: int) -> list[str]:
    """Each text up to so many tokens: the encoder's own, or, of a model that reads pairs, estimated ones."""
    kinds = encoders.kinds(model)
    begins = encoders.get(model, kinds[0]).tokens(texts) if kinds else estimated(texts)
    return [
        text if len(found) <= tokens else text[: int(found[tokens])] for text, found in zip(texts, begins, strict=True)
    ]
