"""Tuning: the fastest first stage of a collection that reaches a target recall, within the memory asked for.

Queries are given, or drawn from the collection with their own document left out. Their exact best are found once. Then
each option (an encoding, alone or with pooled vectors) is fitted and tried on a sample (``app.tuning.trials``): the
smallest width that reaches the target, and what a search would cost with it, from measured parts. The fastest that fits
is built; its width is decided once more by the recall of the collection's own indexes, over all queries.

Everything that was tried goes into the report, which the new generation keeps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from app import vector_index
from app.candidates import find_candidates
from app.collection.collection import Collection
from app.collection.fitting import draw_sample
from app.collection.restaging import restage, rewidth
from app.collection.sealing import Check, seal
from app.collection.stages import StageChoice
from app.collection.tasks import Running
from app.errors import Invalid
from app.ranking import rank
from app.search import Query, first_stage_query, search_ready
from app.tuning.neighbours import Asked, Tell, ask, find_share, trial_set
from app.tuning.options import STORED, Option, options
from app.tuning.trials import WIDTHS, TrialSet, in_turn, narrowest, ranks, recall_at
from app.types import F64

QUERIES: Final = 100
"""Drawn where none are given."""
TIMED: Final = 15
"""Repetitions of what is timed; the median counts."""
FEW, MANY = 50, 250
"""Candidates whose rescoring is timed; the difference is what one costs."""


@dataclass(frozen=True, slots=True)
class Goal:
    """target_recall: of the exact top k, the mean over queries. max_bytes_per_document: of the files that queries read,
    token codes included; None for no bound.
    """

    target_recall: float
    k: int = 10
    max_bytes_per_document: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.target_recall <= 1:
            raise Invalid.at("/target_recall", f"expected a number above 0 and at most 1, got {self.target_recall}")


@dataclass(frozen=True, slots=True)
class Tried:
    """One option on the sample. width: the smallest that reaches the target, else the widest tried. recall: there.
    bytes: a document, of what queries read. ms: an estimate for one search with a ready query, from measured parts, as
    if all vectors were read.
    """

    name: str
    dims: int
    bytes: float
    width: int
    recall: float
    ms: float
    reaches: bool
    fits: bool


def tune(
    collection: Collection,
    goal: Goal,
    queries: Sequence[Query] | int = QUERIES,
    *,
    check: Check = lambda: None,
    tell: Tell = lambda phase, done, total: None,
) -> dict[str, Any]:
    """Chooses, builds and measures. Gives the report, which the generation keeps too.

    queries: given ones, or how many to draw. Raises Invalid for a collection without documents, and what searching and
    ``restage`` raise.
    """
    seal(collection, check)
    asked = ask(collection, queries, goal.k, check, tell)
    report: dict[str, Any] = {
        "goal": asdict(goal),
        "queries": len(asked.queries),
        "drawn": isinstance(queries, int),
        "passages": asked.size,
        "tried": [],
    }
    if collection.spec.kind == "multi_vector":
        tried = _try_all(collection, goal, asked, check, tell)
        report["tried"] = [asdict(one) for one, _ in tried]
        chosen, option = best_of(tried)
        report["chosen"] = chosen.name
        stage = replace(option.stage, width=chosen.width)
        reason = f"tuned for recall {goal.target_recall:g} of the top {goal.k}"
        choice = StageChoice(stage, reason, option.recipe, option.fitted, report)
        restage(collection, choice, check=check, progress=lambda done, total: tell("building", done, total))
    else:
        report["chosen"] = "pooled"
    report["measured"] = _settle(collection, goal, asked, report, check, tell)
    return report


def run_tune(collection: Collection, running: Running) -> None:
    """The task's handler. params: a ``Goal``, and the queries as ``to_params`` writes them."""
    assert running.task.params is not None
    params = dict(running.task.params)
    given = params.pop("queries")
    queries: int | list[Query] = given
    if not isinstance(given, int):
        queries = [
            Query(text=one) if isinstance(one, str) else Query(vectors=np.array(one, np.float32)) for one in given
        ]

    def tell(phase: str, done: int, total: int) -> None:
        running.update(phase=phase, done=done, total=total or None)

    report = tune(collection, Goal(**params), queries, check=running.check, tell=tell)
    running.update(result=report)


def to_params(goal: Goal, queries: Sequence[Query] | int) -> dict[str, Any]:
    """A tuning as the parameters of a task."""
    if isinstance(queries, int):
        return {**asdict(goal), "queries": queries}
    written: list[Any] = []
    for query in queries:
        assert query.text is not None or query.vectors is not None
        written.append(query.text if query.vectors is None else query.vectors.tolist())
    return {**asdict(goal), "queries": written}


def best_of(tried: Sequence[tuple[Tried, Option]]) -> tuple[Tried, Option]:
    """The fastest that reaches the target and fits; else the best recall of those that fit; else the smallest.

    Equal ones: the first.
    """
    fitting = [pair for pair in tried if pair[0].fits]
    if not fitting:
        return min(tried, key=lambda pair: pair[0].bytes)
    reaching = [pair for pair in fitting if pair[0].reaches]
    if reaching:
        return min(reaching, key=lambda pair: pair[0].ms)
    return max(fitting, key=lambda pair: pair[0].recall)


