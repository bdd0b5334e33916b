"""The same judged queries, searched in several ways: what each is worth, what differs, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any, Final, TypeAlias

import numpy as np

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.encoders.once import encoded_once
from app.errors import Damaged, StoreError
from app.evaluation.judged import Judged
from app.evaluation.measures import measured
from app.evaluation.statistics import LEVEL, Interval, corrected, interval, overlap, p_value
from app.lexical.asked import Asked, Learned
from app.query.asked import UNENCODED, Query
from app.query.encoded import EncodedQuery
from app.query.preparing import encoded_meaning, encoded_sparse
from app.rerank.stage import check as check_rerank
from app.search import search_encoded
from app.types import SparseVector

SHOWN: Final = 10
"""Hits that a person sees: what moved, and what nobody judged, is told of these."""

Tell: TypeAlias = Callable[[int, int], None]
Ids: TypeAlias = list[str]


class DamagedElsewhere(StoreError):
    """A search of another collection than the one that is evaluated met damage. collection: that one."""

    def __init__(self, collection: Collection, error: Damaged) -> None:
        super().__init__(error.message, code=error.code)
        self.collection, self.error = collection, error


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to search. queries: one for each judged query, of as many documents as the measures look at. elsewhere:
    another collection that is searched, whose documents are those of this one by their ids."""

    name: str
    queries: Sequence[Query]
    elsewhere: Collection | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one setting. unjudged: the share of the first ten hits that nobody has graded, which count as not relevant.
    p50_ms, p95_ms: of its searches, the encoding of queries left out. collection: that was searched, at this
    generation; None of a run of others."""

    name: str
    measures: dict[str, Interval]
    unjudged: float
    p50_ms: float
    p95_ms: float
    collection: str | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Of ``than`` to ``setting``, over the same queries: mean, with its 95 % interval. p: of a two-sided randomisation
    test; p_corrected: among all pairs of settings (Holm). different: whether that is below .05."""

    setting: str
    than: str
    measure: str
    mean: float
    low: float
    high: float
    p: float
    p_corrected: float
    different: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two settings, which needs no judgement: the mean rank-biased overlap of their hits (p .9), and the share of
    the first ten that both have."""

    setting: str
    than: str
    overlap: float
    shared: float


@dataclass(frozen=True, slots=True)
class Moved:
    """A document that a setting has among its first ten hits and the first setting has not, or the other way. rank:
    from 1, where it is. grade: None where nobody judged it."""

    document: str
    rank: int
    grade: int | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A query by one setting. gained, lost: of its first ten hits, beside the first setting's."""

    values: dict[str, float]
    gained: list[Moved] = field(default_factory=list)
    lost: list[Moved] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OfQuery:
    """settings: by name."""

    id: str
    text: str | None
    settings: dict[str, Answered]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """queries: that were searched. ungraded: of them, without a grade of any document: measures leave these out, as
    trec_eval does. depth: hits of each. drawn: what was drawn in the place of judgements: a piece,
    then the one relevant document is that which the query comes from, so figures tell how well known documents are
    found, and are not to be held against those of people's judgements; or `classes`. generation: of the collection
    itself, that searches saw."""

    queries: int
    ungraded: int
    depth: int
    drawn: str | None
    generation: int
    settings: list[Outcome]
    differences: list[Difference]
    agreement: list[Agreement]
    per_query: list[OfQuery]


@dataclass
class Searched:
    """By setting and query: the ids of hits with their scores, best first; by setting the milliseconds of its searches,
    and those that the encoding of each query took. rho: what the weights of each setting follow in the end, where it
    has some that do (app.lexical.asked). moments: by setting the collection and the generation that it searched."""

    found: dict[str, dict[str, Ids]]
    scores: dict[str, dict[str, list[float]]]
    took: dict[str, list[float]]
    encode_ms: list[float] = field(default_factory=list)
    rho: dict[str, float] = field(default_factory=dict)
    generation: int = 0
    moments: dict[str, tuple[str, int]] = field(default_factory=dict)


