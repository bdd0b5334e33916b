"""Metadata of a segment as typed columns: a filter becomes a mask over its rows.

For each key the distinct values are kept once, sorted within their type, and every row holds the place of its value
in them. An operator is decided on the distinct values, by binary search with Python's exact comparisons, so that
64-bit integers beside floats lose nothing; rows are then picked by integer comparison. ``Condition.matches`` in
app/filters.py says what each operator means; the tests hold the two together.

A filter holds a few masks for each of its levels, however many conditions it has; each condition is one pass
over the rows, and the deadline is looked at before every block of them.
"""

from __future__ import annotations

import io
import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.compute import deadline
from app.filters import And, Condition, Filter, Not, Or, Scalar, Shape, is_number
from app.types import Mask, Metadata, MetadataValue

I32 = NDArray[np.int32]

_FIRST_NUMBER: Final = 2
"""The code after those of false and true."""
BLOCK: Final = 1 << 16
"""Rows between two looks at the deadline; what is made of so many stays in a near cache."""


@dataclass(frozen=True, slots=True)
class _Dictionary:
    """Distinct scalars in code order: false, true, then numbers ascending, then strings ascending."""

    numbers: list[int | float]
    strings: list[str]

    def value(self, code: int) -> Scalar:
        """Which has the code."""
        if code < _FIRST_NUMBER:
            return bool(code)
        place = code - _FIRST_NUMBER
        return self.numbers[place] if place < len(self.numbers) else self.strings[place - len(self.numbers)]

    def codes(self, value: Scalar, bounds: str = "eq") -> tuple[int, int]:
        """The half-open range of codes that stand in the relation to the value; empty where none does."""
        if isinstance(value, bool):
            return (int(value), int(value) + 1) if bounds == "eq" else (0, 0)
        values: list[Any] = self.numbers if is_number(value) else self.strings
        base = _FIRST_NUMBER + (0 if is_number(value) else len(self.numbers))
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
    """One key. rows and codes: the rows that have a scalar, and its code. items, item_rows: one entry for each string
    of each list. listed: the rows that have a list, an empty one too."""

    scalars: _Dictionary
    rows: I32
    codes: I32
    item_values: list[str]
    items: I32
    item_rows: I32
    listed: I32

    def select(self, condition: Condition, size: int) -> Mask:
        """(size,) bool, new: the rows that match."""
        mask = np.zeros(size, bool)
        match condition.operator:
            case "exists":
                mask[self.rows] = mask[self.listed] = True
                return mask if condition.value else np.logical_not(mask, out=mask)
            case "ne":
                equal = self.select(Condition(condition.field, "eq", condition.value), size)
                mask[self.rows] = mask[self.listed] = True
                return np.greater(mask, equal, out=mask)
            case "eq" | "in":
                values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
                _mark(mask, self._rows_of(size), self.codes, map(self.scalars.codes, values))
                _mark(mask, self.item_rows, self.items, map(self._item, values))
            case bounds:
                assert not isinstance(condition.value, tuple)
                _mark(mask, self._rows_of(size), self.codes, [self.scalars.codes(condition.value, bounds)])
        return mask

    @cached_property
    def shapes(self) -> frozenset[Shape]:
        """The shapes of its values."""
        there: dict[Shape, bool] = {
            "number": bool(self.scalars.numbers),
            "string": bool(self.scalars.strings),
            "boolean": bool((self.codes < _FIRST_NUMBER).any()),
            "list": len(self.listed) > 0,
        }
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

    def _item(self, value: Scalar) -> tuple[int, int]:
        """As ``_Dictionary.codes``, of a list's string."""
        if not isinstance(value, str):
            return 0, 0
        return bisect_left(self.item_values, value), bisect_right(self.item_values, value)


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


