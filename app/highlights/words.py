"""Where the words of a query stand in a text.

By the analysis that made the index (app.lexical.analysis): what is marked is what was counted, stems, parts of words,
prefixes, words that differ by a character, and phrases.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import cache, lru_cache
from itertools import compress
from operator import not_
from typing import Final, NamedTuple

import numpy as np

from app.lexical.analysis import (
    CACHED,
    LONGEST_CACHED,
    Analyser,
    Occurrence,
    edges_of,
    first_character,
    placed,
    words_of,
)
from app.lexical.clauses import Clause


class Match(NamedTuple):
    """text[start:stop] is what a clause asks for. clause: its number."""

    start: int
    stop: int
    clause: int


class Finder:
    """Finds what some clauses ask for, in any number of texts of one field. The words of a piece of text
    are found once, however often it stands there.

    >>> from app.lexical.clauses import parse
    >>> english = Analyser("english")
    >>> clauses = parse('reading "bar baz"', english, [])
    >>> Finder(clauses, english, "text").matches("Reads fooBar baz.")
    [Match(start=0, stop=5, clause=0), Match(start=9, stop=16, clause=1)]
    """

    def __init__(self, clauses: Sequence[Clause], analyser: Analyser, field: str) -> None:
        """field: of the texts; a clause may be of one field alone. Excluded words are not looked for."""
        asked = [(i, one) for i, one in enumerate(clauses) if one.scored and one.field in (None, field)]
        self._analyser = analyser
        self._stems: Final = _by_word([(i, one) for i, one in asked if one.kind == "stem"])
        self._words: Final = _by_word([(i, one) for i, one in asked if one.kind == "word"])
        self._others: Final = [(i, one) for i, one in asked if one.kind in ("prefix", "fuzzy")]
        self._phrases: Final = [(i, one.words) for i, one in asked if one.kind == "phrase"]
        self._asked: Final = frozenset((*self._stems, *self._words))
        self._forms: Final = _forms_of(analyser)
        self._known: dict[str, list[Match]] = {}
        """The matches of pieces of text; of most there is none, and those are not kept."""

    def matches(self, text: str, indexed: tuple[int, Sequence[int]] | None = None) -> list[Match]:
        """In order; they may overlap. indexed: how many words the index has of the text, and the places among them of
        those that match (``Bm25.places``); without it each word of the text is looked at, which finds the same."""
        found: list[Match] = []
        # Where the index has none of the words that are asked for, there is none to look for.
        if (self._asked or self._others) and (indexed is None or indexed[1]):
            for start, stop in self._matching(text, indexed):
                piece = text[start:stop]
                found += [Match(start + begin, start + end, clause) for begin, end, clause in self._known[piece]]
        if self._phrases:
            found += self._side_by_side(list(self._analyser.occurrences(text)))
        return sorted(found)

    def _matching(self, text: str, indexed: tuple[int, Sequence[int]] | None) -> list[list[int]]:
        """Where the pieces of a text that match something begin and end."""
        edges = edges_of(text)
        if indexed is not None and indexed[0] == len(edges):
            # Each piece is one word, so a word's place is its piece's.
            found: list[list[int]] = edges[list(indexed[1])].tolist()
            self._know({text[start:stop] for start, stop in found})
            return found
        words = [text[start:stop] for start, stop in edges.tolist()]
        distinct: Set[str] = set(words)
        if not self._others:
            # Told of all of them at once, without a step of the interpreter for each.
            none = map(self._asked.isdisjoint, map(self._forms.__getitem__, distinct))
            distinct = set(compress(distinct, map(not_, none)))
        self._know(distinct)
        matching = [word in distinct and bool(self._known[word]) for word in words]
        some: list[list[int]] = edges[np.array(matching, bool)].tolist()
        return some

    def _know(self, words: Set[str]) -> None:
        for word in words:
            if word not in self._known:
                self._known[word] = self._alone(word)

    def _alone(self, piece: str) -> list[Match]:
        """The terms that the words of one piece match, each by itself."""
        found = []
        for word, start, stop in placed(piece, 0) if len(piece) > LONGEST_CACHED else _placed(piece):
            stem = self._analyser.stem(word)
            found += [Match(start, stop, i) for i in (*self._stems.get(stem, ()), *self._words.get(word, ()))]
            found += [
                Match(start, _end(piece, start, stop, clause), i)
                for i, clause in self._others
                if clause.covers(word, stem)
            ]
        return found

    def _side_by_side(self, words: Sequence[Occurrence]) -> list[Match]:
        found = []
        places: dict[str, list[int]] = {}
        for place, one in enumerate(words):
            places.setdefault(one.word, []).append(place)
        for i, phrase in self._phrases:
            # From where its rarest word stands.
            rarest = min(range(len(phrase)), key=lambda j: len(places.get(phrase[j], ())))
            for place in places.get(phrase[rarest], ()):
                run = words[max(place - rarest, 0) : place - rarest + len(phrase)]
                if tuple(one.word for one in run) == phrase:
                    found.append(Match(min(one.start for one in run), max(one.stop for one in run), i))
        return found


class _Forms(dict[str, tuple[str, ...]]):
    """The words of pieces of text and their stems, for one language; each piece is taken apart once."""

    def __init__(self, analyser: Analyser) -> None:
        super().__init__()
        self._analyser = analyser

    def __missing__(self, piece: str) -> tuple[str, ...]:
        words = words_of(piece)
        found = tuple({*words, *map(self._analyser.stem, words)})
        if len(piece) <= LONGEST_CACHED:
            if len(self) >= CACHED:
                self.clear()
            self[piece] = found
        return found


@lru_cache(8_192)
def _placed(piece: str) -> tuple[Occurrence, ...]:
    """The words of a short piece: the same ones match in search after search."""
    return tuple(placed(piece, 0))


@cache
def _forms_of(analyser: Analyser) -> _Forms:
    return _Forms(analyser)


def _by_word(asked: Sequence[tuple[int, Clause]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, clause in asked:
        found.setdefault(clause.words[0], []).append(i)
    return found


def _end(piece: str, start: int, stop: int, clause: Clause) -> int:
    """Of a word that begins as is asked: where no spaces are written, and one character was asked for, that one's."""
    if clause.kind != "prefix":
        return stop
    word, end = first_character(piece, start)
    return end if word == clause.words[0] else stop
