"""The sentence of a passage that is nearest to a query: the one whose token vectors have the largest MaxSim with it.

The vectors are those that are stored, so nothing is encoded. Where nobody knows which of them a sentence has (dense
collections, pooled tokens, callers' own vectors) nothing smaller than a passage was scored: then it is the passage that
is shown, where its document has others.
"""

from __future__ import annotations

import numpy as np

from app.highlights.tokens import Row, RowTokens
from app.passages.structure import sentence_begins
from app.types import F64


def nearest(row: Row, tokens: RowTokens | None, products: F64 | None) -> tuple[int, int, int] | None:
    """Where the sentence begins and ends in the document's text, and where in it is what counts; None where the text
    has nothing to show.

    products: (q, n), of the query's vectors with those of the row.
    """
    text, (start, stop) = row.document.text, row.span
    if tokens is None or products is None:
        return None if row.siblings == 1 else _bare(text, start, stop, start)
    last = tokens.of_text()
    (places,) = np.nonzero(last >= 0)
    if not len(places):
        return None
    begins = np.array([start, *sentence_begins(text, start, stop)])
    sentences = np.searchsorted(begins, last[places], side="right") - 1
    edges = np.flatnonzero(np.diff(sentences, prepend=-1))
    own = products[:, places]
    best = int(np.maximum.reduceat(own, edges, axis=1).sum(axis=0).argmax())
    begin, end = edges[best], edges[best + 1] if best + 1 < len(edges) else len(places)
    centre = int(last[places[begin + int(np.median(own[:, begin:end].argmax(axis=1)))]])
    number = int(sentences[begin])
    return _bare(text, int(begins[number]), int(begins[number + 1]) if number + 1 < len(begins) else stop, centre)


def _bare(text: str, start: int, stop: int, centre: int) -> tuple[int, int, int] | None:
    """Without white space around it."""
    piece = text[start:stop]
    start, stop = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    return None if start >= stop else (start, stop, min(max(centre, start), stop - 1))
