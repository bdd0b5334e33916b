"""The protocol of an encoder: text -> vectors. One implementation a file, one contract suite over all.

Useful for: adding a model family or a remote service. Not useful for: callers who bring their own vectors;
their collections have no encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from app.encoders.prompts import Task
from app.scoring.networks.network import Network
from app.types import F32, I64, Encoded, EncodedSparse, Kind, Mask


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The facts that must be equal for two encoders to give the same vectors; stored with a collection.

    model: the name or kind of model. weights: SHA-256 over the weight files (or the remote's model name).
    details: pooling, prompts (`query_prompt`, `document_prompt`), limits in tokens (`query_max_length`,
    `document_max_length`), precision of the backend, anything else that moves a vector.
    """

    model: str
    weights: str
    details: Mapping[str, str]

    def differences(self, other: Fingerprint) -> list[str]:
        """The differences, for an error message: ``['weights', 'details.max_length']``."""
        found = [name for name in ("model", "weights") if getattr(self, name) != getattr(other, name)]
        keys = sorted(set(self.details) | set(other.details))
        return found + [f"details.{k}" for k in keys if self.details.get(k) != other.details.get(k)]


@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """The places that the token vectors of one text stand for. spans: (n, 2) int64, for each text[start:stop], in
    characters; -1 and -1 for what is none of the text. names: of these, by their place: `[CLS]`, or words of a
    prompt."""

    spans: I64
    names: Mapping[int, str]

    def only(self, kept: Mask) -> TokenPlaces:
        """Of the vectors that are kept, (n,)."""
        new = np.cumsum(kept) - 1
        return TokenPlaces(self.spans[kept], {int(new[i]): name for i, name in self.names.items() if kept[i]})

    def expanded(self, count: int, name: str) -> TokenPlaces:
        """With so many more behind them that stand for nothing."""
        names = {len(self.spans) + i: name for i in range(count)}
        return TokenPlaces(np.concatenate([self.spans, np.full((count, 2), -1)]), {**self.names, **names})


class Encoder(Protocol):
    """Text -> vectors. Safe to call from several threads at once.

    ``encode_documents`` and ``encode_queries`` take any number of texts (none gives arrays of no rows), keep
    their order, batch by length inside, use the model's prompts, and never pad: a token matrix holds only the
    tokens of its text. Each text gives at least one token vector. Values are finite float32. Across batches the
    vectors of a text have a cosine of at least .9999.

    Raises EncoderUnavailable when the model cannot answer now, TextRefused where it takes all texts but some.
    """

    @property
    def kind(self) -> Kind:
        """`multi_vector`: ``Encoded.tokens`` is there. `dense`: it is None."""
        ...

    @property
    def dim(self) -> int:
        """Of pooled and token vectors alike."""
        ...

    @property
    def backend(self) -> str:
        """The runtime, for people to read: `openvino, bf16`."""
        ...

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def room(self) -> int | None:
        """Tokens of a document's text that are read, prompt and special tokens not counted; None: all, or not known."""
        ...

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        """Where the tokens of each document's text begin, in characters, ascending, without prompt and special tokens:
        its own tokenizer's, or an estimate (``app.encoders.batches``). A character may begin several."""
        ...

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces] | None:
        """Of each text, a place for each token vector that encoding it gives, in their order. No network runs. None
        where that is not known."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Encoded: ...

    def encode_queries(self, texts: Sequence[str]) -> Encoded: ...


@runtime_checkable
class NetworkEncoder(Encoder, Protocol):
    """A dense encoder whose queries are scored by networks: what ``encode_queries`` gives is for asking by vectors."""

    def encode_networks(self, texts: Sequence[str]) -> list[Network]:
        """Of each query, in order: it takes a document's vector as ``encode_documents`` gives it. Raises
        EncoderError."""
        ...


@runtime_checkable
class MatryoshkaEncoder(Encoder, Protocol):
    """A dense encoder that also gives shorter vectors: the first numbers of its own, brought to length 1."""

    @property
    def dims(self) -> tuple[int, ...]:
        """That vectors may have, descending; the first are its own."""
        ...

    def of_dim(self, dim: int) -> MatryoshkaEncoder:
        """The encoder of vectors of one of these dimensions, with a fingerprint of its own."""
        ...

    def first(self, pooled: F32) -> F32:
        """(n, dims[0]), what the encoder of the longest ones gives -> (n, dim), its own."""
        ...


def several(dims: Sequence[int]) -> str:
    """For a message.

    >>> several((384, 128, 64))
    '384, 128 or 64'
    """
    return " or ".join(", ".join(f"{one:,}" for one in part) for part in (dims[:-1], dims[-1:]) if part)


class CrossEncoder(Protocol):
    """A query and a text, read together -> how well the text answers. Safe to call from several threads at once."""

    @property
    def backend(self) -> str:
        """The runtime, for people to read: `torch, cpu`."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """After which a query and its text are cut, together, the longer one first; None where there is no limit."""
        ...

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Of each text: finite, the larger the better, the same whatever else is scored. Raises EncoderError."""
        ...


class SparseEncoder(Protocol):
    """Text -> a sparse vector. Safe to call from several threads at once."""

    @property
    def backend(self) -> str:
        """The runtime, for people to read: `torch, cpu`."""
        ...

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def max_tokens(self) -> int | None:
        """After which a document is cut; None where there is no limit."""
        ...

    def encode(self, texts: Sequence[str], task: Task) -> EncodedSparse:
        """Any number of texts, in their order. A text may have an empty vector. Raises EncoderError."""
        ...

    def terms(self, indices: Sequence[int]) -> list[str]:
        """The words that indices stand for."""
        ...
