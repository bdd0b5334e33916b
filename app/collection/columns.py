"""Metadata of a segment as typed columns: a filter becomes a mask over its rows.

For each name (app/metadata/values.py) the distinct values are kept once, sorted within their type, and every row holds
the place of its value in them. An operator is decided on the distinct values, by binary search with Python's exact
comparisons, so that large integers beside floats lose nothing; rows are then picked by integer comparison.
``Condition.matches`` in app/filters.py says what each operator means; the tests hold the two together.

A filter holds a few masks for each of its levels, however many conditions it has; each condition is one pass
over the rows, and the deadline is looked at before every block of them.
"""

from __future__ import annotations

import io
import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.compute import deadline
from app.errors import FormatTooNew
from app.filters import And, Condition, Filter, Not, Or, Shape, is_number, text_test
from app.metadata.names import is_dotted, named, outermost
from app.metadata.values import Named, Scalar, named_values
from app.types import Mask, Metadata

I32 = NDArray[np.int32]

_FIRST_NUMBER: Final = 2
"""The code after those of false and true."""
_FLAT: Final = 1
"""The version of columns of scalars and lists of strings alone, which did not say it."""
_VERSION: Final = 2
_ARRAYS: Final = ("rows", "codes", "items", "item_rows", "listed", "nulls", "objects", "empties")
_NONE: Final = np.zeros(0, np.int32)
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

    def texts(self, condition: Condition) -> Iterator[tuple[int, int]]:
        """The ranges of codes of the strings that a condition on strings holds of."""
        base = _FIRST_NUMBER + len(self.numbers)
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
    """One name. rows and codes: the rows that have a scalar, and its code. item_rows and items: one entry for each
    scalar of each list. listed: the rows that have a list, an empty one too. nulls: those that have null, or a list
    with null. objects: those with an object, or a list with one. empties: those with null, "", [] or {}."""

    scalars: _Dictionary
    rows: I32
    codes: I32
    item_scalars: _Dictionary
    items: I32
    item_rows: I32
    listed: I32
    nulls: I32
    objects: I32
    empties: I32

    def select(self, condition: Condition, size: int) -> Mask:
        """(size,) bool, new: the rows that match."""
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

    @cached_property
    def shapes(self) -> frozenset[Shape]:
        """The shapes of its values."""
        items = self.item_scalars
        there: dict[Shape, bool] = {
            "number": bool(self.scalars.numbers),
            "string": bool(self.scalars.strings),
            "boolean": bool((self.codes < _FIRST_NUMBER).any()),
            "null": len(self.nulls) > 0,
            "object": len(self.objects) > 0,
            "numbers": bool(items.numbers),
            "booleans": bool((self.items < _FIRST_NUMBER).any()),
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
                column = self.column(condition.field)
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

    def column(self, field: str) -> Column | None:
        """The values of a field; None where no row has one."""
        return self.keys.get(named(field))

    def shapes(self, field: str) -> frozenset[Shape]:
        """The shapes of a field's values; nothing where no row has one."""
        column = self.column(field)
        return frozenset() if column is None else column.shapes

    def to_bytes(self) -> bytes:
        """One uncompressed ``.npz``: the dictionaries as JSON, the codes as arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        header: dict[str, Any] = {"version": _VERSION, "size": self.size, "keys": []}
        for i, (name, column) in enumerate(self.keys.items()):
            header["keys"].append(
                {
                    "name": name,
                    "numbers": column.scalars.numbers,
                    "strings": column.scalars.strings,
                    "item_numbers": column.item_scalars.numbers,
                    "item_strings": column.item_scalars.strings,
                }
            )
            for field in _ARRAYS:
                if len(values := getattr(column, field)):
                    arrays[f"{i}.{field}"] = values
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Columns:
        """From bytes that were verified. Raises FormatTooNew."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if (version := header.get("version", _FLAT)) not in (_FLAT, _VERSION):
                raise FormatTooNew(
                    f"columns of metadata have version {version}, this Sheaf reads {_VERSION}: use the version that "
                    "wrote them, or build the collection anew"
                )
            keys = {}
            for i, key in enumerate(header["keys"]):
                own = {name: arrays.get(f"{i}.{name}", _NONE) for name in _ARRAYS}
                scalars = _Dictionary(key["numbers"], key["strings"])
                if version == _FLAT:
                    items = _Dictionary([], key["items"])
                    own["items"] = own["items"] + np.int32(_FIRST_NUMBER)
                    own["empties"] = _empty_of(scalars, own)
                else:
                    items = _Dictionary(key["item_numbers"], key["item_strings"])
                keys[key["name"]] = Column(scalars, item_scalars=items, **own)
            if version == _FLAT:
                # A key with dots has been reached without quotes, and is, but it has a name of its own.
                keys.update({outermost(name): column for name, column in keys.items() if is_dotted(name)})
        return cls(header["size"], keys)


def _empty_of(scalars: _Dictionary, arrays: Mapping[str, I32]) -> I32:
    """Of columns that knew neither null nor objects: the rows with an empty string or list."""
    start, stop = scalars.codes("")
    codes = arrays["codes"]
    texts = arrays["rows"][(codes >= start) & (codes < stop)]
    return np.sort(np.concatenate([texts, np.setdiff1d(arrays["listed"], arrays["item_rows"])])).astype(np.int32)


class ColumnsBuilder:
    """Columns of rows that come in batches. Of a row only its values are kept, once for each distinct one."""

    def __init__(self, fields: Iterable[str] | None = None) -> None:
        """fields: as in ``Columns.build``."""
        self._size = 0
        self._fields = None if fields is None else frozenset(fields)
        self._keys: dict[str, _Values] = {}

    def add(self, metadata: Sequence[Metadata]) -> None:
        """The next rows."""
        self.add_named(list(map(named_values, metadata)))

    def add_named(self, rows: Sequence[Named]) -> None:
        """The same, whose values have their names already."""
        for row, values in enumerate(rows, self._size):
            for name, value in values.items():
                if self._fields is None or name in self._fields:
                    key = self._keys.get(name) or self._keys.setdefault(name, _Values())
                    key.add(row, value)
        self._size += len(rows)

    def finish(self) -> Columns:
        return Columns(self._size, {name: self._keys[name].column() for name in sorted(self._keys)})


class _Places:
    """Distinct scalars, each with the place of its first occurrence until all are known. true is not 1, so each type
    has places of its own."""

    def __init__(self) -> None:
        self._places: dict[tuple[bool, Scalar], int] = {}
        self._found = array("i")

    def add(self, value: Scalar) -> None:
        self._found.append(self._places.setdefault((isinstance(value, bool), value), len(self._places)))

    def coded(self) -> tuple[_Dictionary, I32]:
        """The dictionary, and the code of each that was added."""
        values = [value for _, value in self._places]
        dictionary = _Dictionary(
            sorted(value for value in values if not isinstance(value, bool | str)),
            sorted(value for value in values if isinstance(value, str)),
        )
        codes = np.array([dictionary.codes(value)[0] for value in values], np.int32)
        return dictionary, codes[_int32(self._found)]


class _Values:
    """One name's values."""

    def __init__(self) -> None:
        self._scalars, self._items = _Places(), _Places()
        self._rows, self._item_rows, self._listed = array("i"), array("i"), array("i")
        self._nulls, self._objects, self._empties = array("i"), array("i"), array("i")

    def add(self, row: int, value: Any) -> None:
        if isinstance(value, list):
            self._listed.append(row)
            null = there = False
            for item in value:
                if isinstance(item, dict):
                    there = True
                elif item is None:
                    null = True
                else:
                    self._item_rows.append(row)
                    self._items.add(item)
            if null:
                self._nulls.append(row)
            if there:
                self._objects.append(row)
        elif isinstance(value, dict):
            self._objects.append(row)
        elif value is None:
            self._nulls.append(row)
        else:
            self._rows.append(row)
            self._scalars.add(value)
        if value is None or (isinstance(value, str | list | dict) and not value):
            self._empties.append(row)

    def column(self) -> Column:
        scalars, codes = self._scalars.coded()
        item_scalars, items = self._items.coded()
        rows = (self._item_rows, self._listed, self._nulls, self._objects, self._empties)
        return Column(scalars, _int32(self._rows), codes, item_scalars, items, *map(_int32, rows))


def _int32(values: array[int]) -> I32:
    return np.array(values, np.int32)
