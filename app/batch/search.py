"""The query flow of many searches by vectors at once: check -> snapshot -> filter -> best of each -> ids, as arrays.

Each query has the documents and scores that it would have alone, to the bit; all are of one moment. Where a document is
one vector, a part is asked for the candidates of all queries together (app.batch.ranking); else they go one by one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.batch.arrays import Many, Table
from app.batch.ranking import Ask, Block, fits
from app.collection.collection import Collection
from app.collection.layers import POOLED, VALUES, scored, vector_field
from app.collection.part import Ragged
from app.collection.spec import CollectionSpec
from app.collection.view import Snapshot
from app.compute import deadline
from app.errors import Invalid, PartsUnreached
from app.query.asked import Query
from app.query.preparing import encode_queries
from app.scoring.similarity import MAX_LENGTH, lengths
from app.search import search_encoded
from app.types import F32, F64, Hit, TokenVectors

AT_ONCE: Final = 512
"""Queries at a time, at most."""
PAIRS: Final = 1 << 21
"""Pairs of a query and a candidate at a time, of about 100 bytes each; fewer queries where their lists are long."""
FEWEST: Final = 32
"""Queries that are worth a thread of their own."""


def search_many(collection: Collection, asked: Many) -> Table:
    """Raises Invalid with pointers `/i` to the query, AnswerTooLarge, Damaged, TooSlow."""
    began = time.perf_counter()
    spec = collection.spec
    _check_shape(asked.vectors, spec)
    if asked.values and spec.values is None:
        raise Invalid.at("/include", "the collection's documents carry no values: its `values` is null")
    with collection.snapshot() as snapshot:
        while True:
            try:
                return _answered(collection, snapshot, asked, began)
            except PartsUnreached as error:
                # All of them without the documents that nobody answers for, which is said.
                snapshot = snapshot.without(error)


def _answered(collection: Collection, snapshot: Snapshot, asked: Many, began: float) -> Table:
    """In one moment. Raises PartsUnreached."""
    if fits(collection.spec, snapshot.views):
        queries, offsets = _asked_with(asked.vectors, collection.spec)
        encoded = time.perf_counter()
        with collection.resources.workers.turn():
            block = best_of(collection, snapshot, queries, offsets, asked)
            ranked = time.perf_counter()
            ids, scores = _named(collection, snapshot, block)
            values = _carried(collection, snapshot, block) if asked.values else None
    else:
        encoded = time.perf_counter()
        ids, scores, values = _one_by_one(collection, snapshot, asked)
        ranked = time.perf_counter()
    ended = time.perf_counter()
    return Table(
        ids,
        scores,
        snapshot.generation,
        (ended - began) * 1e3,
        {
            "encode_ms": (encoded - began) * 1e3,
            "rank_ms": (ranked - encoded) * 1e3,
            "fetch_ms": (ended - ranked) * 1e3,
        },
        [*snapshot.warnings(asked.filter), *snapshot.unreached()],
        values,
        snapshot.reached,
    )


def _named(collection: Collection, snapshot: Snapshot, block: Block) -> tuple[NDArray[np.bytes_], F64]:
    """The ids of documents, and their scores as hits have them. Raises AnswerTooLarge."""
    seqs, places = np.unique(block.seqs, return_inverse=True)
    named = snapshot.identify(seqs.tolist())
    ids = np.array([named[seq] for seq in seqs.tolist()], np.bytes_)
    if block.seqs.size * (ids.itemsize + 8) > collection.resources.settings.max_answer_bytes:
        raise collection.room().full()
    as_shown = collection.spec.measure.score
    shown = np.array([as_shown(score) for score in block.scores.ravel().tolist()], np.float64)
    return ids[places.reshape(block.seqs.shape)], shown.reshape(block.scores.shape)


def _carried(collection: Collection, snapshot: Snapshot, block: Block) -> TokenVectors:
    """What the documents carry, a run a hit. Raises AnswerTooLarge."""
    views, rows = block.views.ravel(), block.rows.ravel()
    counts, layers = np.zeros(len(rows), np.int64), dict[int, Ragged]()
    for i, view in enumerate(snapshot.views):
        here = views == i
        if here.any():
            layers[i] = view.part.ragged(VALUES)
            counts[here] = np.diff(layers[i].offsets)[rows[here]]
    starts = np.concatenate([[0], np.cumsum(counts)])
    assert collection.spec.values is not None, "it was asked whether documents carry any"
    if 4 * starts[-1] * collection.spec.values.dim > collection.resources.settings.max_answer_bytes:
        raise collection.room().full()
    values = np.empty((starts[-1], collection.spec.values.dim), np.float32)
    for i, layer in layers.items():
        values[np.repeat(views == i, counts)] = layer.take(rows[views == i]).values
    return TokenVectors(values, starts)


def _check_shape(vectors: F32, spec: CollectionSpec) -> None:
    """Raises Invalid unless these are as many axes and dimensions as the collection's queries have."""
    dense = scored(spec) == POOLED and not spec.ordered
    axes = f"(queries, {spec.query_dim:,})" if dense else f"(queries, vectors of each, {spec.query_dim:,})"
    if vectors.ndim != (2 if dense else 3) or vectors.shape[-1] != spec.query_dim or not vectors.size:
        shape = ", ".join(f"{size:,}" for size in vectors.shape)
        raise Invalid.at("", f"expected an array of shape {axes}, for the collection is {spec.kind}; got ({shape})")


