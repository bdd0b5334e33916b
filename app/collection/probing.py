"""What an encoding finds among some passages, against their exact order: a check that costs a fraction of a second.

Useful for: saying how well a first stage fits these passages beside those. Not useful for: the recall of a collection
(``app.recall``): among few passages there are few rivals.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.codes.grid import GridCode
from app.encodings.protocol import Encoding
from app.scoring.maxsim_codes import CodeScorer
from app.types import F32, I64, TokenVectors

BEST: Final = 10
SHARE: Final = 20
"""The best ``BEST`` are looked for among one in so many of the passages."""


def exact_best(tokens: TokenVectors, queries: TokenVectors, mean: F32) -> I64:
    """(q, BEST): the rows of largest MaxSim, by codes of 8 bits of the vectors without their mean."""
    code = GridCode("8bit", tokens.dim)
    coded = TokenVectors(code.encode(tokens.values.astype(np.float32) - mean), tokens.offsets)
    scores = np.stack([CodeScorer(query.astype(np.float32), code).scores(coded) for query in queries])
    best: I64 = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
    return best


def width_of(passages: int) -> int:
    """How many of so many passages the best are looked for among."""
    return max(BEST, passages // SHARE)


def share_found(encoding: Encoding, tokens: TokenVectors, queries: TokenVectors, best: I64) -> float:
    """The share of ``best`` among the ``width_of`` best by the encoding; the mean over queries."""
    near = encoding.encode_queries(queries) @ encoding.encode_documents(tokens).T
    first = np.argsort(-near, axis=1, kind="stable")[:, : width_of(len(tokens))]
    return float((best[:, :, None] == first[:, None, :]).any(axis=2).mean())
