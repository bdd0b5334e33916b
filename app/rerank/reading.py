"""A document as a reranker reads it: its title and text, or where texts are split, its best passage, under its title
and headings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import SPANS
from app.collection.part import Part
from app.collection.view import Snapshot
from app.hits.excerpts import spoken_excerpts
from app.lexical.bm25 import Bm25
from app.passages.structure import headings_of, path
from app.query.listed import document_of
from app.query.ranking import Ranked
from app.types import Document


@dataclass(frozen=True, slots=True)
class Reading:
    """Of the documents of a snapshot. words: what they were found by, where it was words alone."""

    collection: Collection
    snapshot: Snapshot
    words: Bm25 | None

    def of(self, item: Ranked) -> str:
        """Raises Damaged."""
        part, collection = self.snapshot.views[item.view].part, self.collection
        snapshot, room = self.snapshot, self.collection.room()
        (document,) = collection.documents(snapshot.connection, snapshot.published, [item.seq], {"text"}, room)
        if not part.has(SPANS):
            return document.passage
        start, stop = self._best(part, item, document)
        title, under = document.title, path(headings_of(document.text), start)
        said = [title, *(heading.text for heading in under if heading.text.casefold() != title.strip().casefold())]
        return ". ".join(piece for piece in (*said, document.text[start:stop]) if piece.strip())

    def _best(self, part: Part, item: Ranked, document: Document) -> tuple[int, int]:
        """Where the passage stands in the text that the document was found by."""
        lexical = self.collection.spec.lexical
        if self.words is None or lexical is None:
            start, stop = part.flat(SPANS).take(np.array([item.row], np.int64))[0].tolist()
            return start, stop
        place = document_of(self.snapshot.views[item.view], item.row)
        (best,) = spoken_excerpts(part, place, document.text, self.words, lexical.analyser, 1)
        return best.start, best.stop
