from __future__ import annotations

import numpy as np
import pytest

from app.encoders.deterministic import MAX_WORDS, DeterministicEncoder


def test_vectors_are_these_on_every_machine() -> None:
    """Collections outlive processes, machines and releases of NumPy; so must the vectors."""
    found = DeterministicEncoder(4, "multi_vector").encode_queries(["Cat, dog"]).tokens
    assert found is not None
    expected = [[-0.4660576, 0.3015997, 0.1853636, -0.8108442], [-0.4565138, 0.5770861, -0.0970916, -0.6701791]]
    assert np.allclose(found.values, expected, atol=1e-6)


def test_words_not_case_or_punctuation_make_the_vectors() -> None:
    tokens = DeterministicEncoder(16, "multi_vector").encode_documents(["Read the FILE!", "file", "..."]).tokens
    assert tokens is not None
    assert tokens.counts.tolist() == [3, 1, 1]
    assert np.array_equal(tokens[0][2], tokens[1][0])
    assert np.abs(tokens[0] @ tokens[2].T).max() < 0.99


def test_pooled_is_the_normalised_mean() -> None:
    found = DeterministicEncoder(16, "multi_vector").encode_documents(["a b c d"])
    assert found.tokens is not None
    mean = found.tokens[0].mean(axis=0)
    assert np.allclose(found.pooled[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_texts_that_share_words_are_nearer() -> None:
    found = DeterministicEncoder(64, "dense").encode_documents(["read a zip file", "write a zip file", "send mail now"])
    assert found.pooled[0] @ found.pooled[1] > 0.5 > found.pooled[0] @ found.pooled[2]


def test_long_texts_are_cut_and_said_to_be() -> None:
    found = DeterministicEncoder(8, "multi_vector").encode_documents(["w " * MAX_WORDS, "w " * (MAX_WORDS + 1)])
    assert found.tokens is not None
    assert found.tokens.counts.tolist() == [MAX_WORDS, MAX_WORDS]
    assert found.truncated.tolist() == [False, True]


@pytest.mark.parametrize("dim", [1, 16_384])
def test_every_dimension_gives_unit_vectors(dim: int) -> None:
    words = " ".join(f"w{i}" for i in range(40))
    found = DeterministicEncoder(dim, "multi_vector").encode_documents([words, "w0 w1"])
    assert found.tokens is not None
    assert np.allclose(np.linalg.norm(found.pooled, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(found.tokens.values, axis=1), 1, atol=1e-5)


def test_fingerprint_tells_the_dimension() -> None:
    four, eight = (DeterministicEncoder(dim, "dense").fingerprint for dim in (4, 8))
    assert four.differences(eight) == ["details.dim"]