def _asked_with(vectors: F32, spec: CollectionSpec) -> tuple[F32, F64]:
    """(n, stored_dim): queries of a dense collection as the similarity asks with them; (n,): what is added to their
    products. Raises Invalid."""
    measure = spec.measure
    if not np.isfinite(vectors).all():
        raise Invalid.at(f"/{np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]}", "expected finite numbers")
    try:
        measure.check(vectors, "")
    except Invalid:
        for i in range(len(vectors)):
            measure.check(vectors[i : i + 1], f"/{i}")
    # One by one, as they are asked alone: sums of several may have other bits.
    asked = np.concatenate([measure.query(vectors[i : i + 1]) for i in range(len(vectors))])
    wrong = ~np.isfinite(asked).all(axis=1) | (lengths(asked) > MAX_LENGTH)
    if wrong.any():
        at = f"/{np.flatnonzero(wrong)[0]}"
        raise Invalid.at(at, f"times the matrix it is longer than {MAX_LENGTH:g}, the limit: scale it down")
    offsets = [measure.offsets(asked[i : i + 1]) for i in range(len(asked))]
    return asked, np.array([0.0 if one is None else float(one[0]) for one in offsets])


def best_of(
    collection: Collection, snapshot: Snapshot, queries: F32, offsets: F64, asked: Many, fewest: int = FEWEST
) -> Block:
    """The best documents of each query. queries, offsets: as ``Ask.best`` takes them. asked: the rest. fewest: that are
    worth a thread of their own. Raises Damaged, TooSlow."""
    allowed, parts = snapshot.allowed(asked.filter), list[Block]()
    ask = Ask(
        snapshot.views,
        allowed,
        snapshot.stages,
        asked.k,
        asked.candidates,
        asked.exact,
        snapshot.identify,
        collection.resources.workers,
    )
    limit = deadline.current()
    step = max(1, min(AT_ONCE, PAIRS // ask.widest))
    for start in range(0, len(queries), step):
        some, own = queries[start : start + step], offsets[start : start + step]

        def work(first: int, last: int, some: F32 = some, own: F64 = own) -> Block:
            # A thread of the pool has none of its own.
            with deadline.deadline(limit):
                return ask.best(some[first:last], own[first:last])

        parts += collection.resources.workers.map_slices(len(some), work, smallest=fewest)
    return Block.join(parts)


def _one_by_one(
    collection: Collection, snapshot: Snapshot, asked: Many
) -> tuple[NDArray[np.bytes_], F64, TokenVectors | None]:
    """As ``_named`` and ``_carried``, of what has to be searched so; all queries share one answer's room."""
    queries = [
        Query(
            vectors=vectors.reshape(-1, vectors.shape[-1]),
            k=asked.k,
            filter=asked.filter,
            candidates=asked.candidates,
            exact=asked.exact,
            include=frozenset({"values"} if asked.values else ()),
            at=f"/{i}",
        )
        for i, vectors in enumerate(asked.vectors)
    ]
    try:
        encoded = encode_queries(collection, queries)
    except Invalid as error:
        pointed = error.problems[0]
        at = pointed.pointer.removesuffix(f"/{vector_field(collection.spec)}")
        raise Invalid.at(at, pointed.message) from error
    carried = collection.spec.values if asked.values else None
    ids, scores, values = list[NDArray[np.bytes_]](), list[F64](), list[TokenVectors]()
    longest = numbers = 0
    for query, own in zip(queries, encoded, strict=True):
        # Arrays are kept, for hits take many times the room that is counted.
        hits = search_encoded(collection, query, own, moment=snapshot).hits
        ids.append(np.array([hit.id.encode() for hit in hits], np.bytes_))
        scores.append(np.array([hit.score for hit in hits], np.float64))
        if carried is not None:
            values.append(_of_hits(hits, carried.dim))
            numbers += values[-1].values.size
        # As many are found for each.
        longest = max(longest, ids[-1].itemsize)
        if len(queries) * len(hits) * (longest + 8) + 4 * numbers > collection.resources.settings.max_answer_bytes:
            raise collection.room().full()
    if carried is None:
        return np.stack(ids), np.stack(scores), None
    counts = np.concatenate([one.counts for one in values])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.stack(ids), np.stack(scores), TokenVectors(np.concatenate([one.values for one in values]), offsets)


def _of_hits(hits: Sequence[Hit], dim: int) -> TokenVectors:
    """What each carries."""
    nothing = np.zeros((0, dim), np.float32)
    runs = [nothing if hit.values is None else hit.values for hit in hits]
    return TokenVectors.join(runs) if runs else TokenVectors(nothing, np.zeros(1, np.int64))
