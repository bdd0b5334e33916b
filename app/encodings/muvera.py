"""MUVERA: fixed-dimensional encodings (FDEs) whose inner products approximate MaxSim.

Source: Dhulipala, Hadian, Jayaram, Lee, Mirrokni: "MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings",
2024 (arXiv 2405.19504), section 2. k_sim Gaussian hyperplanes split space into 2^k_sim buckets (SimHash). A query's
bucket is the sum of its vectors there, a document's the mean; each bucket is projected to d_proj dimensions by random
signs / sqrt(d_proj); R_reps independent repetitions stand side by side, (repetition, bucket, coordinate).

Decisions
- A bucket's number is the plain binary code of its signs. The authors' code uses Gray codes; only the order of the
  blocks differs, and Hamming distances are those of the codes themselves.
- An empty bucket of a document is filled with the mean of *all* its vectors at the smallest Hamming distance. The paper
  takes one of them, which would make an encoding depend on the order of equals; the bound (no document above
  R_reps * MaxSim) holds for a mean too, and duplicating every vector changes nothing.
- The nearest vectors are found by a pass over the k_sim bits (``fill_empty``), not by comparing buckets with buckets.
- The same vectors give the same bits, whatever else is in the batch. BLAS rounds differently for other shapes, other
  places in a matrix and other numbers of threads, and a hyperplane's sign turns a last bit into another bucket. So
  each passage lies alone in tiles of ``_TILE`` rows, filled up with zeros: its rows always meet BLAS in the same shape
  at the same place, on one thread. Sums over a bucket add one vector after another in the passage's order.
- Memory is bounded by passages worked on together (``_GROUP_ROWS``, ``_GROUP_VALUES``), never by the batch. A passage
  longer than a group is summed in pieces that are cut from its own start.
- The mean of a collection's vectors may be taken off (``mean``), since vectors that share a large one fall into few
  buckets. Off the documents' vectors it moves every MaxSim of a query by one number, the query's sum times the mean, so
  rankings by MaxSim stay what they are. A query's vectors keep it in their sums, and lose it only where the bucket is
  chosen; the paper's bound does not ask how buckets are chosen, so it holds for the vectors less the mean.
- Random numbers come from ``RandomState``, whose streams NumPy keeps for ever (NEP 19): an encoding that was stored
  by its seed is the same under a later NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from app.compute.blas import keep_to_one_thread
from app.compute.float16 import widen
from app.compute.native import kernel
from app.compute.workers import Workers
from app.encodings.arrays import read_arrays
from app.encodings.sketch import CountSketch
from app.errors import Invalid
from app.types import F32, I64, MAX_DIM, TokenVectors

MAX_ENCODED_DIM = 1 << 20
"""The largest encoding: 4 MiB as float32."""
MAX_WIDE_DIM = 1 << 24
"""The largest encoding before a final projection."""
MAX_HYPERPLANES = 16
MAX_MATRIX_VALUES = 1 << 26
"""The most random numbers in hyperplanes and projections together: 256 MiB as float32."""
MAX_SEED = (1 << 63) - 1

_TILE = 32
"""Rows of every BLAS product: 64 would be a tenth faster, and waste as much on passages that end inside a tile."""
_GROUP_ROWS = 4096
"""Token rows worked on together; a multiple of _TILE."""
_GROUP_VALUES = 1 << 22
"""Values of token rows, and of buckets, worked on together (16 MiB as float32)."""
_SLAB_VALUES = 1 << 15
"""Coordinates of one passage's wide encoding worked on together, in whole repetitions."""


