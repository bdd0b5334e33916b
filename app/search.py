"""The query flow: encode -> snapshot -> filter -> words -> candidates -> exact scores -> fusion -> reranking -> hits;
each stage is timed. A mode is a choice among these stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from app.boosts.ranking import boosted, rank_scored
from app.boosts.values import Boosts, boosts_of
from app.collection.collection import Collection
from app.collection.first_stage import FirstStage
from app.collection.layers import TOKENS, scored
from app.collection.view import Snapshot
from app.compute import deadline
from app.compute.deadline import Clock
from app.diversity.stage import diversified
from app.encodings import muvera
from app.errors import PartsUnreached, TooSlow
from app.fusion.formulas import weights_at, weights_of
from app.fusion.hybrid import DEPTH, Candidates, Fused, Meant, fuse, reach_of, score_candidates, side_scores, sides_of
from app.hits.fetching import hits_of
from app.hits.found import Found
from app.lexical import bm25
from app.lexical.asked import Learned
from app.query.alike import Alike, alike_to
from app.query.asked import UNENCODED
from app.query.asked import Coverage as Coverage
from app.query.asked import Mode as Mode
from app.query.asked import Query as Query
from app.query.asked import Reached as Reached
from app.query.asked import SearchResult as SearchResult
from app.query.asked import Total as Total
from app.query.candidates import FEW, FEW_SEGMENTS, Chosen, by_pooled, find_candidates, for_length
from app.query.encoded import EncodedQuery
from app.query.listed import Listed, WordScores
from app.query.preparing import encoded_meaning, encoded_sparse, spoken, weighed, with_examples
from app.query.ranking import Known, Ranked, rank_in_time
from app.query.reaching import rank_tier, tiers
from app.query.scores import Scores, pooled_scores, scores_of
from app.query.sparse import SparseScores
from app.query.wording import clauses_of, spoken_text
from app.relevance.features import features_of
from app.relevance.kept import curve_of
from app.rerank.models import Reranker
from app.rerank.stage import check, reranked, reranker_for, widened
from app.results.allowed import allowed_by
from app.results.facets import count_facets
from app.results.grouping import LEAST, Group, GroupBy, Grouping, with_hits
from app.results.paging import following, resumed
from app.results.sorting import marked, sort_documents, sort_ranked
from app.results.threshold import ended, needed, reaching
from app.scoring import choose
from app.scoring.networks import forward
from app.sparse import postings
from app.types import F64, Mask, Room, Side, SparseVector, Weights
from app.vector_index import walk


def search(collection: Collection, query: Query, room: Room | None = None) -> SearchResult:
    """One query. room: of an answer to several. Raises Invalid (vectors that do not fit), Conflict (no encoder, or
    another), Damaged, TooSlow, AnswerTooLarge."""
    return search_batch(collection, [query], room)[0]


def search_batch(collection: Collection, queries: Sequence[Query], room: Room | None = None) -> list[SearchResult]:
    """Several queries, their texts encoded together; each result's encode_ms is the whole batch's.

    Once the time is over and something was found, those that allow to be partial and have not begun are answered with
    no hits.
    """
    clock = Clock()
    with clock.stage("encode"):
        for query in queries:
            check(query, collection.resources.encoders)
        queries = with_examples(collection, queries)
        encoded, sparse = encoded_meaning(collection, queries), encoded_sparse(collection, queries)
    encode_ms = clock.stages["encode_ms"]
    results: list[SearchResult] = []
    room = room or collection.room()
    for query, vectors, weights in zip(queries, encoded, sparse, strict=True):
        try:
            results.append(search_encoded(collection, query, vectors, encode_ms, room, weights))
        except TooSlow:
            if not (query.partial and any(result.hits for result in results)):
                raise
            generation = collection.published.generation.number
            results.append(SearchResult([], encode_ms, {}, False, generation, Coverage(0, None), mode=query.mode))
    return results


def search_encoded(
    collection: Collection,
    query: Query,
    encoded: EncodedQuery | None,
    encode_ms: float = 0.0,
    room: Room | None = None,
    sparse: SparseVector | None = None,
    learned: Learned | None = None,
    moment: Snapshot | None = None,
    chances: Callable[[F64], Sequence[float]] | None = None,
    known: Known | None = None,
) -> SearchResult:
    """A query with its vectors, of ``encode_queries``. encode_ms: the time that it took, which is added. room: of an
    answer to several. sparse: its sparse vector, where it is asked by one. learned: what follows the queries in the
    place of the collection's own experience, which then learns nothing. moment: that is searched, by default now; then
    PartsUnreached is raised where nobody answers for some segments, so that several searches are of the same documents.
    chances: that hits are relevant, by their features, in the place of what the collection's curve says. known: the
    best documents by meaning of that moment, where they were found with those of others (app.batch.together).

    ``took_ms`` holds the wait for a core, too, where as many searches run as there are.
    """
    clock = Clock(stages={"encode_ms": encode_ms})
    if known is not None:
        clock.stages["candidates_ms"] = known.took_ms
        encode_ms += known.took_ms
    workers = collection.resources.workers
    # Before it is its turn: a model may have to be waited for.
    with clock.stage("rerank") if query.rerank else nullcontext():
        reranker = reranker_for(collection.resources.encoders, query, lambda: spoken_text(collection.spec, query))
    with workers.turn(), collection.snapshot() if moment is None else nullcontext(moment) as snapshot:
        while True:
            asked = _Asked(collection, snapshot, clock, encode_ms, room, learned or collection.learned, chances, known)
            try:
                return _answer(asked, query, encoded, sparse, reranker)
            except PartsUnreached as error:
                if moment is not None:
                    raise
                # Without the documents that nobody answers for, which is said.
                snapshot = snapshot.without(error)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked, beside the query, by ``search_encoded``."""

    collection: Collection
    snapshot: Snapshot
    clock: Clock
    encode_ms: float
    room: Room | None
    learned: Learned
    chances: Callable[[F64], Sequence[float]] | None
    known: Known | None


