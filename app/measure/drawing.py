"""Queries that are drawn from a collection itself, to measure and tune it with.

They are those that were searched, where they are kept (``app.store.query_log``), then the title of a document, or its
first sentence; where callers bring vectors, some vectors of one passage, of a sequence some that follow each other.
Each remembers the document that it was drawn from, for finding that one is no achievement. They repeat for the same
generation and the same log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import POOLED
from app.collection.part import scored_vectors
from app.collection.view import Snapshot
from app.errors import Conflict
from app.query.asked import Query
from app.types import Document

SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
WORD: Final = re.compile(r"\w+(?:['’.-]\w+)*")

LOOKED_AT: Final = 4_096
"""Documents that are looked at, at most, for queries that differ; at least eight times as many as are wanted."""
DRAWN_CHARACTERS: Final = 300
"""Of a drawn text; queries are short."""
DRAWN_VECTORS: Final = 32
"""Vectors of a query that is drawn from callers' vectors: as many as a long text query has."""
DRAWN_SEGMENTS: Final = 12
"""Of a query that is drawn from a sequence, one behind the other."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """owners: for each query the id of the document that it was drawn from, None for the others. logged: how many were
    searched before, the first ones.
    """

    owners: list[str | None]
    queries: list[Query]
    logged: int = 0

    @classmethod
    def given(cls, queries: Sequence[Query]) -> Drawn:
        return cls([None] * len(queries), list(queries))

    @classmethod
    def from_documents(cls, made: Iterable[tuple[str, Query]]) -> Drawn:
        """made: ids of documents, and what was drawn from each."""
        pairs = list(made)
        return cls([owner for owner, _ in pairs], [query for _, query in pairs])


def draw_queries(collection: Collection, count: int) -> Drawn:
    """At most ``count``: of those that were searched; where they are fewer, one each of documents that differ."""
    with collection.snapshot() as snapshot:
        random = np.random.default_rng(snapshot.generation)
        logged = _logged(collection)
        logged = [logged[place] for place in random.permutation(len(logged))[:count].tolist()]
        random = np.random.default_rng(snapshot.generation)
        made: dict[str | bytes, tuple[str, Query]] = {}
        for seq, document in shuffled(snapshot, random, count - len(logged)):
            query = _query(collection, snapshot, seq, document)
            key = query.text if query.vectors is None else query.vectors.tobytes()
            made.setdefault(key or "", (document.id, query))
            if len(made) == count - len(logged):
                break
    drawn = Drawn.from_documents(made.values())
    return Drawn([*[None] * len(logged), *drawn.owners], [*logged, *drawn.queries], len(logged))


def draw_runs(collection: Collection, count: int, words: int) -> Drawn:
    """At most ``count`` texts of so many words each, of documents that differ, in a collection with an encoder.

    Each is a run of words of a title, where that has as many, else of what a text begins with; one word alone is the
    longest there, since people seldom ask for an article.
    """
    with collection.snapshot() as snapshot:
        random = np.random.default_rng([snapshot.generation, words])
        made: dict[str, tuple[str, Query]] = {}
        for _, document in shuffled(snapshot, random, count):
            text = _run(document, words, random)
            if text is not None:
                made.setdefault(text.casefold(), (document.id, Query(text=text)))
            if len(made) == count:
                break
    return Drawn.from_documents(made.values())


def _run(document: Document, words: int, random: np.random.Generator) -> str | None:
    """So many words that stand together in a document; None where it has not so many."""
    for text in (document.title, document.text):
        found = list(WORD.finditer(text[:DRAWN_CHARACTERS]))
        if len(text) > DRAWN_CHARACTERS:
            # It may be cut.
            found = found[:-1]
        if len(found) < words:
            continue
        if words == 1:
            return max((match.group() for match in found), key=len)
        first = int(random.integers(len(found) - words + 1))
        return " ".join(text[found[first].start() : found[first + words - 1].end()].split())
    return None


def shuffled(snapshot: Snapshot, random: np.random.Generator, wanted: int) -> Iterator[tuple[int, Document]]:
    """Documents that stand, with their sequence numbers, in a random order; not all where there are many.

    Raises Conflict where there are none.
    """
    seqs = np.concatenate([np.zeros(0, np.int64), *(view.part.seqs[view.alive] for view in snapshot.views)])
    if not len(seqs):
        raise Conflict("the collection has no documents to draw queries from", code="collection_empty")
    order = random.permutation(np.sort(seqs))[: max(LOOKED_AT, 8 * wanted)].tolist() if wanted else []
    for start in range(0, len(order), max(wanted, 1)):
        some = order[start : start + wanted]
        documents = snapshot.documents(some)
        yield from ((seq, documents[seq]) for seq in some)


def _logged(collection: Collection) -> list[Query]:
    """The distinct queries that were searched and fit the collection."""
    texts, matrices = {}, {}
    for one in collection.queries.all():
        if one.vectors is None and one.text is not None and collection.spec.model is not None:
            texts[one.text] = Query(text=one.text)
        elif one.vectors is not None and one.vectors.shape[1] == collection.spec.query_dim:
            matrices[one.vectors.tobytes()] = Query(vectors=one.vectors)
    return [*texts.values(), *matrices.values()]


def _query(collection: Collection, snapshot: Snapshot, seq: int, document: Document) -> Query:
    if collection.spec.model is not None:
        text = document.title.strip() or SENTENCE.split(document.text.strip(), maxsplit=1)[0]
        return Query(text=text[:DRAWN_CHARACTERS])
    view, place = snapshot.published.locate([seq])[seq]
    row, stop = view.part.owners.span(place, place + 1)
    if collection.spec.ordered:
        # From anywhere in it, the same each time.
        first = row + int(np.random.default_rng(seq).integers(max(1, stop - row - DRAWN_SEGMENTS + 1)))
        run = view.part.flat(POOLED).range(first, min(stop, first + DRAWN_SEGMENTS))
        return Query(vectors=collection.spec.measure.seeking(np.array(run, np.float32)))
    return Query(vectors=collection.spec.measure.seeking(scored_vectors(view.part, row)[:DRAWN_VECTORS]).copy())
