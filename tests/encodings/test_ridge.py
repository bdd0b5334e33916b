"""Ridge encodings: the closed form by the book, MaxSim on documents outside the fit, and the laws of encodings."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topical_passages import exact, passages, recall

from app.compute.workers import Workers
from app.encodings.features import directions, draw, stream
from app.encodings.ridge import LANDMARK_NOISE, Ridge, RidgeParameters
from app.errors import Damaged, Invalid
from app.types import F32, F64, TokenVectors

lawful = settings(max_examples=25, deadline=None, derandomize=True)
SMALL = RidgeParameters(rank=16, samples=96, landmarks=48, probes=40)


def by_the_book(
    documents: TokenVectors, queries: TokenVectors, p: RidgeParameters, asked: TokenVectors, new: TokenVectors
) -> F64:
    """Scores of ``asked`` against ``new`` by the definition, in float64: (asked, new)."""
    random = stream(p.seed, 0)
    samples = directions(draw(documents, queries, p.samples, random))[0].astype(np.float64)
    probes = queries
    if len(queries) > p.probes:
        probes = queries.take(np.sort(random.permutation(len(queries))[: p.probes]))
    centre = samples.mean(axis=0)
    spread = np.sqrt(((samples - centre) ** 2).sum(axis=1).mean())

    def kernel(units: F64) -> F64:
        places, centres = ((x - centre) / spread / p.bandwidth for x in (units, samples))
        return np.exp(-((places[:, None] - centres[None]) ** 2).sum(axis=2) / 2)

    def totals(group: TokenVectors) -> F64:
        rows = []
        for query in group:
            lengths = np.linalg.norm(query.astype(np.float64), axis=1)
            units = query / np.where(lengths > 0, lengths, 1)[:, None]
            rows.append(lengths @ kernel(units))
        return np.array(rows)

    def sims(group: TokenVectors) -> F64:
        return np.array([(samples @ passage.T.astype(np.float64)).max(axis=1) for passage in group])

    gram = kernel(samples)
    seen = sims(documents)
    mean = seen.mean(axis=0)
    seen = seen - mean
    inverse = np.linalg.inv(gram + p.regularisation * np.eye(len(gram)))
    prior = p.prior * (seen**2).mean()
    total = seen.T @ seen + prior * gram
    weights = totals(probes) @ inverse
    values, vectors = np.linalg.eigh(weights @ total @ weights.T)
    vectors, values = vectors[:, ::-1][:, : p.rank], values[::-1][: p.rank]
    coordinates = weights.T @ vectors
    count = min(p.landmarks, len(gram))
    mapped = coordinates
    if count < len(gram):
        noise = LANDMARK_NOISE * prior * np.eye(count)
        mapped = np.linalg.solve(total[:count, :count] + noise, (total @ coordinates)[:count])
    encoded = (sims(new) - mean)[:, :count] @ mapped
    return totals(asked) @ inverse @ total @ coordinates / values @ encoded.T


def scores(ridge: Ridge, queries: TokenVectors, documents: TokenVectors) -> F32:
    found: F32 = ridge.encode_queries(queries) @ ridge.encode_documents(documents).T
    return found


@pytest.mark.parametrize("landmarks", [60, 20])
@pytest.mark.parametrize(("rank", "lengths"), [(4, 1.0), (12, 1.0), (12, 40.0)])
def test_equals_the_definition(landmarks: int, rank: int, lengths: float) -> None:
    documents, queries, asked, new = (passages(seed, n) for seed, n in ((0, 30), (1, 24), (2, 9), (3, 7)))
    documents, queries, new = (
        TokenVectors(t.values * np.float32(lengths), t.offsets) for t in (documents, queries, new)
    )
    p = RidgeParameters(rank, samples=60, landmarks=landmarks, probes=20, bandwidth=1.3, regularisation=0.05, prior=5.0)
    found = scores(Ridge.fit(documents, queries, p), asked, new)
    expected = by_the_book(documents, queries, p, asked, new)
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())


def test_at_full_rank_probes_score_as_by_plain_kernel_ridge_regression() -> None:
    documents, queries, new = passages(0, 30), passages(1, 12), passages(2, 8)
    p = RidgeParameters(rank=12, samples=80, landmarks=200)
    samples = directions(draw(documents, queries, 80, stream(0, 0)))[0].astype(np.float64)
    centre = samples.mean(axis=0)
    places = (samples - centre) / np.sqrt(((samples - centre) ** 2).sum(axis=1).mean())
    between = lambda x: np.exp(-((x[:, None] - places[None]) ** 2).sum(axis=2) / 2)  # noqa: E731
    scale = np.sqrt(((samples - centre) ** 2).sum(axis=1).mean())
    mean = np.mean([(samples @ d.T).max(axis=1) for d in documents], axis=0)
    targets = np.array([(samples @ d.T).max(axis=1) for d in new]) - mean
    solution = np.linalg.solve(between(places) + p.regularisation * np.eye(80), targets.T)
    expected = np.array([between((query - centre) / scale).sum(axis=0) @ solution for query in queries])
    np.testing.assert_allclose(scores(Ridge.fit(documents, queries, p), queries, new), expected, atol=5e-2)


@pytest.mark.parametrize("dim", [4, 16, 128, 1024])
def test_finds_the_best_of_documents_outside_the_fit(dim: int) -> None:
    fitted, later, queries = passages(0, 150, dim, 4), passages(1, 150, dim, 4), passages(2, 150, dim, 3, 5)
    p = RidgeParameters(rank=32, samples=600, landmarks=300)
    ridge = Ridge.fit(fitted, queries.slice(0, 120), p)
    asked = queries.slice(120, 150)
    for documents in (fitted, later):
        assert recall(scores(ridge, asked, documents), exact(asked, documents), width=20) > 0.9


def test_more_rank_finds_more() -> None:
    documents, queries = passages(0, 200, 32, 4), passages(1, 100, 32, 3, 6)
    truth = exact(queries, documents)
    found = [
        recall(scores(Ridge.fit(documents, queries, RidgeParameters(rank, 500)), queries, documents), truth, 10)
        for rank in (1, 4, 16)
    ]
    assert found[0] + 0.1 < found[1] < found[2] - 0.1


def test_lesser_ranks_are_the_first_coordinates() -> None:
    documents, queries = passages(0, 40), passages(1, 40)
    wide, narrow = (Ridge.fit(documents, queries, replace(SMALL, rank=rank)) for rank in (12, 5))
    assert np.allclose(wide.encode_documents(documents)[:, :5], narrow.encode_documents(documents), atol=1e-5)
    assert np.allclose(wide.encode_queries(queries)[:, :5], narrow.encode_queries(queries), rtol=1e-3, atol=1e-3)


def test_a_mean_that_all_vectors_share_loses_nothing() -> None:
    documents, queries = passages(0, 150, 32, 4), passages(1, 150, 32, 3, 5)
    mean = np.full(32, 3, np.float32)  # of length 17, where vectors have length 1
    moved = [TokenVectors(tokens.values + mean, tokens.offsets) for tokens in (documents, queries)]
    p = RidgeParameters(rank=32, samples=600)
    for stored, titles in ((documents, queries), moved):
        ridge = Ridge.fit(stored.slice(0, 100), titles.slice(0, 120), p)
        asked = titles.slice(120, 150)
        assert recall(scores(ridge, asked, stored), exact(asked, stored), width=20) > 0.85


def test_lengths_count_for_inner_products() -> None:
    random = np.random.default_rng(5)
    documents, queries = passages(0, 120, 16, 3), passages(1, 120, 16, 3)
    documents, queries = (
        TokenVectors(t.values * random.lognormal(0, 0.7, (len(t.values), 1)).astype(np.float32), t.offsets)
        for t in (documents, queries)
    )
    ridge = Ridge.fit(documents, queries.slice(0, 90), RidgeParameters(rank=32, samples=600))
    asked = queries.slice(90, 120)
    assert recall(scores(ridge, asked, documents), exact(asked, documents), width=20) > 0.9


@pytest.mark.parametrize("documents", [1, 2, 7])
def test_fewer_documents_than_rank(documents: int) -> None:
    given, later, queries = passages(0, documents), passages(1, 60, 16, 4), passages(2, 60, 16, 3, 5)
    ridge = Ridge.fit(given, queries.slice(0, 40), RidgeParameters(rank=24, samples=300))
    assert ridge.encoded_dim == 24  # the prior has more to tell than so few documents
    asked = queries.slice(40, 60)
    assert recall(scores(ridge, asked, later), exact(asked, later), width=15) > 0.75


def test_one_document_of_one_vector() -> None:
    one = TokenVectors.join([np.array([[0, 3]], np.float32)])
    ridge = Ridge.fit(one, one, RidgeParameters())
    assert ridge.encoded_dim == 1
    assert np.isfinite(scores(ridge, one, one)).all()


@lawful
@given(st.integers(0, 10_000), st.sampled_from([np.float16, np.float32]))
def test_the_same_vectors_give_the_same_bits_in_any_batch(seed: int, dtype: type) -> None:
    ridge = Ridge.fit(passages(0, 20), passages(1, 20), SMALL)
    given = passages(seed, 12, longest=70)
    tokens = TokenVectors(given.values.astype(dtype), given.offsets)
    order = np.random.default_rng(seed).permutation(12)
    for encode in (ridge.encode_documents, ridge.encode_queries):
        together = encode(tokens)
        assert together.dtype == np.float32
        assert together.shape == (12, ridge.encoded_dim)
        assert encode(tokens.take(order)).tobytes() == together[order].tobytes()
        for row in range(12):
            assert encode(tokens.slice(row, row + 1)).tobytes() == together[row].tobytes()
        assert encode(TokenVectors(tokens.values.astype(np.float32), tokens.offsets)).tobytes() == together.tobytes()


def test_a_long_passage_is_its_parts() -> None:
    ridge = Ridge.fit(passages(0, 20), passages(1, 20), SMALL)
    long = passages(5, 1, shortest=2500, longest=2500)
    parts = TokenVectors.join([long.values[:1100], long.values[1100:]])
    queries = ridge.encode_queries(parts)
    np.testing.assert_allclose(ridge.encode_queries(long)[0], queries.sum(axis=0), rtol=1e-3, atol=0.2)


@lawful
@given(st.integers(0, 10_000))
def test_a_query_is_the_sum_of_its_vectors_and_grows_with_their_length(seed: int) -> None:
    ridge = Ridge.fit(passages(0, 20), passages(1, 20), SMALL)
    query = passages(seed, 1, shortest=5)
    each = ridge.encode_queries(TokenVectors(query.values, np.arange(len(query.values) + 1)))
    whole = ridge.encode_queries(query)[0]
    np.testing.assert_allclose(each.sum(axis=0), whole, rtol=1e-3, atol=1e-3 * np.abs(whole).max())
    doubled = TokenVectors(query.values * np.float32(2), query.offsets)
    assert np.array_equal(ridge.encode_queries(doubled)[0], 2 * whole)


@lawful
@given(st.integers(0, 10_000))
def test_a_document_is_a_set(seed: int) -> None:
    ridge = Ridge.fit(passages(0, 20), passages(1, 20), SMALL)
    passage = passages(seed, 1, shortest=5).values
    other = np.concatenate([passage[::-1], passage])
    both = ridge.encode_documents(TokenVectors.join([passage, other]))
    np.testing.assert_allclose(both[0], both[1], rtol=1e-3, atol=1e-4 * np.abs(both).max())


def test_zero_vectors_add_nothing_to_a_query() -> None:
    ridge = Ridge.fit(passages(0, 20), passages(1, 20), SMALL)
    query = passages(7, 1).values
    longer = TokenVectors.join([query, np.concatenate([query, np.zeros((2, 16), np.float32)])])
    found = ridge.encode_queries(longer)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4 * np.abs(found).max())
    assert not ridge.encode_queries(TokenVectors.join([np.zeros((3, 16), np.float32)])).any()


def test_a_fit_is_repeatable_and_follows_its_seed() -> None:
    documents, queries = passages(0, 50), passages(1, 50)
    first, again, other = (Ridge.fit(documents, queries, replace(SMALL, seed=seed)) for seed in (3, 3, 4))
    assert first.to_bytes() == again.to_bytes()
    assert first.to_bytes() != other.to_bytes()


@pytest.mark.parametrize("landmarks", [48, 96])
def test_a_fit_gives_its_documents_as_they_are_encoded_later(landmarks: int) -> None:
    documents, queries = passages(0, 60), passages(1, 40)
    met: list[F32] = []
    workers = Workers(2)
    fitted = Ridge.fit(documents, queries, replace(SMALL, landmarks=landmarks), workers, seen=met.append)
    assert met[0].tobytes() == fitted.encode_documents(documents).tobytes()
    assert fitted.to_bytes() == Ridge.fit(documents, queries, replace(SMALL, landmarks=landmarks), workers).to_bytes()
    workers.close()


@pytest.mark.parametrize("samples", [2, 95, 96])
def test_a_query_has_the_same_bits_however_many_threads_share_it(samples: int) -> None:
    documents, queries = passages(0, 60), passages(1, 40)
    ridge = Ridge.fit(documents, queries, replace(SMALL, samples=samples, rank=min(16, samples)))
    alone = ridge.encode_queries(queries)
    for threads in (1, 2, 3):
        workers = Workers(threads)
        assert ridge.encode_queries(queries, None, workers).tobytes() == alone.tobytes()
        workers.close()


def test_saved_and_loaded_to_the_bit() -> None:
    documents, queries = passages(0, 50), passages(1, 50)
    for p in (SMALL, replace(SMALL, landmarks=200)):
        ridge = Ridge.fit(documents, queries, p)
        loaded = Ridge.load(json.loads(json.dumps(ridge.to_json())), ridge.to_bytes())
        assert (loaded.dim, loaded.encoded_dim, loaded.parameters) == (16, 16, p)
        assert loaded.to_bytes() == ridge.to_bytes()
        assert loaded.encode_documents(documents).tobytes() == ridge.encode_documents(documents).tobytes()
        assert loaded.encode_queries(queries).tobytes() == ridge.encode_queries(queries).tobytes()


def test_a_damaged_content_is_refused() -> None:
    ridge = Ridge.fit(passages(0, 20), passages(1, 20), SMALL)
    other = Ridge.fit(passages(0, 20, 8), passages(1, 20, 8), SMALL)
    nan = ridge.to_bytes()[:-4] + np.array([np.nan], np.float32).tobytes()
    for content in (b"", ridge.to_bytes()[:-1], other.to_bytes(), nan):
        with pytest.raises(Damaged):
            Ridge.load(ridge.to_json(), content)
    for change in ({"type": "muvera"}, {"rank": 0}, {"more": 1}):
        with pytest.raises(Invalid):
            Ridge.load(ridge.to_json() | change, ridge.to_bytes())
    with pytest.raises(Damaged):
        Ridge.load(ridge.to_json() | {"encoded_dim": 15}, ridge.to_bytes())


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0},
        {"rank": True},
        {"samples": 1 << 20},
        {"landmarks": 0},
        {"probes": 0},
        {"bandwidth": 0.0},
        {"bandwidth": float("nan")},
        {"regularisation": 0},
        {"prior": -1.0},
        {"seed": -1},
    ],
)
def test_parameters_that_cannot_be(change: dict[str, float]) -> None:
    with pytest.raises(Invalid, match=list(change)[-1]):
        RidgeParameters(**change)  # type: ignore[arg-type]


def test_vectors_that_cannot_be() -> None:
    documents, queries = passages(0, 20), passages(1, 20)
    ridge = Ridge.fit(documents, queries, SMALL)
    empty = TokenVectors(documents.values, np.array([0, 3, 3, len(documents.values)]))
    holed = TokenVectors(documents.values.copy(), documents.offsets)
    holed.values[holed.offsets[4], 2] = np.inf
    huge = TokenVectors.join([np.full((2, 16), 3e38, np.float32)])
    for encode in (ridge.encode_documents, ridge.encode_queries):
        with pytest.raises(Invalid, match="passage 1 has no vectors"):
            encode(empty)
        with pytest.raises(Invalid, match="passage 4 has a value that is not finite"):
            encode(holed)
        with pytest.raises(Invalid, match="16 dimensions"):
            encode(passages(0, 2, 8))
        with pytest.raises(Invalid, match="float64"):
            encode(TokenVectors(documents.values.astype(np.float64), documents.offsets))
        with pytest.raises(Invalid, match="too large"):
            encode(huge)
        assert encode(documents.slice(0, 0)).shape == (0, ridge.encoded_dim)
    for bad in (empty, holed, documents.slice(0, 0), passages(0, 3, 8)):
        with pytest.raises(Invalid):
            Ridge.fit(documents, bad, SMALL)
    for bad in (empty, holed, documents.slice(0, 0)):
        with pytest.raises(Invalid):
            Ridge.fit(bad, queries, SMALL)
    with pytest.raises(Invalid, match="zero"):
        Ridge.fit(documents, TokenVectors(np.zeros_like(queries.values), queries.offsets), SMALL)
    with pytest.raises(Invalid, match="too large"):
        Ridge.fit(huge, queries, SMALL)
    with pytest.raises(Invalid, match="too large"):
        Ridge.fit(documents, huge, SMALL)


@pytest.mark.parametrize("length", [1e-20, 1e20])
def test_vectors_of_any_length_are_fitted(length: float) -> None:
    documents, queries = passages(0, 60), passages(1, 60, 16, 3)
    scaled = [TokenVectors(t.values * np.float32(length), t.offsets) for t in (documents, queries)]
    p = RidgeParameters(rank=16, samples=300)
    found = scores(Ridge.fit(scaled[0], queries, p), queries, scaled[0])
    assert recall(found, exact(queries, documents), width=15) > 0.9
    found = scores(Ridge.fit(documents, scaled[1], p), scaled[1], documents)
    assert recall(found, exact(queries, documents), width=15) > 0.9


def test_a_bandwidth_that_reaches_no_query_is_refused() -> None:
    def unit(angle: float) -> F32:
        return np.array([[np.cos(angle), np.sin(angle)]], np.float32)

    documents = TokenVectors.join([unit(0), unit(np.pi)])
    queries = TokenVectors.join([unit(np.pi / 2)] * 3 + [unit(0)] * 60)
    refused = 0
    for seed in range(10):  # one sample of two directions: whether it tells of the probes is up to the draw
        p = RidgeParameters(samples=1, probes=2, bandwidth=0.1, seed=seed)
        with suppress(Invalid):
            assert np.isfinite(Ridge.fit(documents, queries, p).encode_queries(queries)).all()
            continue
        with pytest.raises(Invalid, match="too narrow"):
            Ridge.fit(documents, queries, p)
        refused += 1
    assert 0 < refused < 10


def test_a_lesser_rank_is_the_first_coordinates() -> None:
    documents, queries = passages(0, 40), passages(1, 20)
    whole = Ridge.fit(documents, queries, SMALL)
    less = whole.reduced(5)
    assert (less.encoded_dim, less.parameters.rank) == (5, 5)
    assert np.allclose(less.encode_documents(documents), whole.encode_documents(documents)[:, :5], atol=1e-5)
    assert np.allclose(less.encode_queries(queries), whole.encode_queries(queries)[:, :5], rtol=1e-3, atol=1e-5)
    again = Ridge.load(less.to_json(), less.to_bytes())
    assert np.array_equal(again.encode_documents(documents), less.encode_documents(documents))
    for rank in (0, whole.encoded_dim + 1):
        with pytest.raises(Invalid, match="rank"):
            whole.reduced(rank)
