"""The sentence of a passage that is nearest to a query: the one whose token vectors have the largest MaxSim with it.

The vectors are those that are stored, so nothing is encoded. Where nobody knows which of them a sentence has (dense
collections, pooled tokens, callers' own vectors) nothing smaller than a passage was scored: then it is the passage that
is shown, where its document has others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import accumulate, chain
from typing import TypeAlias

import numpy as np

from app.collection.layers import SPANS
from app.highlights.tokens import Key, Row, RowTokens
from app.passages.structure import sentence_begins
from app.scoring.sentences import nearest_sentences
from app.types import F32, I64

Place: TypeAlias = tuple[int, int, int]
"""Where a sentence begins and ends in the document's text, and where in it is what counts."""


def nearest(
    rows: Sequence[Row], tokens: Mapping[Key, RowTokens], products: Mapping[Key, F32]
) -> Iterator[Place | None]:
    """Of each row; None where its text has nothing to show.

    tokens: of the rows of which it is known what their vectors stand for. products: of these (n, q), of the row's
    vectors with those of the query.
    """
    known = [row for row in rows if row.key in products and row.key in tokens and tokens[row.key].text is not None]
    made = iter(_scored(known, tokens, products) if known else ())
    scored = {row.key for row in known}
    for row in rows:
        text, (start, stop) = row.document.text, row.span
        if row.key in scored:
            sentence = next(made)
            yield None if sentence is None else _bare(text, *sentence)
        elif row.key in tokens and row.key in products:
            yield None
        else:
            # Segments of a sequence are no passages of its text.
            yield None if row.siblings == 1 or not row.part.has(SPANS) else _bare(text, start, stop, start)


def _scored(
    rows: Sequence[Row], tokens: Mapping[Key, RowTokens], products: Mapping[Key, F32]
) -> Iterator[Place | None]:
    """Of rows of which both are known. They are compared in one call, for a call costs as much as a row."""
    begins = [[row.span[0], *sentence_begins(row.document.text, *row.span)] for row in rows]
    known = [tokens[row.key] for row in rows]
    matrices = [products[row.key] for row in rows]
    found = nearest_sentences(
        np.concatenate(matrices),
        _ends(matrices),
        np.concatenate([one.places.spans for one in known]),
        np.array([one.text for one in known]),
        np.array(list(chain.from_iterable(begins))),
        _ends(begins),
    )
    for row, own, (sentence, centre) in zip(rows, begins, found.tolist(), strict=True):
        yield None if sentence < 0 else (own[sentence], [*own, row.span[1]][sentence + 1], centre)


def _ends(pieces: Sequence[Sized]) -> I64:
    """Where each begins in a row of them, and the end."""
    return np.array([0, *accumulate(map(len, pieces))])


def _bare(text: str, start: int, stop: int, centre: int) -> Place | None:
    """Without white space around it."""
    piece = text[start:stop]
    start, stop = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    return None if start >= stop else (start, stop, min(max(centre, start), stop - 1))
