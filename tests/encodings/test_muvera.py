"""MUVERA's laws (arXiv 2405.19504), each against the paper's definition or against MaxSim itself."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from app.encodings import load_encoding
from app.encodings.muvera import Muvera, MuveraParameters, fill_empty
from app.encodings.sketch import CountSketch
from app.types import F32, F64, TokenVectors

lawful = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
parameters = st.builds(
    MuveraParameters,
    repetitions=st.integers(1, 4),
    hyperplanes=st.integers(0, 5),
    projection=st.sampled_from([None, 1, 3, 8]),
    fill=st.booleans(),
    seed=seeds,
)
identity = st.builds(
    MuveraParameters, repetitions=st.integers(1, 5), hyperplanes=st.integers(0, 6), projection=st.none(), seed=seeds
)


def draw(seed: int, passages: int, dim: int = 8, longest: int = 40) -> list[F32]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, passages)
    return [random.standard_normal((int(n), dim), np.float32) for n in lengths]


def joined(*matrices: F32) -> TokenVectors:
    return TokenVectors.join(list(matrices))


def max_sim(query: F32, passage: F32) -> float:
    return float((query.astype(np.float64) @ passage.T.astype(np.float64)).max(axis=1).sum())


def by_the_book(dim: int, p: MuveraParameters, vectors: F32, *, document: bool) -> F64:
    """The paper's definition, one vector and one bucket at a time, with the documented random numbers."""

    def stream(use: int) -> np.random.RandomState:
        return np.random.RandomState(np.random.PCG64(np.random.SeedSequence([p.seed, use])))

    width = p.projection or dim
    planes = stream(0).standard_normal((dim, p.hyperplanes * p.repetitions)).astype(np.float32).astype(np.float64)
    signs = np.tile(np.eye(dim), (p.repetitions, 1))
    if width != dim:
        signs = (stream(1).randint(0, 2, size=(p.repetitions * width, dim)) * 2 - 1) / math.sqrt(width)
    blocks = []
    for repetition in range(p.repetitions):
        inner = signs[repetition * width : (repetition + 1) * width]
        members: dict[int, list[F64]] = {}
        for vector in vectors.astype(np.float64):
            code = 0
            for bit in range(p.hyperplanes):
                if float(planes[:, bit * p.repetitions + repetition] @ vector) > 0:
                    code |= 1 << bit
            members.setdefault(code, []).append(inner @ vector)
        for bucket in range(p.buckets):
            here = members.get(bucket, [])
            if document and p.fill and not here:
                distance = {code: bin(code ^ bucket).count("1") for code in members}
                nearest = min(distance.values())
                here = [v for code in members if distance[code] == nearest for v in members[code]]
            total = np.sum(here, axis=0) if here else np.zeros(width)
            blocks.append(total / len(here) if document and here else total)
    return np.concatenate(blocks)


