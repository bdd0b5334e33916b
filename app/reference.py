"""The whole search on one page, in NumPy over plain arrays: a lesson for readers, and the oracle of the fast paths.

Encoding a text is given; everything after it is here, in the order in which data takes it: vectors are normalised,
turned and coded; a first stage proposes passages; exact scores order the documents. Nothing here is fast, shares work,
or cares for memory. tests/test_reference.py holds the service's exact answers, and each compiled kernel, to it.

A *passage* is a matrix (tokens, dim) float32; a document is a list of passages. Where a function says "to the bit", its
fast twin gives the same bits on every machine; the others agree up to rounding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.uint8]

TABLE: Final[NDArray[np.int8]] = np.load(Path(__file__).parent / "codes" / "trellis.npy", allow_pickle=False)
"""(32, 32, 4): the four numbers that a code of 1.25 bits stands for, by the code before it and itself."""
BITS: Final = {"8bit": 8, "4bit": 4, "2bit": 2, "1bit": 1, "1.25bit": 5}
"""Of one code; of 1.25 bits a code is of four coordinates."""


# 1. Vectors as a collection keeps them


def normalised(vectors: F32) -> F32:
    """Rows of length 1, rounded once from float64; zero rows stay. Cosine makes this of every vector.

    >>> normalised(np.array([[3, 4]], np.float32)).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    sizes = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    found: F32 = (vectors / np.where(sizes > 0, sizes, 1)[:, None]).astype(np.float32)
    return found


def pooled(passage: F32) -> F32:
    """(dim,): the mean of a passage's token vectors, of length 1 under cosine."""
    mean = passage.mean(axis=0, dtype=np.float64)
    found: F32 = (mean / (np.linalg.norm(mean) or 1)).astype(np.float32)
    return found


def merged(vectors: F32, wanted: int) -> F32:
    """The means of ``wanted`` clusters by Ward's linkage, in the order of their first vectors (token pooling).

    Two clusters are joined whose joining moves their vectors least: |A| |B| / (|A| + |B|) times their means' squared
    distance (Ward 1963). Clavié, Chaffin, Adams 2024 (arXiv 2409.14683).
    """
    clusters = [[i] for i in range(len(vectors))]
    wide = vectors.astype(np.float64)
    while len(clusters) > wanted:
        means = np.array([wide[cluster].mean(axis=0) for cluster in clusters])
        sizes = np.array([len(cluster) for cluster in clusters])
        cost = np.square(means[:, None] - means[None]).sum(axis=2) * (sizes[:, None] * sizes / (sizes[:, None] + sizes))
        a, b = np.unravel_index(np.argmin(np.where(np.tri(len(sizes), dtype=bool), np.inf, cost)), cost.shape)
        clusters[int(a)] += clusters.pop(int(b))
    clusters.sort(key=min)
    return np.array([wide[cluster].mean(axis=0) for cluster in clusters], np.float32)


# 2. Codes: a vector in few bytes (app/codes)


