"""The query flow: encode -> snapshot -> filter -> candidates -> rescore exactly -> hits; each stage is timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from app.collection.collection import Collection
from app.collection.passages import check_vectors, pool, require_direction
from app.collection.view import Snapshot
from app.compute import deadline
from app.errors import Invalid, TextRefused, TooSlow
from app.filters import Filter
from app.query.candidates import Chosen, find_candidates
from app.query.encoded import EncodedQuery
from app.query.excerpts import excerpts
from app.query.ranking import Ranked, rank, rank_in_time, whole_documents
from app.query.scores import Scores, scores_of
from app.types import DEFAULT_INCLUDE, F32, Document, Excerpt, Hit, Room, TokenVectors


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked. Exactly one of text and vectors ((q, dim) float32; one row in a dense collection).

    candidates: passages that are rescored, at least k; None means the collection's own width. include: of text,
    metadata, vectors. partial: whether what was scored when the time was over is an answer; else, and where nothing
    was, it is TooSlow. passages: how many of its best ones each hit carries.
    """

    text: str | None = None
    vectors: F32 | None = None
    k: int = 10
    filter: Filter | None = None
    exact: bool = False
    candidates: int | None = None
    include: frozenset[str] = DEFAULT_INCLUDE
    partial: bool = False
    passages: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """scored: passages that were scored exactly, the best candidates first. of: those that were to be; None where the
    time was over before they were known."""

    scored: int
    of: int | None

    @property
    def partial(self) -> bool:
        return self.scored != self.of


@dataclass(frozen=True, slots=True)
class SearchResult:
    """hits: best first. stages: milliseconds by name, `encode_ms` and so on; took_ms is the whole. exact: whether every
    document was scored. coverage: where the query allows that it is partial. warnings: where the filter asks for what
    no document has."""

    hits: list[Hit]
    took_ms: float
    stages: dict[str, float]
    exact: bool
    generation: int
    coverage: Coverage | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Clock:
    """Adds up the time of named stages."""

    started: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        deadline.check(deadline.current())
        start = time.perf_counter()
        yield
        self.stages[f"{name}_ms"] = self.stages.get(f"{name}_ms", 0.0) + (time.perf_counter() - start) * 1e3

    def took_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1e3


def search(collection: Collection, query: Query) -> SearchResult:
    """One query. Raises Invalid (vectors that do not fit), Conflict (no encoder, or another), Damaged, TooSlow,
    AnswerTooLarge."""
    return search_batch(collection, [query])[0]


def search_batch(collection: Collection, queries: Sequence[Query]) -> list[SearchResult]:
    """Several queries, their texts encoded together; each result's encode_ms is the whole batch's.

    Once the time is over and something was found, those that allow to be partial and have not begun are answered with
    no hits.
    """
    clock = _Clock()
    with clock.stage("encode"):
        encoded = encode_queries(collection, queries)
    encode_ms = clock.stages["encode_ms"]
    results: list[SearchResult] = []
    room = collection.room()
    for query, vectors in zip(queries, encoded, strict=True):
        try:
            results.append(search_encoded(collection, query, vectors, encode_ms, room))
        except TooSlow:
            if not (query.partial and any(result.hits for result in results)):
                raise
            generation = collection.published.generation.number
            results.append(SearchResult([], encode_ms, {}, False, generation, Coverage(0, None)))
    return results


