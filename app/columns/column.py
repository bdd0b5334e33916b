"""One name of metadata: its distinct values, and which row has which.

An operator is decided on the distinct values; rows are then picked by integer comparison, in blocks, before each of
which the deadline is looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.compute import deadline
from app.filters import Condition, Shape, is_number, text_test
from app.metadata.dates import written
from app.metadata.declared import FieldType, cast
from app.metadata.geo import Circle
from app.metadata.values import Scalar
from app.types import F64, Mask

I32: TypeAlias = NDArray[np.int32]

FIRST_NUMBER: Final = 2
"""The code after those of false and true."""
NONE: Final[I32] = np.zeros(0, np.int32)
BLOCK: Final = 1 << 16
"""Rows between two looks at the deadline; what is made of so many stays in a near cache."""


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Distinct scalars in code order: false, true, then numbers ascending, then strings ascending."""

    numbers: list[int | float]
    strings: list[str]
    dates: bool = False
    """Whether the numbers are moments."""

    def said(self, code: int) -> Scalar:
        """As ``value``, of a moment its date."""
        found = self.value(code)
        return written(found) if self.dates and type(found) is int else found

    def of(self, kind: FieldType) -> tuple[Dictionary, I32]:
        """The values of a declared type, and for each code of these here its own among them; -1 where it has none."""
        size = FIRST_NUMBER + len(self.numbers) + len(self.strings)
        codes = np.full(size, -1, np.int32)
        if kind == "boolean":
            codes[:FIRST_NUMBER] = np.arange(FIRST_NUMBER)
        fits = [(cast(kind, self.value(code)), code) for code in range(FIRST_NUMBER, size)]
        there = [(value, code) for value, code in fits if value is not None]
        found = Dictionary(
            sorted({value for value, _ in there if not isinstance(value, str)}),
            [value for value, _ in there if isinstance(value, str)],
            kind == "date",
        )
        for value, code in there:
            codes[code] = found.codes(value)[0]
        return found, codes

    def value(self, code: int) -> Scalar:
        """Which has the code."""
        if code < FIRST_NUMBER:
            return bool(code)
        place = code - FIRST_NUMBER
        return self.numbers[place] if place < len(self.numbers) else self.strings[place - len(self.numbers)]

    def texts(self, condition: Condition) -> Iterator[tuple[int, int]]:
        """The ranges of codes of the strings that a condition on strings holds of."""
        base = FIRST_NUMBER + len(self.numbers)
        holds = text_test(condition)
        for start in range(0, len(self.strings), BLOCK):
            deadline.check(deadline.current())
            for place, text in enumerate(self.strings[start : start + BLOCK], base + start):
                if holds(text):
                    yield place, place + 1

    def codes(self, value: Scalar, bounds: str = "eq") -> tuple[int, int]:
        """The half-open range of codes that stand in the relation to the value; empty where none does."""
        if isinstance(value, bool):
            return (int(value), int(value) + 1) if bounds == "eq" else (0, 0)
        values: list[Any] = self.numbers if is_number(value) else self.strings
        base = FIRST_NUMBER + (0 if is_number(value) else len(self.numbers))
        left, right = bisect_left(values, value), bisect_right(values, value)
        start, stop = {
            "eq": (left, right),
            "gt": (right, len(values)),
            "gte": (left, len(values)),
            "lt": (0, left),
            "lte": (0, right),
        }[bounds]
        return base + start, base + stop


