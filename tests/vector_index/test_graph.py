"""Walks along the graph, against the codes read one after the other."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from clustered_vectors import Sample, clustered, content_of

import app.vector_index as vector_index
from app.errors import Damaged
from app.types import I64, Mask
from app.vector_index.graph import Graph
from app.vector_index.walk import walk

READ = 1e9
"""Breadth at which all codes are read."""


@pytest.fixture(scope="module")
def graph(large: Sample) -> Graph:
    return Graph.build("hnsw", large.vectors)


def shared(found: I64, wanted: I64) -> float:
    """Of the rows that are wanted, how many were found; (q, k) each."""
    return float(np.mean([np.isin(b[b >= 0], a).mean() for a, b in zip(found, wanted, strict=True)]))


def test_a_walk_finds_what_all_codes_hold(graph: Graph, large: Sample) -> None:
    every = graph.search(large.queries, 10, breadth=READ)
    assert shared(graph.search(large.queries, 128).rows, every.rows) >= 0.97
    # Further is better, and never worse than all.
    assert shared(graph.search(large.queries, 128, breadth=4).rows, every.rows) >= 0.99


def test_a_walk_reads_few_codes(graph: Graph, large: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(*asked: Any) -> Any:
        found = walk(*asked)
        read.append(found[1])
        return found

    monkeypatch.setattr("app.vector_index.graph.walk", counting)
    graph.search(large.queries, 32)
    assert 0 < sum(read) < len(large.queries) * graph.size / 10


@pytest.mark.parametrize("far", [False, True])
def test_what_passes_a_filter_is_found_wherever_it_lies(graph: Graph, large: Sample, far: bool) -> None:
    """Half of the rows: drawn evenly, or those that are farthest from the query, where a walk to it does not come."""
    for query in large.queries[:8]:
        products = large.vectors @ query
        allowed: Mask = np.arange(graph.size) % 2 == 0
        if far:
            allowed = products < np.median(products)
        found = graph.search(query[None], 50, allowed=allowed).rows
        every = graph.search(query[None], 50, allowed=allowed, breadth=READ).rows
        assert allowed[found].all()
        assert shared(found, every) >= 0.9


def test_a_graph_that_does_not_find_what_it_holds_says_so(large: Sample) -> None:
    assert Graph.build("hnsw", large.vectors).holds(large.vectors)
    broken = Graph.build("hnsw", large.vectors)
    import faiss

    # Each row leads to the next alone: walks end where they begin.
    links = broken._index.hnsw.neighbors
    faiss.rev_swig_ptr(links.data(), links.size())[:] = -1
    assert not broken.holds(large.vectors)


def test_equal_vectors_are_as_good_as_each_other_but_a_hundred_lead_nowhere_else() -> None:
    for times, holds in ((4, True), (100, False)):
        vectors = np.tile(clustered(4_000 // times, 16, 0).vectors, (times, 1))
        assert Graph.build("hnsw", vectors).holds(vectors) is holds


def test_links_to_rows_that_are_not_there_are_refused(large: Sample) -> None:
    """Native code would follow them."""
    vectors = large.vectors[:500]
    written = bytearray(content_of(vector_index.build("hnsw", vectors)))
    links, _ = struct.unpack_from("<qq", written, 64)
    place = 64 + 16 + links - 4 * 40
    for value in (500, 2**31 - 1, -2):
        spoilt = bytearray(written)
        spoilt[place : place + 4 * 8] = struct.pack("<8i", *[value] * 8)
        with pytest.raises(Damaged):
            vector_index.load("hnsw", bytes(spoilt))


def test_codes_are_read_where_they_lie(large: Sample) -> None:
    written = np.frombuffer(bytearray(content_of(vector_index.build("hnsw", large.vectors))), np.uint8)
    loaded = vector_index.load("hnsw", written)
    before = loaded.search(large.queries[:1], 5, breadth=READ).rows
    codes = written[len(written) - large.vectors.size :].reshape(large.vectors.shape)
    codes[7] = np.where(large.queries[0] > 0, 255, 0)
    after = loaded.search(large.queries[:1], 5, breadth=READ).rows
    assert after[0, 0] == 7 != before[0, 0]
