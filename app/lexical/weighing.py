"""Weights of fields: BM25F, in which a word of a title may count as three of a text.

What BM25 counts is weighted before it is saturated (Robertson and Zaragoza, The Probabilistic Relevance Framework,
2009, section 3.6, the simple form): tf is the sum over the fields of weight * tf, a document's length that of weight *
length; k1, b and idf are those of the whole document. So a weight of 3 is the same as writing the field three times, 0
as not indexing it, and 1 everywhere is BM25.

Counts of a field are taken from the documents' words, of those documents alone that have the term; of the fields with
the most words (the text, as a rule) from what the others leave of the postings. How long each field of each document is
is counted once a part, when it is first asked for, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.lexical.postings import I32
from app.types import F64, I64


@dataclass(frozen=True, slots=True)
class Weighing:
    """weights: of each field. stops: words that add nothing to a length."""

    weights: tuple[float, ...]
    stops: frozenset[str]

    def length(self, lengths: Sequence[int]) -> float:
        """Of a document, or of several, by the lengths of its fields.

        >>> Weighing((3.0, 1.0), frozenset()).length([2, 10])
        16.0
        """
        found = 0.0
        for weight, length in zip(self.weights, lengths, strict=True):
            found += weight * length
        return found

    def frequencies(self, total: I32, lengths: Sequence[int], count: Callable[[int], I32]) -> F64:
        """(n,): how often a term stands in documents, weighted. total: in all fields. lengths: of the fields, of all
        documents. count: how often in one field.

        >>> in_title = np.array([1, 0], np.int32)
        >>> Weighing((3.0, 1.0), frozenset()).frequencies(np.array([2, 2], np.int32), [2, 10], lambda field: in_title)
        array([4., 2.])
        """
        fields: dict[float, list[int]] = {}
        for field, weight in enumerate(self.weights):
            fields.setdefault(weight, []).append(field)
        # Counts are whole numbers, so that it is all one which fields are counted and which are left.
        most = max(fields, key=lambda weight: sum(lengths[field] for field in fields[weight]))
        left: I64 = total.astype(np.int64)
        counts: dict[float, I64] = {}
        for weight, own in fields.items():
            if weight != most:
                counts[weight] = np.sum([count(field) for field in own], axis=0, dtype=np.int64)
                left = left - counts[weight]
        counts[most] = left
        found = np.zeros(len(total))
        for weight in fields:
            found += weight * counts[weight]
        return found