def _try_all(collection: Collection, goal: Goal, asked: Asked, check: Check, tell: Tell) -> list[tuple[Tried, Option]]:
    trial = trial_set(collection, asked, collection.published.generation.number)
    sample, _, fitted = draw_sample(collection, check=check)
    tokens = sum(view.part.token_nbytes for view in collection.published.segments) / max(1, asked.size)
    candidate_ms = _candidate_ms(collection, asked.queries[0])
    tried: list[tuple[Tried, Option]] = []
    names: list[str] = []

    def telling(name: str) -> None:
        names.append(name)
        tell(f"trying {name}", len(names), 0)

    for option in options(collection.spec, trial, sample, collection.resources.workers, check, telling):
        recalls = recall_at(_ranks(trial, option), WIDTHS)
        width = narrowest(recalls, WIDTHS, goal.target_recall)
        at = width if width is not None else WIDTHS[-1]
        size = tokens + sum(documents.shape[1] * _SIZES[source] for source, (documents, _) in option.vectors.items())
        if "pooled" not in option.vectors:
            size += trial.pooled.shape[1] * _SIZES["pooled"]  # they are kept for merges and for the tail all the same
        ms = _query_ms(option, trial) + _scan_ms(option, trial, at) + at * candidate_ms
        fits = goal.max_bytes_per_document is None or size <= goal.max_bytes_per_document
        one = Tried(option.name, option.dims, size, at, recalls[WIDTHS.index(at)], ms, width is not None, fits)
        # Its vectors are not needed any more.
        tried.append((one, replace(option, vectors={}, fitted=fitted)))
    return tried


_SIZES: Final[dict[str, int]] = {"fde": np.dtype(STORED).itemsize, "pooled": 4}
"""Bytes of a stored number."""


def _ranks(trial: TrialSet, option: Option) -> list[F64]:
    found = []
    for documents, queries in option.vectors.values():
        scores = queries @ documents.T
        found.append([ranks(trial, query, scores[query]) for query in range(len(scores))])
    if len(found) == 1:
        return found[0]
    return [in_turn(first, second) for first, second in zip(*found, strict=True)]


def _median_ms(work: Callable[[int], object]) -> float:
    times = []
    for i in range(TIMED):
        start = time.perf_counter()
        work(i)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def _query_ms(option: Option, trial: TrialSet) -> float:
    encoding = option.stage.encoding
    if encoding is None:
        return 0.0
    singly = [trial.queries.slice(i, i + 1) for i in range(min(TIMED, len(trial.queries)))]
    return _median_ms(lambda i: encoding.encode_queries(singly[i % len(singly)]))


def _scan_ms(option: Option, trial: TrialSet, width: int) -> float:
    """Of a search over the whole collection, as if all vectors were read."""
    vector_index.set_threads(1)
    total = 0.0
    for documents, queries in option.vectors.values():
        index = vector_index.scan(np.ascontiguousarray(documents[: trial.sampled], STORED))
        depth = min(width, trial.sampled)
        took = _median_ms(lambda i: index.search(queries[i % len(queries)][None], depth))  # noqa: B023 - called here
        total += took * trial.size / trial.sampled
    return total


def _candidate_ms(collection: Collection, query: Query) -> float:
    """What one more candidate costs to be rescored."""
    vectors = query.vectors
    assert vectors is not None
    random = np.random.default_rng(0)
    took = {}
    with collection.snapshot() as snapshot:
        view = max(snapshot.views, key=lambda view: view.part.size)
        for count in (FEW, MANY):
            drawn = [
                np.sort(random.choice(view.part.size, min(count, view.part.size), replace=False)) for _ in range(TIMED)
            ]
            took[count] = _median_ms(
                lambda i: rank(
                    [view],
                    [drawn[i]],  # noqa: B023 - called here
                    vectors,
                    collection.spec.kind,
                    10,
                    collection.resources.workers,
                    snapshot.identify,
                )
            )
    return max(0.0, took[MANY] - took[FEW]) / (MANY - FEW)


def _settle(
    collection: Collection, goal: Goal, asked: Asked, report: dict[str, Any], check: Check, tell: Tell
) -> dict[str, Any]:
    """The width at which the collection's own indexes reach the goal, kept with the report; what was measured."""
    recall, width = 0.0, WIDTHS[-1]
    for width in [width for width in WIDTHS if width >= goal.k] or [goal.k]:
        check()
        tell(f"measuring width {width}", 0, len(asked.queries))
        recall = statistics.fmean(_recall_of(collection, asked, width))
        if recall >= goal.target_recall or width >= asked.size:
            break
    took = [
        search_ready(collection, replace(query, k=goal.k, candidates=width, include=frozenset())).took_ms
        for query in asked.queries[: 2 * TIMED]
    ]
    measured: dict[str, Any] = {
        "width": width,
        "recall": recall,
        "reached": recall >= goal.target_recall,
        "ms": statistics.median(took),
    }
    rewidth(collection, width, {**report, "measured": measured}, reason=f"width {width}, as measured")
    return measured


def _recall_of(collection: Collection, asked: Asked, width: int) -> list[float]:
    shares = []
    with collection.snapshot() as snapshot:
        allowed = snapshot.allowed(None)
        for query, best in zip(asked.queries, asked.best, strict=True):
            chosen = find_candidates(
                snapshot.views,
                allowed,
                snapshot.stages,
                lambda stage: width,
                lambda stage: first_stage_query(stage, query),  # noqa: B023 - called here
                collection.resources.workers,
            )
            shares.append(find_share(snapshot, [one.rows for one in chosen], best))
    return shares
