"""The scorer for a query over passages of one code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.codes.choose import code_for
from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.codes.ward import merges
from app.scoring import inner_product, sentences
from app.scoring.maxsim import FloatScorer
from app.scoring.maxsim_codes import CodeScorer
from app.scoring.protocol import Scorer
from app.scoring.similarities import alignment, hyperbolic
from app.types import F32, TokenVectors


def scorer(query: F32, code: Code, *, rough: bool = False) -> Scorer:
    """query: (q, dim) float32. rough: half the work and a bound a hundred times as wide, where ``has_rough``."""
    if isinstance(code, GridCode):
        return CodeScorer(query, code, planes=1 if rough else 2)
    return FloatScorer(query)


def has_rough(code: Code) -> bool:
    """Whether passages of this code have a rough pass."""
    return isinstance(code, GridCode)


def loops() -> Iterator[None]:
    """Compiles every loop of codes and scores, or loads it, one between two of what is yielded (``native.prepare``)."""
    yield
    query, rows = np.eye(2, dtype=np.float32), np.zeros(1, np.int64)
    for precision in ("float32", "8bit", "1.25bit", "1bit"):
        code = code_for(precision, 2)
        tokens = TokenVectors.join([code.encode(query)])
        yield
        made = scorer(query, code)
        made.scores(tokens)
        yield
        made.products(tokens)
        yield
        made.references(tokens, rows, code.norms(tokens.values)[:1])
        yield
        made.best(tokens, np.zeros((2, 2), np.float32), code.norms(tokens.values)[:1])
        yield
        code.decode(tokens.values)
        yield
    yield from inner_product.loops()
    yield from alignment.loops()
    yield from hyperbolic.loops()
    yield from sentences.loops()
    merges(np.eye(3))
