"""The options of a new collection's similarity, from what a caller gives: numbers, or the name of a configured file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import Invalid
from app.scoring.similarities.kernels import Kernel
from app.scoring.similarities.measures import MAX_MATRIX, Matrix, Options
from app.types import F32

AT: Final = "/similarity_options"


def options_of(
    matrices: Mapping[str, Path],
    *,
    length: float | None = None,
    matrix: F32 | str | None = None,
    sample: F32 | None = None,
    documents: int | None = None,
    regularisation: float | None = None,
    kernel: Kernel | None = None,
) -> Options:
    """matrices: files of NumPy's, by name. sample: (n, dim), of which a causal matrix is learned here. Raises Invalid,
    with pointers into the body of a creation."""
    found = Options(length=length, regularisation=regularisation, documents=documents, kernel=kernel)
    if (matrix is not None) + (sample is not None) + (documents is not None) > 1:
        raise Invalid.at(AT, "a matrix is given, or learned from a sample, or from the first documents: expected one")
    if sample is not None:
        return found.learned(sample, f"{AT}/sample")
    if matrix is None:
        return found
    given = named(matrix, matrices) if isinstance(matrix, str) else matrix
    if given.size > MAX_MATRIX:
        shape = " x ".join(f"{size:,}" for size in given.shape)
        raise Invalid.at(f"{AT}/matrix", f"expected at most {MAX_MATRIX:,} numbers, got {shape}")
    return replace(found, matrix=Matrix.of(given))


def named(name: str, matrices: Mapping[str, Path]) -> F32:
    """The matrix that the operator configured. Raises Invalid."""
    if name not in matrices:
        there = f"the matrices here are {', '.join(sorted(matrices))}" if matrices else "this server has no matrices"
        raise Invalid.at(f"{AT}/matrix", f"{there} (SHEAF_MATRICES); got {name!r}")
    try:
        found = np.load(matrices[name], allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Invalid.at(f"{AT}/matrix", f"the matrix {name!r} cannot be read: {type(error).__name__}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        raise Invalid.at(f"{AT}/matrix", f"the file of {name!r} holds no matrix of numbers")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)
