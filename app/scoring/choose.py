"""The scorer for a query over passages of one code."""

from __future__ import annotations

import numpy as np

from app.codes.choose import code_for
from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.codes.ward import merges
from app.scoring.maxsim import FloatScorer
from app.scoring.maxsim_codes import CodeScorer
from app.scoring.protocol import Scorer
from app.types import F32, TokenVectors


def scorer(query: F32, code: Code, *, rough: bool = False) -> Scorer:
    """query: (q, dim) float32. rough: half the work and a bound a hundred times as wide, where ``has_rough``."""
    if isinstance(code, GridCode):
        return CodeScorer(query, code, planes=1 if rough else 2)
    return FloatScorer(query)


def has_rough(code: Code) -> bool:
    """Whether passages of this code have a rough pass."""
    return isinstance(code, GridCode)


def prepare() -> None:
    """Compiles every loop that writes and searches use, or loads it: seconds at a first start, .3 at others."""
    query, rows = np.eye(2, dtype=np.float32), np.zeros(1, np.int64)
    for precision in ("float32", "8bit", "1.25bit", "1bit"):
        code = code_for(precision, 2)
        tokens = TokenVectors.join([code.encode(query)])
        made = scorer(query, code)
        made.scores(tokens)
        made.references(tokens, rows, code.norms(tokens.values)[:1])
        code.decode(tokens.values)
    merges(np.eye(3))
