"""The scorer for a query over passages of one code."""

from __future__ import annotations

from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.scoring.maxsim import FloatScorer
from app.scoring.maxsim_codes import CodeScorer
from app.scoring.protocol import Scorer
from app.types import F32


def scorer(query: F32, code: Code) -> Scorer:
    """query: (q, dim) float32."""
    return CodeScorer(query, code) if isinstance(code, GridCode) else FloatScorer(query)
