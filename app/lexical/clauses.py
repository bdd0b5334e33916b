"""A query's demands on words: clauses, from plain words or from the query language.

Plain words are never an error, whatever stands between them. The language (``syntax: "query"``) has

    word            may be there, by its stem        "exact words"   side by side, in this order, as written
    +word  -word    must be there, must not          field:word      in one field
    prefix*         words that begin so              word~1          words with one character more, less or another

where + and - and field: go before phrases, prefixes and fuzzy words too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import regex

from app.errors import Invalid
from app.lexical.analysis import Analyser
from app.lexical.fuzzy import SHORTEST, within_one

Occur: TypeAlias = Literal["should", "must", "must_not"]
Match: TypeAlias = Literal["stem", "word", "phrase", "prefix", "fuzzy"]

MOST: Final = 1_000
"""Clauses of a query; a longer text counts by its first distinct words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """words: one, but of a phrase. text: as it is spoken of. field: where it is looked for, None for anywhere. weight:
    what its score is taken times, as often as it was asked for."""

    words: tuple[str, ...]
    text: str
    kind: Match = "stem"
    occur: Occur = "should"
    field: str | None = None
    weight: float = 1.0

    @property
    def scored(self) -> bool:
        return self.occur != "must_not"

    def covers(self, word: str, stem: str) -> bool:
        """Whether a word of a text is one that is asked for; of a phrase, one of its words."""
        if self.kind == "prefix":
            return word.startswith(self.words[0])
        if self.kind == "fuzzy":
            return within_one(self.words[0], word) if len(self.words[0]) >= SHORTEST else word == self.words[0]
        return (stem if self.kind == "stem" else word) in self.words


def plain(text: str, analyser: Analyser) -> list[Clause]:
    """A clause for each distinct term, in the order of their first words. Stop words are left out, unless there is
    nothing else.

    >>> [(one.text, one.words, one.weight) for one in plain("The cats of cats", Analyser("english"))]
    [('cats', ('cat',), 2.0)]
    >>> [one.text for one in plain("To be, or not to be?", Analyser("english"))]
    ['to', 'be', 'or', 'not']
    """
    asked = analyser.asked(text)
    counted = [one for one in asked if not analyser.is_stop(one.word)] or asked
    stems = analyser.stems(one.word for one in counted)
    terms = [
        (one.word if one.begins else stem, "prefix" if one.begins else "stem")
        for stem, one in zip(stems, counted, strict=True)
    ]
    spoken: dict[tuple[str, str], str] = {}
    for term, one in zip(terms, counted, strict=True):
        spoken.setdefault(term, one.word)
    times = Counter(terms)
    return [
        Clause(words=(term[0],), text=word, kind="prefix" if term[1] == "prefix" else "stem", weight=float(times[term]))
        for term, word in list(spoken.items())[:MOST]
    ]


def spoken(clauses: Sequence[Clause]) -> str:
    """The words asked for, without the signs of the language and without what is excluded: for an encoder.

    >>> spoken(parse('+zip -tar "read it" arch*', Analyser("english"), []))
    'zip read it arch'
    """
    return " ".join(
        one.words[0] if one.kind in ("prefix", "fuzzy") else one.text.strip('"') for one in clauses if one.scored
    )


_CLAUSE: Final = regex.compile(
    r"""\s*(?P<occur>[+-]?)(?:(?P<field>[^\s:"+\-][^\s:"]*):(?=\S))?(?:"(?P<phrase>[^"]*)(?P<end>"?)|(?P<word>[^\s"]+))"""
)
_FUZZY: Final = regex.compile(r"(.+)~(\d*)")


def parse(text: str, analyser: Analyser, fields: Sequence[str], at: str = "/query") -> list[Clause]:
    """The clauses of a query in the language. at: the pointer to it, for errors.

    Raises Invalid for a phrase without an end, a field that is not one of ``fields``, a distance other than 1, and for
    what asks for no word at all.

    >>> found = parse('+title:zip -tar* "read it"', Analyser("english"), ["title"])
    >>> [(one.occur, one.kind, one.field, one.words) for one in found[:2]]
    [('must', 'stem', 'title', ('zip',)), ('must_not', 'prefix', None, ('tar',))]
    >>> found[2].kind, found[2].words
    ('phrase', ('read', 'it'))
    """
    found: list[Clause] = []
    place = 0
    while match := _CLAUSE.match(text, place):
        place = match.end()
        occur: Occur = {"": "should", "+": "must", "-": "must_not"}[match["occur"]]  # type: ignore[assignment]
        field = match["field"]
        if field is not None and field not in fields:
            raise Invalid.at(
                at, f"no field {field!r} is indexed, but {', '.join(fields)}; quote what is to be found as it is"
            )
        if match["phrase"] is not None:
            if not match["end"]:
                raise Invalid.at(at, f'the phrase that begins at character {match.start("phrase")} has no closing "')
            made = _phrase(match["phrase"], analyser)
        else:
            made = _words(match["word"], analyser, at, match.start("word"))
        found += [Clause(words=words, text=spoken, kind=kind, occur=occur, field=field) for words, spoken, kind in made]
    if text[place:].strip():
        raise Invalid.at(at, f"nothing can be made of {text[place:].strip()[:40]!r} at character {place}")
    found = _without_stops(found, analyser)
    if len(found) > MOST:
        raise Invalid.at(at, f"expected at most {MOST:,} clauses, got {len(found):,}")
    if not any(clause.scored for clause in found):
        raise Invalid.at(at, "the query asks for no word" + (", and only excludes" if found else ""))
    return found


def _without_stops(clauses: list[Clause], analyser: Analyser) -> list[Clause]:
    """As in plain words: without those that nobody insists on, unless there is nothing else."""
    kept = [
        one
        for one in clauses
        if one.occur != "should"
        or one.kind != "stem"
        or one.field is not None
        or not analyser.is_stop(one.text.lower())
    ]
    return kept if any(one.scored for one in kept) else clauses


_Made = tuple[tuple[str, ...], str, Match]


def _phrase(text: str, analyser: Analyser) -> list[_Made]:
    asked = analyser.asked(text)
    if not asked:
        return []
    kind: Match = "phrase" if len(asked) > 1 else "prefix" if asked[0].begins else "word"
    return [(tuple(one.word for one in asked), f'"{text}"', kind)]


def _words(text: str, analyser: Analyser, at: str, place: int) -> list[_Made]:
    fuzzy = _FUZZY.fullmatch(text)
    if fuzzy and fuzzy[2] not in ("", "1"):
        raise Invalid.at(at, f"expected ~1 at character {place}, got ~{fuzzy[2]}: words differ by one character")
    asked = analyser.asked(fuzzy[1] if fuzzy else text)
    if len(asked) != 1:
        # Of several parts, such as foo-bar: they belong together.
        return [(tuple(one.word for one in asked), text, "phrase")] if asked else []
    (word, begins) = asked[0]
    if begins or text.endswith("*"):
        return [((word,), text, "prefix")]
    return [((word,), text, "fuzzy")] if fuzzy else [((analyser.stem(word),), text, "stem")]