def compare(
    collection: Collection,
    judged: Sequence[Judged],
    settings: Sequence[Setting],
    measures: Sequence[Any],
    depth: int,
    *,
    drawn: str | None = None,
    per_query: bool = False,
    check: Callable[[], None] = lambda: None,
    tell: Tell = lambda done, total: None,
) -> Evaluation:
    """``search_all``, and what it is worth. measures: as ``app.evaluation.measures`` reads them. Raises what a search
    raises."""
    searched = search_all(collection, judged, settings, check=check, tell=tell)
    return evaluated(judged, searched, measures, depth, drawn=drawn, per_query=per_query)


def evaluated(
    judged: Sequence[Judged],
    searched: Searched,
    measures: Sequence[Any],
    depth: int,
    *,
    drawn: str | None = None,
    per_query: bool = False,
) -> Evaluation:
    """What searches are worth, whoever made them."""
    grades = {one.id: one.grades for one in judged if one.grades}
    names = list(searched.found)
    values = {name: measured(measures if grades else (), grades, searched.found[name]) for name in names}
    return Evaluation(
        len(judged),
        len(judged) - len(grades),
        depth,
        drawn,
        searched.generation,
        [
            Outcome(
                name,
                {measure: interval(np.array(list(own.values()))) for measure, own in values[name].items()},
                _unjudged(grades, searched.found[name]),
                float(np.percentile(searched.took[name], 50)),
                float(np.percentile(searched.took[name], 95)),
                *searched.moments.get(name, (None, None)),
            )
            for name in names
        ],
        _differences(names, values),
        [_agreement(one, other, searched.found) for one, other in combinations(names, 2)],
        list(_each(judged, names, values, searched.found)) if per_query else [],
    )


def require(collection: Collection, settings: Sequence[Setting]) -> None:
    """Raises Invalid for a way to search that does not suit its collection, Conflict where that has no encoder."""
    for setting in settings:
        own = setting.elsewhere or collection
        for query in setting.queries[:1]:
            check_rerank(query, own.resources.encoders)
            encoded_meaning(own, [query])
            encoded_sparse(own, [query])


def search_all(
    collection: Collection,
    judged: Sequence[Judged],
    settings: Sequence[Setting],
    *,
    begin: Asked | None = None,
    check: Callable[[], None] = lambda: None,
    tell: Tell = lambda done, total: None,
) -> Searched:
    """Each judged query in each way, by turns, all in one moment of each collection.

    A hybrid search whose weights follow the collection's queries has them follow these, from ``begin``, which by
    default is what its collection knows now; the collection learns nothing of it. check: called between two queries.
    Raises what a search raises, of another collection DamagedElsewhere for Damaged.
    """
    require(collection, settings)
    names = [setting.name for setting in settings]
    searched = Searched({name: {} for name in names}, {name: {} for name in names}, {name: [] for name in names})
    places = [setting.elsewhere or collection for setting in settings]
    begins = {one.name: one.learned.asked if begin is None else begin for one in places}
    learned = {name: Learned(begins[place.name]) for name, place in zip(names, places, strict=True)}
    with ExitStack() as stack:
        moments: dict[str, Snapshot] = {}
        known: dict[str, str] = {}
        for place in places:
            if place.name not in moments:
                with _elsewhere(collection, place):
                    moments[place.name] = stack.enter_context(place.snapshot())
        for number, query in enumerate(judged):
            check()
            tell(number, len(judged))
            asked = [setting.queries[number] for setting in settings]
            start = time.perf_counter()
            vectors, sparse = _encoded(places, asked)
            searched.encode_ms.append((time.perf_counter() - start) * 1e3)
            for name, place, own, encoded, weights in zip(names, places, asked, vectors, sparse, strict=True):
                with _elsewhere(collection, place):
                    moment = moments[place.name]
                    result = search_encoded(place, own, encoded, sparse=weights, learned=learned[name], moment=moment)
                # Each id once in memory, in whatever number of lists it stands.
                searched.found[name][query.id] = [known.setdefault(hit.id, hit.id) for hit in result.hits]
                searched.scores[name][query.id] = [hit.score for hit in result.hits]
                searched.took[name].append(result.took_ms)
        searched.moments = {
            name: (place.name, moments[place.name].generation) for name, place in zip(names, places, strict=True)
        }
        searched.generation = moments[collection.name].generation if collection.name in moments else 0
    tell(len(judged), len(judged))
    searched.rho = {name: own.asked.rho for name, own in learned.items() if own.asked != own.kept}
    return searched


