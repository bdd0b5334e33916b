"""From examples to what a search asks: vectors and words of those that are to be found, less those that are not.

Rocchio's formula (Relevance Feedback in Information Retrieval, 1971), with the examples in the place of a query: the
mean of the positive ones less a share of the mean of the negative ones. It is taken of what adds up: of pooled vectors,
of sparse ones, and of how often words stand. Token vectors are the query's own, the positive ones by MaxSim, from which
the negative ones' is subtracted (``scores.Contrast``): the mean of token vectors is like none of them.

A document counts by its opening passage, which says what it is about, and by ``VECTORS`` vectors at most: sums of its
token vectors over clusters of like ones, so that each token still counts as one (docs/decisions.md has what else was
measured). All is read from the snapshot that is searched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.codes.token_pooling import clusters
from app.collection.layers import POOLED, SPARSE, TOKENS, scored
from app.collection.part import View, tokens
from app.collection.spec import CollectionSpec, LexicalSpec
from app.collection.view import Snapshot
from app.errors import Invalid
from app.lexical.bm25 import Bm25
from app.lexical.clauses import Clause, plain
from app.query.asked import UNENCODED
from app.query.encoded import EncodedQuery
from app.query.examples import Example, Like
from app.scoring.similarity import Similarity
from app.sparse.rows import unpacked
from app.types import F32, F64, I64, Mask, SparseVector

VECTORS: Final = 64
"""Token vectors of the positive examples together, and of the negative ones, that MaxSim is asked with, at most."""
READ: Final = 2_048
"""The first token vectors of a passage, of which these are made: clustering takes the square of their number."""
TERMS: Final = 25
"""Words that are asked for, the most telling ones; as many as Lucene's MoreLikeThis takes."""
INDICES: Final = 64
"""Indices of sparse vectors that are asked for, those of the largest weights."""
CONSIDERED: Final = 1_000
"""Words of which these are chosen: those that the examples have most often."""

_Place = tuple[View, int]
"""A document of a part."""


@dataclass(frozen=True)
class Alike:
    """encoded: the vectors that are asked with; None of a search by words or sparse vectors alone. clauses: the words,
    where it is by words. named: ascending sequence numbers of the documents that are no answers. sparse: the sparse
    vector, where it is by one; in a hybrid search that of examples without any is empty."""

    encoded: EncodedQuery | None
    clauses: Sequence[Clause] | None
    named: I64
    sparse: SparseVector | None = None

    def without(self, views: Sequence[View], allowed: Sequence[Mask]) -> list[Mask]:
        """For each view the documents that are allowed and not named."""
        if not len(self.named):
            return list(allowed)
        return [mask & ~np.isin(view.part.seqs, self.named) for view, mask in zip(views, allowed, strict=True)]


def alike_to(snapshot: Snapshot, spec: CollectionSpec, like: Like, mode: str, at: str = "") -> Alike:
    """The query that the examples make, in one moment of a collection.

    Raises Invalid for a document that is not there, for examples that cancel each other out, and for a search by words
    or by sparse vectors whose positive examples have none; Damaged.
    """
    seqs = _seqs(snapshot, like)
    places = snapshot.published.locate(list(seqs.values()))
    located = {name: places[seq] for name, seq in seqs.items()}
    clauses = sparse = None
    if mode in ("lexical", "hybrid") and spec.lexical is not None:
        clauses = _telling(snapshot.views, spec.lexical, like, located)
        if mode == "lexical" and not clauses:
            raise Invalid.at(f"{at}/like/positive", "the positive examples have no word that another document has")
    if mode in ("sparse", "hybrid") and spec.sparse is not None:
        sparse = _weighed(spec, like, located)
        if mode == "sparse" and not len(sparse.indices):
            raise Invalid.at(
                f"{at}/like/positive",
                "the positive examples have no sparse vector, or the negative ones leave nothing of it: name documents "
                "that have one",
            )
    encoded = None if mode in UNENCODED else _combined(spec, like, located, mode, at)
    named = [] if like.include else sorted(seqs.values())
    return Alike(encoded, clauses, np.array(named, np.int64), sparse)


def _seqs(snapshot: Snapshot, like: Like) -> dict[str, int]:
    """Id -> sequence number of the documents among the examples."""
    asked = {one.id: one.at for one in (*like.positive, *like.negative) if one.id is not None}
    standing = snapshot.identify(snapshot.versions(asked).tolist())
    found = {name.decode(): seq for seq, name in standing.items()}
    for name, at in asked.items():
        if name not in found:
            raise Invalid.at(at, f"the collection has no document {name!r}")
    return found


# Vectors


