"""The additions of boosts to documents' scores: read from columns, of those documents alone that are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.boosts.asked import Boost, Decay, days_of
from app.collection.layers import TOKENS, scored
from app.collection.part import Part
from app.collection.spec import CollectionSpec
from app.collection.view import Snapshot
from app.columns.column import Column
from app.compute import deadline
from app.filters import Filter, is_number
from app.metadata.values import Scalar
from app.query.encoded import EncodedQuery
from app.schema.notices import Notice
from app.types import F64, I64, Mask

_GRID: Final = 2.0**32
"""Values are rounded to this part of 1, so that machines whose logarithms differ in the last bit agree."""
_DAY: Final = 86_400 * 1e9
"""In moments."""
_LARGEST: Final = 1e15
"""A value is taken as this at most: a sum stays finite."""


@dataclass(frozen=True, slots=True)
class BoostShare:
    """One boost's addition to a score: weight * value * unit. boost: its place among those asked for, from 0."""

    boost: int
    value: float
    weight: float
    unit: float
    score: float


@dataclass(frozen=True)
class Boosts:
    """The boosts of one search. unit: of score, that a weight of 1 is worth. select: the documents of a part that match
    a filter. column: the values of a field in a part, as the collection declares it. Used from any thread."""

    asked: Sequence[Boost]
    unit: float
    select: Callable[[Part, Filter], Mask] = field(repr=False)
    column: Callable[[Part, str], Column | None] = field(repr=False)
    _masks: dict[tuple[int, int], Mask] = field(default_factory=dict, repr=False)

    def of(self, part: Part, documents: I64) -> F64:
        """(n,): what is added to the score of each of these documents. Raises Damaged, TooSlow."""
        found = np.zeros(len(documents))
        for number, boost in enumerate(self.asked):
            found += self._values(part, documents, number) * boost.weight * self.unit
        return found

    def over(self, parts: Sequence[Part], scores: Sequence[F64], masks: Sequence[Mask]) -> list[F64]:
        """The scores with what is added where the masks are true; of each part (documents,)."""
        found = []
        for part, own, mask in zip(parts, scores, masks, strict=True):
            documents = np.flatnonzero(mask).astype(np.int64)
            boosted = own.copy()
            boosted[documents] += self.of(part, documents)
            found.append(boosted)
        return found

    def shares(self, part: Part, document: int) -> list[BoostShare]:
        """The addition of each to a document's score."""
        values = [float(self._values(part, np.array([document]), number)[0]) for number in range(len(self.asked))]
        return [
            BoostShare(number, value, one.weight, self.unit, value * one.weight * self.unit)
            for number, (value, one) in enumerate(zip(values, self.asked, strict=True))
        ]

    def _values(self, part: Part, documents: I64, number: int) -> F64:
        boost = self.asked[number]
        if boost.filter is not None:
            key = id(part), number
            mask = self._masks.get(key)
            if mask is None:
                mask = self._masks[key] = self.select(part, boost.filter)
            return mask[documents].astype(np.float64)
        assert boost.field is not None, "a boost is by a filter or by a field"
        column = self.column(part, boost.field)
        if column is None:
            return np.zeros(len(documents))
        codes = column.spread(part.owners.documents)[documents]
        there = codes >= 0
        # Of the values only those that occur are looked at.
        occurring, places = np.unique(codes[there], return_inverse=True)
        deadline.check(deadline.current())
        found = np.zeros(len(documents))
        scalars = [column.scalars.value(code) for code in occurring.tolist()]
        found[there] = value_of(boost, scalars, moments=column.scalars.dates)[places]
        return found


def boosts_of(
    spec: CollectionSpec, snapshot: Snapshot, asked: Sequence[Boost], mode: str, encoded: EncodedQuery | None
) -> Boosts | None:
    """The boosts of a search, in the unit of its mode; None where there are none."""
    if not asked:
        return None
    sums = mode == "semantic" and encoded is not None and scored(spec) == TOKENS
    views = {id(view.part): view for view in snapshot.views}
    unit = float(len(encoded.vectors)) if sums and encoded is not None else 1.0
    return Boosts(
        asked,
        unit,
        lambda part, condition: snapshot.select(views[id(part)], condition),
        lambda part, field: snapshot.column(views[id(part)], field),
    )


def value_of(boost: Boost, scalars: Sequence[Scalar], *, moments: bool = False) -> F64:
    """(n,): what a boost by a field makes of its values; 0 of those that it cannot read. moments: whether numbers are
    those of a field that is declared to be a date (app.metadata.dates), which are no numbers then.

    >>> value_of(Boost(1.0, field="likes", function="saturation", pivot=10.0), [10, 30, -1, "many"]).tolist()
    [0.5, 0.75, 0.0, 0.0]
    >>> value_of(Boost(1.0, field="year", decay=Decay(2020.0, 10.0, "exp")), [2020, 2030, 2040]).tolist()
    [1.0, 0.5, 0.25]
    """
    dates = boost.decay is not None and boost.decay.dates
    if moments:
        numbers = np.array([float(value) / _DAY if dates else math.nan for value in scalars], np.float64)
    else:
        numbers = np.array([_number(value, dates) for value in scalars], np.float64)
    there = ~np.isnan(numbers)
    found = np.zeros(len(numbers))
    made = decayed(boost.decay, numbers[there]) if boost.decay is not None else _function(boost, numbers[there])
    found[there] = np.rint(np.clip(made, -_LARGEST, _LARGEST) * _GRID) / _GRID
    return found


def decayed(decay: Decay, values: F64) -> F64:
    """(n,) from 0 to 1: the decay functions of Elasticsearch's function score, with a half at ``scale``."""
    with np.errstate(over="ignore"):
        steps: F64 = np.maximum(np.abs(values - decay.origin) - decay.offset, 0) / decay.scale
    if decay.kind == "linear":
        found: F64 = np.maximum(1 - steps / 2, 0)
    else:
        # Beyond that nothing is left, and squares stay finite.
        steps = np.minimum(steps, 2_000)
        found = np.exp2(-(steps * steps if decay.kind == "gauss" else steps))
    return found


def _function(boost: Boost, values: F64) -> F64:
    """Of numbers below 0 as of 0, but of ``value`` itself."""
    if boost.function == "value":
        return values
    above = np.maximum(values, 0)
    if boost.function == "log1p":
        return np.asarray(np.log1p(above))
    if boost.function == "sqrt":
        return np.asarray(np.sqrt(above))
    return np.asarray(above / (above + boost.pivot))


def _number(value: Scalar, dates: bool) -> float:
    """NaN of what is none."""
    if dates:
        days = days_of(value) if isinstance(value, str) else None
        return math.nan if days is None else days
    return float(value) if is_number(value) else math.nan


def warnings(snapshot: Snapshot, boosts: Sequence[Boost]) -> list[Notice]:
    """Where boosts ask for what no document has; versions that were deleted lately count as documents."""
    found: list[Notice] = []
    for i, boost in enumerate(boosts):
        found += snapshot.warnings(boost.filter, f"/boosts/{i}/filter")
        if boost.field is not None and snapshot.views:
            shapes = snapshot.shapes(boost.field)
            wanted = "string" if boost.decay is not None and boost.decay.dates else "number"
            if wanted not in shapes:
                said = "a date" if wanted == "string" else "a number"
                message = f"a boost is by {boost.field!r}, a metadata field that in no document is {said}"
                found.append(Notice("other_type" if shapes else "unknown_field", message, f"/boosts/{i}/field"))
    return found
