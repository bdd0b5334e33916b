"""The matrix of a causal inner product, learned from a collection's first documents once there are enough.

Only queries are multiplied with it, so no document is written anew: a search that was encoded before it was learned
is scored without, the next one with it. It is a part of the specification from then on, durable in one commit, and goes
wherever that goes: to snapshots, archives and other processes.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.part import scored_vectors
from app.collection.view import Snapshot
from app.errors import Invalid
from app.scoring.similarities.measures import MAX_DOCUMENTS
from app.types import F32

log = logging.getLogger(__name__)

VALUES: Final = 2**27
"""Numbers of the vectors that it is learned from, at most: 512 MiB."""


def causal_due(collection: Collection) -> bool:
    options = collection.spec.options
    return options.waits and collection.published.live >= (options.documents or 0) and not collection.salvaged


def learn_causal(collection: Collection, *, again: bool = False) -> bool:
    """Whether it was due, or is wanted again of what is there now, and is done. Raises StorageFull, Damaged.

    Where the first documents are all the same, more of them are looked at, and where all are, it waits, and the
    collection says why (``not_learned``).
    """
    options = collection.spec.options
    if options.documents is None or not (again or causal_due(collection)):
        return False
    with collection.snapshot() as snapshot:
        samples = [_vectors(snapshot, count) for count in (options.documents, MAX_DOCUMENTS)]
    why = ""
    for sample in samples:
        try:
            learned = replace(options, matrix=None, of=None).learned(sample)
        except Invalid as error:
            why = error.message
            continue
        collection.not_learned = None
        return collection.keep_options(learned, options)
    if collection.not_learned != why:
        log.warning("collection %s: no causal matrix is learned: %s", collection.name, why)
    collection.not_learned = why
    return False


def _vectors(snapshot: Snapshot, count: int) -> F32:
    """(n, dim): the scored vectors of the first documents that stand."""
    seqs = np.sort(np.concatenate([np.zeros(0, np.int64), *(one.part.seqs[one.alive] for one in snapshot.views)]))
    located = snapshot.published.locate(seqs[:count].tolist())
    found: list[F32] = []
    left = VALUES
    for seq in sorted(located):
        view, place = located[seq]
        own = [scored_vectors(view.part, row) for row in range(*view.part.owners.span(place, place + 1))]
        found += own
        left -= sum(matrix.size for matrix in own)
        if left < 0:
            break
    return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 1), np.float32)
