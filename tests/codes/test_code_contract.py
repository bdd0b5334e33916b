"""The contract of every code: batches, machines and sizes change no bit, and more bits lose less."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codes.choose import code_for
from app.reference import BITS, numbers_of, scales_of
from app.types import F32, Precision

PRECISIONS: list[Precision] = ["float32", "float16", "8bit", "4bit", "2bit", "1.25bit", "1bit"]
GRIDS: list[Precision] = ["8bit", "4bit", "2bit", "1.25bit", "1bit"]
DIMS = [1, 2, 3, 7, 16, 63, 64, 65, 100, 128, 384, 1000]
lawful = settings(max_examples=25, deadline=None, derandomize=True)


def unit(seed: int, n: int, dim: int) -> F32:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cosines(a: F32, b: F32) -> np.ndarray:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", DIMS)
def test_a_row_is_its_own_vectors_alone(precision: Precision, dim: int) -> None:
    code, vectors = code_for(precision, dim), unit(1, 37, dim)
    rows = code.encode(vectors)
    assert (rows.shape, rows.dtype) == ((37, code.width), code.dtype)
    assert rows.nbytes == 37 * code.bytes_per_vector
    for order in (np.arange(37)[::-1], np.array([5]), np.array([16, 16, 2])):
        assert code.encode(vectors[order]).tobytes() == rows[order].tobytes()
        assert code.decode(rows[order]).tobytes() == code.decode(rows)[order].tobytes()
    assert code.encode(np.asfortranarray(vectors)).tobytes() == rows.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", DIMS)
def test_inner_products_are_those_of_the_decoded_vector(precision: Precision, dim: int) -> None:
    code, vectors, queries = code_for(precision, dim), unit(2, 20, dim), unit(3, 9, dim)
    rows = code.encode(vectors)
    values, scales = rows.astype(np.float64), np.ones(20)
    if precision in BITS:
        values, scales = numbers_of(rows, precision, dim).astype(np.float64), scales_of(rows).astype(np.float64)
    inside = code.turn(queries).astype(np.float64) @ (values * scales[:, None]).T
    outside = queries.astype(np.float64) @ code.decode(rows).astype(np.float64).T
    np.testing.assert_allclose(inside, outside, atol=2e-6)
    norms = np.linalg.norm(values * scales[:, None], axis=1)
    assert (code.norms(rows) >= norms).all()
    np.testing.assert_allclose(code.norms(rows), norms, rtol=1e-6)


@pytest.mark.parametrize("dim", [16, 128, 384, 1000])
def test_more_bits_lose_less(dim: int) -> None:
    vectors = unit(4, 200, dim)
    mean = [
        float(cosines(vectors, code_for(p, dim).decode(code_for(p, dim).encode(vectors))).mean()) for p in PRECISIONS
    ]
    assert mean == sorted(mean, reverse=True)
    # The cosines of the papers' optimal grids for coordinates drawn from a normal distribution, less a little.
    assert mean[2] > 0.9999
    for found, expected in zip(mean[3:], (0.993, 0.93, 0.88, 0.79), strict=True):
        assert found > expected


@pytest.mark.parametrize("precision", ["4bit", "2bit", "1.25bit", "1bit"])
def test_a_stored_vector_has_the_right_product_with_its_own(precision: Precision) -> None:
    vectors = unit(5, 50, 96) * np.float32(3)
    code = code_for(precision, 96)
    own = (code.decode(code.encode(vectors)).astype(np.float64) * vectors).sum(axis=1)
    np.testing.assert_allclose(own, 9, rtol=1e-5)


@pytest.mark.parametrize("precision", ["4bit", "2bit", "1.25bit", "1bit"])
def test_estimates_are_right_on_average(precision: Precision) -> None:
    """Over many pairs at one angle the errors cancel: no shrinking towards zero. (For one query they need not.)"""
    queries = unit(7, 3_000, 256).astype(np.float64)
    noise = np.random.default_rng(6).standard_normal(queries.shape)
    noise -= (noise * queries).sum(axis=1, keepdims=True) * queries
    vectors = 0.6 * queries + 0.8 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    code = code_for(precision, 256)
    found = (code.decode(code.encode(vectors.astype(np.float32))) * queries).sum(axis=1)
    assert abs(found.mean() - 0.6) < 4 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("precision", GRIDS)
@pytest.mark.parametrize("dim", [1, 5, 64, 300])
def test_zero_vectors(precision: Precision, dim: int) -> None:
    code = code_for(precision, dim)
    rows = code.encode(np.zeros((3, dim), np.float32))
    assert not code.decode(rows).any()
    assert (code.norms(rows) <= 2e-45).all()


@lawful
@given(st.sampled_from(GRIDS), st.integers(1, 70), st.integers(0, 10_000), st.integers(-38, 15))
def test_lengths_do_not_matter(precision: Precision, dim: int, seed: int, exponent: int) -> None:
    """Twice the vector is the same codes and twice the scale, from the smallest numbers to the longest vectors."""
    vectors = unit(seed, 4, dim)
    code = code_for(precision, dim)
    scaled = (vectors.astype(np.float64) * 10.0**exponent).astype(np.float32)
    decoded = code.decode(code.encode(scaled))
    assert np.isfinite(decoded).all()
    if exponent > -30:
        assert (
            cosines(scaled, decoded) > {"8bit": 0.999, "4bit": 0.9, "2bit": 0.7, "1.25bit": 0.5, "1bit": 0.3}[precision]
        ).all()
    doubled = code.encode(vectors * np.float32(2))
    assert doubled[:, :-4].tobytes() == code.encode(vectors)[:, :-4].tobytes()


def test_the_bits_are_those_of_every_machine() -> None:
    """The format on disk: these digests may change only with the format's number."""
    found = {}
    for precision in GRIDS:
        for dim in (3, 100, 384):
            # No generator of random numbers, whose stream could change.
            raw = hashlib.shake_128(f"{dim}".encode()).digest(40 * dim)
            vectors = (np.frombuffer(raw, np.int8).astype(np.float32) / np.float32(64)).reshape(40, dim)
            content = code_for(precision, dim).encode(vectors).tobytes()
            found[f"{precision} {dim}"] = hashlib.sha256(content).hexdigest()[:12]
    assert found == DIGESTS


DIGESTS: dict[str, str] = {
    "8bit 3": "aa8a5f093855",
    "8bit 100": "82d0bf52c7b6",
    "8bit 384": "243b3fd78931",
    "4bit 3": "28390ab8a923",
    "4bit 100": "c911141d066e",
    "4bit 384": "4cc6283e5a74",
    "2bit 3": "800ec153168b",
    "2bit 100": "705006f50f0e",
    "2bit 384": "18002cecffa2",
    "1.25bit 3": "43eef8cfae97",
    "1.25bit 100": "bb9e4f668ff9",
    "1.25bit 384": "341b4eee4906",
    "1bit 3": "f90910c06e7b",
    "1bit 100": "068f406f086d",
    "1bit 384": "5b3f7e8a4be7",
}
