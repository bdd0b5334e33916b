"""A piece of a text around what is to be shown of it, with that marked.

Places are in characters of the text as it was written: Unicode code points, as passages have them, [start, stop).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from app.highlights.words import Match
from app.passages.structure import sentence_begins

Field: TypeAlias = Literal["title", "text"]

_JOINER: Final = "\u200d"
"""Makes one character of those beside it."""
_FIRST_MARK: Final = "\u0300"
"""No character before it belongs to another."""
_SPACE: Final = re.compile(r"\s+")
_SPECIAL: Final = re.compile(r"[&<>\"']")
"""What is escaped in HTML."""


@dataclass(frozen=True, slots=True)
class Marking:
    """How a hit shows its text. marks: what stands before and after what is marked. length: characters of a fragment,
    at most."""

    marks: tuple[str, str] = ("<mark>", "</mark>")
    length: int = 240


@dataclass(frozen=True, slots=True)
class Span:
    """A marked place, in characters of the whole field. terms: of the query, that it was found by; none where it was
    found by its meaning."""

    start: int
    stop: int
    terms: list[str]


@dataclass(frozen=True, slots=True)
class Highlight:
    """A fragment of a title or a text: field[start:stop], in characters. by: `words` marks the words of the query,
    `meaning` the sentence that is nearest to it. spans: what is marked; they ascend and do not overlap. marked: the
    fragment in HTML, all of it escaped but the marks."""

    by: Literal["words", "meaning"]
    field: Field
    start: int
    stop: int
    spans: list[Span]
    marked: str


def of_words(
    text: str, field: Field, matches: Sequence[Match], terms: Sequence[str], worth: Sequence[float], marking: Marking
) -> Highlight | None:
    """The fragment that says most of the query; None where it says nothing. matches: ascending. terms, worth: of each
    clause."""
    if not matches:
        return None
    start, stop = around(text, *_densest(matches, worth, marking.length), marking.length)
    spans: list[Span] = []
    for begin, end, clause in matches:
        if end <= start or begin >= stop:
            continue
        begin, end = max(begin, start), min(end, stop)
        if spans and begin < spans[-1].stop:
            last = spans.pop()
            begin, end, said = last.start, max(last.stop, end), last.terms
        else:
            said = []
        term = terms[clause]
        spans.append(Span(begin, end, said if term in said else [*said, term]))
    return Highlight("words", field, start, stop, spans, marked(text, start, stop, spans, marking.marks))


def of_sentence(text: str, start: int, stop: int, centre: int, marking: Marking) -> Highlight:
    """The sentence text[start:stop]; of one that is too long what is around the place ``centre`` of it."""
    if stop - start > marking.length:
        begin, end = (start + edge for edge in around(text[start:stop], centre - start, centre - start, marking.length))
        start, stop = begin, end
    else:
        begin, end = around(text, start, stop, marking.length)
    spans = [Span(start, stop, [])]
    return Highlight("meaning", "text", begin, end, spans, marked(text, begin, end, spans, marking.marks))


def marked(text: str, start: int, stop: int, spans: Sequence[Span], marks: tuple[str, str]) -> str:
    """text[start:stop] in HTML.

    >>> marked("a < b & c", 0, 9, [Span(4, 7, [])], ("<b>", "</b>"))
    'a &lt; <b>b &amp;</b> c'
    """
    edges = [start, *(edge for span in spans for edge in (span.start, span.stop)), stop]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    if _SPECIAL.search(text, start, stop):
        pieces = [escape(piece) for piece in pieces]
    before, after = marks
    for i in range(1, len(pieces), 2):
        pieces[i] = f"{before}{pieces[i]}{after}"
    return "".join(pieces)


def around(text: str, first: int, last: int, length: int) -> tuple[int, int]:
    """A piece of at most ``length`` characters with text[first:last] in it, or with as much of that as there is room
    for.

    It begins with a sentence where one begins near, else with a word, and ends with a word; where no spaces are
    written, with a character and the marks on it.

    >>> text = "It was late. The owl sees in the dark wood, and hunts."
    >>> start, stop = around(text, 33, 37, 32)
    >>> text[start:stop]
    'The owl sees in the dark wood,'
    """
    room = length - (last - first)
    if room <= 0:
        return first, last if room == 0 else _back(text, first + length, first) or first + length
    start = max(0, min(first - room // 2, len(text) - length))
    if start:
        start = _beginning(text, start, max(0, first - room * 3 // 4), first)
    while start < first and _parts(text, start):
        start += 1
    stop = min(start + length, len(text))
    if stop < len(text):
        stop = _word_end(text, last, stop)
    return start, _back(text, last + len(text[last:stop].rstrip()), last) or last


def _word_end(text: str, last: int, stop: int) -> int:
    """Where in text[last:stop] its last word ends, of those behind which there is space; ``stop`` where there is
    none."""
    piece = text[last : stop + 1]
    bare = piece.rstrip()
    if len(bare) == len(piece):
        words = piece.rsplit(None, 1)
        if len(words) == 1 and not piece[0].isspace():
            return stop
        bare = piece[: len(piece) - len(words[-1])].rstrip()
    return last + len(bare)


def _beginning(text: str, start: int, least: int, first: int) -> int:
    """Where a fragment begins that may at ``start``, with a sentence at ``least``, and must at ``first``."""
    begins = sentence_begins(text, least, first)
    for place in (*(one for one in begins if one >= start), *begins[::-1]):
        return place
    match = _SPACE.search(text, start, first)
    return start if match is None else match.end()


def _densest(matches: Sequence[Match], worth: Sequence[float], length: int) -> tuple[int, int]:
    """Where ``length`` characters begin and end in which the clauses that match are worth most, and the first of equal
    ones that have most matches."""
    counts = [0] * len(worth)
    best, found, first = (-1.0, 0), (0, 0), 0
    total = 0.0
    begin, end, left = matches[0]
    for last, (_, stop, clause) in enumerate(matches):
        if not counts[clause]:
            total += worth[clause]
        counts[clause] += 1
        while first < last and stop - begin > length:
            counts[left] -= 1
            if not counts[left]:
                total -= worth[left]
            first += 1
            begin, end, left = matches[first]
        # Rounded, so that what was added and taken away again is nothing.
        if (own := (round(total, 9), last - first)) > best:
            best, found = own, (begin, max(stop, end))
    return found


def _back(text: str, place: int, least: int) -> int | None:
    """The place, or the last one before it that parts no character from its marks; None where that is ``least``."""
    while place > least and _parts(text, place):
        place -= 1
    return place if place > least else None


def _parts(text: str, place: int) -> bool:
    """Whether a character has marks, or what is joined to it, on both sides of the place."""
    return 0 < place < len(text) and (binds(text[place]) or text[place - 1] == _JOINER)


def binds(character: str) -> bool:
    """Whether it belongs to the one before it."""
    return character >= _FIRST_MARK and (character == _JOINER or unicodedata.category(character).startswith("M"))
