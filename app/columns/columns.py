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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.columns.column import FIRST_NUMBER, I32, NONE, Column, Dictionary
from app.compute import deadline
from app.errors import FormatTooNew
from app.filters import And, Condition, Filter, Not, Or, Shape
from app.metadata.declared import FieldType
from app.metadata.geo import Circle, Point, distances
from app.metadata.names import is_dotted, named, outermost, parts_of_point
from app.metadata.values import Named, Scalar, named_values
from app.types import F64, Mask, Metadata

_FLAT: Final = 1
"""The version of columns of scalars and lists of strings alone, which did not say it."""
_VERSION: Final = 2
_ARRAYS: Final = ("rows", "codes", "items", "item_rows", "listed", "nulls", "objects", "empties")
_ANYWHERE: Final = Point(0.0, 0.0)
_NO_OTHERS: Final[Mapping[str, Column]] = {}


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

    def select(self, condition: Filter, own: Mapping[str, Column] = _NO_OTHERS) -> Mask:
        """(size,) bool, new: the rows that match. own: of fields that are no metadata. Raises TooSlow."""
        deadline.check(deadline.current())
        match condition:
            case Condition():
                if isinstance(condition.value, Circle):
                    near: Mask = self.distances(condition.field, condition.value.center) <= condition.value.distance_m
                    return near
                column = own.get(condition.field) or self.column(condition.field)
                if column is None:
                    return np.full(self.size, condition.operator == "exists" and condition.value is False)
                if condition.type != "geo":
                    return column.of(condition.type).select(condition, self.size)
                # What is declared a point and is none is not there; null is.
                placed, mask = self._placed(condition.field), column.select(condition, self.size)
                if condition.operator == "exists":
                    return placed if condition.value else ~placed
                return np.logical_and(mask, placed, out=mask)
            case Not():
                mask = self.select(condition.part, own)
                return np.logical_not(mask, out=mask)
            case And() | Or():
                every = isinstance(condition, And)
                combine = np.logical_and if every else np.logical_or
                mask = np.full(self.size, every)
                for part in condition.parts:
                    combine(mask, self.select(part, own), out=mask)
                return mask

    def distances(self, field: str, center: Point) -> F64:
        """(size,): metres from the center to the point of each row; NaN, which is within nothing, where it has none."""
        lat, lon = map(self.column, parts_of_point(field))
        if lat is None or lon is None:
            return np.full(self.size, np.nan)
        found, across = lat.numbers(self.size), lon.numbers(self.size)
        deadline.check(deadline.current())
        with np.errstate(invalid="ignore"):
            found[(np.abs(found) > 90) | (np.abs(across) > 180)] = np.nan
            return distances(center, found, across)

    def _placed(self, field: str) -> Mask:
        """(size,): the rows with a point, or with null."""
        found = ~np.isnan(self.distances(field, _ANYWHERE))
        column = self.column(field)
        if column is not None:
            found[np.setdiff1d(column.nulls, column.listed)] = True
        return found

    def unfit(self, field: str, kind: FieldType) -> Mask:
        """(size,): the rows with a value that is not of a declared type."""
        column = self.column(field)
        if column is None:
            return np.zeros(self.size, bool)
        if kind != "geo":
            return column.unfit(kind, self.size)
        there = column.select(Condition(field, "exists", True), self.size)
        return np.greater(there, self._placed(field), out=there)

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
                own = {name: arrays.get(f"{i}.{name}", NONE) for name in _ARRAYS}
                scalars = Dictionary(key["numbers"], key["strings"])
                if version == _FLAT:
                    items = Dictionary([], key["items"])
                    own["items"] = own["items"] + np.int32(FIRST_NUMBER)
                    own["empties"] = _empty_of(scalars, own)
                else:
                    items = Dictionary(key["item_numbers"], key["item_strings"])
                keys[key["name"]] = Column(scalars, item_scalars=items, **own)
            if version == _FLAT:
                # A key with dots has been reached without quotes, and is, but it has a name of its own.
                keys.update({outermost(name): column for name, column in keys.items() if is_dotted(name)})
        return cls(header["size"], keys)


def _empty_of(scalars: Dictionary, arrays: Mapping[str, I32]) -> I32:
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

    def coded(self) -> tuple[Dictionary, I32]:
        """The dictionary, and the code of each that was added."""
        values = [value for _, value in self._places]
        dictionary = Dictionary(
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
