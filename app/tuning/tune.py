"""Tuning: the fastest first stage of a collection that reaches a target recall, within the memory asked for.

Queries are given, or those that were searched, where they are kept, or drawn from the collection with their own
document left out. Their exact best are found once. Then each option (an encoding, alone or with pooled vectors) is
fitted and tried on a sample (``app.tuning.trials``): the smallest width that reaches the target, and what a search
would cost with it, from measured parts. Where the collection is large enough to be searched by codes, these are tried
over every option that could still be the fastest with them (``app.tuning.indexed``). The fastest that fits is built;
where it is so large that inverted files may pay, its index is made behind one too, and the faster of both stays. Its
width is decided by the recall of the collection's own indexes, over all queries.

The codes of token vectors are not among what is tried: they are fixed when a collection is created, for every score is
of them. The report says what they cost instead (``app.tuning.precision``).

Everything that was tried goes into the report, which the new generation keeps.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from app import vector_index
from app.collection.collection import Collection
from app.collection.first_stage import WIDENING, Source, StageChoice
from app.collection.layers import POOLED, TOKENS, scored
from app.encodings.protocol import Sample
from app.errors import Invalid
from app.indexing.fitting import draw_sample
from app.indexing.newcomers import seal_known
from app.indexing.reindexing import reindex
from app.indexing.restaging import restage, rewidth
from app.indexing.sealing import Check
from app.query.candidates import find_candidates
from app.search import Query, search_encoded
from app.tasks.tasks import Running
from app.tuning.costs import TIMED, candidate_ms, query_ms
from app.tuning.indexed import ENCODED_BYTES, FLAT, POOLED_BYTES, Found, Indexed
from app.tuning.judged import ByJudgements, tune_judged
from app.tuning.neighbours import Asked, Tell, ask, find_share, trial_set
from app.tuning.options import Option, options
from app.tuning.precision import cost_of_codes
from app.tuning.trials import WIDTHS, TrialSet
from app.types import Turn

QUERIES: Final = 100
"""Drawn where none are given."""
LISTS_FROM: Final = 2**28
"""Numbers (passages of the largest segment x dims) from which inverted files are tried: below, all codes are read in
some milliseconds, and lists only lose recall; see ``app.vector_index.choose``."""
LISTED: Final = "pq1"
"""The codes tried in them where vectors without codes were the fastest."""


@dataclass(frozen=True, slots=True)
class Goal:
    """target_recall: of the exact top k, the mean over queries. max_bytes_per_document: of the files that queries read,
    token codes included. max_memory_per_document: of what each search reads whole, which is to stay in memory: the
    first stage's codes, or its vectors where there are none. None for no bound.
    """

    target_recall: float
    k: int = 10
    max_bytes_per_document: int | None = None
    max_memory_per_document: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.target_recall <= 1:
            raise Invalid.at("/target_recall", f"expected a number above 0 and at most 1, got {self.target_recall}")


@dataclass(frozen=True, slots=True)
class Tried:
    """One option on the sample. width: the smallest that reaches the target, else the widest tried. recall: there.
    bytes: a document, of what queries read; memory: of the part that each search reads whole. ms: an estimate for one
    search with a ready query, from measured parts. index, widening: as in ``FirstStage``.
    """

    name: str
    dims: int
    bytes: float
    width: int
    recall: float
    ms: float
    reaches: bool
    fits: bool
    index: str = FLAT
    widening: int = WIDENING
    memory: float = 0.0


def tune(
    collection: Collection,
    goal: Goal,
    queries: Sequence[Query] | int = QUERIES,
    *,
    check: Check = lambda: None,
    tell: Tell = lambda phase, done, total: None,
) -> dict[str, Any]:
    """Chooses, builds and measures. Gives the report, which the generation keeps too.

    queries: given ones, or how many to draw. Raises Conflict for a collection without documents, and what searching and
    ``restage`` raise.
    """
    seal_known(collection, check)
    asked = ask(collection, queries, goal.k, check, tell)
    report: dict[str, Any] = {
        "goal": asdict(goal),
        "queries": len(asked.queries),
        "drawn": isinstance(queries, int),
        "logged": asked.logged,
        "passages": asked.size,
        "tried": [],
    }
    report["codes"] = cost_of_codes(collection, asked, goal.k, check, tell)
    if collection.spec.scanned:
        return report | {"chosen": "every passage", "recall": 1.0}
    codes = not collection.spec.ordered and vector_index.codes_pay(_largest(collection))
    if scored(collection.spec) == TOKENS or codes:
        tried = _try_all(collection, goal, asked, check, tell)
        report["tried"] = [asdict(one) for one, _ in tried]
        chosen, option = best_of(tried)
        report["chosen"] = chosen.name
        reason = f"tuned for recall {goal.target_recall:g} of the top {goal.k}"
        choice = StageChoice(option.stage, reason, option.recipe, option.fitted, report)
        restage(collection, choice, check=check, progress=lambda done, total: tell("building", done, total))
    else:
        report["chosen"] = "segments" if collection.spec.ordered else "pooled"
    return _settle(collection, goal, asked, report, check, tell)


def run_tune(collection: Collection, running: Running) -> None:
    """The task's handler. params: a ``Goal``, and the queries as ``to_params`` writes them; or ``ByJudgements``."""
    assert running.task.params is not None
    params = dict(running.task.params)

    def tell(phase: str, done: int, total: int) -> None:
        running.update(phase=phase, done=done, total=total or None)

    if "judgements" in params:
        goal = ByJudgements(**{**params, "parts": tuple(params["parts"])})
        running.update(result=tune_judged(collection, goal, running.check, tell))
        return
    given = params.pop("queries")
    queries: int | list[Query] = given
    if not isinstance(given, int):
        queries = read_queries(collection, given)
    report = tune(collection, Goal(**params), queries, check=running.check, tell=tell)
    running.update(result=report)


