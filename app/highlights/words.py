"""Where the words of a query stand in a text.

By the analysis that made the index (app.lexical.analysis): what is marked is what was counted, stems, parts of words,
prefixes, words that differ by a character, and phrases.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import chain
from typing import Final, NamedTuple

from app.lexical.analysis import Analyser, Occurrence, first_character, pieces, pieces_of, placed
from app.lexical.clauses import Clause
from app.lexical.sequences import PIECES


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
        self._known: dict[str, list[Match]] = {}

    def matches(self, text: str) -> list[Match]:
        """In order; they may overlap."""
        found: list[Match] = []
        known = self._known
        if self._stems or self._words or self._others:
            words = set(pieces(text))
            self._learn(words.difference(known))
            # Where nothing is found, places are looked for no more.
            matching = {word for word in words if known[word]}
            for piece in pieces_of(text) if matching else ():
                if (word := piece.group()) in matching:
                    at = piece.start()
                    found += [Match(at + start, at + stop, clause) for start, stop, clause in known[word]]
        if self._phrases:
            found += self._side_by_side(list(self._analyser.occurrences(text)))
        return sorted(found)

    def _learn(self, new: Set[str]) -> None:
        """What each of some pieces matches; most match nothing, which is told of all of them at once."""
        if self._others:
            self._known.update((piece, self._alone(piece)) for piece in new)
            return
        words = set(chain.from_iterable(map(PIECES.__getitem__, new)))
        stem = self._analyser.stem
        asked = {word for word in words if word in self._words or (self._stems and stem(word) in self._stems)}
        self._known.update((piece, [] if asked.isdisjoint(PIECES[piece]) else self._alone(piece)) for piece in new)

    def _alone(self, piece: str) -> list[Match]:
        """The terms that the words of one piece match, each by itself."""
        found = []
        for word, start, stop in placed(piece, 0):
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
