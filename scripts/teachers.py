"""What a head is learned from (scripts/distil.py): texts of a collection, and what a teacher thinks of pairs of them.

Queries are pieces of the documents themselves, titles and sentences: no labels. For each there are a few passages: one
of its own document, those that are nearest by the encoder's pooled vectors, and others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from app.collection.collection import Collection
from app.encoders.registry import Encoders
from app.errors import Conflict
from app.measure.drawing import SENTENCE, WORD
from app.passages.encoding import Splitter
from app.scoring.maxsim import FloatScorer
from app.types import F32, I64, Document, Encoded, TokenVectors

Tell = Callable[[int], None]

PIECES: Final = 3
"""Sentences of a document that ask, beside its title."""
LEAST_WORDS: Final = 4
LONGEST: Final = 300
"""Characters of a query."""
BATCH: Final = 64
"""Texts that are encoded at a time."""
NEAREST: Final = 12
NEAR: Final = 8
"""Drawn of those that come next."""
NEXT: Final = 200
PASSAGES: Final = 32
"""Of a query, together."""


@dataclass(frozen=True, slots=True)
class Texts:
    """passages: what is encoded of documents; owners: (passages,), the document of each, by its place in ``ids``.
    queries: pieces of documents; asked: (queries,), likewise."""

    ids: list[str]
    passages: list[str]
    owners: I64
    queries: list[str]
    asked: I64


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """queries: (q, inputs), passages: (p, inputs): pooled vectors. which: (q, c), passages of each query. scores:
    (q, c), the teacher's of these. query_vectors, passage_vectors: the teacher's, where it has any."""

    queries: F32
    passages: F32
    which: I64
    scores: F32
    query_vectors: F32 | None = None
    passage_vectors: F32 | None = None


class Teacher(Protocol):
    """The scores of pairs of texts, by their places."""

    def scores(self, query: int, passages: I64) -> F32:
        """(n,): of the query with each passage."""
        ...

    def vectors(self) -> tuple[F32, F32] | None:
        """Of all queries and of all passages, each of length 1, where a score is their inner product."""
        ...


class ByVectors:
    """One encoder or several, whose vectors are one behind the other (arXiv 2412.19048, section 3.1)."""

    def __init__(self, queries: Sequence[F32], passages: Sequence[F32]) -> None:
        """Of each encoder (q, its dim), (p, its dim)."""
        self._queries, self._passages = (unit(np.concatenate([*map(unit, own)], axis=1)) for own in (queries, passages))

    def scores(self, query: int, passages: I64) -> F32:
        found: F32 = self._passages[passages] @ self._queries[query]
        return found

    def vectors(self) -> tuple[F32, F32]:
        return self._queries, self._passages


class ByTokens:
    """Exact MaxSim, as a mean over the query's tokens."""

    def __init__(self, queries: TokenVectors, passages: TokenVectors) -> None:
        self._queries, self._passages = queries, passages

    def scores(self, query: int, passages: I64) -> F32:
        own = self._queries[query].astype(np.float32)
        return FloatScorer(own).scores(self._passages, passages) / np.float32(len(own))

    def vectors(self) -> None:
        return None


def documents_of(collection: Collection) -> list[Document]:
    """All of them, by id."""
    found: list[Document] = []
    after: str | None = None
    while True:
        some, after = collection.listing(after, 256)
        found += some
        if after is None:
            return found


def texts_of(collection: Collection, documents: Sequence[Document], seed: int = 0) -> Texts:
    """Passages as the collection cuts them, and pieces that ask. Raises Conflict (collection_empty) where none asks."""
    random = np.random.default_rng(seed)
    windows = Splitter(collection.spec, collection.encoder(), None).windows(documents)
    passages = [window.encoded for own in windows for window in own]
    owners = np.repeat(np.arange(len(documents)), [len(own) for own in windows])
    queries: list[str] = []
    asked: list[int] = []
    for place, document in enumerate(documents):
        own = pieces(document, random)
        queries += own
        asked += [place] * len(own)
    if not queries:
        raise Conflict("no document has a title or a sentence to ask with", code="collection_empty")
    return Texts([one.id for one in documents], passages, owners, queries, np.array(asked, np.int64))