@lawful
@given(parameters, seeds, st.integers(1, 5))
def test_equals_the_definition(p: MuveraParameters, seed: int, passages: int) -> None:
    encoding = Muvera(8, p)
    matrices = draw(seed, passages, longest=70)
    matrices[0][0] = 0  # on every hyperplane: on their lower side
    documents, queries = encoding.encode_documents(joined(*matrices)), encoding.encode_queries(joined(*matrices))
    assert documents.shape == queries.shape == (passages, p.repetitions * p.buckets * (p.projection or 8))
    assert documents.dtype == queries.dtype == np.float32
    for i, matrix in enumerate(matrices):
        np.testing.assert_allclose(documents[i], by_the_book(8, p, matrix, document=True), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(queries[i], by_the_book(8, p, matrix, document=False), rtol=1e-4, atol=1e-4)


def test_few_vectors_in_many_buckets_fill_as_defined() -> None:
    p = MuveraParameters(2, 8, 3, seed=5)
    for matrix in draw(0, 12, longest=4):
        found = Muvera(8, p).encode_documents(joined(matrix))[0]
        np.testing.assert_allclose(found, by_the_book(8, p, matrix, document=True), rtol=1e-4, atol=1e-5)


@lawful
@given(seeds, st.integers(0, 7), st.integers(1, 4))
def test_filling_takes_every_vector_at_the_smallest_hamming_distance(seed: int, hyperplanes: int, n: int) -> None:
    random = np.random.default_rng(seed)
    size = 1 << hyperplanes
    counts = random.integers(0, 4, (n, size)) * (random.random((n, size)) < random.choice([0.05, 0.3, 0.9]))
    counts[np.arange(n), random.integers(0, size, n)] += 1
    sums = (random.integers(-9, 10, (n, size, 2)) * (counts > 0)[:, :, None]).astype(np.float32)
    distance = np.array([[bin(a ^ b).count("1") for b in range(size)] for a in range(size)])
    expected_sums, expected_counts = sums.copy(), counts.copy()
    for i in range(n):
        for bucket in np.flatnonzero(counts[i] == 0):
            there = np.flatnonzero(counts[i] > 0)
            nearest = there[distance[bucket, there] == distance[bucket, there].min()]
            expected_sums[i, bucket] = sums[i, nearest].sum(axis=0)
            expected_counts[i, bucket] = counts[i, nearest].sum()
    flat_sums, flat_counts = sums.reshape(-1, 2).copy(), counts.reshape(-1).copy()
    fill_empty(flat_sums, flat_counts, hyperplanes)
    assert np.array_equal(flat_sums, expected_sums.reshape(-1, 2))
    assert np.array_equal(flat_counts, expected_counts.reshape(-1))


def test_one_bucket_is_the_sum_and_the_mean() -> None:
    encoding = Muvera(3, MuveraParameters(repetitions=1, hyperplanes=0))
    tokens = joined(np.array([[1, 2, 3], [3, 4, -9]], np.float32), np.array([[5, 6, 7]], np.float32))
    assert encoding.encode_queries(tokens).tolist() == [[4, 6, -6], [5, 6, 7]]
    assert encoding.encode_documents(tokens).tolist() == [[2, 3, -3], [5, 6, 7]]


@lawful
@given(identity, seeds)
def test_a_document_of_one_vector_scores_repetitions_times_max_sim(p: MuveraParameters, seed: int) -> None:
    encoding = Muvera(8, p)
    query, vector = draw(seed, 1)[0], np.random.default_rng(seed + 1).standard_normal((1, 8), np.float32)
    score = encoding.encode_queries(joined(query))[0] @ encoding.encode_documents(joined(vector))[0]
    np.testing.assert_allclose(score, p.repetitions * max_sim(query, vector), rtol=1e-4, atol=1e-3)


@lawful
@given(identity, seeds)
def test_no_document_scores_more_than_repetitions_times_max_sim(p: MuveraParameters, seed: int) -> None:
    encoding = Muvera(8, p)
    query, *passages = draw(seed, 6)
    scores = encoding.encode_documents(joined(*passages)) @ encoding.encode_queries(joined(query))[0]
    for score, passage in zip(scores, passages, strict=True):
        assert score <= p.repetitions * max_sim(query, passage) + 1e-3


@lawful
@given(parameters, seeds)
def test_queries_add_up_over_union(p: MuveraParameters, seed: int) -> None:
    encoding = Muvera(8, p)
    left, right = draw(seed, 2)
    whole = encoding.encode_queries(joined(np.concatenate([left, right])))
    parts = encoding.encode_queries(joined(left, right)).sum(axis=0, keepdims=True)
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-4)


@lawful
@given(parameters, seeds, st.floats(0.01, 100))
def test_queries_are_homogeneous(p: MuveraParameters, seed: int, factor: float) -> None:
    encoding = Muvera(8, p)
    (query,) = draw(seed, 1)
    scaled = encoding.encode_queries(joined(query * np.float32(factor)))
    np.testing.assert_allclose(scaled, encoding.encode_queries(joined(query)) * factor, rtol=1e-3, atol=1e-3 * factor)
    assert np.array_equal(encoding.encode_queries(joined(query * 4)), encoding.encode_queries(joined(query)) * 4)


