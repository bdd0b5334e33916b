"""Compiled walks and products, against the same in plain numbers."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from clustered_vectors import Sample

from app.types import F32, I64
from app.vector_index.graph import LINKS, Graph
from app.vector_index.walk import FIRST, LOW, asked, keys_of, told, walk


def drawn(dim: int) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.uint8]], F32, F32, F32]:
    """Codes of few rows, a query, and what a number's codes stand for."""
    random = np.random.default_rng(dim)
    codes = random.integers(0, 256, (9, dim)).astype(np.uint8)
    query, least = random.normal(size=(2, dim)).astype(np.float32)
    return codes, query, least, random.uniform(0, 2, dim).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 3, 31, 32, 33, 63, 64, 100, 384])
def test_products_are_those_of_the_numbers_that_codes_stand_for(dim: int) -> None:
    codes, query, least, widths = drawn(dim)
    weights, divisors, added = asked(query[None], least, widths)
    rows = np.array([0, 4, 8, 8, 1])
    keys = keys_of(codes.ctypes.data, rows, weights[0])
    assert (keys >> 32).tolist() == (codes[rows].astype(np.int64) @ weights[0].astype(np.int64)).tolist()
    scores, named = told(keys[None], divisors, added)
    assert named.tolist() == [rows.tolist()]
    numbers = least + widths.astype(np.float64) * (codes[rows] + 0.5) / 255
    # A weight is rounded by half of a 32,766th of the largest one.
    slack = 255 * dim / 65_000 * float(np.abs(query * widths / 255).max()) + 1e-5
    np.testing.assert_allclose(scores[0], numbers @ query.astype(np.float64), atol=slack, rtol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_the_largest_fit(sign: int) -> None:
    """As many dimensions as there may be, all of them as large as any."""
    dim = 16_384
    query, widths = np.full((2, dim), np.float32(1))
    codes = np.full((1, dim), 255, np.uint8)
    weights, divisors, added = asked(sign * query[None], np.zeros(dim, np.float32), widths)
    scores, _ = told(keys_of(codes.ctypes.data, np.zeros(1, np.int64), weights[0])[None], divisors, added)
    assert scores[0, 0] == pytest.approx(sign * dim * 255.5 / 255, rel=1e-3)


def test_equal_scores_are_ordered_by_row_and_zeros_score_alike() -> None:
    codes, _, least, widths = drawn(40)
    weights, divisors, added = asked(np.zeros((1, 40), np.float32), least, widths)
    keys = keys_of(codes.ctypes.data, np.arange(9), weights[0])
    assert (np.diff(keys) < 0).all()
    assert not told(keys[None], divisors, added)[0].any()


def test_no_row_is_taken_for_none() -> None:
    """Row 0 with the product -1 among them; none is told where a walk met fewer."""
    codes, weights = np.array([[1, 0], [5, 0]], np.uint8), np.array([-1, 0], np.int16)
    keys = keys_of(codes.ctypes.data, np.arange(2), weights)
    assert (keys >> 32).tolist() == [-1, -5]
    _, rows = told(np.append(keys, -1)[None], np.ones(1), np.zeros(1))
    assert rows.tolist() == [[0, 1, -1]]


def plain(graph: Graph, codes: I64, weights: I64, depth: int, reach: int) -> list[tuple[int, int]]:
    """The same walk, of pairs: minus the score, and the row."""
    there = graph._arrays()

    def neighbours(row: int, level: int) -> list[int]:
        first = int(there.offsets[row]) + (LINKS * (level + 1) if level else 0)
        own: list[int] = there.links[first : first + LINKS * (1 if level else 2)].tolist()
        return own[: own.index(-1)] if -1 in own else own

    def pair(row: int) -> tuple[int, int]:
        return -int(codes[row] @ weights), row

    at = pair(there.entry)
    for level in range(len(there.starts) - 2, 0, -1):
        while True:
            best = min([at, *map(pair, neighbours(at[1], level))], key=lambda one: one[0])
            if best[0] == at[0]:
                break
            at = best
    ahead, best_rows, seen = [at], [at], {at[1]}
    while ahead:
        here = heapq.heappop(ahead)
        if len(best_rows) == reach and here > best_rows[-1]:
            break
        for row in neighbours(here[1], 0):
            if row not in seen:
                seen.add(row)
                if len(best_rows) < reach or pair(row) < best_rows[-1]:
                    best_rows = sorted([*best_rows, pair(row)])[:reach]
                    heapq.heappush(ahead, pair(row))
    return best_rows[:depth]


def test_walks_go_where_plain_ones_do(large: Sample) -> None:
    graph = Graph.build("hnsw", large.vectors[:3_000])
    there = graph._arrays()
    assert len(there.starts) > 2, "there is a level to descend from"
    weights, _, _ = asked(large.queries[:6], there.least, there.widths)
    import faiss

    codes = faiss.rev_swig_ptr(graph._codes.codes.data(), graph.size * graph.dim).reshape(graph.size, graph.dim)
    for depth, reach in ((1, 1), (5, 20), (60, 60)):
        keys, read = walk(
            there.codes, graph.size, there.links, there.offsets, there.starts, there.entry, weights, depth, reach
        )
        assert read >= len(weights) * reach
        for own, asks in zip(keys.tolist(), weights.astype(np.int64), strict=True):
            found = [(-(key >> 32), FIRST - (key & LOW)) for key in own]
            assert found == plain(graph, codes.astype(np.int64), asks, depth, reach)
