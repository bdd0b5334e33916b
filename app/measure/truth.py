"""Exact search over vectors as they were before they were coded: what the codes themselves cost.

Callers' vectors come from the file that keeps them as they were given; an encoder's are made anew from the texts, which
takes as long as encoding the collection did. Nothing of it is kept.
Useful for: measuring recall against float32. Not useful for: answering queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import POOLED, scored
from app.errors import Conflict
from app.passages.conversation import by_turns
from app.passages.encoding import ROWS, Splitter
from app.passages.windows import Window
from app.query.encoded import EncodedQuery
from app.query.scores import of_document
from app.query.scores import scores_in_float32 as scores_of_vectors
from app.scoring.similarities import alignment
from app.store.rows import find_live
from app.types import F32, Document, Owners, TokenVectors

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
    for some in _batches(collection, check):
        documents, values = scores_in_float32(collection, some, queries)
        ids += [document.id for document in documents]
        for own, every in zip(values, scores, strict=True):
            every.append(own)
    best = []
    keys = [identifier.encode() for identifier in ids]
    for found in scores:
        whole = np.concatenate([np.zeros(0, np.float32), *found])
        order = sorted(range(len(ids)), key=lambda i: (-whole[i], keys[i]))
        best.append([ids[i] for i in order[:k]])
    return best


def scores_in_float32(
    collection: Collection, documents: Sequence[Document], queries: Sequence[EncodedQuery]
) -> tuple[list[Document], F32]:
    """The documents that are still there, and their scores by vectors before they were coded, (queries, documents).

    Raises as ``best_in_float32``.
    """
    if collection.spec.model is None:
        standing, owners, vectors = given_in_float32(collection, documents)
        batches: Iterable[TokenVectors] = [vectors]
    else:
        windows = Splitter(collection.spec, collection.encoder(), None).windows(documents)
        standing, owners = list(documents), Owners.of_counts(np.array([len(own) for own in windows], np.int64))
        batches = _encoded(collection, [window for own in windows for window in own])
    if collection.spec.ordered:
        (rows_of_all,) = batches
        whole = TokenVectors(rows_of_all.values, np.concatenate([[0], np.cumsum(owners.counts)]))
        return standing, np.stack([alignment.best_in_float32(query.vectors, whole) for query in queries])
    rows = [[scores_of_vectors(collection.spec, query, batch) for query in queries] for batch in batches]
    found = np.concatenate([np.zeros((len(queries), 0), np.float32), *map(np.stack, rows)], axis=1)
    if not standing:
        return standing, found
    best = np.maximum.reduceat(found, owners.firsts, axis=1)
    if collection.spec.splits:
        for i, count in enumerate(owners.counts.tolist()):
            best[:, i] = of_document(
                found[:, owners.firsts[i]].astype(np.float64), best[:, i].astype(np.float64), count
            )
    return standing, best


def _encoded(collection: Collection, windows: Sequence[Window]) -> Iterator[TokenVectors]:
    """The vectors of texts as the similarity has them, in batches; a dense one is a matrix of one row."""
    spec = collection.spec
    for start in range(0, len(windows), ROWS):
        some = windows[start : start + ROWS]
        encoded = collection.encode_documents([window.encoded for window in some])
        if spec.turns is not None:
            encoded, _ = by_turns(encoded, [window.said for window in some], collection.encoder())
        tokens = encoded.tokens
        if tokens is None or scored(spec) == POOLED:
            tokens = TokenVectors(encoded.pooled, np.arange(len(encoded.pooled) + 1))
        yield TokenVectors(spec.measure.document(tokens.values), tokens.offsets)


def given_in_float32(
    collection: Collection, documents: Sequence[Document]
) -> tuple[list[Document], Owners, TokenVectors]:
    """The documents that are still there, and callers' vectors of their passages as the similarity has them.

    Raises as ``best_in_float32``.
    """
    spec = collection.spec
    if not spec.keep_vectors:
        raise Conflict(
            f"collection {collection.name} does not keep callers' vectors as they came: create it with "
            '"keep_vectors": true to measure against them',
            code="vectors_not_kept",
        )
    with collection.snapshot() as snapshot:
        live = find_live(snapshot.connection, [document.id for document in documents])
        given = collection.given_passages(list(live.values()), snapshot.published)
    standing = [document for document in documents if live.get(document.id) in given]
    own = [given[live[document.id]] for document in standing]
    # An empty matrix, so that the dimensions are known where no document is left.
    matrices = [
        np.zeros((0, spec.stored_dim), np.float32),
        *(spec.measure.document(matrix) for one in own for matrix in one),
    ]
    offsets = np.cumsum([len(matrix) for matrix in matrices])
    owners = Owners.of_counts(np.array([len(one) for one in own], np.int64))
    return standing, owners, TokenVectors(np.concatenate(matrices), offsets)


def _batches(collection: Collection, check: Callable[[], None]) -> Iterator[list[Document]]:
    """All documents, by id."""
    after: str | None = None
    while True:
        check()
        documents, after = collection.listing(after, BATCH)
        if documents:
            yield documents
        if after is None:
            return
