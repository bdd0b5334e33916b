"""The vectors of some documents' passages as a collection stores them, and how an encoder's or a caller's become that.

Coding happens once, at write time: as the similarity has them, pooled where the collection asks for it, coded as its
precision has it, encoded for the first stage. A query's scores in the tail are to the bit those after
sealing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from app.codes.protocol import Code
from app.codes.token_pooling import pool_tokens
from app.collection.layers import ENCODED, NORMS, POOLED, RAW, TOKENS, scored, vector_field
from app.collection.spec import CollectionSpec
from app.compute.rounding import norms_up
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.errors import Invalid, TextRefused
from app.scoring.similarity import Similarity
from app.store.directory import Content
from app.types import F32, I64, Document, Encoded, Mask, Owners, TokenVectors

Values: TypeAlias = "NDArray[Any] | TokenVectors"
"""One layer of some rows: an array, or a ragged one."""

_OWNERS: Final = "owners"
_VALUES: Final = ".values"
_OFFSETS: Final = ".offsets"
_TYPES: Final = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "U8": np.uint8}
"""Of safetensors."""


@dataclass(frozen=True, slots=True)
class Passages:
    """The layers (app.collection.layers) of some documents, each array with a value, or a run of them, for every row.

    Its length is the number of documents. float16 layers are held as float32, as ``Layer.held`` says.
    """

    owners: Owners
    arrays: Mapping[str, Values]

    def __len__(self) -> int:
        return self.owners.documents

    def __contains__(self, layer: str) -> bool:
        return layer in self.arrays

    def flat(self, layer: str) -> NDArray[Any]:
        """A layer with one value a row."""
        found = self.arrays[layer]
        assert not isinstance(found, TokenVectors), f"{layer} is ragged"
        return found

    def ragged(self, layer: str) -> TokenVectors:
        """A layer with a run of values a row."""
        found = self.arrays[layer]
        assert isinstance(found, TokenVectors), f"{layer} is not ragged"
        return found

    def of(self, layer: str, document: int) -> TokenVectors:
        """A ragged layer of one document, a view."""
        return self.ragged(layer).slice(*self.owners.span(document, document + 1))

    @property
    def nbytes(self) -> int:
        return sum(_plain(values).nbytes for values in self.arrays.values())

    @property
    def counts(self) -> dict[str, I64]:
        """Of each ragged layer the values of each row."""
        return {name: values.counts for name, values in self.arrays.items() if isinstance(values, TokenVectors)}

    def with_layer(self, layer: str, values: Values | None) -> Passages:
        """The same with another layer of the name, or without."""
        others = {name: array for name, array in self.arrays.items() if name != layer}
        return Passages(self.owners, others if values is None else {**others, layer: values})

    def take(self, documents: Sequence[int] | I64) -> Passages:
        """The named documents in the named order, a copy."""
        index = np.asarray(documents, np.int64)
        rows = self.owners.rows_of(index)
        return Passages(
            self.owners.take(index),
            {
                name: values.take(rows) if isinstance(values, TokenVectors) else values[rows]
                for name, values in self.arrays.items()
            },
        )

    @staticmethod
    def join(parts: Sequence[Passages]) -> Passages:
        """In order; at least one part, all with the same layers."""
        return Passages(
            Owners.join([part.owners for part in parts]),
            {name: _join([part.arrays[name] for part in parts]) for name in parts[0].arrays},
        )

    def to_bytes(self) -> bytes:
        """As safetensors."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, values in self.arrays.items():
            if isinstance(values, TokenVectors):
                arrays[name + _VALUES], arrays[name + _OFFSETS] = values.values, values.offsets
            else:
                arrays[name] = values
        if self.owners.starts is not None:
            arrays[_OWNERS] = self.owners.starts
        return save_tensors({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, content: bytes, documents: int) -> Passages:
        """Of so many documents, from bytes that were verified."""
        found = load_tensors(content)
        owners = Owners(documents, found.pop(_OWNERS, None))
        arrays: dict[str, Values] = {}
        for name, array in found.items():
            if name.endswith(_VALUES):
                ragged = name.removesuffix(_VALUES)
                arrays[ragged] = TokenVectors(array, found[ragged + _OFFSETS])
            elif not name.endswith(_OFFSETS):
                arrays[name] = array
        return cls(owners, arrays)


def read_ragged(content: Content, layer: str, documents: Sequence[int]) -> list[TokenVectors]:
    """A ragged layer of the named documents, a copy, from mapped bytes of ``to_bytes`` that were verified; no more of
    them is read.
    """
    # safetensors: the length of a header (u64), the header in JSON, then the arrays at the places that it names.
    view = memoryview(content)
    begin = 8 + int.from_bytes(view[:8], "little")
    header = json.loads(bytes(view[8:begin]))

    def array(name: str) -> NDArray[Any]:
        start, stop = header[name]["data_offsets"]
        plain = np.frombuffer(view[begin + start : begin + stop], _TYPES[header[name]["dtype"]])
        return plain.reshape(header[name]["shape"])

    values, offsets = array(layer + _VALUES), array(layer + _OFFSETS)
    starts = array(_OWNERS) if _OWNERS in header else np.arange(len(offsets))
    found = []
    for document in documents:
        own: I64 = offsets[starts[document] : starts[document + 1] + 1]
        found.append(TokenVectors(values[own[0] : own[-1]].copy(), own - own[0]))
    return found


def _plain(values: Values) -> NDArray[Any]:
    return values.values if isinstance(values, TokenVectors) else values


def _join(parts: Sequence[Values]) -> Values:
    ragged = [part for part in parts if isinstance(part, TokenVectors)]
    if not ragged:
        return np.concatenate([_plain(part) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.counts for part in ragged]))])
    return TokenVectors(np.concatenate([part.values for part in ragged]), offsets.astype(np.int64))