@dataclass(frozen=True, slots=True)
class Columns:
    """The metadata of ``size`` rows."""

    size: int
    keys: dict[str, Column]

    @classmethod
    def build(cls, metadata: Sequence[Metadata], fields: Iterable[str] | None = None) -> Columns:
        """Columns over rows, in order. fields: the only ones wanted, where not all are.

        >>> columns = Columns.build([{"year": 1999}, {"year": 2020.5, "tags": ["a"]}, {}])
        >>> columns.select(Condition("year", "gt", 1999)).tolist()
        [False, True, False]
        """
        builder = ColumnsBuilder(fields)
        builder.add(metadata)
        return builder.finish()

    def select(self, condition: Filter) -> Mask:
        """(size,) bool, new: the rows that match. Raises TooSlow."""
        deadline.check(deadline.current())
        match condition:
            case Condition():
                column = self.keys.get(condition.field)
                if column is None:
                    return np.full(self.size, condition.operator == "exists" and condition.value is False)
                return column.select(condition, self.size)
            case Not():
                mask = self.select(condition.part)
                return np.logical_not(mask, out=mask)
            case And() | Or():
                every = isinstance(condition, And)
                combine = np.logical_and if every else np.logical_or
                mask = np.full(self.size, every)
                for part in condition.parts:
                    combine(mask, self.select(part), out=mask)
                return mask

    def shapes(self, field: str) -> frozenset[Shape]:
        """The shapes of a field's values; nothing where no row has one."""
        column = self.keys.get(field)
        return frozenset() if column is None else column.shapes

    def to_bytes(self) -> bytes:
        """One uncompressed ``.npz``: the dictionaries as JSON, the codes as arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        header: dict[str, Any] = {"size": self.size, "keys": []}
        for i, (name, column) in enumerate(self.keys.items()):
            header["keys"].append(
                {
                    "name": name,
                    "numbers": column.scalars.numbers,
                    "strings": column.scalars.strings,
                    "items": column.item_values,
                }
            )
            for field in ("rows", "codes", "items", "item_rows", "listed"):
                arrays[f"{i}.{field}"] = getattr(column, field)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Columns:
        """From bytes that were verified."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            keys = {
                key["name"]: Column(
                    _Dictionary(key["numbers"], key["strings"]),
                    arrays[f"{i}.rows"],
                    arrays[f"{i}.codes"],
                    key["items"],
                    arrays[f"{i}.items"],
                    arrays[f"{i}.item_rows"],
                    arrays[f"{i}.listed"],
                )
                for i, key in enumerate(header["keys"])
            }
        return cls(header["size"], keys)


class ColumnsBuilder:
    """Columns of rows that come in batches. Of a row only its values are kept, once for each distinct one."""

    def __init__(self, fields: Iterable[str] | None = None) -> None:
        """fields: as in ``Columns.build``."""
        self._size = 0
        self._fields = None if fields is None else frozenset(fields)
        self._keys: dict[str, _Values] = {}

    def add(self, metadata: Sequence[Metadata]) -> None:
        """The next rows."""
        for row, values in enumerate(metadata, self._size):
            for name, value in values.items():
                if self._fields is None or name in self._fields:
                    key = self._keys.get(name) or self._keys.setdefault(name, _Values())
                    key.add(row, value)
        self._size += len(metadata)

    def finish(self) -> Columns:
        return Columns(self._size, {name: self._keys[name].column() for name in sorted(self._keys)})


class _Values:
    """One key's values. A value's place is that of its first occurrence until all are known. true is not 1, so each
    type has places of its own."""

    def __init__(self) -> None:
        self._places: dict[tuple[bool, Scalar], int] = {}
        self._item_places: dict[str, int] = {}
        self._rows, self._codes = array("i"), array("i")
        self._item_rows, self._items, self._listed = array("i"), array("i"), array("i")

    def add(self, row: int, value: MetadataValue) -> None:
        if isinstance(value, list):
            self._listed.append(row)
            for item in value:
                self._item_rows.append(row)
                self._items.append(self._item_places.setdefault(item, len(self._item_places)))
        else:
            self._rows.append(row)
            self._codes.append(self._places.setdefault((isinstance(value, bool), value), len(self._places)))

    def column(self) -> Column:
        values = [value for _, value in self._places]
        dictionary = _Dictionary(
            sorted(value for value in values if not isinstance(value, bool | str)),
            sorted(value for value in values if isinstance(value, str)),
        )
        codes = np.array([dictionary.codes(value)[0] for value in values], np.int32)
        item_values = sorted(self._item_places)
        items = np.empty(len(item_values), np.int32)
        items[[self._item_places[item] for item in item_values]] = np.arange(len(item_values))
        return Column(
            dictionary,
            _int32(self._rows),
            codes[_int32(self._codes)],
            item_values,
            items[_int32(self._items)],
            _int32(self._item_rows),
            _int32(self._listed),
        )


def _int32(values: array[int]) -> I32:
    return np.array(values, np.int32)
