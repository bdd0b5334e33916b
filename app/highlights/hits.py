"""The highlights of the hits of one search."""

from __future__ import annotations

from collections.abc import Callable

from app.highlights.fragments import Field, Highlight, Marking, of_words
from app.highlights.words import Finder
from app.lexical.analysis import Analyser
from app.lexical.bm25 import Bm25
from app.types import Document


def by_words(query: Bm25, analyser: Analyser, marking: Marking) -> Callable[[int, int, Document], list[Highlight]]:
    """The places of a query's words in a document's title and text, where their words are indexed. The document is the
    one at a place of a part of the query, those by numbers."""
    fields: list[Field] = [field for field in ("title", "text") if field in query.fields]
    # Where no clause is of one field alone, what is known of a word in a title is known of it in a text.
    anywhere = None if any(clause.field for clause in query.clauses) else Finder(query.clauses, analyser, "text")
    finders = {field: anywhere or Finder(query.clauses, analyser, field) for field in fields}
    terms, worth = [clause.text for clause in query.clauses], query.worth

    def highlights(part: int, place: int, document: Document) -> list[Highlight]:
        texts = {"title": document.title, "text": document.text}
        indexed = query.places(part, place)
        found = (
            of_words(texts[field], field, matches, terms, worth, marking)
            for field, finder in finders.items()
            # Of a conversation the index has the words of turns that count, and its text has more.
            if (matches := finder.matches(texts[field], None if document.turns else indexed.get(field)))
        )
        return [one for one in found if one is not None]

    return highlights
