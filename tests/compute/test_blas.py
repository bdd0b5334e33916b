"""One BLAS thread, set by whatever uses BLAS, and set again if something undid it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from app.compute.blas import keep_to_one_thread
from app.encodings.muvera import Muvera, MuveraParameters
from app.scoring import inner_product, maxsim
from app.types import TokenVectors

MATRIX = np.ones((3, 4), np.float32)
TOKENS = TokenVectors.join([MATRIX])


@pytest.mark.parametrize(
    "use",
    [
        keep_to_one_thread,
        lambda: Muvera(4, MuveraParameters(1, 1)).encode_queries(TOKENS),
        lambda: maxsim.fast_scores(MATRIX, TOKENS),
        lambda: maxsim.reference(MATRIX, MATRIX),
        # What is float32 is multiplied without BLAS.
        lambda: inner_product.fast_scores(MATRIX[0], MATRIX.astype(np.float16)),
    ],
)
def test_numpys_blas_has_one_thread_afterwards(use: Callable[[], object]) -> None:
    with threadpool_limits(2, user_api="blas"):
        use()
        numpys = [info for info in threadpool_info() if "numpy" in info["filepath"]]
        assert [info["num_threads"] for info in numpys] == [1]
