"""Documents in groups by the values of a metadata field: each group at the place of its best document.

A document stands in the group of each value that it has: a list has each of its items, as in a filter; null is none.
Types never mix, 1 and 1.0 are one number. One without the field stands alone, or is left out where that is asked for.

Groups are made of the one list that the search has, of which a longer piece is taken until enough groups have what they
can have: so the first ten groups are the beginning of the first hundred, whatever their sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from app.collection.view import Snapshot
from app.errors import Invalid
from app.metadata.names import FIELD
from app.metadata.values import Scalar
from app.query.listed import document_of
from app.query.ranking import Ranked
from app.results.facets import value_counts
from app.results.values import Typed, require_field, typed
from app.schema.notices import Notice
from app.types import REACH, Hit, Mask

MOST_HITS: Final = 100
"""Of a group."""
LEAST: Final = 50
"""Documents of the first piece of the list, at least."""

GROUP_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["field"],
    "properties": {
        "field": {"type": "string", "pattern": f"^{FIELD.pattern}$"},
        "size": {"type": "integer", "minimum": 1, "maximum": MOST_HITS, "default": 1},
        "missing": {"enum": ["alone", "omit"], "default": "alone"},
    },
    "additionalProperties": False,
    "description": "Answer groups of documents that have one value of a metadata field, each with its `size` best "
    "(1 by default), at the place of its best one: `k`, `offset` and `cursor` count groups. A document with a list "
    "stands in the group of each item; one without the field in a group of its own, or with `missing: omit` in "
    "none. Groups are made of the best 10,000 documents; where the search may be `partial`, of the first that it "
    "finds, `k` or 50 of them.",
    "examples": [{"field": "module", "size": 3}],
}


@dataclass(frozen=True, slots=True)
class GroupBy:
    """size: documents of a group, at most. missing: where documents without the field stand."""

    field: str
    size: int = 1
    missing: Literal["alone", "omit"] = "alone"


@dataclass(slots=True)
class Group:
    """members: the best of those that have the value, best first. value: None of a document that has none."""

    value: Scalar | None
    members: list[Ranked] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The same with hits."""

    value: Scalar | None
    hits: list[Hit]


def parse(value: object) -> GroupBy:
    """A grouping, from parsed JSON. Raises Invalid, pointing at the place in it.

    >>> parse({"field": "module", "size": 3})
    GroupBy(field='module', size=3, missing='alone')
    """
    if not isinstance(value, dict) or "field" not in value or not value.keys() <= {"field", "size", "missing"}:
        raise Invalid.at("", 'expected an object such as {"field": "module", "size": 3}, with or without missing')
    name, size, missing = value["field"], value.get("size", 1), value.get("missing", "alone")
    if not isinstance(name, str):
        raise Invalid.at("/field", "expected the name of a metadata field")
    require_field(name, "/field")
    if type(size) is not int or not 1 <= size <= MOST_HITS:
        raise Invalid.at("/size", f"expected 1 to {MOST_HITS}")
    if missing not in ("alone", "omit"):
        raise Invalid.at("/missing", "expected alone or omit")
    return GroupBy(name, size, missing)


class Grouping:
    """The groups of one search. matching: for each view the documents of which groups are made, (documents,)."""

    def __init__(self, snapshot: Snapshot, asked: GroupBy, matching: Sequence[Mask]) -> None:
        """Raises Damaged, TooSlow."""
        self._asked, self._views = asked, snapshot.views
        self._columns = [snapshot.column(view, asked.field) for view in snapshot.views]
        self._there = bool(snapshot.shapes(asked.field))
        self._counts, alone = value_counts(snapshot, matching, asked.field)
        self.total = len(self._counts) + (alone if asked.missing == "alone" else 0)
        """How many groups there are."""

    @property
    def warnings(self) -> list[Notice]:
        """Where nothing can be grouped; versions that were deleted lately count as documents."""
        if not self._views or self._there:
            return []
        message = f"the search groups by {self._asked.field!r}, a metadata field that no document has"
        return [Notice("unknown_field", message, "/group_by/field")]

    def of(self, ranked: Iterable[Ranked]) -> list[Group]:
        """The groups of a list, in the order of their first documents."""
        groups: dict[Typed | int, Group] = {}
        for item in ranked:
            values = self._values(item)
            if not values and self._asked.missing == "alone":
                groups[item.seq] = Group(None, [item])
            for value in values:
                group = groups.setdefault(typed(value), Group(value))
                if len(group.members) < self._asked.size:
                    group.members.append(item)
        return list(groups.values())

    def page(self, ranked: Sequence[Ranked], offset: int, k: int) -> tuple[list[Group], list[Ranked]]:
        """Of the groups those of a page, and their documents, each once, in the order of the list."""
        groups = self.of(ranked)[offset : offset + k]
        members = {item.seq for group in groups for item in group.members}
        return groups, [item for item in ranked if item.seq in members]

    def longer(self, ranked: Sequence[Ranked], wanted: int, first: int, length: int) -> int | None:
        """How long the list must be; None where this one, of ``length`` documents if there are so many, will do: it has
        ``wanted`` groups, which are complete, as those of its first documents are, which may yet change places."""
        groups, wanted = self.of(ranked), min(wanted, self.total)
        needed = groups[: max(wanted, len(self.of(ranked[:first])))]
        if len(ranked) < length or length == REACH or (len(groups) >= wanted and all(map(self._complete, needed))):
            return None
        return min(4 * length, REACH)

    def _complete(self, group: Group) -> bool:
        """Whether it has as many documents as it can have."""
        if group.value is None:
            return True
        return len(group.members) >= min(self._asked.size, self._counts[typed(group.value)])

    def _values(self, item: Ranked) -> list[Scalar]:
        """Of one document, each once."""
        column = self._columns[item.view]
        if column is None:
            return []
        place = document_of(self._views[item.view], item.row)
        start, stop = np.searchsorted(column.rows, [place, place + 1]).tolist()
        found: list[Scalar] = [column.scalars.said(code) for code in column.codes[start:stop].tolist()]
        start, stop = np.searchsorted(column.item_rows, [place, place + 1]).tolist()
        return [*found, *_distinct(column.item_scalars.said(item) for item in column.items[start:stop].tolist())]


def _distinct(values: Iterable[Scalar]) -> list[Scalar]:
    """Each once; true is not 1."""
    return [value for _, value in dict.fromkeys(map(typed, values))]


def with_hits(groups: Sequence[Group], ranked: Sequence[Ranked], hits: Sequence[Hit]) -> list[HitGroup]:
    """The groups with what was read of their documents. ranked, hits: one for each document of all groups."""
    by_seq = {item.seq: hit for item, hit in zip(ranked, hits, strict=True)}
    return [HitGroup(group.value, [by_seq[item.seq] for item in group.members]) for group in groups]