def to_params(goal: Goal, queries: Sequence[Query] | int) -> dict[str, Any]:
    """A tuning as the parameters of a task."""
    if isinstance(queries, int):
        return {**asdict(goal), "queries": queries}
    written: list[Any] = []
    for query in queries:
        assert query.text is not None or query.vectors is not None
        said = {"turns": [list(turn) for turn in query.turns]} if query.turns else query.text
        written.append(said if query.vectors is None else query.vectors.tolist())
    return {**asdict(goal), "queries": written}


def read_queries(collection: Collection, written: Sequence[Any]) -> list[Query]:
    """As ``to_params`` has written them. Raises Invalid for a conversation where the collection reads none."""
    spec, found = collection.spec.turns, list[Query]()
    for i, one in enumerate(written):
        if isinstance(one, str):
            found.append(Query(text=one))
        elif not isinstance(one, dict):
            found.append(Query(vectors=np.array(one, np.float32)))
        elif spec is None:
            raise Invalid.at(f"/queries/{i}/turns", f"collection {collection.name} has no turns")
        else:
            turns = tuple(Turn(role, text) for role, text in one["turns"])
            found.append(Query(text=spec.heard(turns), turns=turns))
    return found


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
    dense = scored(collection.spec) == POOLED
    trial = trial_set(collection, asked, collection.published.generation.number)
    sample: Sample | None = None
    fitted: dict[str, Any] = {}
    if not dense:
        sample, _, fitted = draw_sample(collection, check=check)
    rescoring = candidate_ms(collection, asked.queries[0])
    bytes_of = _Bytes(collection, trial, asked.size)
    tried: list[tuple[Tried, Option]] = []
    by_codes = vector_index.codes_pay(_largest(collection))
    indexed: list[tuple[float, Option, Indexed]] = []
    names: list[str] = []

    def telling(name: str) -> None:
        names.append(name)
        tell(f"trying {name}", len(names), 0)

    def keep(option: Option, found: Found) -> None:
        name = option.name if found.kind == FLAT else f"{option.name}, {found.kind}"
        stage = replace(option.stage, width=found.width, widening=found.widening, index=found.kind)
        size = bytes_of.option(option) + (0.0 if found.kind == FLAT else found.memory)
        fits = (goal.max_bytes_per_document is None or size <= goal.max_bytes_per_document) and (
            goal.max_memory_per_document is None or found.memory <= goal.max_memory_per_document
        )
        one = Tried(
            name,
            option.dims,
            size,
            found.width,
            found.recall,
            found.ms,
            found.reaches,
            fits,
            found.kind,
            found.widening,
            found.memory,
        )
        # Its vectors are not needed any more.
        tried.append((one, replace(option, stage=stage, vectors={}, fitted=fitted)))

    def fastest() -> float:
        return min((one.ms for one, _ in tried if one.reaches and one.fits), default=math.inf)

    for option in options(collection.spec, trial, sample, collection.resources.workers, check, telling):
        each = Indexed(option, trial, goal.target_recall, query_ms(option, trial), rescoring)
        flat = each.flat()
        keep(option, flat)
        if flat.reaches and by_codes:
            indexed.append((each.floor_ms(), option, each))
    for floor, option, each in sorted(indexed, key=lambda one: one[0]):
        if floor >= fastest():
            break  # nor can those after it be faster
        telling(f"{option.name} by codes")
        for found in each.coded():
            check()
            keep(option, found)
            if each.floor_ms() >= fastest():
                break
    return tried


