"""The hits of one search, with all that was asked for of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.hits.excerpts import excerpts, spoken_excerpts
from app.hits.found import Found
from app.hits.showing import NOTHING, Showing, Shown
from app.query.asked import Query
from app.query.encoded import EncodedQuery
from app.query.listed import document_of, first_row
from app.query.ranking import Ranked
from app.query.scores import Aligned, Networked
from app.query.wording import spoken_text
from app.types import F32, Alignment, Document, Excerpt, Hit, Room


def hits_of(
    collection: Collection, snapshot: Snapshot, found: Found, query: Query, encoded: EncodedQuery | None, room: Room
) -> list[Hit]:
    """One for each document of ``found.ranked``. encoded: None of a search by words alone. room: of the whole answer.
    Raises AnswerTooLarge, Damaged, TooSlow."""
    include, seqs = query.include, [item.seq for item in found.ranked]
    read = include | {"text"} if query.passages or query.highlights or query.explain else include
    documents = collection.documents(snapshot.connection, snapshot.published, seqs, read, room)
    if len(documents) < len(seqs):
        raise room.full()
    as_asked = _as_shown(collection, found) if query.mode in ("semantic", "dense") else float
    former = {} if found.reranked is None else found.reranked.former
    shown = _shown(collection, snapshot, found, documents, query, encoded, room)
    return [
        Hit(
            document.id,
            item.score if item.seq in former else as_asked(item.score),
            document.title,
            document.text if "text" in include else None,
            document.metadata if "metadata" in include else None,
            _vectors(collection, snapshot, item, document) if "vectors" in include else None,
            document.sparse,
            _excerpts(collection, snapshot, item, document, query, found, room) if query.passages else None,
            show.highlights,
            show.explanation,
            as_asked(former[item.seq]) if item.seq in former else None,
            found.chances.get(item.seq),
            _alignment(collection, snapshot, item, found),
            document.values,
        )
        for item, document, show in zip(found.ranked, documents, shown, strict=True)
    ]


def _as_shown(collection: Collection, found: Found) -> Callable[[float], float]:
    """A score by vectors as a hit shows it: a network's as it is, others as the similarity has them."""
    return float if isinstance(found.scores, Networked) else collection.spec.measure.score


def _excerpts(
    collection: Collection,
    snapshot: Snapshot,
    item: Ranked,
    document: Document,
    query: Query,
    found: Found,
    room: Room,
) -> list[Excerpt]:
    view = snapshot.views[item.view]
    place = document_of(view, item.row)
    scores = found.sparse if found.scores is None else found.scores
    if scores is None:
        assert found.words is not None, "what was not found by meaning was found by words"
        lexical = collection.spec.lexical
        assert lexical is not None, "what is found by words has words"
        best = spoken_excerpts(view.part, place, document.text, found.words.bm25, lexical.analyser, query.passages)
    else:
        best = excerpts(view.part, place, document.text, scores, query.passages, collection.resources.workers)
        if found.scores is not None:
            as_shown = _as_shown(collection, found)
            best = [replace(one, score=as_shown(one.score)) for one in best]
    if not room.take(Document("", "".join(one.text for one in best)), 0):
        raise room.full()
    return best


def _shown(
    collection: Collection,
    snapshot: Snapshot,
    found: Found,
    documents: Sequence[Document],
    query: Query,
    encoded: EncodedQuery | None,
    room: Room,
) -> Iterator[Shown]:
    """The highlights and the explanation of each hit."""
    if query.highlights is None and not query.explain:
        yield from [NOTHING] * len(documents)
        return
    asked = None
    if query.vectors is None and query.like is None and not query.turns and encoded is not None:
        asked = spoken_text(collection.spec, query) if query.mode == "hybrid" else query.text
    # Of a conversation there are not all tokens.
    places = collection.token_places if collection.spec.turns is None else (lambda texts, task: None)
    showing = Showing(
        collection.spec, snapshot.views, query.highlights, query.explain, encoded, asked, found.words, found.fused,
        found.scores, found.approximate, found.boosts, found.chosen, places, collection.resources.workers,
        found.sparse, collection.sparse_terms,
    )  # fmt: skip
    for shown in showing.of(found.ranked, documents):
        if not room.take(Document("", "".join(one.marked for one in shown.highlights or ())), 0):
            raise room.full()
        yield shown


def _vectors(collection: Collection, snapshot: Snapshot, item: Ranked, document: Document) -> F32 | None:
    """Of the passage that was found; of a sequence all."""
    return document.vectors if collection.spec.ordered else document.matrices[_passage(snapshot, item)]


def _alignment(collection: Collection, snapshot: Snapshot, item: Ranked, found: Found) -> Alignment | None:
    if not isinstance(found.scores, Aligned):
        return None
    offset, count = found.scores.place(snapshot.views[item.view].part, item.row)
    rate = collection.spec.segments_per_second
    return Alignment(offset, count, None if rate is None else offset / rate)


def _passage(snapshot: Snapshot, found: Ranked) -> int:
    """Which of the document's passages was found."""
    view = snapshot.views[found.view]
    return found.row - first_row(view, document_of(view, found.row))
