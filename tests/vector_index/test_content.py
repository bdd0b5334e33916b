"""Written content is read again the same, and nothing else is read."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import numpy as np
import pytest
from clustered_vectors import Sample, clustered, content_of
from hypothesis import given, settings
from hypothesis import strategies as st

import app.vector_index as vector_index
from app.errors import Damaged

KINDS = pytest.mark.parametrize("name", vector_index.NAMES)


def content(name: str, sample: Sample) -> bytes:
    return content_of(vector_index.build(name, sample.vectors))


@KINDS
def test_round_trip(name: str, large: Sample) -> None:
    index = vector_index.build(name, large.vectors * 1e5)
    written = content_of(index)
    loaded = vector_index.load(name, written, size=12_000, dim=32)
    allowed = np.arange(12_000) % 3 == 0
    for mask in (None, allowed):
        before, after = (i.search(large.queries, 100, allowed=mask) for i in (index, loaded))
        assert np.array_equal(before.rows, after.rows)
        assert np.array_equal(before.scores, after.scores)
    assert content_of(loaded) == written
    assert (loaded.name, loaded.size, loaded.dim) == (name, 12_000, 32)


@KINDS
def test_reads_a_memory_map_that_the_caller_forgets(name: str, small: Sample, tmp_path: Path) -> None:
    written = content(name, small)
    path = tmp_path / "index"
    path.write_bytes(written)
    with path.open("rb") as file:
        loaded = vector_index.load(name, memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))
    path.unlink()
    assert np.array_equal(
        loaded.search(small.queries, 9).rows,
        vector_index.load(name, written).search(small.queries, 9).rows,
    )


@KINDS
def test_another_kind_size_or_dim_is_refused(name: str, small: Sample) -> None:
    written = content(name, small)
    other = next(n for n in vector_index.NAMES if n != name)
    with pytest.raises(Damaged, match="kind"):
        vector_index.load(other, written)
    with pytest.raises(Damaged, match="size"):
        vector_index.load(name, written, size=699)
    with pytest.raises(Damaged, match="dim"):
        vector_index.load(name, written, dim=25)


@KINDS
def test_a_piece_of_it_is_refused(name: str, small: Sample) -> None:
    written = content(name, small)
    for end in [*range(0, 260, 7), len(written) // 2, len(written) - 1]:
        with pytest.raises(Damaged):
            vector_index.load(name, written[:end])
    with pytest.raises(Damaged):
        vector_index.load(name, written + b"\0")


@KINDS
@given(garbage=st.binary(max_size=200))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_garbage_is_refused(name: str, garbage: bytes) -> None:
    with pytest.raises(Damaged):
        vector_index.load(name, garbage)


@KINDS
@pytest.mark.parametrize(
    ("place", "number"),
    [(24, 25), (24, -24), (24, 0), (32, 701), (32, -1), (32, 2**62), (48, 0), (48, -8), (48, 2**62), (56, 2**62)],
)
def test_a_header_that_does_not_fit_is_refused(name: str, place: int, number: int, small: Sample) -> None:
    written = bytearray(content(name, small))
    struct.pack_into("<q", written, place, number)
    with pytest.raises(Damaged):
        vector_index.load(name, written)


@KINDS
def test_another_index_of_the_same_length_is_refused(name: str) -> None:
    """Size and dim swapped: the same number of bytes of vectors, and a header that says otherwise than faiss does."""
    written = bytearray(content(name, clustered(64, 32, 1)))
    swapped = struct.pack("<qq", *reversed(struct.unpack_from("<qq", written, 24)))
    written[24:40] = swapped
    with pytest.raises(Damaged, match="header"):
        vector_index.load(name, written)
