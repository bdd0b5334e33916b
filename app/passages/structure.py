"""Where a text may be cut, and under which headings a place of it stands. Markdown, and plain text as it is.

Every pass is over lines or matches, so a text costs what it is long; no expression here can look twice at a run of
characters. Headings are Markdown's with number signs, outside of fenced code.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.types import I64

PAGE: Final = "\f"
"""Between two pages."""
INSIDE: Final = 0
"""Within a word: the last resort."""
WORD: Final = 1
LINE: Final = 2
SENTENCE: Final = 3
"""Or an item of a list."""
PARAGRAPH: Final = 4
SECTION: Final = 5
"""Before a heading."""

_SPACE: Final = re.compile(r"\s+")
# Begins with a set of characters, which the engine looks for first; what is between is not looked at.
_SENTENCE: Final = re.compile(r"[.!?…。！？](?:(?<=[.!?…])[\"')\]’”»]?\s+|(?<=[。！？])[」』）]?(?![。！？」』）\s]))")
_HEADING: Final = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]")


@dataclass(frozen=True, slots=True)
class Heading:
    """start, stop: of its line, in characters. depth: 1 to 6. text: without its number signs. under: the one that it
    stands under."""

    start: int
    stop: int
    depth: int
    text: str
    under: Heading | None


@dataclass(frozen=True, slots=True)
class Structure:
    """places: (n,) where a piece of the text may begin, ascending; kinds: (n,) what begins there, the stronger the
    greater. headings: in order."""

    places: I64
    kinds: NDArray[np.int8]
    headings: Sequence[Heading]

    @classmethod
    def of(cls, text: str) -> Structure:
        """
        >>> found = Structure.of("# Birds\\nThe wren sings. It is small.\\n\\nThe owl does not.")
        >>> found.places.tolist(), found.kinds.tolist()
        ([2, 8, 12, 17, 24, 27, 30, 38, 42, 46, 51], [1, 4, 1, 1, 3, 1, 1, 4, 1, 1, 1])
        """
        marks = {match.end(): WORD for match in _SPACE.finditer(text)}
        marks.update((match.end(), SENTENCE) for match in _SENTENCE.finditer(text))
        headings = _lines(text, marks)
        marks.pop(0, None)
        marks.pop(len(text), None)
        places = np.fromiter(marks.keys(), np.int64, len(marks))
        kinds = np.fromiter(marks.values(), np.int8, len(marks))
        order = np.argsort(places)
        return cls(places[order], kinds[order], headings)


def sentence_begins(text: str, start: int, stop: int) -> list[int]:
    """Where sentences begin behind the beginning of text[start:stop], ascending; paragraphs, headings and items of
    lists too.

    >>> sentence_begins("One. Two.\\n\\n- three\\n- four", 0, 26)
    [5, 11, 19]
    """
    marks: dict[int, int] = {}
    piece = text[start:stop]
    if len(piece.splitlines()) > 1:
        _lines(piece, marks)
    # The first line may begin anywhere.
    marks.pop(min(marks, default=0), None)
    begins = {start + place for place, kind in marks.items() if kind >= SENTENCE}
    # One may end right before it, with a sign and a bracket.
    ends = (match.end() for match in _SENTENCE.finditer(text, max(0, start - 2), stop))
    begins.update(end for end in ends if end > start)
    return sorted(begins - {stop})


def headings_of(text: str) -> list[Heading]:
    """All of them, in order."""
    return _lines(text, {})


def path(headings: Sequence[Heading], place: int) -> list[Heading]:
    """The headings that a piece which begins at ``place`` stands under, the outermost first: not those in it.

    >>> text = "# Birds\\n## Wrens\\nSmall.\\n## Owls\\nLarge."
    >>> [[one.text for one in path(headings_of(text), text.index(word))] for word in ("Small", "## Owls", "Large")]
    [['Birds', 'Wrens'], ['Birds'], ['Birds', 'Owls']]
    """
    last = bisect_right(headings, place, key=lambda heading: heading.start) - 1
    over = headings[last] if last >= 0 else None
    if over is not None and over.stop > place:
        # It begins with one, or within its line.
        over = over.under
    found: list[Heading] = []
    while over is not None:
        found.append(over)
        over = over.under
    return found[::-1]


def pages(text: str, start: int, stop: int) -> list[int] | None:
    """The first and the last page of text[start:stop], from 1; None where no form feed parts the text.

    >>> [pages("one\\ftwo\\f\\ffour", *span) for span in ((0, 3), (3, 7), (4, 13))], pages("one", 0, 3)
    ([[1, 1], [2, 2], [2, 4]], None)
    """
    if PAGE not in text:
        return None
    piece = text[start:stop]
    before = text.count(PAGE, 0, start) + 1
    bare = piece.strip()
    first = before + piece.count(PAGE, 0, len(piece) - len(piece.lstrip()))
    return [first, first + bare.count(PAGE)]


def _lines(text: str, marks: dict[int, int]) -> list[Heading]:
    """The headings. marks: gets what lines begin, at the first character of each that is no space."""
    headings: list[Heading] = []
    fence, after = "", PARAGRAPH
    lines = text.splitlines(keepends=True)
    for start, line in zip(accumulate(map(len, lines), initial=0), lines, strict=False):
        bare = line.strip()
        if not bare:
            after = PARAGRAPH
            continue
        begin = start + len(line) - len(line.lstrip())
        kind = max(after, SENTENCE if _ITEM.match(line) else LINE)
        after = LINE
        marker = _FENCE.match(line)
        if marker and fence in ("", marker[1]):
            fence = "" if fence else marker[1]
        elif not fence and (heading := _HEADING.match(line)):
            depth, over = len(heading[1]), headings[-1] if headings else None
            while over is not None and over.depth >= depth:
                over = over.under
            headings.append(Heading(begin, start + len(line), depth, heading[2].rstrip().rstrip("#").rstrip(), over))
            kind, after = SECTION, PARAGRAPH
        marks[begin] = max(kind, marks.get(begin, INSIDE))
    return headings
