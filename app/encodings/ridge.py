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
- Max-sims are of whole numbers of 8 bits (``features.MaxSims``), which costs no recall and a tenth of the time. Their
  sums, the maps of documents and queries (one order of sums), and every query's kernel alone in BLAS: the same vectors
  give the same bits whatever else is in the batch. Fitting makes no such promise beyond being repeatable.
- K, the samples' Gram matrix, is never multiplied again: (K + ridge I)^-1 totals = weights gives K weights as
  totals - ridge weights.

Cost. A document: landmarks x tokens x dim multiplications of bytes, and landmarks x rank. A query: samples x tokens x
dim, and samples x rank. Fitting: documents' tokens x samples x dim of bytes, samples^3 / 3, samples^2 x (probes +
rank), and 4 bytes x samples x (documents + 2 samples + 2 probes) of memory; and those of documents x landmarks where
what the documents are encoded as is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save as save_tensors

from app.compute.blas import keep_to_one_thread
from app.compute.workers import Workers
from app.encodings.arrays import read_arrays
from app.encodings.features import Gaussian, MaxSims, directions, draw, mean_of, stream
from app.encodings.leading import leading
from app.encodings.mapping import WholeMap, mapped
from app.encodings.solving import Solver, Work
from app.errors import Damaged, Invalid
from app.types import F32, MAX_DIM, TokenVectors

MAX_SAMPLES = 16_384
"""Their Gram matrix is then 1 GiB as float32."""
MAX_SEED = (1 << 63) - 1

SMALLEST_SPREAD = 1e-6
"""Of samples that are all equal."""
_SMALLEST = 1e-6
"""Of the basis's eigenvalues, in units of the largest; below it is rounding."""
_GROUP = 64
"""Documents whose max-sims are held together."""
ALIKE = 0.5
"""The spread of samples below which a byte of each coordinate does not tell them apart."""
LANDMARK_NOISE = 0.1
"""The variance of a document's max-sims beside the covariance, in units of the prior's."""


