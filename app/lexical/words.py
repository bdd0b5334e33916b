"""The words of one part of a collection, sealed or growing, behind one protocol."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, Protocol

import numpy as np

from app.compute.growing import Growing
from app.lexical.analysis import Analyser
from app.lexical.dictionary import Dictionary
from app.lexical.fuzzy import SHORTEST, near, within_one
from app.lexical.postings import I32, in_field, invert, merged, run_lengths, side_by_side
from app.lexical.sequences import Sequences, Vocabulary
from app.store.files import InMemory, Rows
from app.types import I64, Mask

WORD_BYTES: Final = 16
"""Of memory, nearly, for each word of a growing part."""
_NOTHING: Final = np.empty((0, 2), np.int32)


class Words(Protocol):
    """Documents 0 to n - 1 and their words. Ids of words mean something in this part alone. Reading raises Damaged."""

    @property
    def lengths(self) -> I32:
        """(documents,): the words of each, without stop words."""
        ...

    def lengths_by_field(self, stops: Iterable[str]) -> I32:
        """(documents, fields): the words of each field, without these; the same ones whenever it is asked. Counted
        once."""
        ...

    def word(self, word: str) -> I32:
        """The id of a word, or none."""
        ...

    def stem(self, stem: str) -> I32:
        """The ids of the words with a stem."""
        ...

    def starting(self, prefix: str) -> I32:
        """The ids of the words that begin so."""
        ...

    def near(self, word: str) -> I32:
        """The ids of the word and of those that differ from it by one character."""
        ...

    def postings(self, ids: I32) -> I32:
        """(n, 2): the documents with one of the words, and how often they have them; ascending by blocks
        (app.lexical.postings)."""
        ...

    def in_field(self, documents: I32, ids: I32, field: int) -> I32:
        """(n,): how often these documents have one of the words in a field, -1 for any."""
        ...

    def side_by_side(self, documents: I32, phrase: I32, field: int) -> I32:
        """(n,): how often these documents have the words of a phrase, in order and adjacent, in a field, -1 for any."""
        ...

    def in_order(self, document: int) -> list[I32]:
        """The words of each field of a document."""
        ...

    def sequences(self, documents: I64) -> Sequences:
        """The words of these documents."""
        ...


class SealedWords:
    """Words whose arrays never change."""

    def __init__(
        self, dictionary: Dictionary, lengths: I32, starts: I64, pairs: Rows, offsets: I64, ids: Rows, fields: int
    ) -> None:
        """starts: (words + 1,) of ``pairs``, (n, 2). offsets: (documents * fields + 1,) of ``ids``."""
        self.dictionary, self.lengths, self.fields = dictionary, lengths, fields
        self._starts, self._pairs, self._offsets, self._ids = starts, pairs, offsets, ids
        self._by_field: I32 | None = None
        self._zeros: list[I32] = []
        """(documents,) each: one for each search that has merged postings at the same time as others."""

    def lengths_by_field(self, stops: Iterable[str]) -> I32:
        if self._by_field is None:
            ids: I32 = self._ids.ranges(self._offsets[:1], self._offsets[-1:])
            self._by_field = _by_field(self, ids, self._offsets, stops, len(self.dictionary.words))
        return self._by_field

    def word(self, word: str) -> I32:
        return self.dictionary.word(word)

    def stem(self, stem: str) -> I32:
        return self.dictionary.stem(stem)

    def starting(self, prefix: str) -> I32:
        return self.dictionary.starting(prefix)

    def near(self, word: str) -> I32:
        return self.dictionary.ids[near(self.dictionary.words, word)]

    def postings(self, ids: I32) -> I32:
        if not len(ids):
            return _NOTHING
        if len(ids) == 1:
            found: I32 = self._pairs.rows(int(self._starts[ids[0]]), int(self._starts[ids[0] + 1]))
            return found
        starts, stops = self._starts[ids], self._starts[ids + 1]
        pairs = self._pairs.ranges(starts, stops)
        try:
            zeros = self._zeros.pop()
        except IndexError:
            # None is left; to look first would leave another search the time to take the last one.
            zeros = np.zeros(len(self.lengths), np.int32)
        found = merged(pairs, starts, stops, zeros)
        self._zeros.append(zeros)
        return found

    def in_field(self, documents: I32, ids: I32, field: int) -> I32:
        return in_field(self._read(documents), self._offsets, documents, self.fields, field, np.sort(ids))

    def side_by_side(self, documents: I32, phrase: I32, field: int) -> I32:
        return side_by_side(self._read(documents), self._offsets, documents, self.fields, field, phrase)

    def in_order(self, document: int) -> list[I32]:
        run = document * self.fields
        first, *edges = self._offsets[run : run + self.fields + 1].tolist()
        ids: I32 = self._ids.rows(first, edges[-1])
        return [ids[start - first : stop - first] for start, stop in pairwise([first, *edges])]

    def sequences(self, documents: I64) -> Sequences:
        found = Sequences(self.dictionary.vocabulary, self._read(documents.astype(np.int32)), self._offsets)
        return found.take(documents, self.fields)

    def _read(self, documents: I32) -> I32:
        first = documents.astype(np.int64) * self.fields
        found: I32 = self._ids.ranges(self._offsets[first], self._offsets[first + self.fields])
        return found


class GrowingWords:
    """Words that are appended to. One writer at a time; readers take a ``WordsView``."""

    def __init__(self, analyser: Analyser, fields: int) -> None:
        self.analyser, self.fields = analyser, fields
        self.vocabulary = Vocabulary()
        self.stems: dict[str, list[int]] = {}
        self.pairs: list[array[int]] = []
        """Of each word: document and count, document and count, ..."""
        self._stops: list[bool] = []
        self._lengths = Growing(np.int32)
        self._ids = Growing(np.int32)
        self._offsets = Growing(np.int64)
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, sequences: Sequences) -> None:
        """More documents."""
        ids = self.vocabulary.translation(sequences.vocabulary.words)[sequences.ids]
        new = self.vocabulary.words[len(self._stops) :]
        for word, stem in zip(new, self.analyser.stems(new), strict=True):
            self.stems.setdefault(stem, []).append(len(self._stops))
            self.pairs.append(array("i"))
            self._stops.append(self.analyser.is_stop(word))
        edges = sequences.offsets[:: self.fields]
        lengths = lengths_of(ids, edges, np.array(self._stops, bool))
        for place, (start, stop) in enumerate(zip(edges.tolist(), edges[1:].tolist(), strict=False)):
            for word, count in Counter(ids[start:stop].tolist()).items():
                self.pairs[word].extend((self._lengths.length + place, count))
        for growing, rows in (
            (self._ids, ids),
            (self._offsets, sequences.offsets[1:] + self._offsets.view(self._offsets.length)[-1]),
            (self._lengths, lengths),
        ):
            growing.reserve(len(rows))
            growing.append(rows)

    def view(self) -> WordsView:
        """The words that there are now."""
        documents = self._lengths.length
        offsets = self._offsets.view(documents * self.fields + 1)
        return WordsView(self, self._lengths.view(documents), offsets, self._ids.view(int(offsets[-1])))


class WordsView:
    """The words of the first documents of a tail."""

    def __init__(self, growing: GrowingWords, lengths: I32, offsets: I64, ids: I32) -> None:
        self._growing, self.lengths = growing, lengths
        self._offsets, self._ids, self.fields = offsets, ids, growing.fields
        self._by_field: I32 | None = None

    def lengths_by_field(self, stops: Iterable[str]) -> I32:
        if self._by_field is None:
            words = len(self._growing.vocabulary.words)
            self._by_field = _by_field(self, self._ids, self._offsets, stops, words)
        return self._by_field

    def word(self, word: str) -> I32:
        # Not by [], which would make it a word of the vocabulary.
        found = self._growing.vocabulary.get(word)
        return np.array([] if found is None else [found], np.int32)

    def stem(self, stem: str) -> I32:
        return np.array(self._growing.stems.get(stem, ())[:], np.int32)

    def starting(self, prefix: str) -> I32:
        words = self._growing.vocabulary.words
        return np.array([i for i, word in enumerate(words[:]) if word.startswith(prefix)], np.int32)

    def near(self, word: str) -> I32:
        if len(word) < SHORTEST:
            return self.word(word)
        words = self._growing.vocabulary.words
        return np.array([i for i, other in enumerate(words[:]) if within_one(word, other)], np.int32)

    def postings(self, ids: I32) -> I32:
        runs = [self._pairs(one) for one in ids.tolist()]
        if len(runs) == 1:
            return runs[0]
        ends = np.cumsum([0, *map(len, runs)])
        pairs = np.concatenate([_NOTHING, *runs])
        return merged(pairs, ends[:-1], ends[1:], np.zeros(len(self.lengths), np.int32))

    def in_field(self, documents: I32, ids: I32, field: int) -> I32:
        return in_field(self._ids, self._offsets, documents, self.fields, field, np.sort(ids))

    def side_by_side(self, documents: I32, phrase: I32, field: int) -> I32:
        return side_by_side(self._ids, self._offsets, documents, self.fields, field, phrase)

    def in_order(self, document: int) -> list[I32]:
        run = document * self.fields
        edges = self._offsets[run : run + self.fields + 1].tolist()
        return [self._ids[start:stop] for start, stop in pairwise(edges)]

    def sequences(self, documents: I64) -> Sequences:
        return Sequences(self._growing.vocabulary, self._ids, self._offsets).take(documents, self.fields)

    def _pairs(self, word: int) -> I32:
        """Of a copy, since what is exported cannot grow. A word of later documents has none here."""
        if word >= len(self._growing.pairs):
            return _NOTHING
        pairs = np.frombuffer(self._growing.pairs[word][:], np.int32)
        pairs = pairs[: len(pairs) // 2 * 2].reshape(-1, 2)
        return pairs[: np.searchsorted(pairs[:, 0], len(self.lengths))]


def index(sequences: Sequences, fields: int, analyser: Analyser) -> tuple[I32, Dictionary, I32, I64, I32]:
    """The contents of a sealed part: the sequences in ids of its own, its dictionary, the documents' lengths, and the
    starts and pairs of postings."""
    used = np.zeros(len(sequences.vocabulary.words), bool)
    used[sequences.ids] = True
    words = [sequences.vocabulary.words[i] for i in np.flatnonzero(used).tolist()]
    ids = (np.cumsum(used, dtype=np.int32) - np.int32(1))[sequences.ids]
    starts, pairs = invert(ids, sequences.offsets, fields, len(words))
    stops = np.array([analyser.is_stop(word) for word in words], bool)
    return ids, Dictionary.build(words, analyser), lengths_of(ids, sequences.offsets[::fields], stops), starts, pairs


def sealed(sequences: Sequences, fields: int, analyser: Analyser) -> SealedWords:
    """Of arrays in memory, as those that are mapped: nobody can write to them."""
    ids, dictionary, lengths, starts, pairs = index(sequences, fields, analyser)
    ids.flags.writeable = pairs.flags.writeable = False
    return SealedWords(dictionary, lengths, starts, InMemory(pairs), sequences.offsets, InMemory(ids), fields)


def _by_field(words: SealedWords | WordsView, ids: I32, offsets: I64, stops: Iterable[str], count: int) -> I32:
    """count: of words."""
    left_out = np.zeros(count, bool)
    for stop in stops:
        ids_of_stop = words.word(stop)
        # A growing part may have learned it since the words were counted.
        left_out[ids_of_stop[ids_of_stop < count]] = True
    return run_lengths(ids, offsets, left_out).reshape(-1, words.fields)


def lengths_of(ids: I32, edges: I64, stops: Mask) -> I32:
    """(documents,): the words of each that are not stop words. edges: (documents + 1,). stops: by id."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(~stops[ids])])
    found: I32 = np.diff(before[edges]).astype(np.int32)
    return found
