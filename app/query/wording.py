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
    if spec.lexical is None:
        raise Invalid.at(f"{query.at}/mode", f"collection {spec.name} has no index of words: its `lexical` is null")
    lexical = spec.lexical.weighed(query.field_weights, f"{query.at}/field_weights")
    if made is not None:
        return made, lexical
    if query.text is None:
        raise Invalid.at(f"{query.at}/mode", f"a {query.mode} search needs a query in words")
    if query.syntax == "query":
        return parse(query.text, lexical.analyser, lexical.fields, f"{query.at}/query"), lexical
    return plain(query.text, lexical.analyser), lexical


def spoken_text(spec: CollectionSpec, query: Query) -> str | None:
    """The text that is encoded of a search by words: in the query language what is asked for, not its signs."""
    clauses, _ = clauses_of(spec, query)
    return spoken(clauses) if query.syntax == "query" else query.text
