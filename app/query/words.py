"""Documents by their words: scores of all, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.collection.part import View
from app.collection.spec import LexicalSpec
from app.lexical.bm25 import Bm25
from app.lexical.clauses import Clause
from app.query.listed import Listed
from app.types import Mask


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