def _answer(
    of: _Asked,
    query: Query,
    encoded: EncodedQuery | None,
    sparse: SparseVector | None,
    reranker: Reranker | None,
) -> SearchResult:
    """In one moment. Raises PartsUnreached."""
    collection, snapshot, clock = of.collection, of.snapshot, of.clock
    workers = collection.resources.workers
    by_sparse = sparse is not None or (query.like is not None and weighed(collection.spec, query))
    sides = sides_of(collection.spec, words=spoken(collection.spec, query), sparse=by_sparse)
    query, alike = resumed(query, snapshot, sides), None
    if query.like is not None:
        with clock.stage("like"):
            alike = alike_to(snapshot, collection.spec, query.like, query.mode, query.at)
            encoded, sparse = alike.encoded, alike.sparse
    with clock.stage("filter"):
        allowed, warnings = allowed_by(snapshot, query)
        allowed = allowed if alike is None else alike.without(snapshot.views, allowed)
    asked = _Search(
        collection,
        widened(query),
        encoded,
        snapshot,
        allowed,
        clock,
        sides,
        sparse,
        alike,
        boosts_of(collection.spec, snapshot, query.boosts, query.mode, encoded),
        of.learned,
        None if snapshot.lost else of.known,
    )
    grouping, whole = None, query
    if query.group_by is None:
        found = asked.ranked()
    else:
        asked, found, grouping = asked.grouped(query.group_by, query.offset + query.k)
        whole = asked.query
    found = asked.explained(found)
    if asked.boosts is not None:
        found = replace(found, boosts=asked.boosts)
    if query.relevance:
        chances = of.chances or curve_of(snapshot.connection, collection.spec, query.mode).along
        features = features_of(collection.spec, query.mode, found, encoded)
        seqs = [item.seq for item in found.ranked]
        found = replace(found, chances=dict(zip(seqs, chances(features), strict=True)))
    if reranker is not None:
        with clock.stage("rerank"):
            made = reranked(collection, snapshot, found.ranked, found.words, found.scores, whole, reranker)
        found = replace(found, ranked=made.ranked, reranked=made)
    with _unhurried(query), clock.stage("diversify") if query.diversity else nullcontext():
        found = diversified(snapshot.views, found, whole, collection.spec.measure, workers)
    groups: list[Group] | None = None
    if grouping is None:
        found = replace(found, ranked=found.ranked[query.offset :]) if query.offset else found
    else:
        warnings += grouping.warnings
        groups, ranked = grouping.page(found.ranked, query.offset, query.k)
        found = replace(found, ranked=ranked)
    # Scored documents are returned, whatever time it is.
    with _unhurried(query), clock.stage("facets") if query.facets else nullcontext():
        facets = count_facets(snapshot, found.matching, query.facets)
        total = sum(int(np.count_nonzero(mask)) for mask in found.matching)
    with _unhurried(query), clock.stage("fetch"):
        hits = hits_of(collection, snapshot, found, query, encoded, of.room or collection.room())
    coverage = snapshot.reached or found.coverage
    exact = (query.exact or query.mode in UNENCODED) and not (coverage and coverage.partial)
    took_ms = of.encode_ms + clock.took_ms()
    weights = None if found.fused is None else found.fused.weights
    seen, there = (len(hits), total) if grouping is None or groups is None else (len(groups), grouping.total)
    return SearchResult(
        hits,
        took_ms,
        clock.stages,
        exact,
        snapshot.generation,
        coverage,
        warnings,
        weights,
        query.mode,
        Total(total, exact=not (found.more or snapshot.lost)),
        facets,
        None if coverage else following(query, snapshot, weights, seen, there),
        None if found.reranked is None else (len(found.reranked.former), found.reranked.of),
        None if groups is None else with_hits(groups, found.ranked, hits),
        None if grouping is None else grouping.total,
    )


