"""Which code a precision names, and which precision a collection has that names none."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from app.codes.floats import FloatCode
from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.types import Precision, SimilarityName

CODE_BYTES: Final = 64
"""The bytes of a vector's codes by default, where they can; see docs/decisions.md for the measurement behind it."""


@lru_cache(maxsize=64)
def code_for(precision: Precision, dim: int) -> Code:
    """
    >>> code_for("1bit", 384).bytes_per_vector, code_for("float16", 384).bytes_per_vector
    (52, 768)
    """
    if precision == "float16" or precision == "float32":
        return FloatCode(precision, dim)
    return GridCode(precision, dim)


def default_precision(dim: int, similarity: SimilarityName) -> Precision:
    """8, 4 or 2 bits, the most whose codes take no more than ``CODE_BYTES`` and a scale, else 1.25; float16 where it
    takes no more than they do.

    Vectors of unbounded length come from models that we have not measured: they are kept as they are.

    >>> [default_precision(dim, "cosine") for dim in (4, 64, 128, 256, 384, 1024)]
    ['float16', '8bit', '4bit', '2bit', '1.25bit', '1.25bit']
    """
    if similarity != "cosine":
        return "float32"
    wide: tuple[Precision, ...] = ("8bit", "4bit", "2bit")
    found: Precision = next(
        (named for named in wide if code_for(named, dim).bytes_per_vector <= CODE_BYTES + 4), "1.25bit"
    )
    half = code_for("float16", dim).bytes_per_vector <= code_for(found, dim).bytes_per_vector
    return "float16" if half else found
