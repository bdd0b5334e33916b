"""The cost of the codes of a collection's vectors: the order that exact search over codes misses of float32's.

Vectors before they were coded are read where callers' are kept, else made anew from the texts, so only the best by
codes get them: what float32 would rank among the top k must be among the ``DEEP`` times k best by codes to be seen.
That flatters a code which shuffles more than that; ``app.measure.truth`` measures without, over the whole collection.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

from app.collection.collection import Collection
from app.errors import Conflict, EncoderUnavailable
from app.measure.truth import BATCH, scores_in_float32
from app.query.ranking import rank_all
from app.query.scores import scores_of
from app.tuning.neighbours import Asked, Tell
from app.types import Document

QUERIES: Final = 20
"""That are asked, at most."""
DEEP: Final = 4
"""Times k documents of each that are scored in float32."""


def cost_of_codes(
    collection: Collection, asked: Asked, k: int, check: Callable[[], None], tell: Tell
) -> dict[str, Any]:
    """precision and bytes of a vector, and the share of float32's top k that the top k by codes holds.

    ``recall_float32`` is None where the vectors cannot be had, with a note why.
    """
    spec = collection.spec
    found: dict[str, Any] = {"precision": spec.precision, "bytes_per_vector": spec.code.bytes_per_vector}
    if spec.precision == "float32" and not spec.pools:
        return found | {"recall_float32": 1.0}
    shares = []
    queries = asked.queries[:QUERIES]
    try:
        for done, (query, owner) in enumerate(zip(queries, asked.owners.tolist(), strict=False)):
            tell("holding codes to float32", done, len(queries))
            with collection.snapshot() as snapshot:
                workers, deep = collection.resources.workers, DEEP * k + (owner >= 0)
                ranked = rank_all(snapshot.views, scores_of(spec, query), deep, workers, snapshot.identify)
                seqs = [one.seq for one in ranked if one.seq != owner]
                documents = snapshot.documents(seqs)
            order: list[Document] = [documents[seq] for seq in seqs]
            scores: dict[str, float] = {}
            for start in range(0, len(order), BATCH):
                check()
                standing, values = scores_in_float32(collection, order[start : start + BATCH], [query])
                scores |= {one.id: score for one, score in zip(standing, values[0].tolist(), strict=True)}
            kept = [document.id for document in order if document.id in scores]
            best = sorted(kept, key=lambda identifier: -scores[identifier])[:k]
            if best:
                shares.append(len(set(best) & set(kept[:k])) / len(best))
    except (Conflict, EncoderUnavailable) as error:
        return found | {"recall_float32": None, "note": error.message}
    return found | {"recall_float32": round(statistics.fmean(shares), 4) if shares else None, "queries": len(shares)}
