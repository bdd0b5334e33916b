"""Newcomers: whether a learned first stage finds what was written since, before it takes its place in a segment.

A fit knows the documents that it was made of. One of another kind may be encoded as if it were any of them, and then no
search finds it, not even by its own vectors; the tail, whose first stage needs no data, does. So before the tail is
sealed some of its documents are asked for by their own vectors, as the segments' stage would rank them among what is
there. Where they are not among the candidates, a stage is learned anew, from the tail too, and only then it is sealed.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import ENCODED, POOLED
from app.collection.part import scored_vectors, standing
from app.collection.passages import encode, sought
from app.collection.view import Published
from app.indexing.fitting import Check, learn_again
from app.indexing.sealing import seal
from app.types import F32, TokenVectors

ASKED: Final = 64
"""Passages of the tail that are asked for, at most."""
BESIDE: Final = 2_048
"""Passages of the segments among which they are ranked, at most."""
KNOWN: Final = 0.95
"""The share of them that must be among the candidates: a few of many may be odd, and a fit costs seconds."""


def seal_known(collection: Collection, check: Check = lambda: None) -> bool:
    """``sealing.seal``, after what the segments' first stage does not find has had it learned anew."""
    if unknown(collection):
        learn_again(collection, "learned again: what was written since is of another kind", check)
    return seal(collection, check)


def unknown(collection: Collection) -> bool:
    """Whether the tail has documents that the segments' learned first stage would not find by their own vectors."""
    now = collection.published
    record, encoding = now.generation.stage, now.stage.encoding
    if record is None or record.file is None or record.recipe is None or encoding is None or collection.salvaged:
        return False
    rows = standing(now.tail, now.tail.alive)
    # A fit that has seen them finds them as well as it can.
    if not len(rows) or int(record.fitted.get("next_seq", 0)) > int(now.tail.part.seqs[-1]):
        return False
    random = np.random.default_rng(now.commit)
    drawn = np.sort(random.permutation(rows)[:ASKED])
    tokens = TokenVectors.join([scored_vectors(now.tail.part, int(row)) for row in drawn])
    pooled = now.tail.part.flat(POOLED).take(drawn)
    measure = collection.spec.measure
    by = pooled if measure.unit else measure.query(measure.seeking(pooled))
    asked = encoding.encode_queries(sought(tokens, measure), by, collection.resources.background)
    own = encode(encoding, tokens, pooled, collection.spec)
    scores = np.einsum("ij,ij->i", asked, own)
    beside, there = _beside(now, random)
    above = (asked @ beside.T > scores[:, None]).sum(axis=1) * (there / max(1, len(beside)))
    above += (asked @ own.T > scores[:, None]).sum(axis=1) * (len(rows) / len(drawn))
    return float((above < now.stage.width).mean()) < KNOWN


def _beside(now: Published, random: np.random.Generator) -> tuple[F32, int]:
    """Encodings of passages drawn evenly from the segments, and how many there are."""
    rows = [standing(view, view.alive) for view in now.segments]
    there = sum(map(len, rows))
    found = [np.zeros((0, now.stage.encoded_dim or 0), np.float32)]
    for view, mine in zip(now.segments, rows, strict=True):
        count = -(-BESIDE * len(mine) // max(1, there))
        drawn = np.sort(random.permutation(mine)[:count])
        found.append(view.part.flat(ENCODED).take(drawn).astype(np.float32))
    return np.concatenate(found), there
