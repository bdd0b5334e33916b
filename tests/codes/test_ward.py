"""Ward's linkage against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from app.codes.ward import merges


@pytest.mark.parametrize("values", [None, 3, 1])
@pytest.mark.parametrize("count", [2, 3, 17, 200])
def test_its_merges_are_scipys(count: int, values: int | None) -> None:
    random = np.random.default_rng(count)
    points = random.standard_normal((count, 4)) if values is None else random.integers(0, values, (count, 4)) * 1.0
    condensed = np.sqrt(np.rint(2.0**20 * ((points[:, None] - points[None]) ** 2).sum(axis=2)))[
        np.triu_indices(count, 1)
    ]
    expected = linkage(condensed, "ward")
    clusters = {row: frozenset([row]) for row in range(count)}
    wanted = []
    for step, (left, right) in enumerate(expected[:, :2].astype(int).tolist()):
        clusters[count + step] = clusters[left] | clusters[right]
        wanted.append(clusters[count + step])
    first, second = merges(squareform(condensed))
    mine = {row: frozenset([row]) for row in range(count)}
    for one, other, joined in zip(first.tolist(), second.tolist(), wanted, strict=True):
        assert mine[one] | mine[other] == joined
        for row in joined:
            mine[row] = joined