@contextmanager
def _elsewhere(collection: Collection, place: Collection) -> Iterator[None]:
    """Around what is read of ``place``."""
    try:
        yield
    except Damaged as error:
        if place is collection:
            raise
        raise DamagedElsewhere(place, error) from error


def _encoded(
    places: Sequence[Collection], asked: Sequence[Query]
) -> tuple[list[EncodedQuery | None], list[SparseVector | None]]:
    """Of one query in several ways, each in its collection; what is encoded of it is encoded once for each model."""
    ways = [
        (place.name, own.mode in UNENCODED, own.syntax if own.mode == "hybrid" else "plain")
        for place, own in zip(places, asked, strict=True)
    ]
    firsts = {way: number for number, way in reversed(list(enumerate(ways)))}
    with encoded_once():
        made = {way: encoded_meaning(places[number], [asked[number]])[0] for way, number in firsts.items()}
        sparse = [encoded_sparse(place, [own])[0] for place, own in zip(places, asked, strict=True)]
    return [made[way] for way in ways], sparse


def _unjudged(grades: Mapping[str, Mapping[str, int]], found: Mapping[str, Ids]) -> float:
    shown = [name in own for query, own in grades.items() for name in found[query][:SHOWN]]
    return 1 - fmean(shown) if shown else 0.0


def _differences(names: Sequence[str], values: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Difference]:
    """Of all pairs by each measure; corrected among the pairs of a measure."""
    pairs, found = list(combinations(names, 2)), []
    for measure in next(iter(values.values())) if pairs else ():
        told = []
        for one, other in pairs:
            by_query = values[one][measure]
            told.append(np.array([values[other][measure][query] - own for query, own in by_query.items()]))
        chances = [p_value(own) for own in told]
        for (one, other), own, p, strict in zip(pairs, told, chances, corrected(chances), strict=True):
            mean = interval(own)
            found.append(Difference(one, other, measure, mean.mean, mean.low, mean.high, p, strict, strict < LEVEL))
    return found


def _agreement(one: str, other: str, found: Mapping[str, Mapping[str, Ids]]) -> Agreement:
    pairs = [(names, found[other][query]) for query, names in found[one].items()]
    shared = [_shared(mine[:SHOWN], theirs[:SHOWN]) for mine, theirs in pairs]
    return Agreement(one, other, fmean(overlap(mine, theirs) for mine, theirs in pairs), fmean(shared))


def _shared(one: Ids, other: Ids) -> float:
    most = max(len(one), len(other))
    return len(set(one).intersection(other)) / most if most else 1.0


def _each(
    judged: Sequence[Judged],
    names: Sequence[str],
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    found: Mapping[str, Mapping[str, Ids]],
) -> Iterator[OfQuery]:
    for query in judged:
        first = found[names[0]][query.id]
        answered = {}
        for name in names:
            own = found[name][query.id]
            answered[name] = Answered(
                {measure: of[query.id] for measure, of in values[name].items() if query.id in of},
                _moved(own, first, query.grades),
                _moved(first, own, query.grades),
            )
        yield OfQuery(query.id, query.text, answered)


def _moved(one: Ids, other: Ids, grades: Mapping[str, int]) -> list[Moved]:
    """The first ten of one that the other has not."""
    missing = set(other[:SHOWN])
    return [Moved(name, rank, grades.get(name)) for rank, name in enumerate(one[:SHOWN], 1) if name not in missing]
