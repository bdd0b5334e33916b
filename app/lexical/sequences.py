"""The words of some documents, in order: what an index is made of, and what is handed on when parts are merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from app.lexical.analysis import CACHED, LONGEST_CACHED, pieces, words_of
from app.lexical.postings import I32
from app.types import I64


class _Pieces(dict[str, tuple[str, ...]]):
    """The words of pieces of text; each is taken apart once."""

    def __missing__(self, piece: str) -> tuple[str, ...]:
        found = words_of(piece)
        if len(piece) <= LONGEST_CACHED:
            if len(self) >= CACHED:
                self.clear()
            self[piece] = found
        return found


PIECES: Final = _Pieces()


class Vocabulary(dict[str, int]):
    """Word -> id, in the order in which they were first asked for. It only grows."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        """By id."""

    def __missing__(self, word: str) -> int:
        found = self[word] = len(self.words)
        self.words.append(word)
        return found

    def translation(self, words: Sequence[str]) -> I32:
        """(words,): the id that each word of another vocabulary has in this one."""
        return np.fromiter(map(self.__getitem__, words), np.int32, len(words))


@dataclass(frozen=True, slots=True)
class Sequences:
    """vocabulary: what the ids mean. ids: of every word of every document, in order. offsets: (documents * fields + 1,)
    where each field of each document begins."""

    vocabulary: Vocabulary
    ids: I32
    offsets: I64

    @classmethod
    def analysed(cls, documents: Iterable[Sequence[str]], vocabulary: Vocabulary | None = None) -> Sequences:
        """documents: the texts of the fields of each.

        >>> found = Sequences.analysed([["A title", "The text of a title"], ["", "More"]])
        >>> found.vocabulary.words, found.ids.tolist(), found.offsets.tolist()
        (['a', 'title', 'the', 'text', 'of', 'more'], [0, 1, 2, 3, 4, 0, 1, 5], [0, 2, 7, 7, 8])
        """
        vocabulary = Vocabulary() if vocabulary is None else vocabulary
        ids: list[int] = []
        offsets = [0]
        for texts in documents:
            for text in texts:
                words = chain.from_iterable(map(PIECES.__getitem__, pieces(text)))
                ids.extend(map(vocabulary.__getitem__, words))
                offsets.append(len(ids))
        return cls(vocabulary, np.array(ids, np.int32), np.array(offsets, np.int64))

    def take(self, documents: I64, fields: int) -> Sequences:
        """The named documents in the named order."""
        runs = (documents[:, None] * fields + np.arange(fields)).ravel()
        counts = np.diff(self.offsets)[runs]
        offsets = np.zeros(len(runs) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[runs] - offsets[:-1], counts)
        return Sequences(self.vocabulary, self.ids[index], offsets)

    def translated(self, vocabulary: Vocabulary, translation: I32) -> Sequences:
        """The same in the ids of another vocabulary. translation: of this one's words to it."""
        return Sequences(vocabulary, translation[self.ids], self.offsets)

    @staticmethod
    def join(parts: Sequence[Sequences]) -> Sequences:
        """One after the other; all of one vocabulary, at least one."""
        ends = np.cumsum([0, *(len(part.ids) for part in parts)])
        offsets = [part.offsets[1:] + end for part, end in zip(parts, ends.tolist(), strict=False)]
        return Sequences(
            parts[0].vocabulary,
            np.concatenate([part.ids for part in parts]),
            np.concatenate([np.zeros(1, np.int64), *offsets]),
        )
