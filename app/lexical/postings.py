"""The compiled loops over words: inverting sequences, counting, scoring, and looking for words side by side.

A posting is a pair of int32: a document of the part, and how often a word stands in it; those of a word are a run,
documents ascending. Those of several words together ascend by blocks of ``BLOCK`` documents, in any order within one.
A pass over blocks, and in each over all terms, keeps scores, lengths and counts in a processor's cache, and adds to
each document in the order of a pass over terms. A sequence is the ids of a text's words in order, with a range for each
field of each document.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.compute.native import kernel
from app.types import F64, I64, Mask

I32 = NDArray[np.int32]

BLOCK: Final = 32_768
"""Documents: 384 kB of scores and lengths."""


@kernel
def invert(ids: I32, offsets: I64, fields: int, words: int) -> tuple[I64, I32]:
    """The postings of sequences: starts (words + 1,), and the pairs of all words, (n, 2).

    ids: of all words in order. offsets: (documents * fields + 1,).
    """
    documents = (len(offsets) - 1) // fields
    starts = np.zeros(words + 1, np.int64)
    last = np.full(words, -1, np.int64)
    for document in range(documents):
        for place in range(offsets[document * fields], offsets[(document + 1) * fields]):
            word = ids[place]
            if last[word] != document:
                last[word] = document
                starts[word + 1] += 1
    for word in range(words):
        starts[word + 1] += starts[word]
    pairs = np.empty((starts[words], 2), np.int32)
    ends = starts[:-1].copy()
    last[:] = -1
    for document in range(documents):
        for place in range(offsets[document * fields], offsets[(document + 1) * fields]):
            word = ids[place]
            if last[word] != document:
                last[word] = document
                pairs[ends[word], 0] = document
                pairs[ends[word], 1] = 1
                ends[word] += 1
            else:
                pairs[ends[word] - 1, 1] += 1
    return starts, pairs


@kernel
def merged(pairs: I32, starts: I64, stops: I64, counts: I32) -> I32:
    """The postings of several words as those of one, documents ascending by blocks.

    counts: (documents,) zeros, and zeros again afterwards.
    """
    size = 0
    for run in range(len(starts)):
        size += stops[run] - starts[run]
    found = np.empty((size, 2), np.int32)
    following = starts.copy()
    size = 0
    for end in range(BLOCK, len(counts) + BLOCK, BLOCK):
        first = size
        for run in range(len(starts)):
            place = following[run]
            while place < stops[run] and pairs[place, 0] < end:
                document = pairs[place, 0]
                if counts[document] == 0:
                    found[size, 0] = document
                    size += 1
                counts[document] += pairs[place, 1]
                place += 1
            following[run] = place
        for place in range(first, size):
            document = found[place, 0]
            found[place, 1] = counts[document]
            counts[document] = 0
    return found[:size]


@kernel
def among(ids: I32, asked: I32) -> I64:
    """The places of the words that are among those that are asked for, which ascend."""
    found = np.empty(len(ids), np.int64)
    size = 0
    for place in range(len(ids)):
        low, high = 0, len(asked)
        while low < high:
            middle = (low + high) // 2
            if asked[middle] < ids[place]:
                low = middle + 1
            else:
                high = middle
        if low < len(asked) and asked[low] == ids[place]:
            found[size] = place
            size += 1
    return found[:size]


@kernel
def posting(pairs: I32, document: int) -> int:
    """The place of a document's posting among pairs, which ascend by blocks; -1 where it has none."""
    first = document // BLOCK * BLOCK
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high) // 2
        if pairs[middle, 0] < first:
            low = middle + 1
        else:
            high = middle
    for place in range(low, len(pairs)):
        if pairs[place, 0] == document:
            return place
        if pairs[place, 0] >= first + BLOCK:
            break
    return -1


