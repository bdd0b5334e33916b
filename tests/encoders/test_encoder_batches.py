from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.encoders.batches import by_length, gather
from app.errors import EncoderRefused


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 120), st.integers(0, 60))
def test_batches_hold_every_row_once_within_the_bounds(lengths: list[int], padded: int, padding: int) -> None:
    batches = by_length(np.array(lengths, np.int64), padded, padding)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        within = [lengths[row] for row in batch]
        assert len(batch) == 1 or len(batch) * max(within) <= padded
        assert len(batch) == 1 or len(batch) * max(within) - sum(within) <= padding


def test_batches_are_as_full_as_the_bounds_let_them() -> None:
    batches = by_length(np.array([8, 1] * 50, np.int64), 40, 1_000)
    assert [len(batch) for batch in batches] == [5] * 10 + [40, 10]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    good, broken = np.ones(2, np.float32), np.array([1, bad], np.float32)
    with pytest.raises(EncoderRefused, match="NaN or infinity"):
        gather(2, [broken], None, np.zeros(1, bool))
    with pytest.raises(EncoderRefused, match="NaN or infinity"):
        gather(2, [good], [np.stack([good, broken])], np.zeros(1, bool))
