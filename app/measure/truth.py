"""Exact search over vectors as they were before they were coded: what the codes themselves cost.

Callers' vectors come from the file that keeps them as they were given; an encoder's are made anew from the texts, which
takes as long as encoding the collection did. Nothing of it is kept.
Useful for: measuring recall against float32. Not useful for: answering queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import POOLED, scored
from app.errors import Conflict
from app.query.encoded import EncodedQuery
from app.scoring import maxsim
from app.store.rows import find_live
from app.types import F32, Document, TokenVectors

BATCH: Final = 256
"""Documents whose vectors are held at a time."""


def best_in_float32(
    collection: Collection, queries: Sequence[EncodedQuery], k: int, check: Callable[[], None] = lambda: None
) -> list[list[str]]:
    """For each query the ids of its best k, best first, equal scores by the id's bytes; scores in float32.

    queries: with their vectors (``encode_queries``). Raises Conflict where callers' vectors were not kept.
    """
    ids: list[str] = []
    scores: list[list[F32]] = [[] for _ in queries]
    for documents, vectors in _batches(collection, check):
        ids += [document.id for document in documents]
        for query, found in zip(queries, scores, strict=True):
            found.append(maxsim.fast_scores(query.vectors, vectors))
    best = []
    keys = [identifier.encode() for identifier in ids]
    for found in scores:
        whole = np.concatenate([np.zeros(0, np.float32), *found])
        order = sorted(range(len(ids)), key=lambda i: (-whole[i], keys[i]))
        best.append([ids[i] for i in order[:k]])
    return best


def vectors_in_float32(collection: Collection, documents: Sequence[Document]) -> tuple[list[Document], TokenVectors]:
    """The documents that are still there, and their vectors before they were coded; a dense one is a matrix of one row.

    Raises as ``best_in_float32``.
    """
    spec = collection.spec
    if spec.model is None and not spec.keep_vectors:
        raise Conflict(
            f"collection {collection.name} does not keep callers' vectors as they came: create it with "
            '"keep_vectors": true to measure against them',
            code="vectors_not_kept",
        )
    if spec.model is None:
        with collection.snapshot() as snapshot:
            live = find_live(snapshot.connection, [document.id for document in documents])
            given = collection.given_vectors(list(live.values()), snapshot.published)
        standing = [document for document in documents if live.get(document.id) in given]
        # An empty matrix, so that the dimensions are known where no document is left.
        matrices = [np.zeros((0, spec.dim), np.float32)]
        matrices += [spec.measure.document(given[live[document.id]]) for document in standing]
        return standing, TokenVectors(np.concatenate(matrices), np.cumsum([len(matrix) for matrix in matrices]))
    encoded = collection.encode_documents([document.passage for document in documents])
    tokens = encoded.tokens
    if tokens is None or scored(spec) == POOLED:
        tokens = TokenVectors(encoded.pooled, np.arange(len(documents) + 1))
    return list(documents), TokenVectors(spec.measure.document(tokens.values), tokens.offsets)


def _batches(collection: Collection, check: Callable[[], None]) -> Iterator[tuple[list[Document], TokenVectors]]:
    """All documents, by id."""
    after: str | None = None
    while True:
        check()
        documents, after = collection.listing(after, BATCH)
        if documents:
            yield vectors_in_float32(collection, documents)
        if after is None:
            return
