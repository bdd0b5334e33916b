"""The clauses of a query's text, and the part of it that is encoded."""

from __future__ import annotations

from collections.abc import Sequence

from app.collection.spec import CollectionSpec, LexicalSpec
from app.errors import Invalid
from app.lexical.clauses import Clause, parse, plain, spoken
from app.query.asked import Query


def clauses_of(
    spec: CollectionSpec, query: Query, made: Sequence[Clause] | None = None
) -> tuple[Sequence[Clause], LexicalSpec]:
    """The query's clauses, and how they are looked for, with the weights that it gives to fields. made: of examples,
    where it has some in the place of a text. Raises Invalid."""
    lexical = _lexical_of(spec, query)
    if made is not None:
        return made, lexical
    text = _text_of(query)
    if query.syntax == "query":
        return parse(text, lexical.analyser, lexical.fields, f"{query.at}/query"), lexical
    return plain(text, lexical.analyser), lexical


def spoken_text(spec: CollectionSpec, query: Query) -> str:
    """The text that is encoded of a search by words: in the query language what is asked for, not its signs. Raises
    Invalid."""
    if query.syntax == "query":
        clauses, _ = clauses_of(spec, query)
        return spoken(clauses)
    # Plain words are said as they are, and never wrong: they are told apart once, by the search itself.
    _lexical_of(spec, query)
    return _text_of(query)


def _lexical_of(spec: CollectionSpec, query: Query) -> LexicalSpec:
    if spec.lexical is None:
        raise Invalid.at(f"{query.at}/mode", f"collection {spec.name} has no index of words: its `lexical` is null")
    return spec.lexical.weighed(query.field_weights, f"{query.at}/field_weights")


def _text_of(query: Query) -> str:
    if query.text is None:
        raise Invalid.at(f"{query.at}/mode", f"a {query.mode} search needs a query in words")
    return query.text
