"""Learned fixed-dimensional encodings: MaxSim as a sum of functions of one query vector, each fitted in closed form.

MaxSim is additive over the query: score(Q, d) = sum over t in Q of g_d(t), where g_d(t) = max over d's vectors x of
<t, x>. LEMUR (arXiv 2601.21853) learns g_d; in its training-free form by ridge regression on features of sampled
query-like vectors. Then the document vector is the solution w_d, the query vector the sum of its features.

Deviations, each measured on SciFact (recall@100 of the exact top 10, 128 dims; more in scripts/bench_first_stage.py)
- The features are a kernel's, not random GELU units with layer norm: kernel ridge regression (Saunders, Gammerman,
  Vovk 1998) with the samples themselves as centres. On the same 4,096 samples: 1,024 GELU features .925, 1,024
  kernel features .962, all 4,096 of them .985. A wide Gaussian, since g_d is smooth: nearly a quadratic form.
- Of the n numbers that a document then has, ``rank`` are kept, chosen for whole queries and not for single vectors:
  the best basis of the predicted scores of ``probes``, groups of vectors as they come in one query. At rank 128 that is
  .942, and .894 for a basis of single vectors.
- Documents that come later are not in the fit. So the covariance of documents that the basis is made from is that of
  the fitted ones plus that of ``prior`` documents drawn from the regression's own prior (a Gaussian process).
- A document need not be compared with every sample: its coordinates are regressed on its max-sims with the first
  ``landmarks`` of them, under the same covariance. That cuts the cost of encoding a document in proportion: half of
  8,192 cost nothing, a quarter .002 at rank 256 and .003 at 1,024, an eighth .009 and .011.

How it is laid out
- g_d(a t) = a g_d(t) for a > 0, so functions are of directions, and a query's vector counts by its length. Directions
  are centred and scaled to 1 before the kernel: vectors that share a large mean lose nothing.
- Scores come out less a number that is the same for all documents (each sample's mean over documents is taken off).
- Coordinates have equal weight for a mean query. So a uniform code of a document is best when its error is equal in
  every coordinate; their variances fall steeply, and a code may give later ones fewer bits.
- Every passage and every query meets BLAS alone, in shapes that its own size decides, on one thread: the same vectors
  give the same bits whatever else is in the batch. Fitting makes no such promise beyond being repeatable.

Cost. A document: landmarks x tokens x dim multiplications, and landmarks x rank. A query: samples x tokens x dim, and
samples x rank. Fitting: documents' tokens x samples x dim, samples^3 / 3, and 4 bytes x samples x (documents + samples)
of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors
from scipy.linalg import cho_factor, cho_solve

from app.blas import keep_to_one_thread
from app.encodings.arrays import read_arrays
from app.encodings.features import Gaussian, directions, draw, max_sims, stream
from app.errors import Damaged, Invalid
from app.types import F32, MAX_DIM, TokenVectors

MAX_SAMPLES = 16_384
"""Their Gram matrix is then 1 GiB as float32."""
MAX_SEED = (1 << 63) - 1

_ROUNDING = 4e-7
"""float32's error in a Gram matrix, relative to its trace, which no eigenvalue exceeds."""
SMALLEST_SPREAD = 1e-6
"""Of samples that are all equal."""
LANDMARK_NOISE = 0.1
"""What a document's max-sims vary by beside the covariance, in units of the prior's."""


@dataclass(frozen=True, slots=True)
class RidgeParameters:
    """What an encoding is fitted with. Raises Invalid for sizes that cannot be."""

    rank: int = 256
    """Dimensions of the encodings, at most; fewer where the fit has fewer."""
    samples: int = 8_192
    """n: query-like vectors that are fitted on, at most. More of them help more than anything else."""
    landmarks: int = 4_096
    """Samples that a document is compared with, at most; as many as there are samples: all, and no regression."""
    probes: int = 2_048
    """Queries that the basis is chosen for, at most; should be several times the rank."""
    bandwidth: float = 1.0
    """Of the Gaussian, in units of the directions' spread, from .1 to 100."""
    regularisation: float = 0.003
    """lambda, added to the Gram matrix's diagonal of ones, from 1e-4 to 100."""
    prior: float = 50.0
    """Documents that the prior counts for in the basis, from .001 to 1e6."""
    seed: int = 0
    """From 0 to 2^63 - 1: which vectors are sampled."""

    def __post_init__(self) -> None:
        _check_integer("rank", self.rank, 1, MAX_SAMPLES)
        _check_integer("samples", self.samples, 1, MAX_SAMPLES)
        _check_integer("landmarks", self.landmarks, 1, MAX_SAMPLES)
        _check_integer("probes", self.probes, 1, MAX_SAMPLES)
        _check_number("bandwidth", self.bandwidth, 0.1, 100)
        _check_number("regularisation", self.regularisation, 1e-4, 100)
        _check_number("prior", self.prior, 1e-3, 1e6)
        _check_integer("seed", self.seed, 0, MAX_SEED)