@lawful
@given(parameters, seeds)
def test_documents_forget_order_and_duplication(p: MuveraParameters, seed: int) -> None:
    encoding = Muvera(8, p)
    (passage,) = draw(seed, 1)
    expected = encoding.encode_documents(joined(passage))
    shuffled = np.random.default_rng(seed).permutation(passage)
    for same in (shuffled, np.concatenate([passage, passage]), np.repeat(passage, 3, axis=0)):
        np.testing.assert_allclose(encoding.encode_documents(joined(same)), expected, rtol=1e-4, atol=1e-5)


BATCHED = [
    MuveraParameters(5, 4, 8),
    MuveraParameters(3, 3, None, fill=False),
    MuveraParameters(5, 4, 8, final_projection=100),
    MuveraParameters(3, 11, 9),  # one repetition at a time, few passages at a time
    MuveraParameters(2, 0, None),
]


@pytest.mark.parametrize("p", BATCHED, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("dim", [12, 131])
def test_a_batch_gives_the_same_bits_as_each_alone(p: MuveraParameters, dtype: type, dim: int) -> None:
    """Over 150 passages of up to 100 vectors: several groups, every offset inside a tile, every neighbour."""
    encoding = Muvera(dim, p)
    matrices = [matrix.astype(dtype) for matrix in draw(1, 170, dim, longest=100)]
    for encode in (encoding.encode_documents, encoding.encode_queries):
        together = encode(joined(*matrices))
        for i in range(0, 170, 7):
            assert np.array_equal(encode(joined(matrices[i]))[0], together[i]), i
        order = np.random.default_rng(2).permutation(170)[:60]
        assert np.array_equal(encode(joined(*(matrices[i] for i in order))), together[order])
        part = joined(*matrices).slice(33, 151)
        assert np.array_equal(encode(part), together[33:151])


def test_the_same_vectors_meet_the_same_bits_at_every_place_of_a_batch() -> None:
    encoding = Muvera(384, MuveraParameters(20, 5, 16))
    (probe,) = draw(3, 1, 384)
    expected = encoding.encode_documents(joined(probe))[0]
    for before in range(0, 45, 2):
        neighbours = draw(before, 3, 384, longest=before + 1)
        for threads in (1, 2):
            with threadpool_limits(threads, user_api="blas"):
                assert np.array_equal(encoding.encode_documents(joined(*neighbours, probe))[3], expected)


def test_a_passage_longer_than_a_group() -> None:
    p = MuveraParameters(2, 3, None, seed=4)
    encoding = Muvera(8, p)
    random = np.random.default_rng(0)
    long = random.standard_normal((9_001, 8), np.float32)
    short = random.standard_normal((3, 8), np.float32)
    alone = encoding.encode_documents(joined(long))[0]
    np.testing.assert_allclose(alone, by_the_book(8, p, long, document=True), rtol=1e-3, atol=1e-4)
    together = encoding.encode_documents(joined(short, short, long, short))
    assert np.array_equal(together[2], alone)
    assert np.array_equal(together[3], encoding.encode_documents(joined(short))[0])


def test_padding_never_enters() -> None:
    """A vector's bucket holds it alone, and no zero beside it: 31 rows of its tile are filled up."""
    encoding = Muvera(4, MuveraParameters(1, 2, None, fill=False))
    vector = np.array([[-1, 2, -3, 4]], np.float32)
    found = encoding.encode_documents(joined(vector)).reshape(4, 4)
    assert sorted(np.abs(found).sum(axis=1).tolist()) == [0, 0, 0, 10]
    tripled = encoding.encode_documents(joined(np.repeat(vector, 3, axis=0))).reshape(4, 4)
    assert np.array_equal(tripled, found)


def test_float16_is_computed_in_float32() -> None:
    encoding = Muvera(8, MuveraParameters(3, 3, 4))
    half = draw(0, 1)[0].astype(np.float16)
    assert np.array_equal(
        encoding.encode_documents(joined(half)), encoding.encode_documents(joined(half.astype(np.float32)))
    )


def test_the_seed_decides() -> None:
    tokens = joined(*draw(0, 3))

    def encoded(seed: int) -> F32:
        return Muvera(8, MuveraParameters(2, 3, 4, final_projection=40, seed=seed)).encode_documents(tokens)

    assert np.array_equal(encoded(1), encoded(1))
    assert not np.allclose(encoded(1), encoded(2))
    assert not np.allclose(encoded(2**62), encoded(0))


def test_stored_encodings_stay_what_they_are() -> None:
    """Numbers as first released: another NumPy, or another order of drawing, must not move what a seed stands for."""
    encoding = Muvera(3, MuveraParameters(2, 1, 2, final_projection=6, seed=11))
    tokens = joined(np.array([[1, 2, 4], [-8, 16, -32], [64, -128, 256]], np.float32))
    found = (encoding.encode_queries(tokens) * np.float32(math.sqrt(2))).round(3).tolist()
    assert found == GOLDEN


GOLDEN = [[-64.0, -361.0, 135.0, -3.0, -3.0, 24.0]]


def test_a_final_projection_is_the_sketch_of_the_wide_encoding() -> None:
    wide, sketched = MuveraParameters(3, 12, None, seed=9), MuveraParameters(3, 12, None, final_projection=500, seed=9)
    tokens = joined(*draw(0, 4))
    expected = np.zeros((4, 500), np.float32)
    random = np.random.RandomState(np.random.PCG64(np.random.SeedSequence([9, 2])))
    CountSketch(wide.wide_dim(8), 500, random).add(Muvera(8, wide).encode_documents(tokens), 0, expected)
    assert np.array_equal(Muvera(8, sketched).encode_documents(tokens), expected)


def recall_of_the_best(p: MuveraParameters, dim: int = 32) -> float:
    """How often the best passage by MaxSim is among the first 10 of 400; by chance .025."""
    random = np.random.default_rng(0)
    passages = [random.standard_normal((20, dim), np.float32) for _ in range(400)]
    sources = random.integers(0, 400, 60)
    queries = [passages[i][:6] + 0.7 * random.standard_normal((6, dim), np.float32) for i in sources]
    encoding = Muvera(dim, p)
    scores = encoding.encode_queries(joined(*queries)) @ encoding.encode_documents(joined(*passages)).T
    first = np.argsort(-scores, axis=1)[:, :10]
    best = [max(range(400), key=lambda i: max_sim(query, passages[i])) for query in queries]
    return float(np.mean([b in row for b, row in zip(best, first, strict=True)]))


def test_encodings_find_what_max_sim_finds() -> None:
    wide, sketched = MuveraParameters(20, 4, 8), MuveraParameters(20, 4, 8, final_projection=640)
    assert recall_of_the_best(wide) >= 0.9
    assert recall_of_the_best(sketched) >= 0.6


def test_memory_is_bounded_by_groups_and_the_wide_encoding_is_never_there() -> None:
    encoding = Muvera(64, MuveraParameters(16, 8, None, final_projection=64))  # wide: 1 MiB a document
    tokens = joined(*draw(0, 300, 64))
    tracemalloc.start()
    encoding.encode_documents(tokens)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 * 2**20


def test_no_passages() -> None:
    none = TokenVectors(np.empty((0, 8), np.float32), np.zeros(1, np.int64))
    encoding = Muvera(8, MuveraParameters(2, 3, 4))
    assert encoding.encode_documents(none).shape == encoding.encode_queries(none).shape == (0, 64)


@lawful
@given(parameters)
def test_json_makes_an_equal_encoding(p: MuveraParameters) -> None:
    encoding = Muvera(8, p)
    again = load_encoding(json.loads(json.dumps(encoding.to_json())))
    tokens = joined(*draw(0, 2))
    assert again.to_json() == encoding.to_json()
    assert (again.dim, again.encoded_dim) == (8, p.encoded_dim(8))
    assert np.array_equal(again.encode_documents(tokens), encoding.encode_documents(tokens))
