"""The highlights and explanations of one search's hits: where they answer the query, and why they have their
scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

import numpy as np

from app.boosts.values import Boosts
from app.collection.layers import TOKENS, scored
from app.collection.part import View
from app.collection.spec import CollectionSpec
from app.compute import deadline
from app.compute.workers import Workers
from app.diversity.order import Choice
from app.encoders.prompts import Task
from app.encoders.protocol import TokenPlaces
from app.fusion.hybrid import Fused
from app.highlights.fragments import Highlight, Marking, of_sentence
from app.highlights.hits import by_words
from app.highlights.sentences import Place, nearest
from app.highlights.tokens import Key, Row, RowTokens, tokens_of, trimmed
from app.hits.explanation import Explanation, grids_of, ranks_among, told
from app.query.encoded import EncodedQuery
from app.query.gathering import Explained, Products, Told, Work, gather
from app.query.listed import WordScores, document_of
from app.query.ranking import Ranked
from app.query.scores import MaxSim, Scores, Share, opening_weight
from app.query.sparse import SparseScores
from app.types import F32, I64, Document

T = TypeVar("T")

Places: TypeAlias = Callable[[Sequence[str], Task], "list[TokenPlaces] | None"]
"""``Encoder.token_places``; None where nothing is known."""
Terms: TypeAlias = Callable[[Sequence[int]], "list[str] | None"]
"""``SparseEncoder.terms``; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Shown:
    """highlights, explanation: where they were asked for."""

    highlights: list[Highlight] | None
    explanation: Explanation | None


NOTHING: Final = Shown(None, None)


