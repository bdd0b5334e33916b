"""From a text to the windows that are encoded for it: each fits the encoder, together they leave out nothing.

A window ends where the text is parted most strongly in its last half (a heading, a paragraph, a sentence, a line, a
word; within a word only where one is longer than that), and the next begins up to ``overlap`` tokens before that end,
with a sentence. Where it begins depends on where the last one ended alone: after an edit the windows soon are the old
ones again. Before each stand the title and the headings that it is under.

Tokens are the encoder's. A text is tokenised once as a whole, and its windows once as they are encoded: where one has
more tokens alone than in its place, which some tokenizers do, all are cut a little shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from app.passages.conversation import Said
from app.passages.structure import INSIDE, SECTION, SENTENCE, WORD, Heading, Structure, path
from app.types import I64, Document

Tokens: TypeAlias = Callable[[Sequence[str]], list[I64]]
"""Where the tokens of each text begin, ascending (``Encoder.tokens``)."""

ATTEMPTS: Final = 4
"""Times that windows are made shorter where some are too long when they stand alone."""
JOINED: Final = ". "


@dataclass(frozen=True, slots=True)
class Window:
    """text[start:stop] of a document's text. encoded: what is given to the encoder. cut: whether it leaves out the end
    of the title, or turns that count. said: of a conversation, what its parts weigh; heard: what is said in those that
    count. summary: whose vector is the pooled one."""

    start: int
    stop: int
    encoded: str
    cut: bool = False
    said: Said | None = None
    heard: str | None = None
    summary: str = ""

    @property
    def words(self) -> str:
        """What is given to a sparse encoder."""
        return self.encoded if self.heard is None else self.heard


@dataclass(frozen=True, slots=True)
class Windowing:
    """size: tokens of a window, with what stands before it; None: a text is one window, however long. overlap: tokens
    that two windows may share."""

    size: int | None
    overlap: int

    def of(self, documents: Sequence[Document], tokens: Tokens) -> list[list[Window]]:
        """The windows of each document, one or more, in order. A text that fits is one, encoded as its ``passage``."""
        whole = [[Window(0, len(document.text), document.passage)] for document in documents]
        if self.size is None:
            return whole
        places = tokens([document.passage for document in documents])
        return [
            windows if len(own) <= self.size or not document.text.strip() else self._split(document, tokens)
            for document, windows, own in zip(documents, whole, places, strict=True)
        ]

    def _split(self, document: Document, tokens: Tokens) -> list[Window]:
        assert self.size is not None
        plan = _Plan.of(document, tokens)
        room = self.size
        for _ in range(ATTEMPTS):
            windows = plan.windows(room, self.overlap)
            longest = max(map(len, tokens([window.encoded for window in windows])))
            if longest <= self.size:
                break
            room = max(1, room - (longest - self.size))
        return windows


@dataclass(frozen=True, slots=True)
class _Plan:
    """places: (n + 1,) where tokens begin in the text, ascending, each once, and its end; before: (n + 1,) tokens
    before each; kinds: (n + 1,) what begins there; cuts: (n + 1,) where, which is earlier where it begins with what is
    no token, such as the signs of a heading. titled: tokens of the title."""

    document: Document
    places: I64
    before: I64
    kinds: I64
    cuts: I64
    titled: I64
    headings: Sequence[Heading]

    @classmethod
    def of(cls, document: Document, tokens: Tokens) -> _Plan:
        text = document.text
        begins, titled = tokens([text, document.title])
        structure = Structure.of(text)
        begins = _after_space(text, begins)
        places, counts = np.unique(begins[begins < len(text)], return_counts=True)
        before = np.concatenate([[0], np.cumsum(counts)])
        ends = np.append(places, len(text))
        kinds, cuts = np.full(len(ends), INSIDE, np.int64), ends.copy()
        at = np.searchsorted(places, structure.places)
        # Of those before one token the strongest counts, the first of equals: it is written last.
        order = np.lexsort((-structure.places, structure.kinds))
        kinds[at[order]], cuts[at[order]] = structure.kinds[order], structure.places[order]
        cuts[-1] = len(text)
        return cls(document, ends, before, kinds, cuts, titled, structure.headings)

    def windows(self, size: int, overlap: int) -> list[Window]:
        found: list[Window] = []
        start, last = 0, len(self.places) - 1
        while True:
            begin = 0 if start == 0 else int(self.cuts[start])
            said, cost = self._said(begin, size)
            room = max(1, size - cost)
            stop = self._end(start, room)
            text = self.document.text[begin : int(self.cuts[stop])]
            kept = text if stop == last else text.rstrip()
            cut = len(self.titled) + 1 > size // 2
            found.append(Window(begin, begin + len(kept), JOINED.join([*said, kept]), cut))
            if stop == last:
                return found
            start = self._next(start, stop, room, overlap)

    def _end(self, start: int, room: int) -> int:
        """Where a window ends that begins at ``start``: the place of the next token."""
        first = int(self.before[start])
        far = int(np.searchsorted(self.before, first + room, side="right")) - 1
        last = len(self.places) - 1
        far = min(max(far, start + 1), last)
        if far == last:
            return far
        near = max(int(np.searchsorted(self.before, first + room // 2)), start + 1)
        kinds = self.kinds[near : far + 1][::-1]
        return far - int(np.argmax(kinds))

    def _next(self, start: int, stop: int, room: int, overlap: int) -> int:
        """Where the next window begins."""
        if self.kinds[stop] == SECTION or not overlap:
            return stop
        # A quarter further at least, so that windows are no more than four times the text.
        least = max(int(self.before[stop]) - overlap, int(self.before[start]) + max(1, room // 4))
        near = min(int(np.searchsorted(self.before, least)), stop)
        kinds = self.kinds[near : stop + 1]
        for kind in (SENTENCE, WORD):
            fit = np.flatnonzero(kinds >= kind)
            if len(fit):
                return near + int(fit[0])
        return near

    def _said(self, begin: int, size: int) -> tuple[list[str], int]:
        """The text before a window, and its tokens: the title, of half a window at most, and as many headings, the
        nearest first, as a quarter of one has room for."""
        title, cost = self.document.title, len(self.titled) + 1 if self.document.title.strip() else 0
        if cost > size // 2:
            cut = int(self.titled[max(0, size // 2 - 1)])
            kept = title[:cut]
            title, cost = kept[: kept.rfind(" ")].rstrip() if " " in kept.strip() else kept, size // 2
        room = min(size // 4, size // 2 - cost)
        under: list[str] = []
        for heading in reversed(path(self.headings, begin)):
            length = self._tokens(heading) + 1
            if length > room:
                break
            if heading.text.casefold() != title.strip().casefold():
                under.append(heading.text)
                room, cost = room - length, cost + length
        return [title, *reversed(under)] if title.strip() else under[::-1], cost

    def _tokens(self, heading: Heading) -> int:
        first, last = np.searchsorted(self.places, [heading.start, heading.stop])
        return int(self.before[last] - self.before[first])


def _after_space(text: str, begins: I64) -> I64:
    """Where the tokens begin, each after the white space that some tokenizers count to them.

    >>> _after_space("a  b", np.array([0, 1])).tolist()
    [0, 3]
    """
    moved = begins.copy()
    for i in np.flatnonzero([place < len(text) and text[place].isspace() for place in begins.tolist()]).tolist():
        rest = text[int(begins[i]) : int(begins[i + 1]) if i + 1 < len(begins) else len(text)]
        moved[i] += len(rest) - len(rest.lstrip())
    return np.maximum.accumulate(moved)
