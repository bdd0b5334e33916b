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
from app.collection.layers import POOLED
from app.collection.part import View, scored_vectors, standing
from app.collection.view import Snapshot
from app.errors import Conflict, Invalid
from app.measure.drawing import Drawn, draw_queries
from app.query.encoded import EncodedQuery
from app.query.preparing import encode_queries
from app.query.ranking import rank_all
from app.query.scores import scores_of
from app.search import Query
from app.store.rows import find_live
from app.tuning.trials import TrialSet
from app.types import I64, TokenVectors

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

    queries: tuple[EncodedQuery, ...]
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
        with collection.snapshot() as snapshot:
            owner = -1 if name is None else find_live(snapshot.connection, [name]).get(name, -1)
            size = sum(int(np.count_nonzero(view.part.owners.spread(view.alive))) for view in snapshot.views)
            scores, workers = scores_of(collection.spec, query), collection.resources.workers
            found = rank_all(snapshot.views, scores, k + 1, workers, snapshot.identify)
        best.append(np.array([ranked.seq for ranked in found if ranked.seq != owner][:k], np.int64))
        owners.append(owner)
    if not best or not size:
        raise Conflict("the collection has no documents to be tuned for", code="collection_empty")
    return Asked(tuple(ready), tuple(best), np.array(owners, np.int64), size, drawn.logged)


def trial_set(collection: Collection, asked: Asked, seed: int) -> TrialSet:
    """The exact best of all queries, and as many other passages, drawn evenly, as ``SAMPLE_VALUES`` allows."""
    with collection.snapshot() as snapshot:
        rows = [(view, int(row)) for view in snapshot.views for row in standing(view, view.alive)]
        order = np.random.default_rng(seed).permutation(len(rows))
        drawn: list[tuple[View, int]] = []
        left = SAMPLE_VALUES
        for place in order.tolist():
            view, row = rows[place]
            left -= scored_vectors(view.part, row).size
            if left < 0 and drawn:
                break
            drawn.append((view, row))
        places = {_seq(view, row): place for place, (view, row) in enumerate(drawn)}
        wanted = {int(seq) for best in asked.best for seq in best}
        located = snapshot.published.locate(sorted(wanted - set(places)))
        # The first row of a document stands for it.
        extra = {seq: (view, view.part.owners.span(place, place + 1)[0]) for seq, (view, place) in located.items()}
        every = drawn + [extra[seq] for seq in sorted(extra)]
        places |= {seq: len(drawn) + place for place, seq in enumerate(sorted(extra))}
        tokens = TokenVectors.join([scored_vectors(view.part, row) for view, row in every])
        pooled = np.concatenate([view.part.flat(POOLED).range(row, row + 1) for view, row in every])
    kept = [i for i, best in enumerate(asked.best) if all(int(seq) in places for seq in best)]
    if not kept:
        raise Invalid("the collection changes faster than it can be measured: try again")
    return TrialSet(
        tokens,
        pooled,
        len(drawn),
        len(rows),
        TokenVectors.join([asked.queries[i].vectors for i in kept]),
        np.concatenate([asked.queries[i].pooled for i in kept]),
        tuple(np.array([places[int(seq)] for seq in asked.best[i]], np.int64) for i in kept),
        np.array([places.get(int(asked.owners[i]), -1) for i in kept], np.int64),
    )


def _seq(view: View, row: int) -> int:
    """The document of a row."""
    return int(view.part.seqs[view.part.owners.of(np.array([row]))[0]])


def find_share(snapshot: Snapshot, candidates: Sequence[I64], best: I64) -> float:
    """The share of ``best`` (sequence numbers) among candidate rows of the snapshot's views."""
    found = np.concatenate(
        [view.part.seqs[view.part.owners.of(rows)] for view, rows in zip(snapshot.views, candidates, strict=True)]
    )
    return float(np.isin(best, found).mean()) if len(best) else 1.0
