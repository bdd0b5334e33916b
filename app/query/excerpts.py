"""The best passages of a document that was found: where they stand in its text, and what each scores by itself."""

from __future__ import annotations

import numpy as np

from app.collection.layers import SPANS
from app.collection.part import Part
from app.compute.workers import Workers
from app.passages.structure import headings_of, path
from app.query.scores import Scores
from app.scoring.select import keep_for_top
from app.types import Excerpt


def excerpts(part: Part, place: int, text: str, scores: Scores, most: int, workers: Workers) -> list[Excerpt]:
    """At most ``most`` passages of the document at ``place`` of a part, best first, equal ones in their order.

    text: the document's. A collection whose texts are not split has one passage a text, all of it.
    """
    rows = np.arange(*part.owners.span(place, place + 1))
    column = scores.fast(part, rows, workers)
    rows = rows[keep_for_top(column.values, column.bounds, most)]
    exact = scores.references(part, rows, workers)
    best = np.argsort(-np.array(exact), kind="stable")[:most].tolist()
    spans = part.flat(SPANS).take(rows).tolist() if part.has(SPANS) else [[0, len(text)]] * len(rows)
    headings = headings_of(text)
    found = []
    for i in best:
        start, stop = spans[i]
        under = [heading.text for heading in path(headings, start)]
        found.append(Excerpt(text[start:stop], start, stop, under, exact[i]))
    return found
