"""The distinct words of a sealed part: sorted bytes, found by halving, grouped by their stems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.lexical.analysis import Analyser
from app.lexical.postings import I32
from app.lexical.sequences import Vocabulary
from app.types import I64

_END: Final = "\n"
"""After each string of a list; no word has it."""


class Strings:
    """A sorted list of distinct strings as their UTF-8, one after the other.

    >>> found = Strings.of(["ant", "bee", "beetle"])
    >>> found.place("bee"), found.place("bear"), found.starting("bee"), found.all()
    (1, None, (1, 3), ['ant', 'bee', 'beetle'])
    """

    def __init__(self, content: NDArray[np.uint8], starts: I64) -> None:
        """content: each string and a line's end. starts: (strings + 1,)."""
        self.content, self.starts = content, starts
        self._bytes = memoryview(content.data)

    @classmethod
    def of(cls, words: Sequence[str]) -> Strings:
        """words: ascending by their UTF-8."""
        encoded = [(word + _END).encode() for word in words]
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum([len(word) for word in encoded], out=starts[1:])
        return cls(np.frombuffer(bytearray(b"".join(encoded)), np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, place: int) -> str:
        return self._at(place).decode()

    def all(self) -> list[str]:
        """Every string, ascending."""
        return bytes(self._bytes).decode().split(_END)[:-1]

    def place(self, word: str) -> int | None:
        """Where it stands."""
        wanted = word.encode()
        place = self._first(wanted)
        return place if place < len(self) and self._at(place) == wanted else None

    def starting(self, prefix: str) -> tuple[int, int]:
        """The places of those that begin with the prefix: from, to."""
        wanted = prefix.encode()
        # No UTF-8 has the byte 255, so that nothing that begins with the prefix comes after it.
        return self._first(wanted), self._first(wanted + b"\xff")

    def _at(self, place: int) -> bytes:
        return bytes(self._bytes[self.starts[place] : self.starts[place + 1] - 1])

    def _first(self, wanted: bytes) -> int:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._at(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low


@dataclass(frozen=True)
class Dictionary:
    """words: sorted. ids: (words,) the id of each. stems: sorted; None where each word is its own. starts: (stems + 1,)
    where each stem's words begin in ``of_stems``, (words,) ids."""

    words: Strings
    ids: I32
    stems: Strings | None = None
    starts: I64 | None = None
    of_stems: I32 | None = None

    @classmethod
    def build(cls, words: Sequence[str], analyser: Analyser) -> Dictionary:
        """words: by id."""
        order = sorted(range(len(words)), key=lambda one: words[one].encode())
        ids = np.array(order, np.int32)
        sorted_words = Strings.of([words[one] for one in order])
        if analyser.language is None:
            return cls(sorted_words, ids)
        groups: dict[str, list[int]] = {}
        for one, stem in enumerate(analyser.stems(words)):
            groups.setdefault(stem, []).append(one)
        names = sorted(groups, key=str.encode)
        starts = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(groups[name]) for name in names], out=starts[1:])
        of_stems = np.array([one for name in names for one in groups[name]], np.int32)
        return cls(sorted_words, ids, Strings.of(names), starts, of_stems)

    def word(self, word: str) -> I32:
        """The id of a word, (1,), or nothing."""
        place = self.words.place(word)
        return self.ids[:0] if place is None else self.ids[place : place + 1]

    def stem(self, stem: str) -> I32:
        """The ids of the words with a stem."""
        if self.stems is None or self.starts is None or self.of_stems is None:
            return self.word(stem)
        place = self.stems.place(stem)
        return self.ids[:0] if place is None else self.of_stems[self.starts[place] : self.starts[place + 1]]

    def starting(self, prefix: str) -> I32:
        """The ids of the words that begin with the prefix."""
        first, last = self.words.starting(prefix)
        return self.ids[first:last]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Every word, by id; made when it is first asked for."""
        by_id = [""] * len(self.words)
        for one, word in zip(self.ids.tolist(), self.words.all(), strict=True):
            by_id[one] = word
        found = Vocabulary()
        found.translation(by_id)
        return found
