"""The sentence of a passage that is nearest to a query: the one whose token vectors have the largest MaxSim with it.

The vectors are those that are stored, so nothing is encoded. Where nobody knows which of them a sentence has (dense
collections, pooled tokens, callers' own vectors) nothing smaller than a passage was scored: then it is the passage that
is shown, where its document has others.
"""

from __future__ import annotations

import numpy as np

from app.highlights.tokens import Row, RowTokens
from app.passages.structure import sentence_begins
from app.types import F32


def nearest(row: Row, tokens: RowTokens | None, products: F32 | None) -> tuple[int, int, int] | None:
    """Where the sentence begins and ends in the document's text, and where in it is what counts; None where the text
    has nothing to show.

    products: (n, q), of the row's vectors with those of the query.
    """
    text, (start, stop) = row.document.text, row.span
    if tokens is None or products is None:
        return None if row.siblings == 1 else _bare(text, start, stop, start)
    last = tokens.of_text()
    (places,) = np.nonzero(last >= 0)
    if not len(places):
        return None
    own, last = products[places], last[places]
    begins = [start, *sentence_begins(text, start, stop)]
    edges = np.searchsorted(last, begins)
    # Of the sentences that have a vector.
    (spoken,) = np.nonzero(np.diff(edges, append=len(last)))
    each = np.maximum.reduceat(own, edges[spoken], axis=0).sum(axis=1)
    best = int(spoken[each.argmax()])
    first, end = [*edges.tolist(), len(last)][best : best + 2]
    # The middle of the best tokens counts.
    middle = sorted(own[first:end].argmax(axis=0).tolist())[own.shape[1] // 2]
    return _bare(text, begins[best], [*begins, stop][best + 1], int(last[first + middle]))


def _bare(text: str, start: int, stop: int, centre: int) -> tuple[int, int, int] | None:
    """Without white space around it."""
    piece = text[start:stop]
    start, stop = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    return None if start >= stop else (start, stop, min(max(centre, start), stop - 1))
