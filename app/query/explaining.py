"""Why a document has its score: every part of it, adding up to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.collection.part import View
from app.lexical.bm25 import TermScore
from app.query.hybrid import Fused, SideScore
from app.query.ranking import Ranked
from app.query.scores import Scores, Share, opening_weight
from app.query.words import WordScores, document_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """sides: of a hybrid search, each weight * standard; they add up to the score. terms: of BM25, and add up to the
    words' score. shares: of MaxSim, what each vector of the query adds by its best vector of the document (places, from
    0), or of dense vectors the one product; they add up to the score of the document's best passage. opening: likewise
    of the first passage of a text that was split; the document's exact score is opening_weight of it, and the rest of
    the best's."""

    sides: list[SideScore] = field(default_factory=list)
    terms: list[TermScore] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    opening: list[Share] = field(default_factory=list)
    opening_weight: float = 0.0


def explain(
    view: View, found: Ranked, words: WordScores | None, fused: Fused | None, scores: Scores | None
) -> Explanation:
    """view: that has the document. words, fused, scores: what it was found by. Raises Damaged."""
    document = document_of(view, found.row)
    sides = [] if fused is None else fused.parts(found.seq)
    terms = [] if words is None else words.bm25.explain(found.view, document)
    if scores is None:
        return Explanation(sides, terms)
    shares = scores.explain(view.part, found.row)
    first, end = view.part.owners.span(document, document + 1)
    if not scores.split or found.row == first:
        return Explanation(sides, terms, shares)
    return Explanation(sides, terms, shares, scores.explain(view.part, first), opening_weight(end - first))