def check_vectors(vectors: NDArray[Any], spec: CollectionSpec, at: str, *, asked: bool = False) -> None:
    """Raises Invalid unless the rows are vectors that the collection can hold, of one document, or be asked with.

    at: the pointer to what has them in its member ``vector`` or ``vectors``. asked: whether they are a query's.
    """
    dim = spec.query_dim if asked else spec.dim
    pointer = f"{at}/{vector_field(spec)}"
    if vectors.ndim != 2 or vectors.shape[0] == 0:
        raise Invalid.at(pointer, "expected at least one vector")
    if vectors.shape[1] != dim:
        raise Invalid.at(pointer, f"expected vectors of {dim:,} dimensions, got {vectors.shape[1]:,}")
    if not np.isfinite(vectors).all():
        raise Invalid.at(pointer, "expected finite numbers, got NaN or Infinity (or a number too large for float32)")
    spec.measure.check(vectors, pointer)
    if scored(spec) == POOLED and not spec.ordered and len(vectors) != 1:
        raise Invalid.at(pointer, f"expected one vector, for the collection is dense; got {len(vectors)}")


NOTHING: Final = "the encoder makes all zeros of this text, which has no cosine with anything"


def without_direction(encoded: Encoded, spec: CollectionSpec) -> Mask:
    """(n,): texts of which an encoder makes zeros alone, such as those of words that a table of static vectors does not
    have; none where the similarity asks for no direction."""
    if not spec.measure.unit:
        return np.zeros(len(encoded.pooled), bool)
    if encoded.tokens is None or scored(spec) == POOLED:
        return np.logical_not(encoded.pooled.any(axis=1))
    some = np.logical_or.reduceat(encoded.tokens.values.any(axis=1), encoded.tokens.offsets[:-1])
    return np.logical_not(some)


def require_direction(encoded: Encoded, spec: CollectionSpec) -> None:
    """Raises TextRefused for texts ``without_direction``, as ``check_vectors`` refuses a caller's vectors."""
    nothing = np.flatnonzero(without_direction(encoded, spec)).tolist()
    if nothing:
        raise TextRefused(dict.fromkeys(nothing, NOTHING))


def matrices_of(document: Document, spec: CollectionSpec) -> list[F32]:
    """The caller's vectors of each of its rows: of a sequence a row is a segment."""
    if spec.ordered and document.vectors is not None:
        return list(document.vectors[:, None, :])
    return document.matrices


