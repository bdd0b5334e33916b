"""Drift: whether a learned first stage finds documents that came after its fit as well as those that it knew.

Counting them says when a fit is old, not whether it is wrong: documents of the same kind are found nearly as well,
those of another kind are not. So from some number of later documents on, as many of these and of the former are drawn,
runs of their own vectors are asked for among each, and what the first stage finds of the exact best is compared. That
takes a second or two, in the background, and is done again when a quarter more have come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from app.collection.first_stage import Drift
from app.collection.part import scored_vectors, standing
from app.collection.passages import sought
from app.collection.view import Published, SegmentView, Snapshot
from app.encodings.features import mean_of, windows
from app.indexing.sampling import exact_best, share_found
from app.scoring.similarity import Similarity
from app.types import TokenVectors

LEAST: Final = 256
"""Later documents from which a comparison says anything."""
PART: Final = 4
"""One later document for so many that the fit knew of: from there on they are looked at."""
SAMPLE: Final = 512
"""Documents drawn of each, at most."""
QUERIES: Final = 96
"""Runs of vectors that are asked for among each."""


def drift_due(now: Published, former: Drift | None) -> bool:
    """Whether later documents are to be looked at. former: what was seen the last time."""
    record = now.generation.stage
    if record is None or record.file is None or now.stage.encoding is None or "next_seq" not in record.fitted:
        return False
    later = count_later(now, int(record.fitted["next_seq"]))
    start = max(LEAST, int(record.fitted.get("of", 0)) // PART)
    if former is not None and former.fit == record.fitted["next_seq"]:
        start = max(start, former.later + former.later // 4)
    return later >= start


def count_later(now: Published, next_seq: int) -> int:
    """Documents in segments that came at this sequence number or after it."""
    return sum(int(view.alive[np.searchsorted(view.part.seqs, next_seq) :].sum()) for view in now.segments)


def measure_drift(snapshot: Snapshot, similarity: Similarity, check: Callable[[], None] = lambda: None) -> Drift | None:
    """similarity: the collection's. None where nothing is left to be compared. Raises Damaged."""
    now = snapshot.published
    record, encoding = now.generation.stage, now.stage.encoding
    if record is None or encoding is None:
        return None
    fit = int(record.fitted["next_seq"])
    random = np.random.default_rng(now.generation.number)
    found = []
    for later in (False, True):
        check()
        rows = [standing(view, view.alive & ((view.part.seqs >= fit) == later)) for view in now.segments]
        owners = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        if len(owners) < LEAST // 2:
            return None
        whole = np.concatenate(rows)
        drawn = random.permutation(len(owners))[:SAMPLE]
        tokens = _tokens([(now.segments[owners[i]], int(whole[i])) for i in drawn])
        queries = sought(windows(tokens, QUERIES), similarity)
        found.append(share_found(encoding, tokens, queries, exact_best(tokens, queries, mean_of(tokens))))
    return Drift(fit, count_later(now, fit), round(found[0], 4), round(found[1], 4))


def _tokens(rows: list[tuple[SegmentView, int]]) -> TokenVectors:
    return TokenVectors.join([scored_vectors(view.part, row) for view, row in rows])