@dataclass(frozen=True, slots=True)
class MuveraParameters:
    """The parameters of an encoding. Raises Invalid for sizes that cannot be.

    >>> MuveraParameters(repetitions=20, hyperplanes=5, projection=16).encoded_dim(384)
    10240
    """

    repetitions: int
    """R_reps, from 1. Each adds a partition of its own: less variance, more dimensions."""
    hyperplanes: int
    """k_sim, from 0 to 16: 2^k_sim buckets a repetition. More of them separate vectors better and leave more empty."""
    projection: int | None = None
    """d_proj, from 1 to the vectors' dim: dimensions that each bucket is projected to. None keeps them all."""
    fill: bool = True
    """Whether a document's empty buckets take its nearest vectors. A query's never do."""
    final_projection: int | None = None
    """d_final: dimensions that the whole encoding is sketched to, at most its own. None keeps them all."""
    seed: int = 0
    """From 0 to 2^63 - 1. Query and document encodings meet only where seeds are equal."""

    def __post_init__(self) -> None:
        _check_integer("repetitions", self.repetitions, 1, MAX_WIDE_DIM)
        _check_integer("hyperplanes", self.hyperplanes, 0, MAX_HYPERPLANES)
        if self.projection is not None:
            _check_integer("projection", self.projection, 1, MAX_DIM)
        if self.final_projection is not None:
            _check_integer("final_projection", self.final_projection, 1, MAX_ENCODED_DIM)
        if not isinstance(self.fill, bool):
            raise Invalid(f"fill: expected true or false, got {self.fill!r}")
        _check_integer("seed", self.seed, 0, MAX_SEED)

    @property
    def buckets(self) -> int:
        """In one repetition."""
        return 1 << self.hyperplanes

    def wide_dim(self, dim: int) -> int:
        """R_reps * 2^k_sim * d_proj: before a final projection."""
        return self.repetitions * self.buckets * (self.projection or dim)

    def encoded_dim(self, dim: int) -> int:
        """Dimensions of the encodings of vectors of ``dim`` dimensions."""
        return self.final_projection or self.wide_dim(dim)