def pool(tokens: TokenVectors, similarity: Similarity) -> F32:
    """One vector a passage: the mean of its token vectors as they are given, or of length 1, as the similarity has it;
    (n, dim) float32."""
    means = np.empty((len(tokens), tokens.dim))
    for passage, mean in zip(tokens, means, strict=True):
        # The same sums as by ``reduceat``, in a seventh of the time.
        np.add.reduce(passage, axis=0, dtype=np.float64, out=mean)
    means /= tokens.counts[:, None]
    if similarity.unit:
        size = np.sqrt(np.einsum("ij,ij->i", means, means))
        # Opposite vectors can cancel to zero: such a passage is simply never a candidate by its pooled vector.
        means /= np.where(size > 0, size, 1)[:, None]
    return similarity.mean(means)


def sought(tokens: TokenVectors, similarity: Similarity) -> TokenVectors:
    """Stored token vectors, float32, as a query has them that asks for what is like these."""
    if similarity.unit:
        return tokens
    return TokenVectors(similarity.query(similarity.seeking(tokens.values)), tokens.offsets)


def from_encoder(
    encoded: Encoded, spec: CollectionSpec, encoding: Encoding | None, workers: Workers | None = None
) -> Passages:
    """An encoder's vectors, one passage a document, coded for the collection. workers: share what takes long."""
    pooled = spec.measure.document(encoded.pooled)
    tokens = encoded.tokens if scored(spec) == TOKENS else None
    return _code(Owners(len(pooled)), pooled, tokens, spec, encoding, None, workers)


def from_caller(
    vectors: Sequence[F32],
    spec: CollectionSpec,
    encoding: Encoding | None,
    workers: Workers | None = None,
    owners: Owners | None = None,
) -> Passages:
    """Callers' vectors, one checked matrix a passage, coded for the collection. workers: as in ``from_encoder``.

    owners: whose the passages are; None where each document has one.
    """
    raw = TokenVectors.join(vectors)
    kept = raw if spec.keeps_raw else None
    owners = Owners(len(raw)) if owners is None else owners
    if scored(spec) == POOLED:
        return _code(owners, spec.measure.document(raw.values), None, spec, encoding, kept, workers)
    means = pool(raw, spec.measure)
    return _code(
        owners, means if spec.measure.unit else spec.measure.document(means), raw, spec, encoding, kept, workers
    )


def _code(
    owners: Owners,
    pooled: F32,
    tokens: TokenVectors | None,
    spec: CollectionSpec,
    encoding: Encoding | None,
    raw: TokenVectors | None,
    workers: Workers | None,
) -> Passages:
    arrays: dict[str, Values] = {POOLED: pooled}
    if tokens is None:
        arrays[NORMS] = norms_up(pooled)
    else:
        tokens = TokenVectors(spec.measure.document(tokens.values), tokens.offsets)
        if spec.pools:
            given = TokenVectors(spec.measure.given(tokens.values), tokens.offsets)
            means = pool_tokens(given, spec.token_pooling, workers)
            tokens = TokenVectors(spec.measure.document(spec.measure.mean(means.values)), means.offsets)
        coded = TokenVectors(spec.code.encode(tokens.values), tokens.offsets)
        if encoding is not None:
            arrays[ENCODED] = encode(encoding, tokens, None, spec)
        norms = spec.code.norms(coded.values)
        arrays[NORMS] = np.maximum.reduceat(norms, coded.offsets[:-1]) if len(coded) else norms
        arrays[TOKENS] = coded
    if raw is not None:
        arrays[RAW] = raw
    return Passages(owners, arrays)


def encode(encoding: Encoding, tokens: TokenVectors, pooled: F32 | None, spec: CollectionSpec) -> F32:
    """For the first stage, rounded as it is stored at once: the tail and the index then rank by the same numbers.

    tokens: normalised as the collection's are, not coded: before they are, where that can be.
    """
    encoded = encoding.encode_documents(tokens, pooled).astype(spec.encoded_dtype)
    return encoded.astype(np.float32)


def decoded(tokens: TokenVectors, code: Code) -> TokenVectors:
    """Stored token vectors as float32, in the coordinates that they came in."""
    return TokenVectors(code.decode(tokens.values), tokens.offsets)
