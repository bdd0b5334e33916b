"""Scores of every document, which need no candidates: their best are found in one list. Of words, they are these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.collection.part import View
from app.collection.spec import LexicalSpec
from app.lexical.bm25 import Bm25, best
from app.lexical.clauses import Clause
from app.query.ranking import Identify, Ranked, break_ties
from app.types import F64, Mask


@dataclass(frozen=True)
class Listed:
    """by_view: for each view the score of each document, 0 where nothing of the query is found in it."""

    by_view: list[F64]

    def shown(self, ranked: Sequence[Ranked]) -> list[Ranked]:
        """The same documents, by the row that is shown of each: the first, where scores are of whole documents."""
        return list(ranked)

    def matching(self, allowed: Sequence[Mask]) -> list[Mask]:
        """Of the documents that are allowed those in which something is found."""
        return [mask & (scores > 0) for mask, scores in zip(allowed, self.by_view, strict=True)]

    def best(
        self, views: Sequence[View], allowed: Sequence[Mask], k: int, *, ties: bool
    ) -> list[tuple[int, int, int, float]]:
        """(view, document, sequence number, score) of the k best documents; best first, equal ones as they were
        written. ties: and all that equal the last."""
        documents = best(self.by_view, allowed, k)
        numbers = np.repeat(np.arange(len(views)), [len(own) for own in documents])
        seqs = np.concatenate(
            [np.zeros(0, np.int64), *(v.part.seqs[own] for v, own in zip(views, documents, strict=True))]
        )
        scores = np.concatenate([np.zeros(0), *(of[own] for of, own in zip(self.by_view, documents, strict=True))])
        order = np.lexsort((seqs, -scores))[: None if ties else k]
        columns = (numbers, np.concatenate([np.zeros(0, np.int64), *documents]), seqs, scores)
        return list(zip(*(column[order].tolist() for column in columns), strict=True))

    def rank(self, views: Sequence[View], allowed: Sequence[Mask], k: int, identify: Identify) -> list[Ranked]:
        """The best k documents that are allowed and have something of the query, ties by the bytes of the id.

        allowed: for each view the documents. Each is named by its first row.
        """
        found = [
            Ranked(number, first_row(views[number], document), seq, score)
            for number, document, seq, score in self.best(views, allowed, k, ties=True)
        ]
        return break_ties(found, k, identify)


@dataclass(frozen=True)
class WordScores(Listed):
    """Of one query over one snapshot; 0 where a document has no word."""

    bm25: Bm25

    @classmethod
    def of(cls, views: Sequence[View], clauses: Sequence[Clause], spec: LexicalSpec) -> WordScores:
        """Raises Damaged."""
        bm25 = Bm25([view.lexical() for view in views], clauses, spec.fields, spec.weighing)
        return cls([bm25.scores(number) for number in range(len(views))], bm25)

    def narrowed(self, allowed: Sequence[Mask]) -> list[Mask]:
        """Of the documents that are allowed those that have what the query requires, and nothing that it excludes."""
        found = []
        for number, mask in enumerate(allowed):
            demanded = self.bm25.demanded(number)
            found.append(mask if demanded is None else mask & demanded)
        return found


def first_row(view: View, document: int) -> int:
    """Of a document."""
    return view.part.owners.span(document, document + 1)[0]


def document_of(view: View, row: int) -> int:
    """That owns a row."""
    return int(view.part.owners.of(np.array([row], np.int64))[0])
