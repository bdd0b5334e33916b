"""Passages of any number with the words of real ones: drawn from texts of BEIR folders.

A passage is as long as a real text drawn at random (at most `MOST_WORDS`, where longer texts are cut), and made of runs
of `RUN` consecutive sentences from texts drawn at random: frequencies of words, how they stand together, and their
repetition are those of the texts. The vocabulary grows as that of texts does (Heaps): where a word stands that the
texts have once, a made word does. Its rate among N words of real text is that of words never seen before, which falls
with n**(beta - 1); so it is a new one with probability (n / N)**(beta - 1), else one that was made before. beta is
measured on the texts.

    >>> made = Passages(["One owl sat here. It slept.", "An owl is a bird."]).draw(1)
    >>> len(list(made))
    1
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

MOST_WORDS: Final = 256
RUN: Final = 3
OF_QUERY: Final = 12
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_WORD: Final = re.compile(r"[A-Za-z]+")
_RARE: Final = re.compile(r"\b[a-z]{4,}\b")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def texts_of(folder: Path) -> list[str]:
    """The texts of a BEIR folder."""
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


@dataclass(frozen=True)
class Sentence:
    """pieces: what stands before, between and after the words that a made word replaces. words: of all of it."""

    pieces: list[str]
    words: int


class Passages:
    """What passages are drawn from."""

    def __init__(self, texts: Sequence[str], seed: int = 0) -> None:
        self._seed = seed
        counts = Counter(word for text in texts for word in _WORD.findall(text.lower()))
        self.words, self.vocabulary = sum(counts.values()), len(counts)
        self.beta = _growth(texts, self.vocabulary, self.words)
        self._texts: list[list[Sentence]] = []
        for text in texts:
            own: list[Sentence] = []
            for sentence in _SENTENCE.split(text):
                pieces, end = list[str](), 0
                for match in _RARE.finditer(sentence):
                    if counts[match.group()] == 1:
                        # The first letters stay, so that stems and lengths are like those of words.
                        pieces.append(sentence[end : match.start() + 3])
                        end = match.end()
                own.append(Sentence([*pieces, sentence[end:]], len(_WORD.findall(sentence))))
            if own:
                self._texts.append(own)
        self._lengths = [min(sum(one.words for one in text), MOST_WORDS) for text in self._texts]
        self.made = 0
        """Words that were made by the last drawing."""

    def draw(self, size: int) -> Iterator[str]:
        """The same ones, in the same order, whenever they are drawn."""
        random = np.random.default_rng(self._seed)
        self.made, written = 0, 0
        for start in range(0, size, 4_096):
            lengths = random.integers(len(self._lengths), size=min(4_096, size - start)).tolist()
            for of in lengths:
                sentences, count = list[str](), 0
                while count < self._lengths[of] or not sentences:
                    text = self._texts[int(random.integers(len(self._texts)))]
                    first = int(random.integers(len(text)))
                    for sentence in text[first : first + RUN]:
                        if len(sentence.pieces) == 1:
                            sentences.append(sentence.pieces[0])
                        else:
                            sentences.append(self._filled(sentence.pieces, random, written + count))
                        count += sentence.words
                        if count >= self._lengths[of]:
                            break
                    else:
                        count += not text[first].words
                written += count
                yield " ".join(sentences)

    def _filled(self, pieces: list[str], random: np.random.Generator, written: int) -> str:
        new = max(written / self.words, 1.0) ** (self.beta - 1)
        found = [pieces[0]]
        for piece in pieces[1:]:
            if self.made and random.random() >= new:
                number = int(random.integers(self.made))
            else:
                number, self.made = self.made, self.made + 1
            found += [_letters(number), piece]
        return "".join(found)


def queries(passages: Sequence[str], count: int, stops: frozenset[str] = frozenset(), seed: int = 1) -> list[str]:
    """Of twelve words each: a run of a passage. stops: words that are passed over."""
    random = np.random.default_rng(seed)
    found = list[str]()
    while len(found) < count:
        words = _WORD.findall(passages[int(random.integers(len(passages)))])
        words = [word for word in words if word.lower() not in stops]
        if len(words) >= OF_QUERY:
            first = int(random.integers(len(words) - OF_QUERY + 1))
            found.append(" ".join(words[first : first + OF_QUERY]))
    return found


def _growth(texts: Sequence[str], vocabulary: int, words: int) -> float:
    """beta of Heaps' law, vocabulary ~ words**beta, between half of the texts and all."""
    half = np.random.default_rng(0).permutation(len(texts))[: max(len(texts) // 2, 1)].tolist()
    seen = [word for i in half for word in _WORD.findall(texts[i].lower())]
    return float(np.log(vocabulary / len(set(seen))) / np.log(words / len(seen))) if 0 < len(seen) < words else 0.5


def _letters(number: int) -> str:
    """A name of at least four letters."""
    found = ""
    for _ in range(4):
        number, digit = divmod(number, 26)
        found += _LETTERS[digit]
    return found + (_letters(number - 1) if number else "")
