"""A search's question and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from app.boosts.asked import Boost
from app.collection.spec import CollectionSpec
from app.collection.view import Reached as Reached
from app.diversity.order import Diversity
from app.errors import Invalid
from app.filters import Filter
from app.highlights.fragments import Marking
from app.query.examples import Like
from app.rerank.order import Rerank
from app.results.facets import Counted, Facet
from app.results.grouping import GroupBy, HitGroup
from app.results.sorting import SortKey
from app.schema.notices import Notice
from app.scoring.networks.network import Network
from app.types import DEFAULT_INCLUDE, F32, Hit, SparseVector, Turn, Weights

Mode: TypeAlias = Literal["hybrid", "semantic", "dense", "lexical", "sparse", "browse"]

UNENCODED: Final = ("lexical", "sparse", "browse")
"""Modes that ask no vectors of token or pooled vectors; every document is scored."""
SORTED: Final = 1_000
"""Documents that are sorted, the best by score, where all match more or less."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question: by text, by vectors ((q, dim) float32; one row in a dense collection), by a sparse vector, a hybrid
    search by several; or in their place by what is like some examples, or by a network of its own (``scorer``), in
    the mode `semantic` of a dense collection.

    mode: `semantic` ranks by the collection's exact scores, `dense` by pooled vectors, `lexical` by BM25, `sparse` by
    sparse vectors, `hybrid` by all that the query brings; `browse` takes all that match, by id. ids: of the only
    documents that are asked, beside the filter. sort: the order of the hits, of all that match in `lexical`, `sparse`
    and `browse`, else of the best ``SORTED``. syntax: whether text is plain words, or the query language
    (app.lexical.clauses). field_weights: of some fields, in the place of the collection's (app.lexical.weighing).
    weights: of a hybrid search; "learned" takes those that the collection has learned, "reciprocal_rank" none; None is
    as the collection says, "learned" where it says nothing. explain: whether hits carry their reasons. relevance:
    whether they carry the chance that they are relevant, of a plain list by score. boosts: what adds to scores
    (app.boosts). min_score: that a document has at least, as its hit says it, before it is reranked.
    diversity: an order of the first hits in which they are unlike each other (app.diversity). facets: of what ``total``
    counts. group_by: the field by whose values hits are grouped; k, offset and pages count groups then. offset: hits
    that are passed over. cursor: of the page before, in its place (app.results.paging). candidates: passages that are
    rescored, more where more documents are asked for (app.query.reaching), in a hybrid search at least those of 100
    documents; None means the collection's own width. include: of text, metadata, vectors. partial: whether what was
    scored when the time was over is an answer; else, and where nothing was, it is TooSlow. passages: how many of its
    best ones each hit carries. highlights: how each shows what of it was asked for; None: not at all. rerank: what
    reads the first hits once more, and orders them. turns: of a conversation that asks, whose
    text is that of the ones that count. at: the pointer to the query, for errors.
    """

    text: str | None = None
    vectors: F32 | None = None
    sparse: SparseVector | None = None
    like: Like | None = None
    scorer: Network | None = None
    k: int = 10
    filter: Filter | None = None
    exact: bool = False
    candidates: int | None = None
    include: frozenset[str] = DEFAULT_INCLUDE
    partial: bool = False
    passages: int = 0
    highlights: Marking | None = None
    mode: Mode = "semantic"
    syntax: Literal["plain", "query"] = "plain"
    field_weights: Mapping[str, float] = field(default_factory=dict)
    weights: Weights | Literal["reciprocal_rank", "learned"] | None = None
    explain: bool = False
    relevance: bool = False
    rerank: Rerank | None = None
    ids: Sequence[str] | None = None
    sort: Sequence[SortKey] = ()
    boosts: Sequence[Boost] = ()
    min_score: float | None = None
    diversity: Diversity | None = None
    facets: Sequence[Facet] = ()
    group_by: GroupBy | None = None
    offset: int = 0
    cursor: str | None = None
    turns: tuple[Turn, ...] = ()
    at: str = ""


def check_browsing(query: Query) -> None:
    """Raises Invalid where it asks for what there is only with a query."""
    if any(one is not None for one in (query.text, query.vectors, query.sparse, query.like)):
        raise Invalid.at(f"{query.at}/mode", "browse is of a search without a query")
    if query.min_score is not None:
        raise Invalid.at(f"{query.at}/min_score", "without a query no document has a score to reach")
    for name in ("explain", "highlights", "passages", "boosts"):
        if getattr(query, name):
            raise Invalid.at(
                f"{query.at}/{name}", "without a query no document is better than another, nor a part of it"
            )


def check_ordered(query: Query, spec: CollectionSpec) -> None:
    """Raises Invalid where it asks a sequence for what takes one vector, or vectors without an order."""
    if not spec.ordered:
        return
    if query.mode == "dense":
        raise Invalid.at(f"{query.at}/mode", "a sequence has no pooled vectors: semantic scores its segments in order")
    if query.like is not None and query.mode not in UNENCODED:
        raise Invalid.at(
            f"{query.at}/like", "examples are averaged, which sequences are not: ask by vectors, or mode lexical"
        )
    if query.passages:
        raise Invalid.at(
            f"{query.at}/passages", "a sequence has segments, not passages of a text; a hit's alignment tells the place"
        )
    if query.diversity is not None:
        raise Invalid.at(f"{query.at}/diversity", "is by vectors of whole documents, which sequences have none of")


def check_whole(query: Query) -> None:
    """Raises Invalid where it asks for what does not go together: for what there is only in a search by words, or for
    two orders of its hits."""
    for name, asked in (("syntax", query.syntax == "query"), ("field_weights", query.field_weights)):
        if asked and query.mode not in ("lexical", "hybrid"):
            raise Invalid.at(f"{query.at}/{name}", f"a {query.mode} search is by no words, which this is of")
    if query.diversity is not None:
        at = f"{query.at}/diversity"
        if query.mode == "browse":
            raise Invalid.at(at, "without a query no document is more relevant than another")
        if query.sort or query.rerank is not None:
            raise Invalid.at(at, f"hits are {'sorted by fields' if query.sort else 'reranked'}, or diversified")


def check_scorer(query: Query) -> None:
    """Raises Invalid where a search by a network asks for what only another has."""
    at = f"{query.at}/scorer"
    if query.turns or any(one is not None for one in (query.text, query.vectors, query.sparse, query.like)):
        raise Invalid.at(at, "a search is by a scorer, or by query, vector, vectors, sparse_vector or examples")
    if query.mode != "semantic":
        raise Invalid.at(f"{query.at}/mode", f"a scorer is of a semantic search, not of a {query.mode} one")
    if query.relevance:
        raise Invalid.at(f"{query.at}/relevance", "it was learned of the scores of the collection, not of a scorer's")


def check_examples(query: Query, spec: CollectionSpec) -> None:
    """Raises Invalid where a search by examples asks for what takes a text, or for words that are not indexed."""
    if any(one is not None for one in (query.text, query.vectors, query.sparse)):
        raise Invalid.at(f"{query.at}/like", "a search is by examples, or by query, vector or vectors")
    if query.syntax == "query":
        raise Invalid.at(f"{query.at}/syntax", "a search by examples is by no text, which the language is of")
    if query.mode == "sparse" and spec.sparse is None:
        raise Invalid.at(f"{query.at}/mode", f"collection {spec.name} has no sparse vectors: its `sparse` is null")
    if (
        query.mode in ("lexical", "hybrid")
        and spec.lexical is None
        and (query.mode == "lexical" or spec.sparse is None)
    ):
        raise Invalid.at(f"{query.at}/mode", f"collection {spec.name} has no index of words: its `lexical` is null")


@dataclass(frozen=True, slots=True)
class Total:
    """count: of the documents that match: pass filter and ids, and where words are asked for alone, have one; where
    hits are sorted by fields, that were sorted; where they have a score at least, that were found to reach it. exact:
    else there are that many at least."""

    count: int
    exact: bool


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
    no document has. weights: that fused the scores of a hybrid search: the same give the same answer."""

    hits: list[Hit]
    took_ms: float
    stages: dict[str, float]
    exact: bool
    generation: int
    coverage: Coverage | Reached | None = None
    warnings: list[Notice] = field(default_factory=list)
    weights: Weights | None = None
    mode: Mode = "semantic"
    total: Total | None = None
    facets: Mapping[str, Counted] = field(default_factory=dict)
    next: str | None = None
    """The cursor of the next page; None where there is none, or where time decided what was found."""
    reranked: tuple[int, int] | None = None
    """How many documents were, of those that were to be."""
    groups: list[HitGroup] | None = None
    """Of the hits, where they are grouped: a hit may be in several."""
    total_groups: int | None = None
    """How many there are, of the documents that match."""