class _Bytes:
    """Bytes a document of the files that queries read, vector indexes left out."""

    def __init__(self, collection: Collection, trial: TrialSet, size: int) -> None:
        tokens = sum(view.part.token_nbytes for view in collection.published.segments) / max(1, size)
        # Pooled vectors are kept for merges and for the tail, whether they are a source or not.
        self._fixed: float = tokens + trial.pooled.shape[1] * POOLED_BYTES

    def option(self, option: Option) -> float:
        found = option.vectors.get("fde")
        return self._fixed + (0 if found is None else int(found[0].shape[1]) * ENCODED_BYTES)


def _largest(collection: Collection) -> int:
    return max((view.part.size for view in collection.published.segments), default=0)


def _settle(
    collection: Collection, goal: Goal, asked: Asked, report: dict[str, Any], check: Check, tell: Tell
) -> dict[str, Any]:
    """The index and the width at which the collection itself reaches the goal, kept with the report; what was measured.

    The index is the one that was built; where vectors are found along a graph otherwise it is tried as well, and where
    lists may pay the same codes behind an inverted file.
    """
    stage = collection.published.stage
    kinds = [stage.index]
    numbers = _largest(collection) * max(_dims(collection, source) for source in stage.sources)
    walks = scored(collection.spec) == POOLED and collection.spec.measure.unit
    if stage.index is not None and walks and _graph_fits(collection, goal, report):
        # Their own size chooses a graph, which trials of codes know nothing of.
        kinds.append(vector_index.GRAPH)
    if stage.index is not None and numbers >= LISTS_FROM:
        kinds.append(f"ivf_{LISTED if stage.index == FLAT else stage.index}")
    measured: list[dict[str, Any]] = []
    for kind in kinds:
        if measured:
            tell(f"indexing as {kind}", 0, 0)
            reindex(collection, kind, stage.widening, report, reason=f"tried as {kind}", check=check)
        measured.append({"index": kind, "widening": stage.widening, **_measured(collection, goal, asked, check, tell)})
    reached = [one for one in measured if one["reached"]]
    best = min(reached, key=lambda one: one["ms"]) if reached else max(measured, key=lambda one: one["recall"])
    report["measured"], report["indexes"] = best, measured
    if best is not measured[-1]:
        reindex(collection, best["index"], stage.widening, report, reason=f"{best['index']}, as measured", check=check)
    rewidth(collection, best["width"], report, reason=f"width {best['width']}, as measured")
    return report


def _graph_fits(collection: Collection, goal: Goal, report: Mapping[str, Any]) -> bool:
    """Whether the bytes that the goal allows a document are enough for a graph's codes and links."""
    graph = float(vector_index.graph_bytes(_dims(collection, "pooled")))
    (chosen,) = [one for one in report["tried"] if one["name"] == report["chosen"]]
    size = chosen["bytes"] - (0.0 if chosen["index"] == FLAT else chosen["memory"]) + graph
    return (goal.max_memory_per_document is None or graph <= goal.max_memory_per_document) and (
        goal.max_bytes_per_document is None or size <= goal.max_bytes_per_document
    )


def _dims(collection: Collection, source: Source) -> int:
    encoding = collection.published.stage.encoding
    return collection.spec.stored_dim if source != "fde" or encoding is None else encoding.encoded_dim


def _measured(collection: Collection, goal: Goal, asked: Asked, check: Check, tell: Tell) -> dict[str, Any]:
    """The least width that reaches the goal, the recall there, and what a search then takes."""
    recall, width = 0.0, WIDTHS[-1]
    for width in [width for width in WIDTHS if width >= goal.k] or [goal.k]:
        check()
        tell(f"measuring width {width}", 0, len(asked.queries))
        recall = statistics.fmean(_recall_of(collection, asked, width))
        if recall >= goal.target_recall or width >= asked.size:
            break
    took = [
        search_encoded(collection, Query(k=goal.k, candidates=width, include=frozenset()), query).took_ms
        for query in asked.queries[: 2 * TIMED]
    ]
    reached = recall >= goal.target_recall
    return {"width": width, "recall": recall, "reached": reached, "ms": statistics.median(took)}


def _recall_of(collection: Collection, asked: Asked, width: int) -> list[float]:
    shares = []
    with collection.snapshot() as snapshot:
        allowed = [view.part.owners.spread(view.alive) for view in snapshot.views]
        workers = collection.resources.workers
        for query, best in zip(asked.queries, asked.best, strict=True):
            chosen = find_candidates(snapshot.views, allowed, snapshot.stages, query, 1, width, workers)
            shares.append(find_share(snapshot, [one.rows for one in chosen], best))
    return shares
