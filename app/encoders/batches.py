"""From texts to batches of like length, and from batches back to the order that was asked.

A batch is bounded by its padded tokens (rows x the longest row), not by its rows: short texts go together by the
hundred, long ones by a few. It also ends before its padding would cost more than starting another batch does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from app.encoders.protocol import TokenPlaces
from app.errors import EncoderRefused
from app.types import F32, I64, Encoded, Mask, TokenVectors

_TOKEN: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af]|[^\W\u0e00-\U0010ffff]{1,4}|\S"
)


def by_length(lengths: I64, padded_tokens: int, padding: int) -> list[I64]:
    """Rows in batches, longest first, each of at most ``padded_tokens`` with its padding (or of one row).

    lengths: (n,) int64, tokens of each row. padding: the most tokens of a batch that are padding. Gives int64
    arrays that together hold every row once.

    >>> [batch.tolist() for batch in by_length(np.array([2, 9, 2, 5, 2]), 18, 3)]
    [[1], [3, 0], [2, 4]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    while len(order):
        longest = max(1, int(lengths[order[0]]))
        rows = order[: max(1, padded_tokens // longest)]
        wasted = np.cumsum(longest - lengths[rows])
        rows = rows[: max(1, int(np.searchsorted(wasted, padding, side="right")))]
        batches.append(rows)
        order = order[len(rows) :]
    return batches


def gather(dim: int, pooled: Sequence[F32], tokens: Sequence[F32] | None, truncated: Mask) -> Encoded:
    """One answer from what each text gave, in the order of the texts; none gives arrays of no rows.

    pooled: n vectors (dim,). tokens: n matrices (tokens, dim), or None from a dense encoder. truncated: (n,) bool.

    Raises EncoderRefused where a value is not finite.
    """
    empty = np.zeros((0, dim), np.float32)
    dense = np.stack(pooled).astype(np.float32, copy=False) if len(pooled) else empty
    ragged = None
    if tokens is not None:
        ragged = TokenVectors.join(tokens) if len(tokens) else TokenVectors(empty, np.zeros(1, np.int64))
    require_finite(dense)
    if ragged is not None:
        require_finite(ragged.values)
    return Encoded(dense, ragged, truncated)


def require_finite(values: F32) -> None:
    """Raises EncoderRefused where a value is not finite: such a vector would outrank every other."""
    if not np.isfinite(values).all():
        raise EncoderRefused("the model gave a vector with NaN or infinity; its weights or its precision are broken")


def token_places(
    prompted: str, prompt: int, offsets: Sequence[tuple[int, int]] | I64, special: Mapping[int, str]
) -> TokenPlaces:
    """From a tokenizer's offsets. prompted: the text behind its prompt, of so many characters. special: by their place,
    the names of tokens that stand for no text."""
    spans, names = np.array(offsets, np.int64), dict(special)
    if prompt:
        spans -= prompt
        for place in np.flatnonzero(spans[:, 1] <= 0).tolist():
            names.setdefault(place, prompted[slice(*offsets[place])])
        np.maximum(spans, 0, out=spans)
    spans[list(names)] = -1
    return TokenPlaces(spans, names)


def estimated(texts: Sequence[str]) -> list[I64]:
    """Where the tokens of each text begin, in characters, ascending, where no tokenizer tells: rather too many.

    A word counts as a token for each four letters begun, a sign as one, and so does each character of a script that is
    written without spaces.

    >>> [found.tolist() for found in estimated(["Reading it.", "\u6771\u4eac"])]
    [[0, 4, 8, 10], [0, 1]]
    """
    return [np.array([match.start() for match in _TOKEN.finditer(text)], np.int64) for text in texts]
