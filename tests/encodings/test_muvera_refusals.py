"""The refusals of MUVERA: descriptions, sizes and vectors that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from app.encodings import load_encoding
from app.encodings.muvera import MAX_ENCODED_DIM, MAX_WIDE_DIM, Muvera, MuveraParameters
from app.errors import Invalid
from app.types import TokenVectors


@pytest.mark.parametrize(
    "change",
    [{"type": "lemur"}, {"type": None}, {"more": 1}, {"repetitions": 0}, {"seed": "1"}, {"dim": 8.0}, {"fill": 1}],
    ids=str,
)
def test_json_of_anything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        load_encoding(Muvera(8, MuveraParameters(2, 3)).to_json() | change)


def test_json_with_a_part_missing_is_refused() -> None:
    description = Muvera(8, MuveraParameters(2, 3)).to_json()
    for name in description:
        with pytest.raises(Invalid):
            load_encoding({key: value for key, value in description.items() if key != name})


@pytest.mark.parametrize(
    "sizes",
    [
        {"repetitions": 0},
        {"repetitions": -1},
        {"repetitions": True},
        {"repetitions": 2.0},
        {"hyperplanes": -1},
        {"hyperplanes": 17},
        {"projection": 0},
        {"projection": 9},  # more than the vectors have
        {"final_projection": 0},
        {"final_projection": 65},  # more than there is to project
        {"seed": -1},
        {"seed": 2**63},
        {"repetitions": 10**30},
        {"repetitions": MAX_WIDE_DIM // 32 + 1, "final_projection": 8},
        {"repetitions": MAX_ENCODED_DIM // 32 + 1},
        {"final_projection": MAX_ENCODED_DIM + 1, "repetitions": 2**16},
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        Muvera(8, MuveraParameters(**({"repetitions": 2, "hyperplanes": 2} | sizes)))


@pytest.mark.parametrize("dim", [0, -1, 16_385, True, 8.0])
def test_a_dim_that_cannot_be_is_refused(dim: int) -> None:
    with pytest.raises(Invalid, match="dim"):
        Muvera(dim, MuveraParameters(2, 2))


def test_too_many_random_numbers_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(Invalid, match="hyperplanes"):
        Muvera(16_384, MuveraParameters(2_000, 1, 4, final_projection=100))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("projection", [None, 4])
def test_a_value_that_is_not_finite_is_refused_by_name(bad: float, dtype: type, projection: int | None) -> None:
    random = np.random.default_rng(0)
    matrices = [random.standard_normal((count % 7 + 1, 8)).astype(dtype) for count in range(300)]
    matrices[270][-1, 3] = bad
    encoding = Muvera(8, MuveraParameters(2, 3, projection, final_projection=16))
    for encode in (encoding.encode_documents, encoding.encode_queries):
        with pytest.raises(Invalid, match="passage 270 "):
            encode(TokenVectors.join(matrices))


def test_values_too_large_to_add_up_are_refused() -> None:
    huge = np.full((4, 8), 3e38, np.float32)
    with pytest.raises(Invalid, match="too large"):
        Muvera(8, MuveraParameters(1, 0)).encode_queries(TokenVectors.join([huge]))


def test_vectors_of_another_shape_or_type_are_refused() -> None:
    encoding = Muvera(8, MuveraParameters(1, 1))
    with pytest.raises(Invalid, match="8 dimensions"):
        encoding.encode_documents(TokenVectors.join([np.ones((2, 9), np.float32)]))
    with pytest.raises(Invalid, match="float64"):
        encoding.encode_documents(TokenVectors.join([np.ones((2, 8), np.float64)]))
    with pytest.raises(Invalid, match="passage 1 has no vectors"):
        encoding.encode_queries(TokenVectors.join([np.ones((2, 8), np.float32), np.ones((0, 8), np.float32)]))
