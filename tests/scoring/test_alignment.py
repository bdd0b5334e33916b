"""Alignment against plain loops over every offset: fast scores within their bound, references to the bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.compute.rounding import norms_up
from app.scoring.similarities import alignment
from app.types import F32, I64, TokenVectors

lawful = settings(max_examples=60, deadline=None, derandomize=True)


def at(query: F32, segments: F32, offset: int) -> float:
    """The real sum, rounded once to float32."""
    pairs = [(one, segments[i + offset]) for i, one in enumerate(query) if 0 <= i + offset < len(segments)]
    real = sum(Fraction(float(a)) * Fraction(float(b)) for q, d in pairs for a, b in zip(q, d, strict=True))
    return float(np.float32(float(real)))


def of_rows(query: F32, segments: F32) -> list[float]:
    """Of each row of one document, as the module's first page says it."""
    first = max(at(query, segments, offset) for offset in range(1 - len(query), 1))
    return [first, *(at(query, segments, offset) for offset in range(1, len(segments)))]


def drawn(seed: int, length: int, counts: list[int], dim: int, scale: float = 1.0) -> tuple[F32, TokenVectors, F32]:
    random = np.random.default_rng(seed)
    # Numbers of few bits, so that there are ties and sums are exact.
    made = random.integers(-3, 4, (sum(counts), dim)) if seed % 2 else random.standard_normal((sum(counts), dim))
    values = (made * scale).astype(np.float32)
    asked = random.integers(-3, 4, (length, dim)) if seed % 2 else random.standard_normal((length, dim))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return asked.astype(np.float32), TokenVectors(values, offsets), norms_up(values)


def edges(documents: TokenVectors) -> tuple[I64, I64]:
    """The first row of the document of each row, and the one behind its last."""
    return np.repeat(documents.offsets[:-1], documents.counts), np.repeat(documents.offsets[1:], documents.counts)


@lawful
@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.sampled_from([1, 3, 8, 17]),
    st.integers(0, 10_000),
    st.sampled_from([1e-30, 1.0, 1e14]),
    st.sampled_from([4, 64, 1 << 20]),
)
def test_scores_are_within_the_bound_and_references_exact(
    length: int, counts: list[int], dim: int, seed: int, scale: float, at_once: int
) -> None:
    query, documents, norms = drawn(seed, length, counts, dim, scale)
    truth = [score for own in documents for score in of_rows(query, own)]
    begins, ends = edges(documents)
    # All rows, and some of them, of which others lie between.
    every = np.arange(len(truth))
    for rows in (every, every[np.random.default_rng(seed).random(len(truth)) < 0.4]):
        seen = 0
        with_less = alignment.AT_ONCE
        alignment.AT_ONCE = at_once  # type: ignore[misc]
        try:
            pieces = list(alignment.windows(rows, begins[rows], ends[rows], length))
        finally:
            alignment.AT_ONCE = with_less  # type: ignore[misc]
        for piece, made in pieces:
            own = [truth[row] for row in rows[piece].tolist()]
            segments, lengths = documents.values[made.read], norms[made.read]
            assert (np.diff(made.read) > 0).all()
            assert alignment.references(query, segments, lengths, made) == own
            values, bounds = alignment.fast_scores(query, segments, lengths, made)
            assert (np.abs(values.astype(np.float64) - own) <= bounds).all()
            assert (bounds <= 1e-4 * scale * length * dim * 20).all()
            seen += len(own)
        assert seen == len(rows)


@lawful
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 10_000))
def test_laws_of_the_score(length: int, count: int, seed: int) -> None:
    query, documents, _ = drawn(2 * seed, length, [count], 5)
    (document,) = list(documents)
    score = float(alignment.best_in_float32(query, documents)[0])
    assert score == pytest.approx(max(at(query, document, offset) for offset in range(1 - length, count)), abs=1e-5)
    # Silence around a document changes nothing, nor does it around the query: what lies on nothing adds 0.
    quiet = np.zeros((3, 5), np.float32)
    for asked, own in ((query, [quiet, document, quiet]), (np.concatenate([quiet, query, quiet]), [document])):
        found = float(alignment.best_in_float32(asked, TokenVectors.join([np.concatenate(own)]))[0])
        assert max(found, 0.0) == pytest.approx(max(score, 0.0), abs=1e-5)
    # Both backwards are the same alignments.
    back = TokenVectors.join([np.ascontiguousarray(document[::-1])])
    assert float(alignment.best_in_float32(query[::-1].copy(), back)[0]) == pytest.approx(score, abs=1e-5)
    # Of unit vectors, nothing is more like a part of a document than itself.
    unit = document / np.linalg.norm(document, axis=1, keepdims=True)
    part = unit[count // 3 :][:4]
    most = float(alignment.best_in_float32(part, TokenVectors.join([unit]))[0])
    assert most == pytest.approx(len(part), abs=1e-5)


def test_the_first_row_tells_the_offset_nearest_to_0() -> None:
    one = np.array([[1, 0]], np.float32)
    query = np.concatenate([one, one, one])
    # At each of three offsets one segment lies on the document's only one.
    assert alignment.first_reference(query, one, norms_up(one)) == (1.0, 0)
    behind = np.concatenate([0 * one, one, one])
    assert alignment.first_reference(behind, one, norms_up(one)) == (1.0, -1)