@dataclass(frozen=True)
class Column:
    """One name. rows and codes: the rows that have a scalar, and its code. item_rows and items: one entry for each
    scalar of each list. listed: the rows that have a list, an empty one too. nulls: those that have null, or a list
    with null. objects: those with an object, or a list with one. empties: those with null, "", [] or {}."""

    scalars: Dictionary
    rows: I32
    codes: I32
    item_scalars: Dictionary
    items: I32
    item_rows: I32
    listed: I32
    nulls: I32
    objects: I32
    empties: I32

    def select(self, condition: Condition, size: int) -> Mask:
        """(size,) bool, new: the rows that match."""
        assert not isinstance(condition.value, Circle), "a point is two columns"
        mask = np.zeros(size, bool)
        match condition.operator:
            case "exists":
                self._mark_there(mask)
                return mask if condition.value else np.logical_not(mask, out=mask)
            case "empty":
                if not condition.value:
                    self._mark_there(mask)
                mask[self.empties] = condition.value
                return mask
            case "ne":
                equal = self.select(replace(condition, operator="eq"), size)
                self._mark_there(mask)
                return np.greater(mask, equal, out=mask)
            case "eq" | "in":
                values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
                if None in values:
                    mask[self.nulls] = True
                named = [value for value in values if value is not None]
                _mark(mask, self._rows_of(size), self.codes, map(self.scalars.codes, named))
                _mark(mask, self.item_rows, self.items, map(self.item_scalars.codes, named))
            case "prefix" | "ieq":
                _mark(mask, self._rows_of(size), self.codes, self.scalars.texts(condition))
                _mark(mask, self.item_rows, self.items, self.item_scalars.texts(condition))
            case "contains":
                assert not isinstance(condition.value, tuple)
                if isinstance(condition.value, str):
                    _mark(mask, self._rows_of(size), self.codes, self.scalars.texts(condition))
                if condition.value is None:
                    mask[self.nulls[np.isin(self.nulls, self.listed)]] = True
                else:
                    _mark(mask, self.item_rows, self.items, [self.item_scalars.codes(condition.value)])
            case bounds:
                assert isinstance(condition.value, str | int | float), "what has an order"
                _mark(mask, self._rows_of(size), self.codes, [self.scalars.codes(condition.value, bounds)])
        return mask

    def _mark_there(self, mask: Mask) -> None:
        """The rows that have anything."""
        mask[self.rows] = mask[self.listed] = mask[self.nulls] = mask[self.objects] = True

    def of(self, kind: FieldType | None) -> Column:
        """With the values of a declared type alone; what does not fit is not there."""
        if kind is None or kind == "geo":
            return self
        found = self._of.get(kind)
        if found is None:
            scalars, codes = self.scalars.of(kind)
            item_scalars, items = self.item_scalars.of(kind)
            own, listed = codes[self.codes], items[self.items]
            rows, item_rows = self.rows[own >= 0], self.item_rows[listed >= 0]
            kept = scalars.codes("") if kind == "string" else (0, 0)
            texts = rows[(own[own >= 0] >= kept[0]) & (own[own >= 0] < kept[1])]
            nulls = np.setdiff1d(self.nulls, self.listed)
            bare = np.setdiff1d(self.listed, np.concatenate([item_rows, np.intersect1d(self.nulls, self.listed)]))
            empties = np.unique(np.concatenate([texts, nulls, bare])).astype(np.int32)
            found = self._of[kind] = Column(
                scalars, rows, own[own >= 0], item_scalars, listed[listed >= 0], item_rows, self.listed, self.nulls,
                NONE, empties,
            )  # fmt: skip
        return found

    @cached_property
    def _of(self) -> dict[FieldType, Column]:
        return {}

    def unfit(self, kind: FieldType, size: int) -> Mask:
        """(size,): the rows with a value that is not of a declared type (but geo)."""
        mask = np.zeros(size, bool)
        mask[self.rows[self.scalars.of(kind)[1][self.codes] < 0]] = True
        mask[self.item_rows[self.item_scalars.of(kind)[1][self.items] < 0]] = True
        mask[self.objects] = True
        return mask

    def numbers(self, size: int) -> F64:
        """(size,): the number of each row; NaN where it has none."""
        start, stop = FIRST_NUMBER, FIRST_NUMBER + len(self.scalars.numbers)
        chosen = (self.codes >= start) & (self.codes < stop)
        found = np.full(size, np.nan)
        values = np.array(self.scalars.numbers, np.float64)
        found[self.rows[chosen]] = values[self.codes[chosen] - start]
        return found

    @cached_property
    def shapes(self) -> frozenset[Shape]:
        """The shapes of its values."""
        items = self.item_scalars
        there: dict[Shape, bool] = {
            "number": bool(self.scalars.numbers),
            "string": bool(self.scalars.strings),
            "boolean": bool((self.codes < FIRST_NUMBER).any()),
            "null": len(self.nulls) > 0,
            "object": len(self.objects) > 0,
            "numbers": bool(items.numbers),
            "booleans": bool((self.items < FIRST_NUMBER).any()),
        }
        # A list without scalars is one of strings as well as any.
        there["list"] = bool(items.strings) or len(np.setdiff1d(self.listed, self.item_rows)) > 0
        return frozenset(shape for shape, found in there.items() if found)

    def spread(self, size: int) -> I32:
        """(size,) the code of each row's scalar; -1 where it has none."""
        if self._rows_of(size) is None:
            return self.codes
        found = np.full(size, -1, np.int32)
        found[self.rows] = self.codes
        return found

    def _rows_of(self, size: int) -> I32 | None:
        """The rows of the codes; None where they are all rows."""
        return None if len(self.rows) == size else self.rows


def _mark(mask: Mask, rows: I32 | None, codes: I32, ranges: Iterable[tuple[int, int]]) -> None:
    """Sets the mask at the rows whose code lies in one of the half-open ranges, in one pass over the codes.

    rows: of the codes; None where they are all rows.
    """
    ranges = [(start, stop) for start, stop in ranges if start < stop]
    if not ranges:
        return
    chosen = _within(ranges)
    for start in range(0, len(codes), BLOCK):
        deadline.check(deadline.current())
        part = slice(start, start + BLOCK)
        if rows is None:
            # The mask is chosen: a tenth of the time of putting rows into one.
            np.logical_or(mask[part], chosen(codes[part]), out=mask[part])
        else:
            mask[rows[part][chosen(codes[part])]] = True


def _within(ranges: Sequence[tuple[int, int]]) -> Callable[[I32], Mask]:
    """Tells which codes lie in one of the ranges, by as many operations for many ranges as for two."""
    if len(ranges) == 1:
        ((start, stop),) = ranges
        return (lambda codes: codes == start) if stop == start + 1 else lambda codes: (codes >= start) & (codes < stop)
    table = np.zeros(max(stop for _, stop in ranges) + 1, bool)
    for start, stop in ranges:
        table[start:stop] = True
    # Clipped, every code beyond the last range is the one after it, which is in none.
    return lambda codes: table.take(codes, mode="clip")
