"""Documents in the order of their metadata, over columns: none is read to be put in its place.

Each part keeps those that could be among the first, by the places of their values among its own; what several parts
kept is merged by the values themselves. A document without the field comes last, whichever way the others go; so does
one with null, a list or an object, which have no order. Of several types booleans come first, then numbers, then
strings (by code point), and the other way round where the order descends. Documents that are alike in every key come by
the bytes of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from app.collection.part import View
from app.collection.view import Snapshot
from app.columns.column import I32
from app.compute import deadline
from app.errors import Invalid
from app.metadata.geo import POINT_SCHEMA, Point, read_point
from app.metadata.names import FIELD, parts_of_point
from app.metadata.values import Scalar
from app.query.listed import document_of, first_row
from app.query.ranking import Ranked
from app.results.values import Typed, require_field, typed
from app.schema.faults import pointer
from app.schema.notices import Notice
from app.types import F64, I64, Mask

MOST_KEYS: Final = 8
_LAST: Final = np.int32(2**31 - 1)
_LISTS: Final = frozenset({"list", "numbers", "booleans"})
_UNORDERED: Final = _LISTS | {"null", "object"}

_Value: TypeAlias = Typed | None
"""None where there is none."""

SORT_SCHEMA: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MOST_KEYS,
    "items": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"pattern": f"^{FIELD.pattern}$"},
        "additionalProperties": {
            "anyOf": [
                {"enum": ["asc", "desc"]},
                {
                    "type": "object",
                    "required": ["geo_distance"],
                    "properties": {
                        "geo_distance": {
                            "type": "object",
                            "required": ["lat", "lon"],
                            "properties": POINT_SCHEMA,
                            "additionalProperties": False,
                        },
                        "order": {"enum": ["asc", "desc"], "default": "asc"},
                    },
                    "additionalProperties": False,
                },
            ]
        },
    },
    "description": 'Metadata fields, the first one first: `[{"year": "desc"}, {"name": "asc"}]`. '
    '`{"place": {"geo_distance": {"lat": 48.2, "lon": 16.4}}}` sorts by how far a point is. A document without '
    "the field, or with null, a list or an object there, comes last either way; those alike in all come by the bytes "
    "of their ids. "
    "Without a query, and in a `lexical` search, all that match are sorted; in any other the best 1,000 are.",
    "examples": [[{"year": "desc"}, {"name": "asc"}]],
}


@dataclass(frozen=True, slots=True)
class SortKey:
    """One metadata field. center: by how far its point is from there."""

    field: str
    descending: bool = False
    center: Point | None = None


def parse(value: object) -> tuple[SortKey, ...]:
    """Keys from parsed JSON. Raises Invalid, pointing at the place in it.

    >>> parse([{"year": "desc"}])
    (SortKey(field='year', descending=True, center=None),)
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_KEYS:
        raise Invalid.at("", f'expected a list of 1 to {MOST_KEYS} keys such as {{"year": "desc"}}')
    keys = []
    for i, one in enumerate(value):
        if not isinstance(one, dict) or len(one) != 1:
            raise Invalid.at(f"/{i}", 'expected an object with exactly one key, such as {"year": "desc"}')
        ((field, order),) = one.items()
        require_field(field, f"/{i}")
        keys.append(_key(field, order, pointer([i, field])))
    return tuple(keys)


def _key(field: str, order: object, at: str) -> SortKey:
    center = None
    if isinstance(order, dict):
        if "geo_distance" not in order or not order.keys() <= {"geo_distance", "order"}:
            raise Invalid.at(
                at, 'expected asc, desc, or an object such as {"geo_distance": {"lat": 48.2, "lon": 16.4}}'
            )
        center = read_point(order["geo_distance"], f"{at}/geo_distance")
        at, order = f"{at}/order", order.get("order", "asc")
    if order not in ("asc", "desc"):
        raise Invalid.at(at, "expected asc or desc")
    return SortKey(field, order == "desc", center)


def sort_documents(
    snapshot: Snapshot,
    allowed: Sequence[Mask],
    keys: Sequence[SortKey],
    count: int,
    scores: Sequence[F64] | None = None,
) -> list[Ranked]:
    """The first ``count`` of the documents that are allowed; without keys by the bytes of their ids.

    allowed, scores: for each view (documents,); without scores each has 0. Raises TooSlow.
    """
    numbers = {id(view): i for i, view in enumerate(snapshot.views)}
    seqs = _ordered(snapshot, allowed, keys, count)
    places = snapshot.published.locate(seqs)
    found = []
    for seq in seqs:
        view, document = places[seq]
        number = numbers[id(view)]
        score = 0.0 if scores is None else float(scores[number][document])
        found.append(Ranked(number, first_row(view, document), seq, score))
    return found


def sort_ranked(snapshot: Snapshot, ranked: Sequence[Ranked], keys: Sequence[SortKey], count: int) -> list[Ranked]:
    """The first ``count`` of these. Raises TooSlow."""
    by_seq = {one.seq: one for one in ranked}
    return [by_seq[seq] for seq in _ordered(snapshot, marked(snapshot, ranked), keys, count)]


def marked(snapshot: Snapshot, ranked: Sequence[Ranked]) -> list[Mask]:
    """For each view (documents,): which these are."""
    masks = [np.zeros(len(view.alive), bool) for view in snapshot.views]
    for one in ranked:
        masks[one.view][document_of(snapshot.views[one.view], one.row)] = True
    return masks


