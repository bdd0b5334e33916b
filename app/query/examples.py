"""Documents, texts and vectors that a search is to find more like, or less."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.query.encoded import EncodedQuery
from app.types import F32, SparseVector, Turn

SHARE: Final = 0.2
"""Of what the negative examples have in common that is taken off the positive ones: Rocchio's usual .15 / .75. A half
took good hits with the bad ones (docs/decisions.md)."""
MAX_SHARE: Final = 10.0
MOST_EXAMPLES: Final = 64
"""Of a search."""


@dataclass(frozen=True, slots=True)
class Example:
    """One of id (of a document of the collection), text and vectors (as of a query). turns: of a conversation, whose
    text is that of the ones that count. encoded: of the last three, once they are. sparse: of a text, once a model made
    it. at: the pointer to it, for errors."""

    id: str | None = None
    text: str | None = None
    vectors: F32 | None = None
    turns: tuple[Turn, ...] = ()
    encoded: EncodedQuery | None = None
    sparse: SparseVector | None = None
    at: str = ""

    @property
    def named(self) -> bytes:
        """The same for examples that ask for the same."""
        vectors = None if self.vectors is None else (self.vectors.shape, self.vectors.tobytes())
        return repr((self.id, self.text, vectors, self.turns)).encode(errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class Like:
    """positive: at least one. weight: of what the negative ones have in common, beside the positive's 1. include:
    whether the documents among the examples may be answers too."""

    positive: Sequence[Example]
    negative: Sequence[Example] = ()
    weight: float = SHARE
    include: bool = False

    @property
    def named(self) -> bytes:
        """The same for those that have one list."""
        found = hashlib.sha256(repr((len(self.positive), self.weight, self.include)).encode())
        for example in (*self.positive, *self.negative):
            found.update(hashlib.sha256(example.named).digest())
        return found.digest()

    @property
    def given(self) -> list[Example]:
        """Those that are no documents of the collection."""
        return [one for one in (*self.positive, *self.negative) if one.id is None]

    def encoded(self, vectors: Sequence[EncodedQuery]) -> Like:
        """With the vectors of those that are ``given``, in order."""
        made = iter(vectors)
        return self._with(replace(one, encoded=next(made)) for one in self.given)

    def weighed(self, vectors: Sequence[SparseVector | None]) -> Like:
        """The same with their sparse vectors."""
        made = iter(vectors)
        return self._with(replace(one, sparse=next(made)) for one in self.given)

    def _with(self, given: Iterator[Example]) -> Like:
        positive, negative = (
            [one if one.id is not None else next(given) for one in examples]
            for examples in (self.positive, self.negative)
        )
        return replace(self, positive=positive, negative=negative)
