"""Vectors from a hash of the words: for tests and for trying the API; knows nothing of meaning.

The same word gives the same vector on every machine and version, so texts that share words are near. SHAKE-128
gives the numbers, rather than a seeded generator, whose streams may change between releases of NumPy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from app.encoders.batches import gather
from app.encoders.prompts import Task
from app.encoders.protocol import Fingerprint, TokenPlaces
from app.types import F32, I64, Encoded, Kind

MAX_WORDS = 512
_WORD = re.compile(r"\w+")


class DeterministicEncoder:
    """One unit vector (dim,) a word; pooled: their normalised mean. Cuts texts at 512 words.

    A text without any word has the vector of the empty word.

    >>> encoder = DeterministicEncoder(8, "multi_vector")
    >>> tokens = encoder.encode_queries(["Read a file", "a FILE"]).tokens
    >>> tokens.counts.tolist(), bool(np.array_equal(tokens[0][1:], tokens[1]))
    ([3, 2], True)
    """

    def __init__(self, dim: int, kind: Kind) -> None:
        self._dim = dim
        self._kind = kind

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def backend(self) -> str:
        return "hash"

    @property
    def fingerprint(self) -> Fingerprint:
        details = {"dim": str(self._dim), "max_length": str(MAX_WORDS), "precision": "float32"}
        return Fingerprint("deterministic", "shake-128 of lowercased words", details)

    @property
    def room(self) -> int:
        return MAX_WORDS

    def tokens(self, texts: Sequence[str]) -> list[I64]:
        return [_begins(text) for text in texts]

    def token_places(self, texts: Sequence[str], task: Task) -> list[TokenPlaces]:
        return [_places(text) for text in texts]

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        return self._encode(texts)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Encoded:
        words = [_WORD.findall(text.lower()) or [""] for text in texts]
        tokens = [self._vectors(row[:MAX_WORDS]) for row in words]
        truncated = np.array([len(row) > MAX_WORDS for row in words], bool)
        pooled = [_mean(matrix) for matrix in tokens]
        return gather(self._dim, pooled, tokens if self._kind == "multi_vector" else None, truncated)

    def _vectors(self, words: Sequence[str]) -> F32:
        """(len(words), dim) float32, unit rows; coordinates uniform before the normalisation."""
        # surrogatepass: a lone surrogate is no valid text, but must not be the encoder's crash.
        digests = b"".join(
            hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(4 * self._dim) for word in words
        )
        # Halves of odd numbers: never zero, so that even one dimension has a direction.
        whole = np.frombuffer(digests, "<u4").reshape(len(words), self._dim)
        values = whole.astype(np.float64) - (2**31 - 0.5)
        unit: F32 = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        return unit


def _begins(text: str) -> I64:
    """Where its words begin.

    >>> _begins("Read a \u0130s").tolist()
    [0, 5, 7, 8]
    """
    return _words(text)[:, 0]


def _words(text: str) -> I64:
    """(words, 2): where they begin and end."""
    lower = text.lower()
    found = np.array([match.span() for match in _WORD.finditer(lower)], np.int64).reshape(-1, 2)
    if len(lower) == len(text):
        return found
    # A capital that becomes two characters, of which the second may even end a word.
    ends = np.cumsum([len(character.lower()) for character in text])
    found[:, 0] = np.searchsorted(ends, found[:, 0], side="right")
    found[:, 1] = np.searchsorted(ends, found[:, 1] - 1, side="right") + 1
    return found


def _places(text: str) -> TokenPlaces:
    words = _words(text)[:MAX_WORDS]
    return TokenPlaces(words, {}) if len(words) else TokenPlaces(np.full((1, 2), -1), {0: ""})


def _mean(matrix: F32) -> F32:
    """(tokens, dim) -> (dim,), of length one; the first vector where the mean vanishes."""
    mean = matrix.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(mean))
    pooled: F32 = matrix[0] if norm < 1e-6 else (mean / norm).astype(np.float32)
    return pooled
