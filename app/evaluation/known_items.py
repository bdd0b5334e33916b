"""Queries without judgements: pieces of documents, each of which asks for the document that it comes from.

What finds known documents is told by them, not what answers people: a piece has the document's own words, so searches
by words do better than they do with people's questions (Azzopardi, de Rijke and Balog, SIGIR 2007). They repeat for
the same generation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import numpy as np

from app.collection.collection import Collection
from app.errors import Conflict, Invalid
from app.evaluation.judged import Judged
from app.lexical.analysis import STOP
from app.measure.drawing import SENTENCE, WORD, shuffled
from app.types import Document

Piece: TypeAlias = Literal["title", "sentence", "keywords"]

KEYWORDS: Final = 4
LEAST_WORDS: Final = 4
"""Of a sentence."""
LONGEST: Final = 300
"""Characters."""


def known_items(collection: Collection, piece: Piece, count: int) -> list[Judged]:
    """At most ``count``, of documents that differ; their ids are the queries' too. Raises Conflict (collection_empty)
    where none has such a piece, Invalid where a query cannot be a text."""
    if collection.spec.model is None and collection.spec.lexical is None:
        raise Invalid.at("/known_items", "the collection has neither an encoder nor words, so no text can be asked for")
    draw, found = _DRAW[piece], dict[str, Judged]()
    with collection.snapshot() as snapshot:
        random = np.random.default_rng([snapshot.generation, len(piece)])
        for _, document in shuffled(snapshot, random, count):
            text = draw(document, random)
            if text is not None:
                found.setdefault(text.casefold(), Judged(document.id, {document.id: 1}, text))
            if len(found) == count:
                break
    if not found:
        raise Conflict(f"no document has a {piece} to ask for", code="collection_empty")
    return list(found.values())


def _title(document: Document, _: np.random.Generator) -> str | None:
    return document.title.strip()[:LONGEST] or None


def _sentence(document: Document, random: np.random.Generator) -> str | None:
    sentences = [one for one in SENTENCE.split(document.text.strip()) if len(WORD.findall(one)) >= LEAST_WORDS]
    return sentences[int(random.integers(len(sentences)))][:LONGEST] if sentences else None


def _keywords(document: Document, random: np.random.Generator) -> str | None:
    words = {word.casefold(): word for word in WORD.findall(document.text) if len(word) > 2}
    telling = [word for folded, word in words.items() if folded not in STOP]
    if len(telling) < KEYWORDS:
        return None
    return " ".join(telling[place] for place in random.permutation(len(telling))[:KEYWORDS].tolist())


_DRAW: Final[dict[Piece, Callable[[Document, np.random.Generator], str | None]]] = {
    "title": _title,
    "sentence": _sentence,
    "keywords": _keywords,
}
