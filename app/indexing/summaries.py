"""The map from conversations to their summaries, learned from a collection's own documents once there are enough.

Where documents carry a summary and a search has none, as in CONVERSE (Lee and others, NAACL 2024, arXiv 2402.13043),
whose encoder is trained to give a conversation the vector of a summary that a language model wrote. Here it is a ridge
regression from the one vector to the other, in closed form, on summaries that callers bring. How much of it is kept is
decided by documents that it was not learned from: five times without a fifth of them; where it finds their summaries no
better than conversations do as they are, there is none.

Only searches are mapped, so no document is written anew. It is a part of the specification from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import POOLED
from app.collection.part import tokens
from app.encoders.turns import SummaryMap, conversed, directed
from app.scoring.similarities.measures import Matrix
from app.types import F32, F64, I64

LEAST: Final = 64
"""Conversations with a summary."""
MOST: Final = 4_096
FOLDS: Final = 5
RIDGES: Final = (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
"""Beside the mean variance of a coordinate."""
SEED: Final = 0


def summaries_due(collection: Collection) -> bool:
    """Whether there are twice as many documents as when it was learned, or tried, last."""
    if not collection.spec.summarised or collection.salvaged:
        return False
    live = collection.published.live
    if live < LEAST:
        return False
    if collection.tried is None:
        collection.tried = collection.kept_trial()
    return live >= 2 * collection.tried


def learn_summaries(collection: Collection, *, again: bool = False) -> bool:
    """Whether it was due, or is wanted again of what is there now, and is done. Raises StorageFull, Damaged."""
    spec = collection.spec.turns
    if spec is None or not collection.spec.summarised or not (again or summaries_due(collection)):
        return False
    collection.tried = collection.published.live
    conversations, summaries, names, _ = pairs(collection)
    if len(names) < LEAST:
        # What another encoder's vectors taught is nothing to those that were made anew.
        return again and spec.map is not None and collection.keep_map(None, spec)
    found = learned(conversations, summaries, names)
    return collection.keep_map(found, spec)


def learned(conversations: F32, summaries: F32, names: I64) -> SummaryMap | None:
    """conversations, summaries: (n, dim), of length 1. names: (n,), the same of conversations with the same summary.
    None where it does no good."""
    fold = np.random.default_rng(SEED).permutation(len(names)) % FOLDS
    kinds, firsts = np.unique(names, return_index=True)
    answers = summaries[firsts].astype(np.float64)
    right = np.searchsorted(kinds, names)
    unmapped = float(np.mean(_reciprocals(conversations.astype(np.float64) @ answers.T, right)))
    found = np.zeros((len(RIDGES), len(names)))
    for one in range(FOLDS):
        out = fold == one
        normal = _Normal.of(conversations[~out], summaries[~out])
        for place, ridge in enumerate(RIDGES):
            scores = (conversations[out] - normal.mean) @ normal.matrix(ridge) @ answers.T
            found[place, out] = _reciprocals(scores, right[out])
    held_out, ridge = max(zip(found.mean(axis=1).tolist(), RIDGES, strict=True))
    if held_out <= unmapped:
        return None
    mean, matrix = ridge_map(conversations, summaries, ridge)
    return SummaryMap(
        Matrix.of(matrix.astype(np.float32)),
        Matrix.of(mean.astype(np.float32)),
        len(names),
        ridge,
        round(held_out, 6),
        round(unmapped, 6),
    )


def ridge_map(given: F32, wanted: F32, ridge: float) -> tuple[F64, F64]:
    """The mean of what is given, (1, dim), and the matrix, (dim, dim)."""
    normal = _Normal.of(given, wanted)
    return normal.mean, normal.matrix(ridge)


@dataclass(frozen=True, slots=True)
class _Normal:
    """The normal equations of a regression, which every ridge shares. mean: of what is given, (1, dim)."""

    mean: F64
    square: F64
    product: F64

    @classmethod
    def of(cls, given: F32, wanted: F32) -> _Normal:
        x, y = given.astype(np.float64), wanted.astype(np.float64)
        mean = x.mean(axis=0, keepdims=True)
        x, y = x - mean, y - y.mean(axis=0)
        return cls(mean, x.T @ x, x.T @ y)

    def matrix(self, ridge: float) -> F64:
        """(dim, dim)."""
        square = self.square.copy()
        square[np.diag_indices_from(square)] += max(ridge * float(np.trace(square)) / len(square), 1e-12)
        return np.linalg.solve(square, self.product).astype(np.float64, copy=False)


def _reciprocals(scores: F64, right: I64) -> F64:
    """The reciprocal rank of the right column of each row, (n,); of equal scores it is the last."""
    own = scores[np.arange(len(right)), right]
    ranks: F64 = (scores >= own[:, None]).sum(axis=1).astype(np.float64)
    return 1 / ranks


def pairs(collection: Collection) -> tuple[F32, F32, I64, list[str]]:
    """The vectors of conversations and of their summaries, which of these are the same, and the ids, of ``MOST``
    documents at most."""
    xs, ys, said, ids = list[F32](), list[F32](), dict[str, int](), list[str]()
    names: list[int] = []
    with collection.snapshot() as snapshot:
        seqs = np.sort(np.concatenate([np.zeros(0, np.int64), *(one.part.seqs[one.alive] for one in snapshot.views)]))
        # Of conversations alone, whose metadata is a list (app.store.rows): there may be few among many documents.
        held = snapshot.connection.execute("SELECT seq FROM documents WHERE substr(metadata, 1, 1) = '['")
        talks = np.intersect1d(seqs, np.array([seq for (seq,) in held], np.int64))
        drawn = np.sort(np.random.default_rng(SEED).permutation(talks)[:MOST]).tolist()
        for start in range(0, len(drawn), 256):
            some = drawn[start : start + 256]
            located, documents = snapshot.published.locate(some), snapshot.documents(some)
            for seq in some:
                if not documents[seq].turns or not documents[seq].summary.strip():
                    continue
                view, place = located[seq]
                row = view.part.owners.span(place, place + 1)[0]
                xs.append(conversed(tokens(view.part, row, row + 1).values))
                ys.append(directed(np.array(view.part.flat(POOLED).range(row, row + 1), np.float64)))
                ids.append(documents[seq].id)
                names.append(said.setdefault(documents[seq].summary, len(said)))
    if not xs:
        empty = np.zeros((0, 1), np.float32)
        return empty, empty, np.zeros(0, np.int64), ids
    return np.concatenate(xs), np.concatenate(ys), np.array(names, np.int64), ids
