"""What a ranking is worth for one query: each measure one function, in the definitions and conventions of trec_eval.

A document that nobody graded is not relevant, nor is one of a grade below ``rel``. A negative grade is of a document
that was to be graded and was not: it is neither relevant nor judged, and no gain. Where nothing was found, as where no
document is relevant, a measure is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.types import F64, I64

UNKNOWN: Final = np.iinfo(np.int64).min
"""The grade of what nobody graded."""
EPSILON: Final = 1e-5
"""That of Yilmaz and Aslam, by which an inferred precision is never 0 / 0."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Of one query. found: (n,) int64, the grade of each document that was found, best first, or ``UNKNOWN``. pool:
    (m,) int64, every grade that the query has, from the highest on."""

    found: I64
    pool: I64

    def judged(self) -> Ranking:
        """Without the documents that were not judged."""
        return replace(self, found=self.found[self.found >= 0])

    def hits(self, rel: int) -> F64:
        """(n,), 1 where a document is relevant.

        >>> Ranking(np.array([2, UNKNOWN, 0, 1]), np.array([2, 1, 0])).hits(1)
        array([1., 0., 0., 1.])
        """
        return (self.found >= max(rel, 0)).astype(np.float64)

    def relevant(self, rel: int) -> int:
        """How many documents the query has that are."""
        return int((self.pool >= max(rel, 0)).sum())


def precision(ranking: Ranking, cut: int, rel: int) -> float:
    """The share of the first ``cut`` places that hold a relevant document, empty places included.

    >>> precision(Ranking(np.array([1, 0]), np.array([1, 0])), 4, 1)
    0.25
    """
    return float(ranking.hits(rel)[:cut].sum() / cut)


def recall(ranking: Ranking, cut: int, rel: int) -> float:
    """The share of relevant documents that are among the first ``cut``."""
    return _share(float(ranking.hits(rel)[:cut].sum()), ranking.relevant(rel))


def success(ranking: Ranking, cut: int, rel: int) -> float:
    """1 where a relevant document is among the first ``cut``."""
    return float(ranking.hits(rel)[:cut].any())


def reciprocal_rank(ranking: Ranking, cut: int | None, rel: int) -> float:
    """1 / the rank of the first relevant document (Kantor and Voorhees 2000)."""
    places = ranking.hits(rel)[:cut].nonzero()[0]
    return float(1 / (places[0] + 1)) if len(places) else 0.0


def average_precision(ranking: Ranking, cut: int | None, rel: int) -> float:
    """The sum of the precisions at the ranks of relevant documents, by how many there are (Harman 1992).

    >>> average_precision(Ranking(np.array([1, 0, 1]), np.array([1, 1, 0])), None, 1) == (1 + 2 / 3) / 2
    True
    """
    hits = ranking.hits(rel)[:cut]
    at_each = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return _share(float((at_each * hits).sum()), ranking.relevant(rel))


def ndcg(ranking: Ranking, cut: int | None, *, exponential: bool = False) -> float:
    """Discounted gain, by that of the best order (Järvelin and Kekäläinen 2002). exponential: a grade g gains 2^g - 1
    (Burges et al. 2005), else g."""
    best = _dcg(ranking.pool[:cut], exponential)
    return _dcg(ranking.found[:cut], exponential) / best if best else 0.0


def r_precision(ranking: Ranking, rel: int) -> float:
    """The precision at as many places as there are relevant documents."""
    wanted = ranking.relevant(rel)
    return precision(ranking, wanted, rel) if wanted else 0.0


def binary_preference(ranking: Ranking, rel: int) -> float:
    """The share of judged pairs, one relevant and one not, that are in their order (Buckley and Voorhees 2004)."""
    judged = ranking.judged()
    hits, wanted = judged.hits(rel), judged.relevant(rel)
    least = min(wanted, judged.relevant(0) - wanted)
    above = np.minimum(np.cumsum(1 - hits), wanted)
    return _share(float(((1 - above / max(least, 1)) * hits).sum()), wanted)


def inferred_average_precision(ranking: Ranking, rel: int) -> float:
    """``average_precision`` as a sample of judgements lets it be estimated (Yilmaz and Aslam 2006): what has a negative
    grade is held relevant as often as what was judged above the same place."""
    hits, graded, pooled = ranking.hits(rel), ranking.found >= 0, ranking.found != UNKNOWN
    places = np.arange(len(hits), dtype=np.float64)
    # Of the documents above each.
    relevant, judged, known = (np.cumsum(one) - one for one in (hits, graded.astype(float), pooled.astype(float)))
    estimated = known * (relevant + EPSILON) / (judged + 2 * EPSILON)
    return _share(float(((1 + estimated) / (places + 1) * hits).sum()), ranking.relevant(rel))


def rank_biased_precision(ranking: Ranking, cut: int | None, persistence: float, rel: int) -> float:
    """What a reader finds who goes on from each place with this probability (Moffat and Zobel 2008).

    >>> rank_biased_precision(Ranking(np.array([1, 0, 1]), np.array([1, 1, 0])), None, 0.5, 1)
    0.625
    """
    hits = ranking.hits(rel)[:cut]
    return float((1 - persistence) * (hits * persistence ** np.arange(len(hits))).sum())


def tier(ranking: Ranking, times: int, rel: int) -> float:
    """The share of relevant documents among the first ``times`` as many as there are: the first tier, and the second
    (Shilane, Min, Kazhdan and Funkhouser: The Princeton Shape Benchmark, 2004, section 4.2, as the next two).

    >>> tier(Ranking(np.array([1, 0, 1]), np.array([1, 1, 0])), 1, 1)
    0.5
    """
    return recall(ranking, times * ranking.relevant(rel), rel)


def e_measure(ranking: Ranking, cut: int, rel: int) -> float:
    """The harmonic mean of precision and recall of the first ``cut``.

    >>> e_measure(Ranking(np.array([1, 0]), np.array([1, 1, 0])), 2, 1)
    0.5
    """
    precise, whole = precision(ranking, cut, rel), recall(ranking, cut, rel)
    return 2 * precise * whole / (precise + whole) if precise else 0.0


def discounted_gain(ranking: Ranking, cut: int | None, rel: int) -> float:
    """Each relevant document counts 1 at the first rank and 1 / log2(rank) below, by what the best order has. The first
    two ranks count the same, unlike those of ``ndcg``.

    >>> discounted_gain(Ranking(np.array([0, 1, 0, 1]), np.array([1, 1])), None, 1)
    0.75
    """
    wanted = ranking.relevant(rel)
    best = _log_sum(np.ones(wanted if cut is None else min(cut, wanted)))
    return _log_sum(ranking.hits(rel)[:cut]) / best if wanted else 0.0


def judged_share(ranking: Ranking, cut: int | None) -> float:
    """Of the first ``cut`` that were found, those that have a grade."""
    first = ranking.found[:cut]
    return _share(float((first != UNKNOWN).sum()), len(first))


def set_precision(ranking: Ranking, rel: int, *, relative: bool = False) -> float:
    """The share of all that was found that is relevant; relative: by the most that it could be."""
    count = len(ranking.found)
    return _share(float(ranking.hits(rel).sum()), min(count, ranking.relevant(rel)) if relative else count)


def set_recall(ranking: Ranking, rel: int) -> float:
    """The share of relevant documents that were found."""
    return _share(float(ranking.hits(rel).sum()), ranking.relevant(rel))


def set_f(ranking: Ranking, rel: int, beta: float) -> float:
    """The harmonic mean of both, recall weighted by ``beta``."""
    precise, whole = set_precision(ranking, rel), set_recall(ranking, rel)
    return (beta + 1) * precise * whole / (beta * precise + whole) if precise else 0.0


def set_average_precision(ranking: Ranking, rel: int) -> float:
    """Precision times recall."""
    return set_precision(ranking, rel) * set_recall(ranking, rel)


def _dcg(grades: I64, exponential: bool) -> float:
    gains = np.maximum(grades, 0).astype(np.float64)
    if exponential:
        gains = np.exp2(gains) - 1
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


def _log_sum(hits: F64) -> float:
    return float((hits / np.log2(np.maximum(np.arange(1, len(hits) + 1), 2))).sum())


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
