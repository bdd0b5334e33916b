"""The values that documents carry, as a layer has them: a run of vectors in the first row of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.collection.layers import VALUES
from app.collection.passages import Passages
from app.collection.spec import CollectionSpec
from app.types import Document, TokenVectors


def with_values(passages: Passages, documents: Sequence[Document], spec: CollectionSpec) -> Passages:
    """The passages of these documents with what they carry, in a collection of such; with nothing else than that,
    whatever they had."""
    if spec.values is None:
        return passages
    counts = np.zeros(passages.owners.rows, np.int64)
    counts[passages.owners.firsts] = [0 if one.values is None else len(one.values) for one in documents]
    given = [one.values for one in documents if one.values is not None]
    values = np.concatenate([np.zeros((0, spec.values.dim), np.float32), *given])
    return passages.with_layer(VALUES, TokenVectors(values, np.concatenate([[0], np.cumsum(counts)])))