def _combined(spec: CollectionSpec, like: Like, located: Mapping[str, _Place], mode: str, at: str) -> EncodedQuery:
    """The vectors of all examples in one query."""
    measure = spec.measure
    linear = measure.linear and spec.options.kernel is None
    if like.negative and not linear:
        raise Invalid.at(
            f"{at}/like/negative",
            "scores are of distances, of which none is taken off another: leave them out, or ask by words",
        )
    more, less = ([_vectors(spec, one, located) for one in examples] for examples in (like.positive, like.negative))
    if not linear:
        pooled = measure.asked_mean(np.concatenate([one.pooled for one in more]))
        if scored(spec) == POOLED:
            return EncodedQuery(pooled, pooled)
        share = max(1, VECTORS // len(more))
        return EncodedQuery(np.concatenate([_means(one.vectors, share, measure) for one in more]), pooled)
    pooled = rocchio([one.pooled for one in more], [one.pooled for one in less], like.weight)
    if measure.unit and not pooled.any() and (scored(spec) == POOLED or mode in ("dense", "hybrid")):
        raise Invalid.at(f"{at}/like", "the negative examples leave nothing of the positive ones: lower the weight")
    pooled = measure.query(pooled) if measure.unit else pooled
    if scored(spec) == POOLED:
        return EncodedQuery(pooled, pooled)
    tokens = _shared([one.vectors for one in more], spec)
    count = len(tokens)
    if not less or not like.weight:
        return EncodedQuery(tokens, pooled)
    taken = _shared([one.vectors for one in less], spec)
    return EncodedQuery(tokens, pooled, (taken * (like.weight * count / len(taken))).astype(np.float32))


def rocchio(more: Sequence[F32], less: Sequence[F32], weight: float) -> F32:
    """The mean of ``more`` less ``weight`` times the mean of ``less``, each (1, dim) float32; not normalised.

    >>> one, two = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    >>> rocchio([one, two], [two], 0.5).tolist()
    [[0.5, 0.0]]
    """
    found: F64 = np.mean([one.astype(np.float64) for one in more], axis=0)
    if less:
        found = found - weight * np.mean([one.astype(np.float64) for one in less], axis=0)
    return found.astype(np.float32)


def _vectors(spec: CollectionSpec, example: Example, located: Mapping[str, _Place]) -> EncodedQuery:
    """Of a document the stored ones of its opening passage."""
    if example.id is None:
        assert example.encoded is not None, "examples were encoded"
        return example.encoded
    view, place = located[example.id]
    row = view.part.owners.span(place, place + 1)[0]
    pooled = np.array(view.part.flat(POOLED).range(row, row + 1), np.float32)
    vectors = pooled if scored(spec) != TOKENS else tokens(view.part, row, row + 1).values[:READ]
    measure = spec.measure
    if measure.unit:
        return EncodedQuery(vectors, pooled)
    vectors, pooled = (measure.query(measure.seeking(own)) for own in (vectors, pooled))
    return EncodedQuery(vectors, pooled)


def _shared(examples: Sequence[F32], spec: CollectionSpec) -> F32:
    """(n, dim): ``VECTORS`` at most of all examples, each with the same share, and as much weight in a sum."""
    share = max(1, VECTORS // len(examples))
    reduced = [few(spec.measure.query(one) if spec.measure.unit else one, share) for one in examples]
    if len(reduced) == 1:
        return reduced[0]
    each = sum(map(len, reduced)) / len(reduced)
    return np.concatenate([(one * (each / len(one))).astype(np.float32) for one in reduced])


def few(vectors: F32, most: int) -> F32:
    """The sums of ``most`` clusters of like vectors, where there are more (token pooling), scaled so that
    a MaxSim is as large as one of so many vectors.

    >>> few(np.array([[0, 1], [1, 0], [0, 1], [0, 1]], np.float32), 2).tolist()
    [[0.0, 1.5], [0.5, 0.0]]
    """
    if len(vectors) <= most:
        return vectors
    wide = vectors.astype(np.float64)
    labels = clusters(wide, most)
    order = np.argsort(labels, kind="stable")
    sums = np.add.reduceat(wide[order], np.searchsorted(labels[order], np.arange(most)), axis=0)
    found: F32 = (sums * (most / len(vectors))).astype(np.float32)
    return found


def _means(asked: F32, most: int, measure: Similarity) -> F32:
    """The means of ``most`` clusters of like vectors, where there are more; nothing weighs a distance."""
    if len(asked) <= most:
        return asked
    labels = clusters(asked.astype(np.float64), most)
    return np.concatenate([measure.asked_mean(asked[labels == label]) for label in range(most)])


# Sparse vectors


def _weighed(spec: CollectionSpec, like: Like, located: Mapping[str, _Place]) -> SparseVector:
    """The sparse vector of all examples; those without one count as 0 in their means."""
    more, less = ([_sparse(one, located) for one in examples] for examples in (like.positive, like.negative))
    return sparse_rocchio(more, less, like.weight)


def _sparse(example: Example, located: Mapping[str, _Place]) -> SparseVector:
    """Of a document that of its opening passage, or its only one."""
    if example.id is None:
        return example.sparse or SparseVector(np.zeros(0, np.int32), np.zeros(0, np.float32))
    view, place = located[example.id]
    row = view.part.owners.span(place, place + 1)[0]
    return unpacked(view.part.ragged(SPARSE).take(np.array([row], np.int64))[0])


def sparse_rocchio(more: Sequence[SparseVector], less: Sequence[SparseVector], weight: float) -> SparseVector:
    """``rocchio`` of sparse vectors: the ``INDICES`` largest weights above 0, of equal ones those of the least indices.

    >>> one = SparseVector(np.array([3, 7], np.int32), np.array([1.0, 0.5], np.float32))
    >>> two = SparseVector(np.array([7, 9], np.int32), np.array([2.0, 1.0], np.float32))
    >>> found = sparse_rocchio([one], [two], 0.25)
    >>> found.indices.tolist(), found.values.tolist()
    ([3], [1.0])
    """
    shares = [1 / len(more)] * len(more) + [-weight / len(less) for _ in less]
    added: dict[int, float] = {}
    for vector, share in zip((*more, *less), shares, strict=True):
        for index, value in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
            added[index] = added.get(index, 0.0) + share * value
    made = {index: np.float32(value) for index, value in added.items()}
    best = sorted((index for index in made if made[index] > 0), key=lambda index: (-made[index], index))[:INDICES]
    indices = sorted(best)
    return SparseVector(np.array(indices, np.int32), np.array([made[index] for index in indices], np.float32))


# Words


def _telling(views: Sequence[View], spec: LexicalSpec, like: Like, located: Mapping[str, _Place]) -> list[Clause]:
    """The most telling words: those of the largest tf * idf, on the mean of the examples, less the negative ones'."""
    documents = {name: _words_of(spec, place) for name, place in located.items()}
    more, less = (
        [_said(spec, one.text) if one.id is None else documents[one.id] for one in examples]
        for examples in (like.positive, like.negative)
    )
    tf, spoken = dict[str, float](), dict[str, str]()
    for examples, weight in ((more, 1 / len(more)), (less, -like.weight / max(len(less), 1))):
        for words in examples:
            for stem, (count, word) in words.items():
                tf[stem] = tf.get(stem, 0.0) + weight * count
                spoken.setdefault(stem, word)
    often = sorted((stem for stem in tf if tf[stem] > 0), key=lambda stem: (-tf[stem], stem))[:CONSIDERED]
    clauses = [Clause(words=(stem,), text=spoken[stem], weight=tf[stem]) for stem in often]
    asked = Bm25([view.lexical() for view in views], clauses, spec.fields)
    # A word that no other document has finds none.
    own = Counter(stem for words in documents.values() for stem in words)
    worth = {
        stem: value
        for stem, value, count in zip(often, asked.worth, asked.frequencies, strict=True)
        if count > own[stem] or like.include
    }
    best = sorted(worth, key=lambda stem: (-worth[stem], stem))[:TERMS]
    return [Clause(words=(stem,), text=spoken[stem]) for stem in best]


_Words = dict[str, tuple[float, str]]
"""Stem -> how often an example has it, and the first word of it."""


def _said(spec: LexicalSpec, text: str | None) -> _Words:
    """Of a text, as of a query; of vectors none."""
    clauses = [] if text is None else plain(text, spec.analyser)
    return {one.words[0]: (one.weight, one.text) for one in clauses if one.kind == "stem"}


def _words_of(spec: LexicalSpec, place: _Place) -> _Words:
    """Of a document, without stop words and single characters."""
    view, document = place
    if view.part.words is None:
        return {}
    sequences = view.part.words.sequences(np.array([document], np.int64))
    counted = Counter(sequences.ids.tolist())
    words = [sequences.vocabulary.words[number] for number in counted]
    found: _Words = {}
    for word, stem, count in zip(words, spec.analyser.stems(words), counted.values(), strict=True):
        if len(word) > 1 and not spec.analyser.is_stop(word):
            before, first = found.get(stem, (0.0, word))
            found[stem] = (before + count, first)
    return found