@dataclass(frozen=True, slots=True)
class RidgeParameters:
    """The parameters of a fit. Raises Invalid for sizes that cannot be."""

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
    """The result of a fit; float32 all, finite.

    samples: (n, dim) directions of length 1, or 0. centre: (dim,), of the samples. spread: (1,), above 0, the root of
    their mean squared distance from it. origin: (dim,), taken off documents' vectors. document_map: (landmarks, rank).
    shift: (rank,), taken off every document. query_map: (n, rank).
    """

    samples: F32
    centre: F32
    spread: F32
    origin: F32
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
        self._sims = MaxSims(arrays.samples[: len(arrays.document_map)], arrays.origin, _planes(arrays.spread[0]))
        middle = -(-len(arrays.samples) // 2)
        self._halves = [_Half(arrays, parameters.bandwidth, part) for part in (slice(middle), slice(middle, None))]

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
    def fit(
        cls,
        documents: TokenVectors,
        queries: TokenVectors,
        parameters: RidgeParameters,
        workers: Workers | None = None,
        check: Callable[[], None] = lambda: None,
        seen: Callable[[F32], None] | None = None,
    ) -> Ridge:
        """Fit on a sample of documents and one of queries (titles, sentences, logged ones; or ``features.windows``).

        Half the samples are drawn from the documents' vectors, half from the queries', as far as there are so many.
        workers: share the work. check: called between its parts, raises to give it up. seen: is given what
        ``encode_documents`` would make of the documents.
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
        p, random, work = parameters, stream(parameters.seed, 0), Work(workers, check)
        samples = directions(draw(documents, queries, p.samples, random))[0]
        probes = queries
        if len(queries) > p.probes:
            probes = queries.take(np.sort(random.permutation(len(queries))[: p.probes]))
        centre = samples.mean(axis=0)
        spread = np.maximum(np.sqrt(np.square(samples - centre).sum(axis=1).mean()), np.float32(SMALLEST_SPREAD))
        kernel = Gaussian(samples, centre, float(spread), p.bandwidth)
        origin = mean_of(documents)

        totals = np.concatenate(work.sliced(len(probes), lambda a, b: kernel.totals(probes.slice(a, b))))
        largest = totals.max()
        if not np.isfinite(largest):
            raise Invalid("the queries' vectors are too large to add up in float32")
        totals /= largest or 1
        scale = np.float32(np.abs(documents.values).max() or 1)
        near = MaxSims(samples, origin, _planes(spread))
        sims = np.concatenate(work.sliced(len(documents), lambda a, b: near(documents.slice(a, b))))
        if not np.isfinite(sims).all():
            raise Invalid("the documents' vectors are too large for inner products in float32")
        count = min(p.landmarks, len(samples))
        met = sims[:, :count].copy() if seen else None
        sims /= scale
        mean = sims.mean(axis=0)
        sims -= mean
        # The prior's covariance is the kernel's, as of ``prior`` documents that vary as much as those seen.
        variance = np.float32(p.prior * (float(np.square(sims).mean()) or 1.0))

        gram: F32 = np.concatenate(work.sliced(len(samples), kernel.gram))
        solved = Solver(gram, p.regularisation, work)
        weights = solved(totals, work)
        full_map, variances, kernel_map = _basis(totals, weights, sims, variance, solved.ridge, p.rank, work)
        if not len(variances):
            raise Invalid(f"bandwidth {p.bandwidth} is too narrow: the samples say nothing about the queries")
        # (S'S + variance K) times the map, of which K times the map is known already.
        crossed = work.product(sims.T, work.product(sims, full_map)) + variance * kernel_map
        query_map = solved(crossed.T, work).T / variances

        document_map = full_map
        if count < len(samples):
            part = np.ascontiguousarray(sims[:, :count])
            inner = work.symmetric(part.T, part) + variance * gram[:count, :count]
            document_map = Solver(inner, float(variance) * LANDMARK_NOISE, work)(crossed[:count].T, work).T
        shift = mean[:count] @ document_map
        with np.errstate(over="ignore"):
            found = samples, centre, spread.reshape(1), origin, document_map / scale, shift, query_map * scale
        if not all(np.isfinite(array).all() for array in found):
            raise Invalid("the documents' vectors are too large for inner products in float32")
        ridge = cls(p, RidgeArrays(*map(np.ascontiguousarray, found)))
        if seen and met is not None:
            seen(np.concatenate(work.sliced(len(met), lambda a, b: ridge._coordinates(met[a:b]))))
        return ridge

    def encode_documents(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        """(n passages) -> (n, encoded_dim) float32: max-sims with the landmarks, mapped."""
        self._check(tokens)
        parts = [
            self._coordinates(self._sims(group))
            for group in (
                tokens.slice(first, min(first + _GROUP, len(tokens))) for first in range(0, len(tokens), _GROUP)
            )
        ]
        return self._finite(np.concatenate([np.empty((0, self.encoded_dim), np.float32), *parts]))

    def _coordinates(self, sims: F32) -> F32:
        return mapped(sims, self._arrays.document_map) - self._arrays.shift

    def encode_queries(self, tokens: TokenVectors, pooled: F32 | None = None, workers: Workers | None = None) -> F32:
        """(n queries) -> (n, encoded_dim) float32: the sum of the kernel's features, mapped."""
        self._check(tokens)
        keep_to_one_thread()

        def part(first: int, last: int) -> list[F32]:
            with np.errstate(over="ignore", invalid="ignore"):
                return [half(tokens) for half in self._halves[first:last]]

        halves = part(0, 2) if workers is None else [h for piece in workers.map_slices(2, part) for h in piece]
        return self._finite(np.sum(halves, axis=0))

    def reduced(self, rank: int) -> Ridge:
        """The same fit at a lesser rank: its first coordinates. Raises Invalid for more than there are."""
        if not 1 <= rank <= self.encoded_dim:
            raise Invalid(f"rank: expected 1 to {self.encoded_dim}, got {rank}")
        names = ("document_map", "query_map", "shift")
        cut = {name: np.ascontiguousarray(getattr(self._arrays, name)[..., :rank]) for name in names}
        return Ridge(replace(self._parameters, rank=rank), replace(self._arrays, **cut))

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
                "origin": (dim,),
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

    def _check(self, tokens: TokenVectors) -> None:
        _check(tokens, self.dim)
        _check_finite(tokens)

    def _finite(self, out: F32) -> F32:
        bad = ~np.isfinite(out).all(axis=1)
        if bad.any():
            raise Invalid(f"passage {int(bad.argmax())} has values too large to add up in float32")
        return out


class _Half:
    """The map of queries, for half of the samples: always the same half, whether one thread computes both."""

    def __init__(self, arrays: RidgeArrays, bandwidth: float, part: slice) -> None:
        self._kernel = Gaussian(arrays.samples[part], arrays.centre, float(arrays.spread[0]), bandwidth)
        self._map = WholeMap(arrays.query_map[part])
        self._samples = len(arrays.query_map[part])

    def __call__(self, tokens: TokenVectors) -> F32:
        features = np.empty((len(tokens), self._samples), np.float32)
        for row, query in enumerate(tokens):
            features[row] = self._kernel.total(query)
        return self._map(features)


def _basis(
    totals: F32, weights: F32, sims: F32, variance: np.float32, ridge: np.float32, rank: int, work: Work
) -> tuple[F32, F32, F32]:
    """The best basis of the documents' predicted scores for the probes.

    totals, weights: (probes, n), the probes' features, and (K + ridge I)^-1 times them: what each sample's max-sim
    counts in the score of a probe. sims: (documents, n). Returns the map from max-sims to coordinates, (n, rank), the
    coordinates' sums of squares over documents, fitted and prior, (rank,), and K times the map.
    """
    scores = work.product(weights, np.ascontiguousarray(sims.T))
    # weights K weights', where K weights' = totals' - ridge weights': no product with K.
    prior = work.symmetric(weights, np.ascontiguousarray((totals - ridge * weights).T))
    covariance: F32 = work.symmetric(scores, np.ascontiguousarray(scores.T)) + variance * prior
    values, vectors = leading(covariance, rank, work.product)
    kept = values > values[0] * _SMALLEST
    vectors, values = vectors[:, kept], values[kept]
    full_map = weights.T @ vectors
    return full_map, values, totals.T @ vectors - ridge * full_map


def _planes(spread: Any) -> Literal[1, 2]:
    return 2 if spread < ALIKE else 1


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
