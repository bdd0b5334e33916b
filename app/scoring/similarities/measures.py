"""The similarities by name, and what is decided of one at the creation of a collection."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from app.errors import Invalid
from app.scoring.similarities.bilinear import REGULARISATION, Bilinear, Causal, Uncausal, causal_matrix
from app.scoring.similarities.hyperbolic import Lorentz, Poincare
from app.scoring.similarities.kernels import Kernel
from app.scoring.similarity import Cosine, Euclidean, InnerProduct, Similarity
from app.types import F32, MAX_DIM, SimilarityName

MAX_MATRIX: Final = 2**22
"""Numbers of a matrix: 16 MiB."""
MAX_DOCUMENTS: Final = 2_000
"""Documents that a causal matrix may be learned from. A first stage is learned from as many or more, of queries as they
are asked then."""
LENGTHS: Final = (1e-3, 1e6)
"""Of vectors under euclidean, the usual one."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """(rows, columns) float32, as base64 of its little-endian numbers, row after row."""

    rows: int
    columns: int
    numbers: str

    @classmethod
    def of(cls, matrix: F32) -> Matrix:
        rows, columns = matrix.shape
        return cls(rows, columns, base64.b64encode(matrix.astype("<f4").tobytes()).decode())

    @property
    def array(self) -> F32:
        numbers = np.frombuffer(base64.b64decode(self.numbers, validate=True), "<f4")
        return numbers.astype(np.float32).reshape(self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class Options:
    """length: of euclidean. matrix: of bilinear, (query_dim, dim), and of causal, once it is learned. regularisation:
    of causal. documents: from how many of the collection the causal matrix is learned; None where a sample was given.
    of: how many vectors it was learned from. kernel: of distances in MaxSim, of cosine and euclidean."""

    length: float | None = None
    matrix: Matrix | None = None
    regularisation: float | None = None
    documents: int | None = None
    of: int | None = None
    kernel: Kernel | None = None

    @property
    def waits(self) -> bool:
        """Whether a matrix is to be learned from documents yet."""
        return self.documents is not None and self.matrix is None

    def learned(self, sample: F32, at: str = "") -> Options:
        """With the causal matrix of (n, dim) vectors. Raises Invalid."""
        share = REGULARISATION if self.regularisation is None else self.regularisation
        matrix = Matrix.of(causal_matrix(sample, share, at))
        return replace(self, matrix=matrix, regularisation=share, of=len(sample))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Options:
        matrix = value["matrix"]
        kernel = value.get("kernel")
        made = {"matrix": None if matrix is None else Matrix(**matrix)}
        return cls(**{**value, **made, "kernel": None if kernel is None else Kernel(**kernel)})


NONE: Final = Options()
NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "cosine": frozenset({"kernel"}),
    "euclidean": frozenset({"length", "kernel"}),
    "bilinear": frozenset({"matrix"}),
    "causal": frozenset({"matrix", "regularisation", "documents", "of"}),
}
"""The options that a similarity has; the others have none."""
_MADE: Final[Mapping[SimilarityName, Callable[[Options], Similarity]]] = {
    "cosine": lambda options: Cosine(),
    "inner_product": lambda options: InnerProduct(),
    "euclidean": lambda options: Euclidean(1.0 if options.length is None else options.length),
    "bilinear": lambda options: Bilinear(_matrix(options)),
    "causal": lambda options: Uncausal() if options.matrix is None else Causal(_matrix(options)),
    "lorentz": lambda options: Lorentz(),
    "poincare": lambda options: Poincare(),
}
SIMILARITIES: Final = tuple(_MADE)
"""Their names."""


@lru_cache(maxsize=64)
def similarity(name: SimilarityName, options: Options = NONE) -> Similarity:
    """
    >>> similarity("cosine").name, similarity("euclidean", Options(length=2.0)).stored_dim(3)
    ('cosine', 5)
    """
    return _MADE[name](options)


def check_options(name: SimilarityName, options: Options, dim: int, at: str = "/similarity_options") -> None:
    """Raises Invalid for options that the similarity has not, or without which it is none, or of other vectors. dim: of
    documents' vectors."""
    able = NEEDED.get(name, frozenset())
    for field in ("length", "matrix", "regularisation", "documents", "of", "kernel"):
        if getattr(options, field) is not None and field not in able:
            raise Invalid.at(f"{at}/{field}", f"{name} has {', '.join(sorted(able - {'of'})) or 'no options'}")
    if options.kernel is not None:
        options.kernel.check(f"{at}/kernel")
    if options.length is not None and not LENGTHS[0] <= options.length <= LENGTHS[1]:
        raise Invalid.at(f"{at}/length", f"expected {LENGTHS[0]:g} to {LENGTHS[1]:g}, got {options.length:g}")
    if options.regularisation is not None and not 0 <= options.regularisation <= 1e6:
        raise Invalid.at(f"{at}/regularisation", f"expected 0 to 1,000,000, got {options.regularisation:g}")
    if options.documents is not None and options.regularisation == 0:
        raise Invalid.at(f"{at}/regularisation", "expected more than 0: the first documents may leave a direction out")
    if options.documents is not None and not 2 <= options.documents <= MAX_DOCUMENTS:
        raise Invalid.at(f"{at}/documents", f"expected 2 to {MAX_DOCUMENTS:,} documents, got {options.documents:,}")
    if name == "bilinear" and options.matrix is None:
        raise Invalid.at(f"{at}/matrix", "required: bilinear is <q, M d>, and M is given")
    if name == "causal" and options.matrix is None and options.documents is None:
        raise Invalid.at(at, "causal is learned from a sample of vectors, or from the first documents: give either")
    if options.matrix is not None:
        rows, columns = options.matrix.rows, options.matrix.columns
        if columns != dim:
            raise Invalid.at(
                f"{at}/matrix", f"expected {dim:,} columns, the dimensions of documents' vectors, got {columns:,}"
            )
        if not 1 <= rows <= MAX_DIM or rows * columns > MAX_MATRIX:
            raise Invalid.at(f"{at}/matrix", f"expected at most {MAX_MATRIX:,} numbers, got {rows:,} x {columns:,}")
        if not np.isfinite(_matrix(options)).all():
            raise Invalid.at(f"{at}/matrix", "expected finite numbers")


def _matrix(options: Options) -> F32:
    assert options.matrix is not None, "it was checked"
    return options.matrix.array
