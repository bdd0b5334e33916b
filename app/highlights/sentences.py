"""The sentence of a passage that is nearest to a query: the one whose token vectors have the largest MaxSim with it.

The vectors are those that are stored, so nothing is encoded. Where nobody knows which of them a sentence has (dense
collections, pooled tokens, callers' own vectors) nothing smaller than a passage was scored: then it is the passage that
is shown, where its document has others.
"""

from __future__ import annotations

import numpy as np

from app.collection.layers import SPANS
from app.highlights.tokens import Row, RowTokens
from app.passages.structure import sentence_begins
from app.scoring.sentences import nearest_sentence
from app.types import F32


def nearest(row: Row, tokens: RowTokens | None, products: F32 | None) -> tuple[int, int, int] | None:
    """Where the sentence begins and ends in the document's text, and where in it is what counts; None where the text
    has nothing to show.

    products: (n, q), of the row's vectors with those of the query.
    """
    text, (start, stop) = row.document.text, row.span
    if tokens is None or products is None:
        # Segments of a sequence are no passages of its text.
        return None if row.siblings == 1 or not row.part.has(SPANS) else _bare(text, start, stop, start)
    places = tokens.of_text()
    begins = [start, *sentence_begins(text, start, stop)]
    sentence, token = nearest_sentence(products, places, np.array(begins))
    if sentence < 0:
        return None
    return _bare(text, begins[sentence], [*begins, stop][sentence + 1], int(places[token]))


def _bare(text: str, start: int, stop: int, centre: int) -> tuple[int, int, int] | None:
    """Without white space around it."""
    piece = text[start:stop]
    start, stop = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    return None if start >= stop else (start, stop, min(max(centre, start), stop - 1))