def search_encoded(
    collection: Collection, query: Query, encoded: EncodedQuery, encode_ms: float = 0.0, room: Room | None = None
) -> SearchResult:
    """A query with its vectors, of ``encode_queries``. encode_ms: the time that it took, which is added. room: of an
    answer to several.

    ``took_ms`` holds the wait for a core, too, where as many searches run as there are.
    """
    clock = _Clock(stages={"encode_ms": encode_ms})
    workers = collection.resources.workers
    with workers.turn(), collection.snapshot() as snapshot:
        views = snapshot.views
        with clock.stage("filter"):
            allowed = [
                view.part.owners.spread(mask) for view, mask in zip(views, snapshot.allowed(query.filter), strict=True)
            ]
            warnings = snapshot.warnings(query.filter)
        with clock.stage("candidates"):
            if query.exact:
                chosen = [Chosen.all(mask) for mask in allowed]
            else:
                chosen = find_candidates(views, allowed, snapshot.stages, encoded, query.k, query.candidates, workers)
                if collection.spec.splits:
                    chosen = [one.with_openings(view) for one, view in zip(chosen, views, strict=True)]
        scores, coverage = scores_of(collection.spec, encoded), None
        with clock.stage("rescore"):
            if query.partial:
                ranked, scored = rank_in_time(views, chosen, scores, query.k, workers, snapshot.identify)
                coverage = Coverage(scored, sum(len(one.rows) for one in chosen))
            else:
                ranked = rank(views, [one.rows for one in chosen], scores, query.k, workers, snapshot.identify)
                if collection.spec.splits and not query.exact:
                    # Each by the best of all its rows, whichever of them were candidates.
                    whole = whole_documents(views, ranked)
                    if sum(map(len, whole)) > len(ranked):
                        ranked = rank(views, whole, scores, query.k, workers, snapshot.identify)
        # What was scored is answered, whatever time it is.
        with deadline.deadline(None) if query.partial else nullcontext(), clock.stage("fetch"):
            hits = _hits(collection, snapshot, ranked, query, scores, room or collection.room())
    exact = query.exact and not (coverage and coverage.partial)
    took_ms = encode_ms + clock.took_ms()
    return SearchResult(hits, took_ms, clock.stages, exact, snapshot.generation, coverage, warnings)


def encode_queries(collection: Collection, queries: Sequence[Query]) -> list[EncodedQuery]:
    """The queries' vectors, as they are scored. Texts are encoded in one batch."""
    spec = collection.spec
    for query in queries:
        if (query.text is None) == (query.vectors is None):
            raise Invalid.at("", "expected exactly one of query, vector and vectors")
        if query.vectors is not None:
            check_vectors(query.vectors, spec, "")
    texts = [query.text for query in queries if query.text is not None]
    made = iter(_from_encoder(collection, texts) if texts else [])
    ready = []
    for query in queries:
        if query.vectors is None:
            vectors, pooled = next(made)
            ready.append(EncodedQuery(spec.measure.query(vectors), spec.measure.query(pooled)))
        else:
            vectors = spec.measure.query(np.ascontiguousarray(query.vectors, np.float32))
            ready.append(EncodedQuery(vectors, pool(TokenVectors.join([vectors]), spec.measure)))
    return ready


def _from_encoder(collection: Collection, texts: Sequence[str]) -> Iterator[tuple[F32, F32]]:
    """The vectors of each text, and its pooled vector, (1, dim). Raises Invalid for a text that it makes nothing of."""
    try:
        encoded = collection.encode_queries(texts)
        require_direction(encoded, collection.spec)
    except TextRefused as error:
        (why, *_) = error.texts.values()
        raise Invalid.at("/query", why) from error
    for place in range(len(encoded.pooled)):
        pooled = encoded.pooled[place : place + 1]
        yield pooled if encoded.tokens is None else encoded.tokens[place], pooled


def _hits(
    collection: Collection, snapshot: Snapshot, ranked: Sequence[Ranked], query: Query, scores: Scores, room: Room
) -> list[Hit]:
    include, seqs = query.include, [item.seq for item in ranked]
    read = include | {"text"} if query.passages else include
    documents = collection.documents(snapshot.connection, snapshot.published, seqs, read, room)
    if len(documents) < len(seqs):
        raise room.full()
    return [
        Hit(
            document.id,
            collection.spec.measure.score(item.score),
            document.title,
            document.text if "text" in include else None,
            document.metadata if "metadata" in include else None,
            document.matrices[_passage(snapshot, item)] if "vectors" in include else None,
            _excerpts(collection, snapshot, item, document, query, scores, room) if query.passages else None,
        )
        for item, document in zip(ranked, documents, strict=True)
    ]


def _excerpts(
    collection: Collection,
    snapshot: Snapshot,
    found: Ranked,
    document: Document,
    query: Query,
    scores: Scores,
    room: Room,
) -> list[Excerpt]:
    part, workers = snapshot.views[found.view].part, collection.resources.workers
    place = int(part.owners.of(np.array([found.row]))[0])
    best = excerpts(part, place, document.text, scores, query.passages, workers)
    if not room.take(Document("", "".join(one.text for one in best)), 0):
        raise room.full()
    return [replace(one, score=collection.spec.measure.score(one.score)) for one in best]


def _passage(snapshot: Snapshot, found: Ranked) -> int:
    """Which of the document's passages was found."""
    owners = snapshot.views[found.view].part.owners
    return found.row - int(owners.rows_of(owners.of(np.array([found.row])))[0])