@kernel
def block_edges(pairs: I32, documents: int) -> I64:
    """(blocks + 1,): where the postings of each block begin, and their end."""
    edges = np.zeros((documents + BLOCK - 1) // BLOCK + 1, np.int64)
    for block in range(1, len(edges)):
        low, high = edges[block - 1], len(pairs)
        while low < high:
            middle = (low + high) // 2
            if pairs[middle, 0] < block * BLOCK:
                low = middle + 1
            else:
                high = middle
        edges[block] = low
    return edges


@kernel
def standing(pairs: I32, alive: Mask) -> int:
    """How many of the postings are of documents that stand."""
    count = 0
    for place in range(len(pairs)):
        count += alive[pairs[place, 0]]
    return count


@kernel
def add_scores(pairs: I32, lengths: I32, weight: float, base: float, slope: float, scores: F64) -> None:
    """Adds ``weight * tf / (tf + base + slope * length)`` to the scores, (documents,), of those that have a posting."""
    for place in range(len(pairs)):
        document = pairs[place, 0]
        count = float(pairs[place, 1])
        scores[document] += weight * count / (count + base + slope * lengths[document])


@kernel
def add_weighted(
    pairs: I32, counts: F64, lengths: I32, weights: F64, weight: float, base: float, slope: float, scores: F64
) -> None:
    """The same of counts that are weighted by fields, (n,). lengths: (documents, fields). weights: (fields,)."""
    for place in range(len(pairs)):
        document = pairs[place, 0]
        length = 0.0
        for field in range(len(weights)):
            length += weights[field] * lengths[document, field]
        count = counts[place]
        scores[document] += weight * count / (count + base + slope * length)


@kernel
def run_lengths(ids: I32, offsets: I64, left_out: Mask) -> I32:
    """(runs,): how many words of each run are not left out. offsets: (runs + 1,). left_out: by id."""
    found = np.zeros(len(offsets) - 1, np.int32)
    for run in range(len(found)):
        for place in range(offsets[run], offsets[run + 1]):
            found[run] += not left_out[ids[place]]
    return found


@kernel
def largest(scores: F64, allowed: Mask, k: int) -> F64:
    """(k,): the k largest positive scores of the allowed documents, the least of them first; 0 where there are not as
    many."""
    heap = np.zeros(k, np.float64)
    for document in range(len(scores)):
        score = scores[document]
        if score > heap[0] and allowed[document]:
            place = 0
            while True:
                child = 2 * place + 1
                if child >= k:
                    break
                if child + 1 < k and heap[child + 1] < heap[child]:
                    child += 1
                if heap[child] >= score:
                    break
                heap[place] = heap[child]
                place = child
            heap[place] = score
    return heap


@kernel
def reaching(scores: F64, allowed: Mask, limit: float) -> I64:
    """The allowed documents with a positive score of at least the limit, ascending."""
    # Of this only as much is touched as is found.
    found = np.empty(len(scores), np.int64)
    size = 0
    for document in range(len(scores)):
        score = scores[document]
        if score >= limit and score > 0 and allowed[document]:
            found[size] = document
            size += 1
    return found[:size].copy()


@kernel
def _runs(document: int, fields: int, field: int) -> tuple[int, int]:
    """Of the offsets, those of one field of a document, or of all if it is -1: from, to."""
    first = document * fields
    return (first, first + fields) if field < 0 else (first + field, first + field + 1)


@kernel
def in_field(ids: I32, offsets: I64, documents: I32, fields: int, field: int, wanted: I32) -> I32:
    """(n,): how often each document has one of the wanted words, which ascend, in one field, or in any if it is -1."""
    found = np.zeros(len(documents), np.int32)
    for i in range(len(documents)):
        begin, end = _runs(documents[i], fields, field)
        for place in range(offsets[begin], offsets[end]):
            at = np.searchsorted(wanted, ids[place])
            if at < len(wanted) and wanted[at] == ids[place]:
                found[i] += 1
    return found


@kernel
def side_by_side(ids: I32, offsets: I64, documents: I32, fields: int, field: int, phrase: I32) -> I32:
    """(n,): how often the words of a phrase follow each other in each document, in one field, or in any if it is -1."""
    found = np.zeros(len(documents), np.int32)
    for i in range(len(documents)):
        begin, end = _runs(documents[i], fields, field)
        for part in range(begin, end):
            for place in range(offsets[part], offsets[part + 1] - len(phrase) + 1):
                same = True
                for j in range(len(phrase)):
                    if ids[place + j] != phrase[j]:
                        same = False
                        break
                found[i] += same
    return found
