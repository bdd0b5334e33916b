"""The exact best of some queries in a whole collection: the truth that a first stage is held to.

Useful for: tuning, where many first stages are held to one truth. Not useful for: one measurement of a collection as it
is (``app.measure.recall``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.part import View
from app.collection.view import Snapshot
from app.errors import Conflict, Invalid
from app.measure.recall import Drawn, draw_queries
from app.query.ranking import rank
from app.search import Query, encode_queries
from app.store.rows import find_live
from app.tuning.trials import TrialSet
from app.types import F32, I64, TokenVectors

SAMPLE_VALUES: Final = 2**27
"""Numbers of token vectors that trials hold at once: 512 MiB of float32."""

Tell = Callable[[str, int, int], None]
"""Phase, done, total."""


@dataclass(frozen=True)
class Asked:
    """Queries, ready to be searched with, and their exact best.

    best: for each query the sequence numbers of its k exact best, best first. owners: for each query the sequence
    number of the document that it was drawn from, which is not among them; -1 for none. size: passages that stood.
    logged: how many queries had been searched before.
    """

    queries: tuple[Query, ...]
    best: tuple[I64, ...]
    owners: I64
    size: int
    logged: int = 0


def ask(collection: Collection, queries: Sequence[Query] | int, k: int, check: Callable[[], None], tell: Tell) -> Asked:
    """Searches exactly for each query. queries: given ones, or how many to draw from the collection's documents.

    Raises Conflict for a collection without documents, and what ``search`` raises.
    """
    drawn = draw_queries(collection, queries) if isinstance(queries, int) else Drawn.given(queries)
    ready = encode_queries(collection, drawn.queries)
    best: list[I64] = []
    owners: list[int] = []
    for done, (name, query) in enumerate(zip(drawn.owners, ready, strict=True)):
        check()
        tell("searching exactly", done, len(ready))
        assert query.vectors is not None
        with collection.snapshot() as snapshot:
            owner = -1 if name is None else find_live(snapshot.connection, [name]).get(name, -1)
            rows = [np.flatnonzero(view.alive).astype(np.int64) for view in snapshot.views]
            size = sum(map(len, rows))
            found = rank(
                snapshot.views,
                rows,
                query.vectors,
                collection.spec.kind,
                k + 1,
                collection.resources.workers,
                snapshot.identify,
            )
        best.append(np.array([ranked.seq for ranked in found if ranked.seq != owner][:k], np.int64))
        owners.append(owner)
    if not best or not size:
        raise Conflict("the collection has no documents to be tuned for", code="collection_empty")
    return Asked(tuple(ready), tuple(best), np.array(owners, np.int64), size, drawn.logged)


def trial_set(collection: Collection, asked: Asked, seed: int) -> TrialSet:
    """The exact best of all queries, and as many other passages, drawn evenly, as ``SAMPLE_VALUES`` allows."""
    with collection.snapshot() as snapshot:
        rows = [(view, int(row)) for view in snapshot.views for row in np.flatnonzero(view.alive)]
        order = np.random.default_rng(seed).permutation(len(rows))
        drawn: list[tuple[View, int]] = []
        left = SAMPLE_VALUES
        for place in order.tolist():
            view, row = rows[place]
            left -= _tokens(collection, view, row).size
            if left < 0 and drawn:
                break
            drawn.append((view, row))
        places = {int(view.part.seqs[row]): place for place, (view, row) in enumerate(drawn)}
        wanted = {int(seq) for best in asked.best for seq in best}
        extra = snapshot.published.locate(sorted(wanted - set(places)))
        every = drawn + [extra[seq] for seq in sorted(extra)]
        places |= {seq: len(drawn) + place for place, seq in enumerate(sorted(extra))}
        tokens = TokenVectors.join([_tokens(collection, view, row) for view, row in every])
        pooled = np.concatenate([view.part.pooled(row, row + 1) for view, row in every])
    kept = [i for i, best in enumerate(asked.best) if all(int(seq) in places for seq in best)]
    if not kept:
        raise Invalid("the collection changes faster than it can be measured: try again")
    return TrialSet(
        tokens,
        pooled,
        len(drawn),
        len(rows),
        TokenVectors.join([_vectors(asked.queries[i]) for i in kept]),
        np.concatenate([_pooled(asked.queries[i]) for i in kept]),
        tuple(np.array([places[int(seq)] for seq in asked.best[i]], np.int64) for i in kept),
        np.array([places.get(int(asked.owners[i]), -1) for i in kept], np.int64),
    )


def _tokens(collection: Collection, view: View, row: int) -> F32:
    """Of one passage; in a dense collection its one vector."""
    if collection.spec.kind == "dense":
        return view.part.pooled(row, row + 1)
    return view.part.tokens(row, row + 1).values


def find_share(snapshot: Snapshot, candidates: Sequence[I64], best: I64) -> float:
    """The share of ``best`` (sequence numbers) among candidate rows of the snapshot's views."""
    found = np.concatenate([view.part.seqs[rows] for view, rows in zip(snapshot.views, candidates, strict=True)])
    return float(np.isin(best, found).mean()) if len(best) else 1.0


def _vectors(query: Query) -> F32:
    assert query.vectors is not None
    return query.vectors


def _pooled(query: Query) -> F32:
    assert query.pooled is not None
    return query.pooled