@dataclass(frozen=True, slots=True)
class RidgeArrays:
    """What a fit found; float32 all, finite.

    samples: (n, dim) directions of length 1, or 0. centre: (dim,), of the samples. spread: (1,), above 0, the root of
    their mean squared distance from it. document_map: (landmarks, rank). shift: (rank,), taken off every document.
    query_map: (n, rank).
    """

    samples: F32
    centre: F32
    spread: F32
    document_map: F32
    shift: F32
    query_map: F32


class Ridge:
    """Token vectors of ``dim`` dimensions -> one vector of ``encoded_dim``; see ``Encoding`` and ``fit``.

    Safe to use from several threads at once. Bits are equal on one machine for one build of NumPy.

    >>> documents = TokenVectors.join([np.eye(4, dtype=np.float32)[i : i + 2] for i in range(3)])
    >>> ridge = Ridge.fit(documents, documents, RidgeParameters(rank=3))
    >>> scores = ridge.encode_queries(documents) @ ridge.encode_documents(documents).T
    >>> scores.argmax(axis=1).tolist()
    [0, 1, 2]
    """

    def __init__(self, parameters: RidgeParameters, arrays: RidgeArrays) -> None:
        self._parameters = parameters
        self._arrays = arrays
        self._landmarks = arrays.samples[: len(arrays.document_map)]
        self._kernel = Gaussian(arrays.samples, arrays.centre, float(arrays.spread[0]), parameters.bandwidth)

    @property
    def dim(self) -> int:
        return int(self._arrays.samples.shape[1])

    @property
    def encoded_dim(self) -> int:
        return int(self._arrays.query_map.shape[1])

    @property
    def parameters(self) -> RidgeParameters:
        return self._parameters

    @classmethod
    def fit(cls, documents: TokenVectors, queries: TokenVectors, parameters: RidgeParameters) -> Ridge:
        """Fit on a sample of documents and one of queries (titles, sentences, logged ones; or ``features.windows``).

        Half the samples are drawn from the documents' vectors, half from the queries', as far as there are so many.
        Raises Invalid for no documents or no queries, passages without vectors, dims that differ, values not finite.
        """
        for tokens in (documents, queries):
            _check(tokens, documents.dim)
            if not len(tokens):
                raise Invalid("expected at least one document and one query to fit on")
            _check_finite(tokens)
        if not queries.values.any():
            raise Invalid("expected queries to fit on that are not all zero")
        keep_to_one_thread()
        p, random = parameters, stream(parameters.seed, 0)
        samples = directions(draw(documents, queries, p.samples, random))[0]
        probes = queries
        if len(queries) > p.probes:
            probes = queries.take(np.sort(random.permutation(len(queries))[: p.probes]))
        centre = samples.mean(axis=0)
        spread = np.maximum(np.sqrt(np.square(samples - centre).sum(axis=1).mean()), np.float32(SMALLEST_SPREAD))
        kernel = Gaussian(samples, centre, float(spread), p.bandwidth)
        gram = kernel.gram()
        solved = _Solver(gram, p.regularisation)
        totals = np.stack([kernel.total(probe) for probe in probes], axis=1)
        largest = totals.max()
        if not np.isfinite(largest):
            raise Invalid("the queries' vectors are too large to add up in float32")
        weights = solved(totals / (largest or 1)).T
        scale = np.float32(np.abs(documents.values).max() or 1)
        sims = np.empty((len(documents), len(samples)), np.float32)
        for row, passage in enumerate(documents):
            with np.errstate(over="ignore", invalid="ignore"):
                sims[row] = max_sims(passage, samples)
        if not np.isfinite(sims).all():
            raise Invalid("the documents' vectors are too large for inner products in float32")
        sims /= scale
        mean = sims.mean(axis=0)
        sims -= mean
        # The prior's covariance is the kernel's, as of ``prior`` documents that vary as much as those seen.
        variance = p.prior * (float(np.square(sims).mean()) or 1.0)
        full_map, variances = _basis(weights, sims, variance, gram, p.rank)
        if not len(variances):
            raise Invalid(f"bandwidth {p.bandwidth} is too narrow: the samples say nothing about the queries")
        crossed = sims.T @ (sims @ full_map) + np.float32(variance) * (gram @ full_map)
        query_map = solved(crossed) / variances

        count = min(p.landmarks, len(samples))
        document_map = full_map
        if count < len(samples):
            near = sims[:, :count]
            seen = near.T @ near + np.float32(variance) * gram[:count, :count]
            document_map = _Solver(seen, variance * LANDMARK_NOISE)(crossed[:count])
        shift = mean[:count] @ document_map
        found = samples, centre, spread.reshape(1), document_map / scale, shift, query_map * scale
        # In the order in which they will be read again: a product with columns may round otherwise than one with rows.
        return cls(p, RidgeArrays(*map(np.ascontiguousarray, found)))

    def encode_documents(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        """(n passages) -> (n, encoded_dim) float32: max-sims with the landmarks, mapped."""
        arrays = self._arrays
        return self._encode(tokens, lambda p: max_sims(p, self._landmarks) @ arrays.document_map - arrays.shift)

    def encode_queries(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        """(n queries) -> (n, encoded_dim) float32: the sum of the kernel's features, mapped."""
        return self._encode(tokens, lambda q: self._kernel.total(q) @ self._arrays.query_map)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, which ``to_bytes`` gives."""
        return {"type": "ridge", "dim": self.dim, "encoded_dim": self.encoded_dim, **asdict(self._parameters)}

    def to_bytes(self) -> bytes:
        """The arrays, as safetensors."""
        return save_tensors({field.name: getattr(self._arrays, field.name) for field in fields(RidgeArrays)})

    @classmethod
    def load(cls, description: Mapping[str, Any], content: bytes) -> Ridge:
        """The equal of the encoding whose ``to_json`` and ``to_bytes`` these are.

        Raises Invalid for another description, Damaged for a content that cannot be its arrays.
        """
        names = {"type", "dim", "encoded_dim", *(field.name for field in fields(RidgeParameters))}
        if set(description) != names or description["type"] != "ridge":
            raise Invalid(f"expected type 'ridge' and {sorted(names - {'type'})}, got {dict(description)}")
        parameters = RidgeParameters(**{field.name: description[field.name] for field in fields(RidgeParameters)})
        dim, rank = description["dim"], description["encoded_dim"]
        found = read_arrays(
            content,
            {
                "samples": (None, dim),
                "centre": (dim,),
                "spread": (1,),
                "document_map": (None, rank),
                "shift": (rank,),
                "query_map": (None, rank),
            },
        )
        samples, landmarks = len(found["samples"]), len(found["document_map"])
        if len(found["query_map"]) != samples or not 0 < landmarks <= samples:
            raise Damaged(f"the encoding's arrays do not fit {dict(description)}")
        if not found["spread"][0] > 0:
            raise Damaged("the encoding's spread is not above 0")
        return cls(parameters, RidgeArrays(**found))

    def _encode(self, tokens: TokenVectors, encode: Callable[[NDArray[Any]], F32]) -> F32:
        _check(tokens, self.dim)
        keep_to_one_thread()
        out = np.empty((len(tokens), self.encoded_dim), np.float32)
        # Overflow and NaN are looked for once, in the result; NumPy's warnings on the way would say it less well.
        with np.errstate(over="ignore", invalid="ignore"):
            for row, passage in enumerate(tokens):
                out[row] = encode(passage)
        if not np.isfinite(out).all():
            _check_finite(tokens)
            row = int((~np.isfinite(out)).any(axis=1).argmax())
            raise Invalid(f"passage {row} has values too large to add up in float32")
        return out


class _Solver:
    """(gram + ridge I)^-1, for one positive semidefinite (n, n) float32 matrix."""

    def __init__(self, gram: F32, ridge: float) -> None:
        raised = gram.copy()
        # Rounding may take the smallest eigenvalues below 0, by a share of the largest.
        raised[np.diag_indices(len(gram))] += np.float32(ridge + _ROUNDING * float(np.trace(gram)))
        self._factor = cho_factor(raised, lower=True, overwrite_a=True, check_finite=False)

    def __call__(self, right: F32) -> F32:
        solved: F32 = cho_solve(self._factor, right, check_finite=False)
        return solved


def _basis(weights: F32, sims: F32, variance: float, gram: F32, rank: int) -> tuple[F32, F32]:
    """The best basis of the documents' predicted scores for the probes.

    weights: (probes, n), of each sample's max-sim in the score of a probe. sims: (documents, n). Returns the map from
    max-sims to coordinates, (n, rank), and the coordinates' sums of squares over documents, fitted and prior, (rank,).
    """
    scores = weights @ sims.T
    covariance = (scores @ scores.T + np.float32(variance) * (weights @ gram @ weights.T)).astype(np.float64)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = np.flatnonzero(values > values[-1] * 1e-7)[::-1][:rank]
    return weights.T @ vectors[:, kept].astype(np.float32), values[kept].astype(np.float32)


def _check(tokens: TokenVectors, dim: int) -> None:
    if tokens.values.ndim != 2 or tokens.dim != dim or not 1 <= dim <= MAX_DIM:
        raise Invalid(f"expected vectors of {dim} dimensions, got an array of shape {tokens.values.shape}")
    if tokens.values.dtype not in (np.float16, np.float32):
        raise Invalid(f"expected vectors as float16 or float32, got {tokens.values.dtype}")
    counts = tokens.counts
    if len(counts) and counts.min() < 1:
        raise Invalid(f"passage {int(counts.argmin())} has no vectors")


def _check_finite(tokens: TokenVectors) -> None:
    bad = ~np.isfinite(tokens.values).all(axis=1)
    if bad.any():
        passage = int(np.searchsorted(tokens.offsets, int(bad.argmax()), side="right")) - 1
        raise Invalid(f"passage {passage} has a value that is not finite")


def _check_integer(name: str, value: object, smallest: int, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise Invalid(f"{name}: expected an integer from {smallest} to {largest}, got {value!r}")


def _check_number(name: str, value: object, smallest: float, largest: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not smallest <= value <= largest:
        raise Invalid(f"{name}: expected a number from {smallest} to {largest}, got {value!r}")
