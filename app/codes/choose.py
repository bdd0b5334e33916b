"""Which code a precision names."""

from __future__ import annotations

from functools import lru_cache

from app.codes.floats import FloatCode
from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.types import Precision


@lru_cache(maxsize=64)
def code_for(precision: Precision, dim: int) -> Code:
    """
    >>> code_for("1bit", 384).bytes_per_vector, code_for("float16", 384).bytes_per_vector
    (52, 768)
    """
    if precision == "float16" or precision == "float32":
        return FloatCode(precision, dim)
    return GridCode(precision, dim)