@dataclass(frozen=True)
class _Search:
    """One query over one snapshot. allowed: for each view the documents. sides: that a hybrid search has. sparse: the
    query's sparse vector. alike: what its examples ask for. boosts: what adds to scores. learned: of the collection's
    queries."""

    collection: Collection
    query: Query
    encoded: EncodedQuery | None
    snapshot: Snapshot
    allowed: Sequence[Mask]
    clock: Clock
    sides: Sequence[Side]
    sparse: SparseVector | None
    alike: Alike | None
    boosts: Boosts | None
    learned: Learned
    known: Known | None = None

    def ranked(self) -> Found:
        query = self.query
        if query.mode == "browse":
            with self.clock.stage("sort"):
                ranked = sort_documents(self.snapshot, self.allowed, query.sort, query.offset + query.k)
            return Found(ranked, self.allowed)
        if query.mode in ("semantic", "dense"):
            if self.known is None:
                found = self._by_meaning(self.allowed, self.reach)
            else:
                found = Found(self.known.ranked, self.allowed, scores=scores_of(self.collection.spec, self._encoded()))
        else:
            words, sparse, allowed = *self._listed(), self.allowed
            if words is not None:
                allowed = words.narrowed(allowed)
            if query.mode != "hybrid":
                return self._by_list(words, sparse, allowed)
            found = self._by_all(words, sparse, allowed)
        found = ended(self.snapshot, found, query)
        if not query.sort:
            return found
        with _unhurried(query), self.clock.stage("sort"):
            ranked = sort_ranked(self.snapshot, found.ranked, query.sort, query.offset + query.k)
        return replace(found, ranked=ranked, matching=marked(self.snapshot, found.ranked))

    def grouped(self, by: GroupBy, wanted: int) -> tuple[_Search, Found, Grouping]:
        """This search for a list as long as so many groups take; what it finds, and how that is grouped."""
        query, grouping = self.query, None
        # Those that are reranked or diversified may change places.
        first = query.offset + query.k
        asked = replace(self, query=replace(query, offset=0, k=max(first, LEAST)))
        while True:
            found = asked.ranked()
            with self.clock.stage("group"), _unhurried(query):
                grouping = grouping or Grouping(self.snapshot, by, found.matching)
                longer = grouping.longer(found.ranked, wanted, first, asked.query.k)
            if longer is None or query.partial:
                return asked, found, grouping
            # By the weights of the shorter list, so that it is the beginning of this one.
            used = None if found.fused is None else found.fused.weights
            asked = replace(asked, query=replace(asked.query, k=longer, weights=used or asked.query.weights))

    @property
    def reach(self) -> int:
        """How many of the best by score are wanted."""
        return needed(self.query)

    def _listed(self) -> tuple[WordScores | None, SparseScores | None]:
        """The scores of every document, by words and by the sparse vector, as the query has them."""
        query, spec, views = self.query, self.collection.spec, self.snapshot.views
        words = sparse = None
        if query.mode == "lexical" or ("words" in self.sides and query.mode == "hybrid"):
            with self.clock.stage("words"):
                made = None if self.alike is None else self.alike.clauses
                words = WordScores.of(views, *clauses_of(spec, query, made))
        if self.sparse is not None:
            with self.clock.stage("sparse"):
                # Callers' own are of whole documents.
                sparse = SparseScores.of(views, self.sparse, split=spec.splits and not spec.given_sparse)
        return words, sparse

    def _by_list(self, words: WordScores | None, sparse: SparseScores | None, allowed: Sequence[Mask]) -> Found:
        query, snapshot, listed = self.query, self.snapshot, words or sparse
        assert listed is not None, "a search by a list has one"
        matching, views, page = listed.matching(allowed), snapshot.views, query.offset + query.k
        with self.clock.stage("sort" if query.sort else "rank"):
            scores = listed.by_view
            if self.boosts is not None:
                scores = self.boosts.over([view.part for view in views], scores, matching)
            if query.min_score is not None:
                matching = [mask & (own >= query.min_score) for mask, own in zip(matching, scores, strict=True)]
            if query.sort:
                ranked = sort_documents(snapshot, matching, query.sort, page, scores)
            elif self.boosts is not None:
                ranked = rank_scored(views, matching, scores, page, snapshot.identify)
            else:
                ranked = listed.rank(views, matching, page, snapshot.identify)
        return Found(listed.shown(ranked), matching, words=words, sparse=sparse)

    def _by_all(self, words: WordScores | None, sparse: SparseScores | None, allowed: Sequence[Mask]) -> Found:
        scores = side_scores(self.collection.spec, self._encoded())
        first = next(iter(scores.values()))
        meant, coverage = self._meant(allowed, first)
        views, workers = self.snapshot.views, self.collection.resources.workers
        listed: dict[Side, Listed] = {} if words is None else {"words": words}
        if sparse is not None:
            listed["sparse"] = sparse
        # Bounded work, so that what was found by meaning before the time was over is answered.
        with _unhurried(self.query):
            with self.clock.stage("rescore"):
                # A boosted document may be far behind without.
                whole = self.boosts is not None and self.query.exact and coverage is None
                scored = score_candidates(views, allowed, meant, listed, scores, self.reach, workers, whole=whole)
            with self.clock.stage("fuse"):
                fused = self._fused(scored)
        return Found(fused.ranked, allowed, coverage, words, fused, first, sparse)

    def explained(self, found: Found) -> Found:
        """With whether the approximate path finds it too: the same search, asked so."""
        query = self.query
        if not query.explain or query.mode in UNENCODED or (query.exact and query.partial):
            return found
        ranked = found.ranked
        if query.exact:
            # With weights that are given, so that the collection learns nothing of it.
            again = replace(query, exact=False, weights=query.weights)
            if found.fused is not None and found.fused.weights is not None:
                again = replace(again, weights=found.fused.weights)
            with self.clock.stage("explain"):
                ranked = replace(self, query=again, clock=Clock()).ranked().ranked
        return replace(found, approximate=frozenset(item.seq for item in ranked))

    def _by_meaning(self, allowed: Sequence[Mask], k: int, scores: Scores | None = None) -> Found:
        """The best k by vectors. scores: those to rank by, where they are not the mode's own."""
        query, views, workers = self.query, self.snapshot.views, self.collection.resources.workers
        encoded, spec, boosts = self._encoded(), self.collection.spec, self.boosts if scores is None else None
        if scores is None:
            scores = pooled_scores(spec, encoded) if query.mode == "dense" else scores_of(spec, encoded)
        by = scores if boosts is None else boosted(scores, boosts)
        if query.partial:
            return replace(self._in_time(allowed, by, k), scores=scores)
        # Fusion scores whole documents itself.
        several = spec.splits or spec.ordered
        whole, ranked = several and not query.exact and query.mode != "hybrid", list[Ranked]()
        least = None if query.mode == "hybrid" else query.min_score
        for chosen in self._tiers(allowed):
            rows = [one.rows for one in chosen]
            with self.clock.stage("rescore"):
                ranked += rank_tier(views, rows, by, k - len(ranked), whole, workers, self.snapshot.identify)
            if len(ranked) >= k or (least is not None and len(reaching(ranked, least)) < len(ranked)):
                break
        return Found(ranked, allowed, scores=scores)

    def _tiers(self, allowed: Sequence[Mask]) -> Iterator[list[Chosen]]:
        """For each view what is to be scored next; in an exact search all at once."""
        query, views, masks = self.query, self.snapshot.views, self._rows(allowed)
        if query.exact:
            yield [Chosen.all(mask) for mask in masks]
            return
        if self._few(masks):
            with self.clock.stage("candidates"):
                everything = [Chosen.all(mask) for mask in masks]
            yield everything
            return
        least, split = DEPTH if query.mode == "hybrid" or self.boosts else 1, self.collection.spec.splits
        workers = self.collection.resources.workers
        following = tiers(views, masks, self._stages(), self._encoded(), query.candidates, least, split, workers)
        while True:
            with self.clock.stage("candidates"):
                chosen = next(following, None)
            if chosen is None:
                return
            yield chosen

    def _few(self, masks: Sequence[Mask]) -> bool:
        """Whether all that are allowed are sooner scored than candidates are found among them."""
        spec, rows = self.collection.spec, sum(int(np.count_nonzero(mask)) for mask in masks)
        few = rows <= (FEW_SEGMENTS if spec.ordered else FEW)
        return spec.scanned or (few and scored(spec) != TOKENS)

    def _in_time(self, allowed: Sequence[Mask], scores: Scores, k: int) -> Found:
        """The best k of what is scored until the time is over."""
        query, views, workers = self.query, self.snapshot.views, self.collection.resources.workers
        masks = self._rows(allowed)
        with self.clock.stage("candidates"):
            if query.exact or self.collection.spec.scanned:
                chosen = [Chosen.all(mask) for mask in masks]
            else:
                stages = self._stages()
                chosen = find_candidates(views, masks, stages, self._encoded(), k, query.candidates, workers)
                if self.collection.spec.splits:
                    chosen = [one.with_openings(view) for one, view in zip(chosen, views, strict=True)]
        with self.clock.stage("rescore"):
            ranked, scored = rank_in_time(views, chosen, scores, k, workers, self.snapshot.identify)
            coverage = Coverage(scored, sum(len(one.rows) for one in chosen))
            return Found(ranked, allowed, coverage, scores=scores)

    def _rows(self, allowed: Sequence[Mask]) -> list[Mask]:
        """Of the documents that are allowed."""
        views = self.snapshot.views
        return [view.part.owners.spread(mask) for view, mask in zip(views, allowed, strict=True)]

    def _stages(self) -> list[FirstStage]:
        """Of each view."""
        stages, encoded = self.snapshot.stages, self._encoded()
        if self.query.mode == "dense":
            return by_pooled(stages)
        if self.query.vectors is not None or scored(self.collection.spec) != TOKENS:
            return list(stages)
        return for_length(stages, len(encoded.vectors))

    def _meant(self, allowed: Sequence[Mask], scores: Scores) -> tuple[Meant, Coverage | None]:
        """The documents by vectors, as fusion takes them. scores: of its first side."""
        query, views, reach = self.query, self.snapshot.views, reach_of(self.reach)
        every = query.exact or self._few(self._rows(allowed))
        if not (every or query.partial):
            return Meant.of_tiers(views, self._tiers(allowed), reach), None
        found = self._by_meaning(allowed, reach, scores)
        whole = every and found.coverage is None
        return Meant.of_ranked(views, found.ranked, whole=whole), found.coverage

    def _fused(self, found: Candidates) -> Fused:
        """By all sides. A query that is weighted by what the collection has learned adds to it."""
        query, learned = self.query, self.learned
        chosen = query.weights or weights_of(self.collection.spec.fusion, self.sides) or "learned"
        weights: Weights | None = None
        if chosen == "learned":
            weights = weights_at(learned.asked.rho, self.sides)
        elif chosen != "reciprocal_rank":
            weights = chosen
        fused = fuse(self.snapshot.views, found, weights, self.reach, self.snapshot.identify, self.boosts)
        if chosen == "learned" and query.like is None and "words" in fused.standards:
            learned.note(fused.standards["words"].best, fused.standards["pooled"].best)
        return fused

    def _encoded(self) -> EncodedQuery:
        assert self.encoded is not None, "a query by meaning has vectors"
        return self.encoded


def loops() -> Iterator[None]:
    """Compiles every loop that searches need (``native.prepare``)."""
    yield from choose.loops()
    yield from muvera.loops()
    yield from bm25.loops()
    yield from postings.loops()
    yield from forward.loops()
    yield from walk.loops()


def _unhurried(query: Query) -> AbstractContextManager[None]:
    """For what comes after the time may be over, where what was found by then is an answer."""
    return deadline.deadline(None) if query.partial else nullcontext()
