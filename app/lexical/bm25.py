"""BM25: what documents are worth by the words they share with a query.

A document d is worth, summed over the terms t of the query,

    idf(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length(d) / mean length)),
    idf(t) = ln(1 + (N - n + 1/2) / (n + 1/2))

(Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, section 3.4; idf as Lucene has it, never below
zero), where N counts the documents that stand and n those of them with the term. Where fields have weights, tf and
lengths are sums over them (app.lexical.weighing). Both are counted over all parts at
once, so that a score does not depend on how documents are spread over parts, nor on what was deleted. It is summed in
float64 in the order of the query: the scores of ``Bm25.scores`` are THE scores, there is no faster pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from app.lexical.analysis import Analyser, edges_of
from app.lexical.clauses import Clause, parse
from app.lexical.postings import I32, add_scores, add_weighted, among, block_edges, largest, posting, reaching, standing
from app.lexical.sequences import Sequences
from app.lexical.weighing import Weighing
from app.lexical.words import GrowingWords, Words, sealed
from app.types import F64, I64, Mask

K1: Final = 1.2
B: Final = 0.75
_NO_WORDS: Final = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Part:
    """Some documents. words: None where they have none. alive: (documents,) those that stand. length: of these, the
    words in all."""

    words: Words | None
    alive: Mask
    length: int
    _sums: list[list[int]] = field(init=False, default_factory=list, repr=False, compare=False)

    def lengths(self, weighing: Weighing, fields: int) -> list[int]:
        """The words of each field, of the documents that stand; added up when they are first asked for."""
        if self.words is None:
            return [0] * fields
        if not self._sums:
            standing = self.words.lengths_by_field(weighing.stops)[self.alive]
            self._sums.append(standing.sum(axis=0, dtype=np.int64).tolist())
        return self._sums[0]


@dataclass(frozen=True, slots=True)
class TermScore:
    """A term's addition to a document's score. tf: how often it stands there, weighted where fields have weights. df:
    documents with it."""

    term: str
    tf: int | float
    df: int
    idf: float
    score: float


@dataclass(frozen=True)
class Bm25:
    """The scores of one query over some parts. Reading raises Damaged."""

    parts: Sequence[Part]
    clauses: Sequence[Clause]
    fields: Sequence[str]
    weighing: Weighing | None = None
    """Of the fields; None where each counts as much."""
    documents: int = field(init=False)
    mean_length: float = field(init=False)
    _words: list[list[I32]] = field(init=False, repr=False)
    """For each clause and part the words that it asks for."""
    _postings: list[list[I32]] = field(init=False, repr=False)
    _weighted: list[list[tuple[I32, F64]]] = field(init=False, repr=False)
    """The same where a field that counts has the term, with how often."""
    _counts: list[int] = field(init=False, repr=False)
    _asked: dict[int, list[I32]] = field(init=False, repr=False, default_factory=dict)
    """Of a part: for each field the words that clauses ask for there."""

    def __post_init__(self) -> None:
        documents = sum(int(np.count_nonzero(part.alive)) for part in self.parts)
        words = [[_ids(part.words, clause) for part in self.parts] for clause in self.clauses]
        object.__setattr__(self, "_words", words)
        found = [
            [self._find(part.words, clause, own) for part, own in zip(self.parts, of_clause, strict=True)]
            for clause, of_clause in zip(self.clauses, words, strict=True)
        ]
        telling, length = found, float(sum(part.length for part in self.parts))
        if self.weighing is not None:
            weighted = [
                [self._weigh(part, clause, pairs) for part, pairs in zip(self.parts, of_clause, strict=True)]
                for clause, of_clause in zip(self.clauses, found, strict=True)
            ]
            telling = [[pairs for pairs, _ in of_clause] for of_clause in weighted]
            sums = [part.lengths(self.weighing, len(self.fields)) for part in self.parts]
            length = self.weighing.length([sum(own) for own in zip(*sums, strict=True)] or [0] * len(self.fields))
            object.__setattr__(self, "_weighted", weighted)
        counts = [
            sum(standing(pairs, part.alive) for pairs, part in zip(of_clause, self.parts, strict=True))
            for of_clause in telling
        ]
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "mean_length", length / max(documents, 1))
        object.__setattr__(self, "_postings", found)
        object.__setattr__(self, "_counts", counts)

    def scores(self, number: int) -> F64:
        """(documents,) of a part; 0 for those that have no term."""
        part = self.parts[number]
        scores = np.zeros(len(part.alive))
        if part.words is None:
            return scores
        base, slope = self._norm
        weights = [clause.weight * self._idf(i) * (K1 + 1) for i, clause in enumerate(self.clauses)]
        terms = [i for i, clause in enumerate(self.clauses) if clause.scored and len(self._postings[i][number])]
        if self.weighing is not None:
            lengths, by_field = part.words.lengths_by_field(self.weighing.stops), np.array(self.weighing.weights)
            for i in terms:
                add_weighted(*self._weighted[i][number], lengths, by_field, weights[i], base, slope, scores)
            return scores
        found = [(self._postings[i][number], weights[i]) for i in terms]
        runs = [block_edges(pairs, len(scores)).tolist() for pairs, _ in found]
        for first, last in pairwise(zip(*runs, strict=True)):
            for (pairs, weight), start, stop in zip(found, first, last, strict=True):
                if start < stop:
                    add_scores(pairs[start:stop], part.words.lengths, weight, base, slope, scores)
        return scores

    def demanded(self, number: int) -> Mask | None:
        """(documents,) of a part: those that have what the query requires and nothing that it excludes; None where it
        does neither."""
        mask: Mask | None = None
        for i, clause in enumerate(self.clauses):
            if clause.occur == "should":
                continue
            has = np.zeros(len(self.parts[number].alive), bool)
            has[self._postings[i][number][:, 0]] = True
            if clause.occur == "must_not":
                np.logical_not(has, out=has)
            mask = has if mask is None else mask & has
        return mask

    def explain(self, number: int, document: int) -> list[TermScore]:
        """The additions of the terms to the score of a document of a part, of those that it has; they add up to it."""
        found = []
        part = self.parts[number]
        if part.words is None:
            return []
        base, slope = self._norm
        length: float = int(part.words.lengths[document])
        if self.weighing is not None:
            length = self.weighing.length(part.words.lengths_by_field(self.weighing.stops)[document].tolist())
        for i, clause in enumerate(self.clauses):
            pairs, counts = self._postings[i][number], None
            if self.weighing is not None:
                pairs, counts = self._weighted[i][number]
            if not clause.scored:
                continue
            place = posting(pairs, document)
            if place >= 0:
                tf = int(pairs[place, 1]) if counts is None else float(counts[place])
                idf = self._idf(i)
                score = clause.weight * idf * (K1 + 1) * tf / (tf + base + slope * length)
                found.append(TermScore(clause.text, tf, self._counts[i], idf, score))
        return found

    def places(self, number: int, document: int) -> dict[str, tuple[int, list[int]]]:
        """For each field of a document of a part: how many words it has, and the places of those that a clause asks for
        there, by themselves: nothing of phrases, nor of what is excluded."""
        words = self.parts[number].words
        if words is None:
            return {}
        asked = self._asked.get(number)
        if asked is None:
            asked = self._asked[number] = [self._asked_in(number, name) for name in self.fields]
        each = zip(self.fields, words.in_order(document), asked, strict=True)
        return {name: (len(own), among(own, ids).tolist()) for name, own, ids in each}

    def _asked_in(self, number: int, name: str) -> I32:
        """The words of a part that clauses ask for in a field, ascending."""
        words = [
            own[number]
            for own, clause in zip(self._words, self.clauses, strict=True)
            if clause.scored and clause.kind != "phrase" and clause.field in (None, name)
        ]
        return np.sort(np.concatenate([_NO_WORDS, *words]))

    def told(self, words: Sequence[str], stems: Sequence[str]) -> float:
        """How much of the query some words of a document say: as its score, without regard to length."""
        found = 0.0
        for i, clause in enumerate(self.clauses):
            if clause.scored:
                tf = sum(clause.covers(word, stem) for word, stem in zip(words, stems, strict=True))
                found += clause.weight * self._idf(i) * (K1 + 1) * tf / (tf + K1)
        return found

    @property
    def frequencies(self) -> list[int]:
        """How many documents that stand have what each clause asks for."""
        return list(self._counts)

    @property
    def worth(self) -> list[float]:
        """The weight of each clause, where it is found."""
        return [clause.weight * self._idf(i) for i, clause in enumerate(self.clauses)]

    @property
    def _norm(self) -> tuple[float, float]:
        return K1 * (1 - B), K1 * B / self.mean_length if self.mean_length else 0.0

    def _idf(self, i: int) -> float:
        df = self._counts[i]
        return math.log1p((self.documents - df + 0.5) / (df + 0.5))

    def _find(self, words: Words | None, clause: Clause, ids: I32) -> I32:
        if words is None:
            return np.empty((0, 2), np.int32)
        place = -1 if clause.field is None else self.fields.index(clause.field)
        if clause.kind == "phrase":
            return _phrase(words, clause.words, place)
        pairs = words.postings(ids)
        if place < 0 or not len(pairs):
            return pairs
        documents = pairs[:, 0].copy()
        return _counted(documents, words.in_field(documents, ids, place))

    def _weigh(self, part: Part, clause: Clause, pairs: I32) -> tuple[I32, F64]:
        """The postings of documents that have the term in a field that counts, and how often, (n,)."""
        assert self.weighing is not None, "asked for"
        if part.words is None or not len(pairs):
            return np.empty((0, 2), np.int32), np.zeros(0)
        if clause.field is None:
            count = partial(_in_field, part.words, clause, pairs[:, 0].copy())
            counts = self.weighing.frequencies(pairs[:, 1], part.lengths(self.weighing, len(self.fields)), count)
        else:
            counts = pairs[:, 1].astype(np.float64) * self.weighing.weights[self.fields.index(clause.field)]
        return pairs[counts > 0], counts[counts > 0]


def best(scores: Sequence[F64], allowed: Sequence[Mask], k: int) -> list[I64]:
    """For each part the documents that are allowed and reach the k-th largest score of all, ties included; ascending.
    A score of 0 is none."""
    limit = 0.0
    if sum(len(part) for part in scores) > k:
        heaps = [largest(part, mask, min(k, max(len(part), 1))) for part, mask in zip(scores, allowed, strict=True)]
        together = np.sort(np.concatenate(heaps))
        limit = float(together[-k]) if len(together) >= k else 0.0
    return [reaching(part, mask, limit) for part, mask in zip(scores, allowed, strict=True)]


def loops() -> Iterator[None]:
    """Compiles every loop over words, or loads it, one between two of what is yielded (``native.prepare``).

    Of a sealed part, whose arrays are mapped and cannot be written to, and of a growing one.
    """
    analyser, alive = Analyser(None), np.ones(1, bool)
    sequences = Sequences.analysed([["a word of words"]])
    growing = GrowingWords(analyser, 1)
    growing.append(sequences)
    yield
    edges_of("word")
    yield
    for words in (sealed(sequences, 1, analyser), growing.view()):
        for text in ("word", '"a word"', "a:word", "word*", "word~"):
            query = Bm25([Part(words, alive, 4)], parse(text, analyser, ["a"]), ["a"])
            yield
            best([query.scores(0)], [alive], 1)
            query.explain(0, 0)
            yield
            query.places(0, 0)
            yield
        Bm25([Part(words, alive, 4)], parse("word", analyser, ["a"]), ["a"], Weighing((2.0,), frozenset())).scores(0)
        yield
    best([np.zeros(2)], [np.ones(2, bool)], 1)


def _ids(words: Words | None, clause: Clause) -> I32:
    """Of the words that a clause asks for, one of which is enough; none of a phrase."""
    if words is None or clause.kind == "phrase":
        return _NO_WORDS
    (word,) = clause.words
    by = {"stem": words.stem, "word": words.word, "prefix": words.starting, "fuzzy": words.near}[clause.kind]
    return by(word)


def _in_field(words: Words, clause: Clause, documents: I32, field: int) -> I32:
    """(n,): how often these documents have in a field what a clause asks for."""
    if clause.kind == "phrase":
        return words.side_by_side(documents, np.concatenate([words.word(one) for one in clause.words]), field)
    return words.in_field(documents, _ids(words, clause), field)


def _phrase(words: Words, phrase: Sequence[str], field: int) -> I32:
    ids = [words.word(word) for word in phrase]
    if not all(len(one) for one in ids):
        return np.empty((0, 2), np.int32)
    runs = sorted((words.postings(one) for one in ids), key=len)
    documents = runs[0][:, 0]
    for run in runs[1:]:
        documents = documents[np.isin(documents, run[:, 0], assume_unique=True)]
    documents = documents.copy()
    return _counted(documents, words.side_by_side(documents, np.concatenate(ids), field))


def _counted(documents: I32, counts: I32) -> I32:
    """Postings of those that were counted at all."""
    found: I32 = np.stack([documents, counts], axis=1)[counts > 0].astype(np.int32)
    return found
