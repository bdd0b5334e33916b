"""How text becomes words, and which words count as one term.

A word is a run of letters, marks and digits of any script, in NFKC and case-folded. One of several parts (`fooBar`,
`HTTPServer`, `foo_bar`) is there whole and in parts. Where a script writes no spaces (Han, Kana, Thai, ...), each two
neighbours are a word, and the last character alone, so that every character begins one.
All words are indexed; stems and stop words are matters of the query and of its scores, so that no
clause of a query is lost for the words it is made of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import regex
import Stemmer

from app.lexical.ascii import ascii_pieces
from app.types import I64

_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SPACED: Final = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]"
_WORD: Final = regex.compile(rf"(?V1)[{_UNSPACED}][{_UNSPACED}\p{{M}}]*|{_SPACED}+(?:_+{_SPACED}+)*")
_ASCII: Final = re.compile(r"[A-Za-z0-9]+(?:_+[A-Za-z0-9]+)*")
"""The same of ASCII, in a fifth of the time."""
_RUN: Final = regex.compile(rf"(?V1)[{_UNSPACED}]")
_PART: Final = regex.compile(r"(?V1)(?<=\p{Ll}|\p{N})(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})|_+")
_CHARACTER: Final = regex.compile(r"(?V1)\P{M}\p{M}*")

LANGUAGES: Final = tuple(sorted(Stemmer.algorithms()))
"""Those with a Snowball stemmer; `english` is Porter2."""

STOP: Final = frozenset(
    # One string, so that it reads as the list that it is.
    " a an and are as at be but by for if in into is it no not of on or such that the their then there these they this"  # noqa: SIM905
    " to was will with".split()
)
"""Lucene's for English: they make no term of a query and add nothing to a document's length."""

CACHED: Final = 200_000
"""Distinct pieces of text whose words an analyser remembers."""
LONGEST_CACHED: Final = 32
"""Characters of a piece that is remembered; long ones seldom come again."""


class Occurrence(NamedTuple):
    """A word and where it stands, in characters of the text."""

    word: str
    start: int
    stop: int


class QueryWord(NamedTuple):
    """A word of a query. begins: whether words that begin with it are meant."""

    word: str
    begins: bool


@dataclass(frozen=True, slots=True)
class Analyser:
    """Words of one language's texts. language: of ``LANGUAGES``, or None for words as they are, without stop words.

    >>> [one.word for one in Analyser("english").occurrences("The fooBar's of utf_8")]
    ['the', 'foobar', 'foo', 'bar', 's', 'of', 'utf_8', 'utf', '8']
    >>> Analyser("english").stem("running"), Analyser(None).words("北京市")
    ('run', ['北京', '京市', '市'])
    """

    language: str | None = "english"

    def words(self, text: str) -> list[str]:
        """In order."""
        return [word for piece in pieces(text) for word in words_of(piece)]

    def occurrences(self, text: str) -> Iterator[Occurrence]:
        """In order; the parts of a word after it."""
        for match in pieces_of(text):
            yield from placed(match.group(), match.start())

    def asked(self, text: str) -> list[QueryWord]:
        """The words to look for where the text is a query. The last character of a run without spaces adds nothing to
        the words before it; one that is alone is found wherever a word begins with it.

        >>> Analyser(None).asked("北京市 中")
        [QueryWord(word='北京', begins=False), QueryWord(word='京市', begins=False), QueryWord(word='中', begins=True)]
        """
        found: list[QueryWord] = []
        for piece in pieces(text):
            words = words_of(piece)
            if _RUN.match(piece):
                found += [QueryWord(word, False) for word in words[:-1]] or [QueryWord(words[0], True)]
            else:
                found += [QueryWord(word, False) for word in words]
        return found

    def stem(self, word: str) -> str:
        """The common form of the words of one term."""
        if self.language is None:
            return word
        return _stem(self.language, word)

    def stems(self, words: Iterable[str]) -> list[str]:
        """The same of many."""
        if self.language is None:
            return list(words)
        found: list[str] = Stemmer.Stemmer(self.language, 0).stemWords(list(words))
        return found

    @property
    def stops(self) -> frozenset[str]:
        """The words that are left out of terms and lengths."""
        return STOP if self.language == "english" else frozenset()

    def is_stop(self, word: str) -> bool:
        """Whether the word is one of these."""
        return self.language == "english" and word in STOP


def pieces(text: str) -> list[str]:
    """The runs of a text that ``words_of`` makes words of, as they stand."""
    found: list[str] = (_ASCII if text.isascii() else _WORD).findall(text)
    return found


def pieces_of(text: str) -> Iterator[re.Match[str]]:
    """The same with their places."""
    found: Iterator[re.Match[str]] = (_ASCII if text.isascii() else _WORD).finditer(text)
    return found


def edges_of(text: str) -> I64:
    """(n, 2): where these runs begin and end, in characters."""
    if text.isascii():
        return ascii_pieces(np.frombuffer(text.encode(), np.uint8))
    return np.array([match.span() for match in pieces_of(text)], np.int64).reshape(-1, 2)


def words_of(piece: str) -> tuple[str, ...]:
    """The words of one piece."""
    return tuple(one.word for one in placed(piece, 0))


def first_character(piece: str, start: int) -> tuple[str, int]:
    """The word that begins at ``start`` of a piece, where no spaces are written its first character alone, and the end.

    >>> first_character("北京", 0), first_character("word", 0)
    (('北', 1), ('word', 4))
    """
    match = _CHARACTER.match(piece, start) if _RUN.match(piece) else None
    end = len(piece) if match is None else match.end()
    return _folded(piece[start:end]), end


def placed(piece: str, start: int) -> list[Occurrence]:
    """The words of one piece, which begins at ``start``, with their places."""
    if _RUN.match(piece):
        characters = [(match.group(), start + match.start()) for match in _CHARACTER.finditer(piece)]
        # Marks that stand on nothing are one.
        characters = characters or [(piece, start)]
        ends = [at for _, at in characters[1:]] + [start + len(piece)]
        found = [
            Occurrence(_folded(one + two), at, ends[i + 1])
            for i, ((one, at), (two, _)) in enumerate(pairwise(characters))
        ]
        last, at = characters[-1]
        return [*found, Occurrence(_folded(last), at, ends[-1])]
    found = [Occurrence(_folded(piece), start, start + len(piece))]
    at = 0
    edges = [match.span() for match in _PART.finditer(piece)]
    if edges:
        for stop, following in [*edges, (len(piece), len(piece))]:
            if stop > at:
                found.append(Occurrence(_folded(piece[at:stop]), start + at, start + stop))
            at = following
    return found


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@lru_cache(65_536)
def _stem(language: str, word: str) -> str:
    found: str = Stemmer.Stemmer(language, 0).stemWord(word)
    return found