class Muvera:
    """Token vectors of ``dim`` dimensions -> one vector of ``encoded_dim``; see ``Encoding``.

    Safe to use from several threads at once. Bits are equal on one machine for one build of NumPy.

    >>> one_bucket = Muvera(2, MuveraParameters(repetitions=1, hyperplanes=0))
    >>> tokens = TokenVectors.join([np.array([[1, 2], [3, 4]], np.float32)])
    >>> one_bucket.encode_queries(tokens).tolist(), one_bucket.encode_documents(tokens).tolist()
    ([[4.0, 6.0]], [[2.0, 3.0]])
    """

    def __init__(self, dim: int, parameters: MuveraParameters, mean: F32 | None = None) -> None:
        """mean: (dim,) float32, finite, taken off the documents' vectors; None takes nothing off."""
        _check_integer("dim", dim, 1, MAX_DIM)
        self._mean = mean
        self._dim = dim
        self._parameters = p = parameters
        width = p.projection or dim
        wide = p.wide_dim(dim)
        if width > dim:
            raise Invalid(f"projection: expected at most the vectors' dim {dim}, got {width}")
        if wide > MAX_WIDE_DIM:
            raise Invalid(
                f"repetitions * 2^hyperplanes * projection: expected at most {MAX_WIDE_DIM} dimensions, got {wide}"
            )
        if p.encoded_dim(dim) > MAX_ENCODED_DIM:
            raise Invalid(
                f"an encoding may have {MAX_ENCODED_DIM} dimensions, got {wide}; a final_projection makes it smaller"
            )
        if p.final_projection is not None and p.final_projection > wide:
            raise Invalid(f"final_projection: expected at most {wide}, got {p.final_projection}")
        drawn = p.repetitions * dim * (p.hyperplanes + (0 if width == dim else width))
        if drawn > MAX_MATRIX_VALUES:
            raise Invalid(
                f"repetitions * dim * (hyperplanes + projection): expected at most {MAX_MATRIX_VALUES}, got {drawn}"
            )
        self._width = width
        self._slab = min(p.repetitions, max(1, _SLAB_VALUES // (p.buckets * width)))
        # Columns ordered by hyperplane, then repetition: one bit of all codes of a row lies together.
        self._planes = _stream(p.seed, 0).standard_normal((dim, p.hyperplanes * p.repetitions)).astype(np.float32)
        self._signs: list[F32] = []  # a matrix (dim, repetitions * width) a slab; none for the identity
        if width != dim:
            random = _stream(p.seed, 1)
            for first in range(0, p.repetitions, self._slab):
                columns = min(self._slab, p.repetitions - first) * width
                drawn_signs = (random.randint(0, 2, size=(columns, dim)) * 2 - 1) / math.sqrt(width)
                self._signs.append(np.ascontiguousarray(drawn_signs.T, dtype=np.float32))
        self._sketch = None if p.final_projection is None else CountSketch(wide, p.final_projection, _stream(p.seed, 2))

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def encoded_dim(self) -> int:
        return self._parameters.encoded_dim(self._dim)

    @property
    def parameters(self) -> MuveraParameters:
        return self._parameters

    @property
    def mean(self) -> F32 | None:
        """(dim,): what is taken off the documents' vectors."""
        return self._mean

    def encode_documents(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        """(n passages) -> (n, encoded_dim) float32: the mean of each bucket, empty ones filled if so asked."""
        return self._encode(tokens, means=True)

    def encode_queries(self, tokens: TokenVectors, pooled: F32 | None = None, workers: Workers | None = None) -> F32:
        """(n queries) -> (n, encoded_dim) float32: the sum of each bucket."""
        return self._encode(tokens, means=False)

    def to_json(self) -> dict[str, Any]:
        centred = {} if self._mean is None else {"centred": True}  # not named by what was stored before there was one
        return {"type": "muvera", "dim": self._dim, **centred, **asdict(self._parameters)}

    def to_bytes(self) -> bytes:
        """The mean as safetensors, if there is one."""
        return b"" if self._mean is None else save_tensors({"mean": self._mean})

    @classmethod
    def load(cls, description: Mapping[str, Any], content: bytes = b"") -> Muvera:
        """The equal of the encoding whose ``to_json`` and ``to_bytes`` these are. Raises Invalid, Damaged."""
        names = {"type", "dim", *(field.name for field in fields(MuveraParameters))}
        centred = description.get("centred", False)
        known = names | {"centred"} if centred is True else names
        if set(description) != known or description["type"] != "muvera" or (bool(content) and not centred):
            raise Invalid(f"expected type 'muvera' and {sorted(names - {'type'})}, got {dict(description)}")
        values = {name: description[name] for name in names - {"type", "dim"}}
        dim = description["dim"]
        _check_integer("dim", dim, 1, MAX_DIM)
        mean = read_arrays(content, {"mean": (dim,)})["mean"] if centred else None
        return cls(dim, MuveraParameters(**values), mean)

    def _encode(self, tokens: TokenVectors, *, means: bool) -> F32:
        counts = self._checked_counts(tokens)
        keep_to_one_thread()
        out = np.zeros((len(tokens), self.encoded_dim), np.float32)
        row_limit = max(_TILE, min(_GROUP_ROWS, _GROUP_VALUES // self._dim) // _TILE * _TILE)
        passage_limit = max(1, _GROUP_VALUES // (self._slab * self._parameters.buckets * self._width))
        # Overflow and NaN are looked for once, in the result; NumPy's warnings on the way would say it less well.
        with np.errstate(over="ignore", invalid="ignore"):
            for first, last in _groups(counts, row_limit, passage_limit):
                group = tokens.slice(first, last)
                self._encode_group(group, row_limit, means, out[first:last])
                if not np.isfinite(out[first:last]).all():
                    raise _not_finite(group, first)
        return out

    def _checked_counts(self, tokens: TokenVectors) -> I64:
        if tokens.values.ndim != 2 or tokens.dim != self._dim:
            raise Invalid(f"expected vectors of {self._dim} dimensions, got an array of shape {tokens.values.shape}")
        if tokens.values.dtype not in (np.float16, np.float32):
            raise Invalid(f"expected vectors as float16 or float32, got {tokens.values.dtype}")
        counts = tokens.counts
        if len(counts) and counts.min() < 1:
            raise Invalid(f"passage {int(counts.argmin())} has no vectors")
        return counts

    def _encode_group(self, group: TokenVectors, row_limit: int, means: bool, out: F32) -> None:
        """Encode some passages that fit into ``row_limit`` rows together, or one of any length, into ``out``."""
        p = self._parameters
        one_piece = [self._tile(group, means)] if len(group) > 1 or len(group.values) <= row_limit else None
        for slab, first in enumerate(range(0, p.repetitions, self._slab)):
            repetitions = slice(first, min(first + self._slab, p.repetitions))
            n = len(group) * (repetitions.stop - first)
            sums = np.zeros((n * p.buckets, self._width), np.float32)
            counts = np.zeros(n * p.buckets, np.int64)
            for piece in one_piece or (self._tile(piece, means) for piece in _pieces(group, row_limit)):
                sums += self._add_up(piece, repetitions, slab, counts)
            if means:
                if p.fill:
                    fill_empty(sums, counts, p.hyperplanes)
                sums /= np.maximum(counts, 1)[:, None].astype(np.float32)
            block = sums.reshape(len(group), -1)
            start = first * p.buckets * self._width
            if self._sketch is None:
                out[:, start : start + block.shape[1]] = block
            else:
                self._sketch.add(block, start, out)

    def _tile(self, tokens: TokenVectors, documents: bool) -> _Tiled:
        """Lay each passage into tiles of its own and find the bucket of every row in every repetition."""
        p = self._parameters
        counts = tokens.counts
        tiled = _tiled_rows(counts)
        passages = np.repeat(np.arange(len(tokens)), tiled)
        shifts = np.cumsum(tiled) - tiled - tokens.offsets[:-1]
        real = np.arange(len(tokens.values)) + np.repeat(shifts, counts)
        padded = np.zeros((len(passages), self._dim), tokens.values.dtype)
        padded[real] = tokens.values
        rows = widen(padded, np.empty(padded.shape, np.float32))
        placed = rows
        if self._mean is not None:
            placed = rows if documents else rows.copy()
            placed[real] -= self._mean
        codes = np.zeros((len(rows), p.repetitions), np.int32)
        if p.hyperplanes:
            sides = _product(placed, self._planes) > 0
            for bit in range(p.hyperplanes):
                codes |= sides[:, bit * p.repetitions : (bit + 1) * p.repetitions].astype(np.int32) << bit
        return _Tiled(rows, real, passages, codes, len(tokens))

    def _add_up(self, piece: _Tiled, repetitions: slice, slab: int, counts: I64) -> F32:
        """Sums of the buckets, (passages * repetitions * buckets, width); adds the vectors in them to ``counts``."""
        many = repetitions.stop - repetitions.start
        blocks = piece.passages[:, None] * many + np.arange(many)
        buckets = (blocks * self._parameters.buckets + piece.codes[:, repetitions]).astype(np.int32)
        counts += np.bincount(buckets[piece.real].reshape(-1), minlength=len(counts))
        # Column by column, so row by row of the tokens: every bucket adds its vectors one after another, in order.
        # Rows that only fill up a tile are zeros, and add nothing.
        if self._signs:
            values, step = _product(piece.rows, self._signs[slab]).reshape(-1, self._width), 1
        else:
            values, step = piece.rows, many
        added = np.zeros((len(counts), values.shape[1]), np.float32)
        _add_rows(values, buckets.reshape(-1), step, added)
        return added


def loops() -> Iterator[None]:
    """Compiles the loop of this module, or loads it (``native.prepare``)."""
    yield
    Muvera(2, MuveraParameters(repetitions=1, hyperplanes=0)).encode_queries(
        TokenVectors.join([np.eye(2, dtype=np.float32)])
    )


@kernel
def _add_rows(values: F32, buckets: NDArray[np.int32], step: int, out: F32) -> None:
    """Adds values[i // step] to out[buckets[i]], one i after another."""
    for i in range(buckets.shape[0]):
        row, total = values[i // step], out[buckets[i]]
        for k in range(row.shape[0]):
            total[k] += row[k]


@dataclass(frozen=True, slots=True)
class _Tiled:
    """Passages in tiles of their own. rows: (m, dim), zeros where a passage ends inside a tile. real: the rows that
    are vectors. passages: (m,) the passage of each row. codes: (m, R_reps) its bucket in each repetition."""

    rows: F32
    real: I64
    passages: I64
    codes: NDArray[np.int32]
    size: int


def fill_empty(sums: F32, counts: I64, hyperplanes: int) -> None:
    """Give each empty bucket the sum and count of the vectors at the smallest Hamming distance, in place.

    sums: (n * 2^hyperplanes, width); counts: (n * 2^hyperplanes,); n partitions, each with a vector somewhere.

    After the pass over bit j, every bucket has the nearest vectors among the buckets that differ from it in bits 0 to j
    alone, and their distance. Those are the ones with an equal bit j and the ones with the other: two disjoint sets, of
    which the nearer is kept, or both. So k_sim passes do what comparing 2^k_sim buckets with each other would.

    >>> sums, counts = np.array([[2], [0], [9], [0]], np.float32), np.array([1, 0, 3, 0])
    >>> fill_empty(sums, counts, 2)  # 1 is next to 0; 3 is next to 2
    >>> sums.ravel().tolist(), counts.tolist()
    ([2.0, 2.0, 9.0, 9.0], [1, 1, 3, 3])
    """
    distance = np.where(counts > 0, 0, 2 * MAX_HYPERPLANES).astype(np.int8)  # empty: farther than any bucket can be
    for bit in range(hyperplanes):
        pairs = distance.reshape(-1, 2, 1 << bit)
        taking = np.flatnonzero(pairs[:, ::-1] < pairs)
        giving = taking ^ (1 << bit)  # never takes itself in this pass
        both = distance[giving] + 1 == distance[taking]
        sums[taking] = sums[taking] * both[:, None] + sums[giving]
        counts[taking] = counts[taking] * both + counts[giving]
        distance[taking] = distance[giving] + 1


def _product(rows: F32, matrix: F32) -> F32:
    """(m, dim) x (dim, columns), one tile after another, each a BLAS call of the same shape."""
    result: F32 = np.matmul(rows.reshape(-1, _TILE, rows.shape[1]), matrix)
    return result.reshape(len(rows), -1)


def _tiled_rows(counts: I64) -> I64:
    """Rows of the tiles of each passage."""
    return -(-counts // _TILE) * _TILE


def _groups(counts: I64, row_limit: int, passage_limit: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) of the passages that are worked on together: within both limits, or one alone."""
    ends = np.cumsum(_tiled_rows(counts))
    first = 0
    while first < len(counts):
        done = int(ends[first - 1]) if first else 0
        fitting = int(np.searchsorted(ends, done + row_limit, side="right"))
        last = max(first + 1, min(fitting, first + passage_limit))
        yield first, last
        first = last


def _pieces(passage: TokenVectors, row_limit: int) -> Iterator[TokenVectors]:
    """One passage, cut every ``row_limit`` rows from its start."""
    for start in range(0, len(passage.values), row_limit):
        yield TokenVectors.join([passage.values[start : start + row_limit]])


def _stream(seed: int, use: int) -> np.random.RandomState:
    """Independent random numbers for each use of one seed."""
    return np.random.RandomState(np.random.PCG64(np.random.SeedSequence([seed, use])))


def _check_integer(name: str, value: object, smallest: int, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise Invalid(f"{name}: expected an integer from {smallest} to {largest}, got {value!r}")


def _not_finite(group: TokenVectors, first: int) -> Invalid:
    bad = ~np.isfinite(group.values).all(axis=1)
    if bad.any():
        passage = first + int(np.searchsorted(group.offsets, int(bad.argmax()), side="right")) - 1
        return Invalid(f"passage {passage} has a value that is not finite")
    return Invalid(f"one of the passages {first} to {first + len(group) - 1} has values too large to add up in float32")
