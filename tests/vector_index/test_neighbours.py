"""The neighbour graph: its links against all distances, and walks along it against all scores."""

from __future__ import annotations

import numpy as np
import pytest

import app.vector_index as vector_index
from app.errors import Damaged
from app.types import F32, I64, Mask
from app.vector_index.neighbours import Neighbours

LINKS = 16


@pytest.fixture(scope="module")
def vectors() -> F32:
    """Some clusters, one of equal vectors."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((60, 16))
    made = centres[random.integers(0, 60, 8_000)] + 0.6 * random.standard_normal((8_000, 16))
    made[100:180] = made[100]
    found: F32 = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def links(vectors: F32) -> np.ndarray:  # type: ignore[type-arg]
    return vector_index.linked(vectors, LINKS)


def test_links_are_near_lead_back_and_are_the_same_each_time(vectors: F32, links: I64) -> None:
    assert links.shape == (8_000, LINKS)
    assert links.dtype == np.int32
    rows = np.arange(0, 8_000, 97)
    squares = np.square(vectors).sum(axis=1)
    distances = squares - 2 * vectors[rows] @ vectors.T
    for row, own, away in zip(rows.tolist(), links[rows].tolist(), distances, strict=True):
        assert row not in own
        assert len(set(own)) == LINKS
        away[row] = np.inf
        # The nearer half are the nearest ones.
        assert away[own[: LINKS // 2]].max() <= np.partition(away, LINKS // 2)[LINKS // 2] + 1e-5
    assert np.isin(np.arange(8_000), links).mean() > 0.99
    assert (vector_index.linked(vectors, LINKS) == links).all()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_of_few_rows_all_are_linked(vectors: F32, size: int) -> None:
    found = vector_index.linked(vectors[:size], LINKS)
    assert [sorted(own[own >= 0].tolist()) for own in found] == [
        [other for other in range(size) if other != row] for row in range(size)
    ]


class Counted:
    """The largest of two inner products, less a square: smooth, and no inner product. Counts what it scores."""

    def __init__(self, vectors: F32, seed: int) -> None:
        asked = np.random.default_rng(seed).choice(len(vectors), 3)
        products = vectors @ vectors[asked].T
        self.all = (np.maximum(products[:, 0], products[:, 1]) - 0.5 * products[:, 2] ** 2).astype(np.float32)
        self.rows: list[int] = []

    def __call__(self, rows: I64) -> F32:
        assert (np.diff(rows) > 0).all(), "rows come ascending"
        self.rows += rows.tolist()
        return self.all[rows]


def test_walks_find_the_best_and_score_few(vectors: F32, links: I64) -> None:
    graph, every, found = Neighbours(links), np.ones(8_000, bool), 0
    for seed in range(20):
        score = Counted(vectors, seed)
        best = graph.best(score, 10, every)
        assert best.scores.tolist() == score.all[best.rows].tolist() == sorted(best.scores.tolist(), reverse=True)
        assert len(score.rows) == len(set(score.rows)) < 4_000
        found += np.isin(np.lexsort((np.arange(8_000), -score.all))[:10], best.rows).sum()
    assert found >= 0.95 * 200


def test_a_filter_gives_whole_pages_of_what_passes(vectors: F32, links: I64) -> None:
    graph, shares = Neighbours(links), []
    for seed, keep in enumerate((2, 3, 10, 100, 4_000)):
        score = Counted(vectors, seed)
        allowed: Mask = np.arange(8_000) % keep == 0
        # And the half where the score is least.
        for mask in (allowed, score.all < np.median(score.all)):
            best = graph.best(score, 10, mask)
            there = np.flatnonzero(mask)
            wanted = there[np.argsort(-score.all[there], kind="stable")[:10]]
            assert len(best.rows) == len(wanted)
            assert mask[best.rows].all()
            shares.append(np.isin(wanted, best.rows).mean())
    assert np.mean(shares) >= 0.95
    assert len(graph.best(score, 10, np.zeros(8_000, bool)).rows) == 0


@pytest.mark.parametrize("wrong", [8_000, -2])
def test_links_that_lead_nowhere_are_damage(links: I64, wrong: int) -> None:
    with pytest.raises(Damaged, match="lead nowhere"):
        Neighbours(np.where(links == links[0, 0], np.int32(wrong), links).astype(np.int32))
    with pytest.raises(Damaged):
        Neighbours(links.astype(np.int64))  # type: ignore[arg-type]