def _ordered(snapshot: Snapshot, allowed: Sequence[Mask], keys: Sequence[SortKey], count: int) -> list[int]:
    """The sequence numbers of the first."""
    merged: dict[tuple[_Value, ...], list[I64]] = {}
    for view, mask in zip(snapshot.views, allowed, strict=True):
        for values, documents in _first(snapshot, view, mask, keys, count):
            merged.setdefault(values, []).append(view.part.seqs[documents])
    groups = list(merged.items())
    for i in reversed(range(len(keys))):
        groups.sort(key=lambda group: sortable(group[0][i], keys[i]), reverse=keys[i].descending)
    alike, left = [], count
    for _, parts in groups:
        alike.append(np.sort(np.concatenate(parts)))
        left -= len(alike[-1])
        if left <= 0:
            break
    return _by_id(snapshot, alike, count)


def _by_id(snapshot: Snapshot, alike: Sequence[I64], count: int) -> list[int]:
    """The first ``count`` of groups of documents, each by the bytes of the ids. All but the last fit whole."""
    if not alike:
        return []
    *whole, last = alike
    ids = snapshot.identify(np.concatenate([np.zeros(0, np.int64), *(g for g in whole if len(g) > 1)]).tolist())
    seqs = [seq for group in whole for seq in sorted(group.tolist(), key=lambda seq: ids.get(seq, b""))]
    return seqs + snapshot.first_by_id(last, count - len(seqs))


def warnings(snapshot: Snapshot, keys: Sequence[SortKey]) -> list[Notice]:
    """Where documents are sorted by what none has an order in; versions that were deleted lately count as documents."""
    found = []
    for i, key in enumerate(keys if snapshot.views else ()):
        shapes, at = snapshot.shapes(key.field), f"/sort/{i}{pointer([key.field])}"
        said = f"the search sorts by {key.field!r}"
        if key.center is not None:
            if not all("number" in snapshot.shapes(part) for part in parts_of_point(key.field)):
                message = f"the search sorts by how far {key.field!r} is, which in no document is a point (lat, lon)"
                found.append(Notice("unknown_field", message, at))
        elif not shapes:
            found.append(Notice("unknown_field", f"{said}, a metadata field that no document has", at))
        elif shapes <= _UNORDERED:
            what = "lists" if shapes <= _LISTS else "lists, objects or null"
            found.append(Notice("no_order", f"{said}, whose values are {what}, which have no order", at))
    return found


def _first(
    snapshot: Snapshot, view: View, mask: Mask, keys: Sequence[SortKey], count: int
) -> list[tuple[tuple[_Value, ...], I64]]:
    """Of one view the documents that could be among the first ``count``, by their values: those of every value that the
    ``count``-th or one before it has."""
    documents = np.flatnonzero(mask).astype(np.int64)
    if not len(documents):
        return []
    columns = [_Ordered.of(snapshot, view, key) for key in keys]
    tied, certain = np.arange(len(documents)), [np.zeros(0, np.int64)]
    places: list[I32] = []
    for column in columns:
        deadline.check(deadline.current())
        places.append(column.places[documents])
        need = count - sum(map(len, certain))
        if len(tied) > need:
            own = places[-1][tied]
            last = np.partition(own, need - 1)[need - 1]
            certain.append(tied[own < last])
            tied = tied[own == last]
    values = [column.value for column in columns]
    found = []
    if len(tied) > count - sum(map(len, certain)) or not keys:
        # Alike in every key, and too many: as they are.
        found.append((tuple(value(own[tied[0]]) for value, own in zip(values, places, strict=True)), documents[tied]))
        tied = tied[:0]
    kept = np.concatenate([*certain, tied])
    if len(kept):
        kept = kept[np.lexsort([own[kept] for own in reversed(places)])]
        ranks = np.stack([own[kept] for own in places], axis=1)
        starts = np.flatnonzero((ranks[1:] != ranks[:-1]).any(axis=1)) + 1
        for some in np.split(kept, starts):
            found.append(
                (tuple(value(own[some[0]]) for value, own in zip(values, places, strict=True)), documents[some])
            )
    return found


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A field of one part, by a key. places: (documents,), ascending in its order, ``_LAST`` where it has no value.
    value: of a place."""

    places: I32
    value: Callable[[np.int32], _Value]

    @classmethod
    def of(cls, snapshot: Snapshot, view: View, key: SortKey) -> _Ordered:
        size = view.part.owners.documents
        codes = np.full(size, -1, np.int32)
        scalar: Callable[[int], Scalar] | None = None
        if key.center is not None:
            far = view.part.distances(key.field, key.center)
            there = ~np.isnan(far)
            distinct, found = np.unique(far[there], return_inverse=True)
            codes[there] = found
            scalar = distinct.tolist().__getitem__
        elif (column := snapshot.column(view, key.field)) is not None:
            codes, scalar = column.spread(size), column.scalars.value
        places = np.where(codes < 0, _LAST, -codes if key.descending else codes)

        def value(place: np.int32) -> _Value:
            if scalar is None or place == _LAST:
                return None
            return typed(scalar(int(-place if key.descending else place)))

        return cls(places, value)


def sortable(value: _Value, key: SortKey) -> tuple[int, Any, Any]:
    """The keys that values are compared by, that are sorted in reverse where the key descends: None comes last either
    way."""
    if value is None:
        return (0 if key.descending else 2), 0, 0
    return 1, value[0], value[1]
