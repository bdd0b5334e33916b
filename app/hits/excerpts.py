"""The best passages of a document that was found: where they stand in its text, and what each scores by itself."""

from __future__ import annotations

import numpy as np

from app.collection.layers import SPANS
from app.collection.part import Part
from app.compute.workers import Workers
from app.lexical.analysis import Analyser
from app.lexical.bm25 import Bm25
from app.passages.structure import headings_of, pages, path
from app.query.gathering import fast, references
from app.query.scores import Scores
from app.query.sparse import SparseScores
from app.scoring.select import keep_for_top
from app.types import I64, Excerpt


def excerpts(part: Part, place: int, text: str, scores: Scores, most: int, workers: Workers) -> list[Excerpt]:
    """At most ``most`` passages of the document at ``place`` of a part, best first, equal ones in their order.

    text: the document's. A collection whose texts are not split has one passage a text, all of it.
    """
    rows = np.arange(*part.owners.span(place, place + 1))
    if isinstance(scores, SparseScores):
        # Of every row they are known.
        exact = scores.references(part, rows, workers)
    else:
        (column,) = fast(scores, [part], [rows], workers)
        rows = rows[keep_for_top(column.values, column.bounds, most)]
        (exact,) = references(scores, [part], [rows], workers)
    best = np.argsort(-np.array(exact), kind="stable")[:most].tolist()
    spans = _spans(part, rows, text)
    return _made(text, [(*spans[i], exact[i]) for i in best])


def spoken_excerpts(part: Part, place: int, text: str, query: Bm25, analyser: Analyser, most: int) -> list[Excerpt]:
    """The same of a document that was found by words alone: by what of them each passage says."""
    spans = _spans(part, np.arange(*part.owners.span(place, place + 1)), text)
    words = [analyser.words(text[start:stop]) for start, stop in spans]
    told = [query.told(own, analyser.stems(own)) for own in words]
    best = np.argsort(-np.array(told), kind="stable")[:most].tolist()
    return _made(text, [(*spans[i], told[i]) for i in best])


def _spans(part: Part, rows: I64, text: str) -> list[tuple[int, int]]:
    if not part.has(SPANS):
        return [(0, len(text))] * len(rows)
    return [(start, stop) for start, stop in part.flat(SPANS).take(rows).tolist()]


def _made(text: str, best: list[tuple[int, int, float]]) -> list[Excerpt]:
    headings = headings_of(text)
    return [
        Excerpt(
            text[start:stop], start, stop, [one.text for one in path(headings, start)], score, pages(text, start, stop)
        )
        for start, stop, score in best
    ]