def _signs(dim: int) -> F32:
    stream = hashlib.shake_128(f"sheaf rotation 1, {dim}".encode()).digest(-(-4 * dim // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[: 4 * dim]
    return (1 - 2 * bits.astype(np.float32)).reshape(4, dim)


def _hadamard(rows: F32, start: int, size: int) -> None:
    """Walsh and Hadamard's transform of coordinates start to start + size, in place, keeping lengths."""
    part, half = rows[:, start : start + size], 1
    while half < size:
        pairs = part.reshape(len(rows), -1, 2, half)
        part = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    rows[:, start : start + size] = part.reshape(len(rows), size) * np.float32(1 / math.sqrt(size))


def turned(vectors: F32, *, back: bool = False) -> F32:
    """Rotated by random signs and Hadamard transforms of the first and the last block, four times; to the bit.

    Coordinates are alike then, which is what grids of few bits need (RaBitQ, arXiv 2405.12497).
    """
    rows = np.array(vectors, np.float32)
    dim = rows.shape[1]
    block = 1 << (dim.bit_length() - 1)
    for round_ in range(4)[:: -1 if back else 1]:
        start = 0 if round_ % 2 == 0 else dim - block
        if not back:
            rows *= _signs(dim)[round_]
        _hadamard(rows, start, block)
        if back:
            rows *= _signs(dim)[round_]
    return rows


def encoded(vectors: F32, precision: str) -> Bytes:
    """(n, dim) -> (n, bytes): the codes of the turned vector, then a float32 scale; stored is scale * numbers.

    To the bit, on every machine: sums are of integers, and a trellis is searched in one order.
    """
    rows = []
    for vector in vectors:
        exponent = math.frexp(float(np.abs(vector).max()))[1]
        x = turned((vector.astype(np.float64) * math.ldexp(1, -exponent)).astype(np.float32)[None])[0]
        codes, scale = (_grid8 if precision == "8bit" else _trellis if precision == "1.25bit" else _grid)(x, precision)
        bits = (codes[:, None] >> np.arange(BITS[precision])) & 1
        packed = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little")
        with np.errstate(over="ignore"):
            rows.append(np.concatenate([packed, np.float32(np.ldexp(scale, exponent)).reshape(1).view(np.uint8)]))
    return np.array(rows)


def _grid8(x: F32, precision: str) -> tuple[NDArray[Any], float]:
    """127 steps to either side; code u stands for u - 128."""
    scale = float(np.float32(float(np.abs(x).max()) / 127))
    numbers = np.clip(np.rint(x * (1 / scale if scale else 0.0)), -127, 127)
    return 128 + numbers.astype(np.int64), scale


def _fixed(x: F32) -> tuple[NDArray[np.int64], float]:
    """Coordinates as integers, the largest 2^20, and what one is worth."""
    unit = 2.0**20 / float(np.abs(x).max())
    return np.rint(x.astype(np.float64) * unit).astype(np.int64), unit


def _grid(x: F32, precision: str) -> tuple[NDArray[Any], float]:
    """Odd numbers of the largest cosine with the vector among 16 widths of the grid (extended RaBitQ, 2409.09913)."""
    bits = BITS[precision]
    best, largest = (1 << (bits - 1)) - 1, float(np.abs(x).max())
    if largest == 0:
        return np.zeros(len(x), np.int64), 0.0
    inverse = np.float32(0)
    if bits > 1:
        coarse, chosen = (np.abs(x) * np.float32(2.0**15 / largest)).astype(np.int32), -1.0
        for step in range(16):
            tried = np.float32((best + 1) / (2.0**15 * (0.25 + 0.75 * (step + 1) / 16)))
            numbers = 2 * np.minimum((coarse.astype(np.float32) * tried).astype(np.int64), best) + 1
            cosine = float((numbers * coarse).sum()) ** 2 / float((numbers * numbers).sum())
            if cosine > chosen:
                inverse, chosen = tried, cosine
        inverse = inverse * np.float32(2.0**15)
    fixed, unit = _fixed(np.abs(x))
    index = np.minimum((fixed * (float(inverse) / 2.0**20)).astype(np.int64), best)
    codes = np.where(x >= 0, best + 1 + index, best - index)
    return codes, float((fixed * fixed).sum()) / float(((2 * index + 1) * fixed).sum()) / unit


def _trellis(x: F32, precision: str) -> tuple[NDArray[Any], float]:
    """Four coordinates in five bits, all codes together the nearest to the vector (Viterbi's algorithm)."""
    steps = -(-len(x) // 4)
    if not np.abs(x).max():
        return np.zeros(steps, np.int64), 0.0
    fixed, unit = _fixed(x)
    spread = math.sqrt(float((fixed * fixed).sum()) / len(x))
    wanted = np.zeros((steps, 4), np.float32)
    wanted.reshape(-1)[: len(x)] = (fixed / spread * 32).astype(np.float32)
    numbers = np.moveaxis(TABLE, 2, 0).astype(np.float32)
    halves = np.zeros((32, 32), np.float32)
    for part in numbers:
        halves += part * part / np.float32(2)
    costs, came = np.full((32, 32), np.inf, np.float32), []
    costs[0, 0] = 0
    for a, b, c, d in wanted:
        came.append(costs.argmin(axis=0))
        near = (a * numbers[0] + b * numbers[1]) + (c * numbers[2] + d * numbers[3])
        costs = costs.min(axis=0)[:, None] + (halves - near)
    before, last = divmod(int(costs.argmin()), 32)
    codes = np.empty(steps, np.int64)
    for step in range(steps - 1, -1, -1):
        codes[step] = last
        before, last = int(came[step][before]), before
    values = TABLE[np.concatenate([[0], codes[:-1]]), codes].astype(np.int64).reshape(-1)[: len(x)]
    return codes, float((fixed * fixed).sum()) / float((fixed * values).sum()) / unit


def numbers_of(rows: Bytes, precision: str, dim: int) -> NDArray[np.int64]:
    """(n, dim): what the codes stand for, read bit by bit."""
    bits, count = BITS[precision], -(-dim // 4) if precision == "1.25bit" else dim
    found = np.unpackbits(rows[:, :-4], axis=1, bitorder="little")[:, : bits * count].reshape(len(rows), count, bits)
    codes = (found.astype(np.int64) << np.arange(bits)).sum(axis=2)
    if precision == "1.25bit":
        before = np.concatenate([np.zeros((len(rows), 1), np.int64), codes[:, :-1]], axis=1)
        codes = TABLE[before, codes].astype(np.int64).reshape(len(rows), -1)[:, :dim]
    elif bits == 8:
        codes = codes - 128
    else:
        codes = 2 * codes + 1 - (1 << bits)
    return np.asarray(codes, np.int64)


def scales_of(rows: Bytes) -> F32:
    """(n,)"""
    return np.ascontiguousarray(rows[:, -4:]).view("<f4")[:, 0]


def decoded(rows: Bytes, precision: str, dim: int) -> F32:
    """(n, dim): stored vectors in the coordinates that they came in."""
    return turned(numbers_of(rows, precision, dim).astype(np.float32), back=True) * scales_of(rows)[:, None]


def stored(vectors: F32, precision: str) -> NDArray[Any]:
    """Vectors as they lie on disk: float32, float16, or codes."""
    return encoded(vectors, precision) if precision in BITS else vectors.astype(precision)


# 3. Exact scores (app/scoring)


def dots(queries: F32, rows: NDArray[Any]) -> NDArray[np.float64]:
    """(q, n): THE inner products of a reference, in float64: coordinate i adds to lane i % 8, lanes in order."""
    products = queries.astype(np.float64)[:, None] * rows.astype(np.float64)[None]
    lanes = np.zeros((*products.shape[:2], 8))
    for i in range(products.shape[2]):
        lanes[:, :, i % 8] += products[:, :, i]
    total = lanes[:, :, 0].copy()
    for lane in range(1, 8):
        total += lanes[:, :, lane]
    return total


def maxsim(query: F32, passage: NDArray[Any], precision: str) -> float:
    """THE score: the sum over query vectors of the largest inner product with a stored vector; to the bit.

    Khattab, Zaharia: ColBERT, 2020, section 3.3. The sum is exact (``fsum``), the result one that float32 holds.

    >>> maxsim(np.eye(2, dtype=np.float32), np.array([[1, 0], [0.5, 0.25]], np.float16), "float16")
    1.25
    """
    if precision in BITS:
        numbers = numbers_of(passage, precision, query.shape[1])
        products = dots(turned(query), numbers) * scales_of(passage).astype(np.float64)
    else:
        products = dots(query, passage)
    with np.errstate(over="ignore"):
        return float(np.float32(math.fsum(products.max(axis=1).tolist())))


def inner_product(query: F32, vector: F32) -> float:
    """THE score of a dense vector: the real inner product, rounded once; to the bit."""
    return float(np.float32(math.fsum((query.astype(np.float64) * vector.astype(np.float64)).tolist())))


def lorentz(query: F32, point: F32) -> float:
    x, y = query.astype(np.float64)[1:], point.astype(np.float64)[1:]
    up = math.sqrt(1 + x @ x) - math.sqrt(1 + y @ y)
    return -2 * math.asinh(math.sqrt(max(0.0, float((x - y) @ (x - y)) - up * up)) / 2)


def poincare(query: F32, point: F32) -> float:
    u, v = query.astype(np.float64), point.astype(np.float64)
    return -math.acosh(1 + 2 * ((u - v) @ (u - v)) / ((1 - u @ u) * (1 - v @ v)))


DISTANCES: Final[Mapping[str, Callable[[F32, F32], float]]] = {
    "euclidean": lambda query, vector: -math.fsum(np.square(query.astype(np.float64) - vector).tolist()),
    "lorentz": lorentz,
    "poincare": poincare,
}


# 4. The first stage (app/encodings): one vector whose inner product is like MaxSim


def fde(
    passage: F32,
    *,
    query: bool,
    repetitions: int,
    hyperplanes: int,
    projection: int,
    final: int,
    fill: bool,
    seed: int = 0,
) -> F32:
    """MUVERA's fixed-dimensional encoding (arXiv 2405.19504, section 2), sketched to ``final`` dimensions; 0: whole.

    Hyperplanes cut space into 2^hyperplanes buckets, ``repetitions`` times. A query adds up its vectors in each bucket,
    a document takes their mean, and fills an empty bucket with the mean of those nearest in Hamming distance.
    """
    dim, buckets = passage.shape[1], 1 << hyperplanes
    planes = _random(seed, 0).standard_normal((dim, hyperplanes * repetitions)).astype(np.float32)
    signs = np.eye(dim)[None].repeat(repetitions, 0)
    if projection != dim:
        drawn = _random(seed, 1).randint(0, 2, size=(repetitions * projection, dim)) * 2 - 1
        signs = np.moveaxis((drawn / math.sqrt(projection)).reshape(repetitions, projection, dim), 1, 2)
    sides = (passage @ planes > 0).reshape(len(passage), hyperplanes, repetitions)
    codes = (sides << np.arange(hyperplanes)[:, None]).sum(axis=1)
    wide = np.zeros((repetitions, buckets, projection))
    for repetition in range(repetitions):
        projected = passage.astype(np.float64) @ signs[repetition]
        for bucket in range(buckets):
            inside = codes[:, repetition] == bucket
            if not query and fill and not inside.any():
                distance = np.array([int(code ^ bucket).bit_count() for code in codes[:, repetition]])
                inside = distance == distance.min()
            if inside.any():
                wide[repetition, bucket] = projected[inside].sum(axis=0) if query else projected[inside].mean(axis=0)
    if not final:
        return wide.reshape(-1).astype(np.float32)
    random, sketch = _random(seed, 2), np.zeros(final)
    places = np.concatenate([random.permutation(final) for _ in range(-(-wide.size // final))])[: wide.size]
    np.add.at(sketch, places, wide.reshape(-1) * (random.randint(0, 2, size=wide.size) * 2 - 1))
    return sketch.astype(np.float32)


def _random(seed: int, use: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.PCG64(np.random.SeedSequence([seed, use])))


def candidates(rankings: Sequence[Sequence[int]], width: int) -> list[int]:
    """The best of each ranking in turn, without repeats, until there are ``width``: their scores are never compared.

    >>> candidates([[1, 2, 3], [3, 4, 1]], 3)
    [1, 3, 2]
    """
    found: dict[int, None] = {}
    for rank in range(max(map(len, rankings), default=0)):
        for ranking in rankings:
            if rank < len(ranking):
                found.setdefault(ranking[rank])
    return list(found)[:width]


# 5. Words (app/lexical), and one order of words and meaning (app/fusion/formulas.py). Which words a text has is given.


def bm25f(
    documents: Mapping[str, Sequence[Sequence[str]]], query: Sequence[str], weights: Sequence[float]
) -> dict[str, float]:
    """The worth of each document by the terms that it shares with the query, each as often as it is asked for. Of
    several fields, each a list of terms, one of weight w counts as if it were there w times (Robertson, Zaragoza: The
    Probabilistic Relevance Framework, 2009, section 3.6).

    >>> fields = {"a": [["zip"], ["file"]], "b": [[], ["zip", "tar"]]}
    >>> {name: round(score, 4) for name, score in bm25f(fields, ["zip"], [2, 1]).items()}
    {'a': 0.2373, 'b': 0.1986}
    """
    k1, b = 1.2, 0.75
    lengths = {
        name: sum(map(lambda weight, field: weight * len(field), weights, own)) for name, own in documents.items()
    }
    mean, scores = sum(lengths.values()) / max(len(documents), 1), dict.fromkeys(documents, 0.0)
    for term in query:
        tf = {
            name: sum(weight * field.count(term) for weight, field in zip(weights, fields, strict=True))
            for name, fields in documents.items()
        }
        having = sum(count > 0 for count in tf.values())
        idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        for name, count in tf.items():
            if count:
                scores[name] += idf * count * (k1 + 1) / (count + k1 * (1 - b + b * lengths[name] / mean))
    return scores


def bm25(documents: Mapping[str, Sequence[str]], query: Sequence[str]) -> dict[str, float]:
    """The same of one field."""
    return bm25f({name: [words] for name, words in documents.items()}, query, [1])


def sparse_product(query: Mapping[int, float], document: Mapping[int, float]) -> float:
    """The inner product of two sparse vectors, weights by index.

    >>> sparse_product({3: 2.0, 7: 1.0}, {7: 0.5, 9: 4.0})
    0.5
    """
    return sum(query[index] * document[index] for index in sorted(query.keys() & document.keys()))


def decayed(value: float, origin: float, scale: float, kind: str = "gauss", offset: float = 0.0) -> float:
    """The value of a number in a boost (app/boosts): 1 at the origin, a half ``scale`` further than ``offset`` from it.

    >>> decayed(2010, 2020, 5), decayed(2010, 2020, 5, "exp"), decayed(2010, 2020, 8, "linear")
    (0.0625, 0.25, 0.375)
    """
    steps = max(0.0, abs(value - origin) - offset) / scale
    if kind == "linear":
        return max(0.0, 1 - steps / 2)
    return math.exp2(-steps * steps if kind == "gauss" else -steps)


def fused(
    sides: Mapping[str, Mapping[str, float]],
    weights: Mapping[str, float],
    depth: int = 100,
    added: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The best ``depth`` of each list of ``sides`` are candidates: words, and meaning, which is the side after it. Each
    score is standardised over them; a document is worth the weighted sum. sides: scores of all documents by name; by
    words only those above 0 are found. added: what boosts add to each document, all of which are ordered then.

    >>> list(fused({"words": {"a": 2.0, "b": 0.0}, "pooled": {"a": 0.1, "b": 0.3}}, {"words": 0.25, "pooled": 0.75}))
    ['b', 'a']
    """
    words, meaning, *_ = sides
    found = sorted(sides[meaning], key=lambda name: (-sides[meaning][name], name.encode()))[:depth]
    spoken = [name for name in sides[words] if sides[words][name] > 0]
    found += sorted(spoken, key=lambda name: -sides[words][name])[:depth]
    candidates = list(dict.fromkeys(found))
    scores = dict.fromkeys(candidates, 0.0) if added is None else dict(added)
    for side, by_name in sides.items():
        values = np.array([by_name[name] for name in candidates])
        mean, deviation = float(values.mean()), float(values.std()) or 1.0
        for name in scores:
            scores[name] += weights[side] * (by_name[name] - mean) / deviation
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0].encode())))


def diverse(scores: Mapping[str, float], vectors: Mapping[str, F32], weight: float) -> list[str]:
    """Maximal marginal relevance (Carbonell, Goldstein: The Use of MMR, 1998): the most relevant document, then each
    time one that is relevant and unlike those before it. scores: best first; as relevance they are from 0 to 1.
    Cosines are of vectors in steps of 1/2048.

    >>> vectors = {"a": [1, 0], "b": [1, 0.1], "c": [0, 1]}
    >>> diverse({"a": 5, "b": 4.9, "c": 4}, {name: np.array(vector) for name, vector in vectors.items()}, 0.6)
    ['a', 'c', 'b']
    """
    least, most = min(scores.values()), max(scores.values())
    relevance = {name: (score - least) / (most - least) if most > least else 1.0 for name, score in scores.items()}
    steps = {}
    for name, vector in vectors.items():
        length = math.sqrt(math.fsum(number * number for number in vector.astype(np.float64)))
        steps[name] = np.rint(vector / (length or 1) * 2048) / 2048
    chosen = [max(relevance, key=relevance.__getitem__)]
    while len(chosen) < len(scores):
        alike = {name: max(float(steps[name] @ steps[one]) for one in chosen) for name in scores}
        value = {name: (1 - weight) * relevance[name] - weight * alike[name] for name in scores if name not in chosen}
        chosen.append(max(value, key=value.__getitem__))
    return chosen


# 6. The search (app/search.py)


def exact_search(
    documents: Mapping[str, Sequence[F32]],
    query: F32,
    k: int,
    *,
    kind: str = "multi_vector",
    similarity: str = "cosine",
    precision: str = "float32",
    split: bool = False,
    matrix: F32 | None = None,
) -> list[tuple[str, float]]:
    """The k best (id, score) of documents, each the vectors of its passages: that of the best passage, ties by id.

    matrix: M of <q, M d>, (query_dim, dim). Distances are of vectors that are not coded. split: whether the passages
    are of a text that was split: then the first has half a share in the score, less in a document of more than eight.

    >>> exact_search({"a": [np.array([[1, 0]], np.float32)], "b": [np.array([[0, 1]], np.float32)]}, np.array([[3, 4]],
    ...     np.float32), 1)
    [('b', 0.800000011920929)]
    """

    def kept(vectors: F32) -> F32:
        return normalised(vectors) if similarity == "cosine" else vectors

    asked = kept(query) if matrix is None else (query.astype(np.float64) @ matrix).astype(np.float32)
    scores = {}
    for identifier, passages in documents.items():
        if pair := DISTANCES.get(similarity):
            sums = [math.fsum(max(pair(one, vector) for vector in passage) for one in query) for passage in passages]
            own = [float(np.float32(score)) for score in sums]
        elif kind == "dense":
            own = [inner_product(asked[0], kept(passage)[0]) for passage in passages]
        else:
            own = [maxsim(asked, stored(kept(passage), precision), precision) for passage in passages]
        share = min(0.5, 4 / len(own))
        scores[identifier] = own[0] * share + max(own) * (1 - share) if split else max(own)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0].encode()))[:k]


def search(
    documents: Mapping[str, Sequence[F32]], query: F32, k: int, width: int, **options: Any
) -> list[tuple[str, float]]:
    """The same among ``width`` candidates alone, by FDEs and by pooled vectors in turn: a multi-vector collection under
    cosine, before it has learned a first stage of its own.
    """
    rows = [(identifier, normalised(passage)) for identifier, own in documents.items() for passage in own]
    sides = [
        (fde(normalised(query), query=True, **options), [fde(passage, query=False, **options) for _, passage in rows]),
        (pooled(normalised(query)), [pooled(passage) for _, passage in rows]),
    ]
    rankings = [np.argsort(-(np.array(vectors) @ asked), kind="stable").tolist() for asked, vectors in sides]
    chosen: dict[str, list[F32]] = {}
    for row in candidates(rankings, width):
        chosen.setdefault(rows[row][0], []).append(rows[row][1])
    return exact_search(chosen, query, k)