def pieces(document: Document, random: np.random.Generator) -> list[str]:
    """Its title and some of its sentences.

    >>> pieces(Document("a", "One sentence of five words. Short.", "A title"), np.random.default_rng(0))
    ['A title', 'One sentence of five words.']
    """
    sentences = [one for one in SENTENCE.split(document.text.strip()) if len(WORD.findall(one)) >= LEAST_WORDS]
    drawn = [sentences[place] for place in random.permutation(len(sentences))[:PIECES].tolist()]
    return [one[:LONGEST] for one in (document.title.strip(), *drawn) if one]


def pooled(encode: Callable[[Sequence[str]], Encoded], texts: Sequence[str], tell: Tell = lambda _: None) -> F32:
    """(n, dim). tell: how many are done."""
    found = []
    for start in range(0, len(texts), BATCH):
        found.append(encode(texts[start : start + BATCH]).pooled)
        tell(min(start + BATCH, len(texts)))
    return np.concatenate(found)


def tokens(
    encode: Callable[[Sequence[str]], Encoded], texts: Sequence[str], tell: Tell = lambda _: None
) -> TokenVectors:
    """float16, for there are many."""
    values, counts = [], []
    for start in range(0, len(texts), BATCH):
        own = encode(texts[start : start + BATCH]).tokens
        assert own is not None, "a multi-vector encoder"
        values.append(unit(own.values).astype(np.float16))
        counts.append(own.counts)
        tell(min(start + BATCH, len(texts)))
    return TokenVectors(np.concatenate(values), np.concatenate([[0], np.cumsum(np.concatenate(counts))]))


def by_vectors(
    encoders: Encoders,
    names: Sequence[str],
    texts: Texts,
    known: Mapping[str, tuple[F32, F32]],
    tell: Tell = lambda _: None,
) -> ByVectors:
    """known: vectors of queries and passages that there are already, by the encoder. Raises EncoderError, Invalid."""
    found = []
    for name in names:
        if name in known:
            found.append(known[name])
            continue
        encoder = encoders.get(name, "dense", patient=True)
        passages = pooled(encoder.encode_documents, texts.passages, tell)
        found.append((pooled(encoder.encode_queries, texts.queries), passages))
    return ByVectors([queries for queries, _ in found], [passages for _, passages in found])


def by_tokens(encoders: Encoders, name: str, texts: Texts, tell: Tell = lambda _: None) -> ByTokens:
    """Raises EncoderError, Invalid."""
    encoder = encoders.get(name, "multi_vector", patient=True)
    return ByTokens(
        tokens(encoder.encode_queries, texts.queries), tokens(encoder.encode_documents, texts.passages, tell)
    )


def lessons(
    teacher: Teacher,
    queries: F32,
    passages: F32,
    asking: I64,
    among: I64,
    own: Sequence[I64],
    seed: int = 0,
    tell: Tell = lambda _: None,
) -> Lessons:
    """Of some queries and passages alone. queries, passages: pooled vectors of all. asking, among: places of those that
    count. own: of each of ``asking``, the passages of its document."""
    random = np.random.default_rng(seed)
    count = min(PASSAGES, len(among))
    near = unit(queries[asking]) @ unit(passages[among]).T
    which, scores = np.zeros((len(asking), count), np.int64), np.zeros((len(asking), count), np.float32)
    for row, query in enumerate(asking.tolist()):
        order = among[np.argsort(-near[row], kind="stable")]
        first = random.choice(own[row], min(1, len(own[row])), replace=False)
        rest = [first, order[:NEAREST], random.permutation(order[NEAREST:NEXT])[:NEAR], random.permutation(order)]
        every = np.concatenate(rest)
        # Each once, in the order in which they came.
        _, places = np.unique(every, return_index=True)
        which[row] = every[np.sort(places)][:count]
        scores[row] = teacher.scores(query, which[row])
        tell(row + 1)
    vectors = teacher.vectors()
    where = np.zeros(len(passages), np.int64)
    where[among] = np.arange(len(among))
    return Lessons(
        queries[asking],
        passages[among],
        where[which],
        scores,
        None if vectors is None else vectors[0][asking],
        None if vectors is None else vectors[1][among],
    )


def unit(vectors: F32) -> F32:
    """Each row with length 1."""
    found: F32 = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12).astype(np.float32)
    return found.astype(np.float32)