@dataclass(frozen=True)
class Showing:
    """marking: None for no highlights. explain: whether scores are explained. encoded: None of a search by words alone.
    text: that was encoded, if any was. words, fused, scores, sparse: what the hits were found by. approximate: sequence
    numbers of what an approximate search finds, where that is known. boosts: what was added to scores. chosen: why
    diversified documents are where they are."""

    spec: CollectionSpec
    views: Sequence[View]
    marking: Marking | None
    explain: bool
    encoded: EncodedQuery | None
    text: str | None
    words: WordScores | None
    fused: Fused | None
    scores: Scores | None
    approximate: Set[int] | None
    boosts: Boosts | None
    chosen: Mapping[int, Choice]
    places: Places
    workers: Workers
    sparse: SparseScores | None = None
    terms: Terms | None = None
    """The words of indices, where a model knows them."""

    def of(self, ranked: Sequence[Ranked], documents: Sequence[Document]) -> Iterator[Shown]:
        """The highlights and explanation of each hit. documents: theirs, with their texts. Raises Damaged, TooSlow.

        Tokens are found in two calls of the encoder's tokenizer: of the query, and of a passage or two a hit. Where
        passages stand under headings there may be more calls, one for each heading at most.
        """
        rows = [self._row(item, document) for item, document in zip(ranked, documents, strict=True)]
        openings = [self._opening(row) for row in rows]
        every = [*rows, *(row for row in openings if row is not None)]
        tokens = self._tokens(every)
        asked = self._asked()
        products, added = self._products(every, tokens)
        known = tokens if isinstance(self.scores, MaxSim) else {}
        shares = {key: told(own, asked, known.get(key)) for key, own in added.items()}
        spoken = None
        if self.marking is not None and self.words is not None and self.spec.lexical is not None:
            spoken = by_words(self.words.bm25, self.spec.lexical.analyser, self.marking)
        terms = None
        if self.explain and self.sparse is not None and self.terms is not None:
            terms = self.terms(self.sparse.query.indices.tolist())
        grids: Iterable[list[list[float]]] = [[]] * len(rows)
        if self.explain and isinstance(self.scores, MaxSim):
            grids = grids_of([products.get(row.key) for row in rows], [shares.get(row.key, []) for row in rows])
        ranks = [{}] * len(rows) if self.fused is None or not self.explain else ranks_among(self.fused, ranked)
        sentences = self._sentences(rows, tokens, products)
        each = zip(ranked, rows, openings, ranks, grids, sentences, strict=True)
        for item, row, opening, places, grid, sentence in each:
            deadline.check(deadline.current())
            highlights = explanation = None
            if self.marking is not None:
                highlights = [] if spoken is None else spoken(item.view, row.place, row.document)
                if sentence is not None:
                    start, stop, centre = sentence
                    highlights.append(of_sentence(row.document.text, start, stop, centre, self.marking))
            if self.explain:
                explanation = Explanation(
                    sides=[] if self.fused is None else self.fused.parts(item.seq),
                    ranks=places,
                    terms=[] if self.words is None else self.words.bm25.explain(item.view, row.place),
                    passage=row.number,
                    shares=shares.get(row.key, []),
                    opening=[] if opening is None else shares[opening.key],
                    opening_weight=0.0 if opening is None else opening_weight(row.siblings),
                    approximate=None if self.approximate is None else item.seq in self.approximate,
                    boosts=[] if self.boosts is None else self.boosts.shares(row.part, row.place),
                    indices=[] if self.sparse is None else self.sparse.parts_of(item.view, row.place, terms),
                    diversity=self.chosen.get(item.seq),
                    grid=grid,
                )
            yield Shown(highlights, explanation)

    def _row(self, item: Ranked, document: Document) -> Row:
        view = self.views[item.view]
        return Row(view.part, item.row, document_of(view, item.row), document)

    def _opening(self, row: Row) -> Row | None:
        """The first passage of a document that is scored by it too."""
        if not self.explain or self.scores is None or not self.scores.split or not row.number:
            return None
        return replace(row, row=row.row - row.number)

    def _tokens(self, rows: Sequence[Row]) -> dict[Key, RowTokens]:
        """The tokens that the vectors of these rows stand for, where it is known."""
        wanted = self.marking is not None or isinstance(self.scores, MaxSim)
        known = self.spec.model is not None and scored(self.spec) == TOKENS and not self.spec.pools
        if self.scores is None or not wanted or not known:
            return {}
        found = tokens_of(rows, lambda texts: self.places(texts, "document"))
        return {row.key: own for row, own in zip(rows, found, strict=True) if own is not None}

    def _asked(self) -> list[str] | None:
        """The tokens of the query."""
        if not self.explain or self.text is None or self.encoded is None or not isinstance(self.scores, MaxSim):
            return None
        made = self.places([self.text], "query")
        if made is None or len(made[0].spans) != len(self.encoded.vectors):
            return None
        (places,) = made
        found = []
        for i, (start, stop) in enumerate(places.spans.tolist()):
            found.append(places.names[i] if i in places.names else self.text[slice(*trimmed(self.text, start, stop))])
        return found

    def _products(
        self, rows: Sequence[Row], tokens: Mapping[Key, RowTokens]
    ) -> tuple[dict[Key, F32], dict[Key, list[Share]]]:
        """The products of the query's token vectors with those of the rows of which they are needed, and what each
        query vector adds to the rows' scores, where they are explained."""
        if self.scores is None:
            return {}, {}
        if self.explain and isinstance(self.scores, MaxSim):
            both = list(self._of_rows(rows, Told(self.scores)))
            return {row.key: own for row, (own, _) in both}, {row.key: shares for row, (_, shares) in both}
        shares = {row.key: own for row, own in self._of_rows(rows, Explained(self.scores))} if self.explain else {}
        if self.marking is None or self.encoded is None:
            return {}, shares
        scores = self.scores if isinstance(self.scores, MaxSim) else MaxSim(self.encoded.vectors)
        marked = [row for row in rows if row.key in tokens]
        return {row.key: own for row, own in self._of_rows(marked, Products(scores))}, shares

    def _sentences(
        self, rows: Sequence[Row], tokens: Mapping[Key, RowTokens], products: Mapping[Key, F32]
    ) -> Iterable[Place | None]:
        """Where the sentence of each passage is that means most, of a search by meaning."""
        if self.marking is None or self.encoded is None or self.scores is None:
            return [None] * len(rows)
        return nearest(rows, tokens, products)

    def _of_rows(self, rows: Sequence[Row], work: Work[I64, list[T]]) -> Iterator[tuple[Row, T]]:
        """Each row with the answer to it, for which each part is asked once."""
        parts: dict[int, list[Row]] = {}
        for row in rows:
            parts.setdefault(id(row.part), []).append(row)
        each = list(parts.values())
        asked = [np.array([row.row for row in own], np.int64) for own in each]
        for own, found in zip(each, gather(work, [own[0].part for own in each], asked, self.workers), strict=True):
            yield from zip(own, found, strict=True)
