"""Words that differ by one character: added, left out, another one, or two that changed places."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.compute.native import kernel
from app.lexical.dictionary import Strings
from app.types import I64

SHORTEST: Final = 4


def near(words: Strings, word: str) -> I64:
    """The places of the word and of those within one change of it; ascending.

    Such a word begins with the first half less a character, or ends with the second, so that few need to be looked at
    whole. A word of fewer than ``SHORTEST`` characters has none but itself near.

    >>> words = Strings.of(["brat", "chat", "coat", "cot", "cota"])
    >>> [words[place] for place in near(words, "coat")]
    ['chat', 'coat', 'cot', 'cota']
    """
    if len(word) < SHORTEST:
        place = words.place(word)
        return np.array([] if place is None else [place], np.int64)
    half, size = len(word) // 2, len(word.encode())
    first, last = words.starting(word[: half - 1])
    end = np.frombuffer(word[half:].encode() + b"\n", np.uint8)
    places = {*range(first, last), *_ending(words.content, words.starts, end, size - 4, size + 4).tolist()}
    return np.array(sorted(place for place in places if within_one(word, words[place])), np.int64)


def within_one(word: str, other: str) -> bool:
    """Whether one change makes one of the other, or none.

    >>> [within_one("search", other) for other in ("saerch", "serch", "searcch", "seerch", "reach")]
    [True, True, True, True, False]
    """
    if abs(len(word) - len(other)) > 1:
        return False
    same = 0
    while same < min(len(word), len(other)) and word[same] == other[same]:
        same += 1
    left, right = word[same:], other[same:]
    if len(left) == len(right):
        return left[1:] == right[1:] or (left[:2] == right[1::-1] and left[2:] == right[2:])
    return left[1:] == right if len(left) > len(right) else left == right[1:]


@kernel
def _ending(content: NDArray[np.uint8], starts: I64, end: NDArray[np.uint8], shortest: int, longest: int) -> I64:
    """The places of the strings with this end, of so many bytes at least and at most."""
    found = np.empty(len(starts) - 1, np.int64)
    count = 0
    for place in range(len(starts) - 1):
        size = starts[place + 1] - 1 - starts[place]
        if shortest <= size <= longest and size + 1 >= len(end):
            same = True
            for i in range(len(end)):
                if content[starts[place + 1] - len(end) + i] != end[i]:
                    same = False
                    break
            if same:
                found[count] = place
                count += 1
    return found[:count]
