"""Judged queries, kept with their collection: what people hold relevant, to measure searches by.

A set is one record of the collection's database, behind a checksum: durable when it is answered, part of snapshots and
archives, gone with the collection. Grades are of documents by their ids, whether those are there or not: a document
that comes again is judged already.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from sqlite3 import Connection
from typing import Any, Final

import numpy as np

from app.collection.collection import Collection
from app.errors import Conflict, Invalid, NotFound
from app.store.database import get_record, put_meta
from app.types import F32, Turn, spoken

SET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_SETS: Final = 32
MAX_QUERIES: Final = 10_000
MAX_GRADES: Final = 500_000
"""Of a set, of all its queries."""
MAX_GRADE: Final = 1_000
_KEY: Final = "judged:"


@dataclass(frozen=True, slots=True)
class Judged:
    """A query by its text, by its vectors, (q, dim) float32, or, where no set keeps it, by a document of the
    collection, its id. grades: what each document is worth for it, by id; 0 is not relevant."""

    id: str
    grades: Mapping[str, int]
    text: str | None = None
    vectors: F32 | None = None
    document: str | None = None
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """One judgement. text: of the query, where the set does not know it. grade: None takes the document's grade
    back."""

    query: str
    document: str
    grade: int | None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class SetInfo:
    """grades: of all queries. relevant: those above 0."""

    name: str
    queries: int
    grades: int
    relevant: int

    @classmethod
    def of(cls, name: str, judged: Sequence[Judged]) -> SetInfo:
        grades = [grade for one in judged for grade in one.grades.values()]
        return cls(name, len(judged), len(grades), sum(grade > 0 for grade in grades))


def sets(collection: Collection) -> list[SetInfo]:
    """By name. Raises Damaged."""
    with collection.database.read() as connection:
        names = _names(connection)
        return [SetInfo.of(name, _read(connection, name, collection.name)) for name in names]


def read_set(collection: Collection, name: str) -> list[Judged]:
    """In the order in which they came. Raises NotFound (judgements_not_found), Damaged."""
    with collection.database.read() as connection:
        if name not in _names(connection):
            raise unknown(collection, name)
        return _read(connection, name, collection.name)


def has_set(collection: Collection, name: str) -> bool:
    """Raises Damaged."""
    with collection.database.read() as connection:
        return name in _names(connection)


def write_set(collection: Collection, name: str, judged: Sequence[Judged]) -> tuple[SetInfo, bool]:
    """In the place of what was there; whether there was none. Raises Conflict (too_many_sets), Invalid."""
    new = collection.record(lambda txn: _put(txn, name, judged))
    return SetInfo.of(name, judged), new


def add_grades(collection: Collection, name: str, grades: Sequence[Grade]) -> SetInfo:
    """One after another, so the last one of a document holds. Makes the set where it is not there. Raises Invalid for a
    query that nobody knows, Conflict."""

    def write(txn: Connection) -> SetInfo:
        known = {one.id: one for one in _read(txn, name, collection.name)} if name in _names(txn) else {}
        for place, one in enumerate(grades):
            query = known.get(one.query)
            if query is None:
                if one.text is None:
                    raise Invalid.at(f"/grades/{place}/text", f"the set knows no query {one.query!r}: give its text")
                query = Judged(one.query, {}, one.text)
            own = {name: grade for name, grade in query.grades.items() if name != one.document}
            if one.grade is not None:
                own[one.document] = one.grade
            known[one.query] = replace(query, grades=own)
        judged = list(known.values())
        _put(txn, name, judged)
        return SetInfo.of(name, judged)

    return collection.record(write)


def delete_set(collection: Collection, name: str) -> None:
    """Raises NotFound (judgements_not_found)."""

    def write(txn: Connection) -> None:
        if name not in _names(txn):
            raise unknown(collection, name)
        txn.execute("DELETE FROM meta WHERE key = ?", (_KEY + name,))

    collection.record(write)


def unknown(collection: Collection, name: str) -> NotFound:
    return NotFound(f"collection {collection.name} has no judgements named {name}", code="judgements_not_found")


def _put(txn: Connection, name: str, judged: Sequence[Judged]) -> bool:
    """Whether it is new. Raises Invalid, Conflict (too_many_sets)."""
    if len(judged) > MAX_QUERIES:
        raise Invalid(f"a set has at most {MAX_QUERIES:,} queries; this one would have {len(judged):,}")
    if (grades := sum(len(one.grades) for one in judged)) > MAX_GRADES:
        raise Invalid(f"a set has at most {MAX_GRADES:,} grades; this one would have {grades:,}")
    names = _names(txn)
    if name not in names and len(names) >= MAX_SETS:
        raise Conflict(f"a collection has at most {MAX_SETS} sets of judgements", code="too_many_sets")
    put_meta(txn, {_KEY + name: _to_json(judged)})
    return name not in names


def _names(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT key FROM meta WHERE key >= ? AND key < ?", (_KEY, _KEY[:-1] + ";"))
    return sorted(key.removeprefix(_KEY) for (key,) in rows)


def _read(connection: Connection, name: str, collection: str) -> list[Judged]:
    return get_record(connection, _KEY + name, collection, _from_json)


def _to_json(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    found = []
    for one in judged:
        own: dict[str, Any] = {"id": one.id, "grades": dict(one.grades)}
        if one.turns:
            own["turns"] = [list(turn) for turn in one.turns]
        elif one.text is not None:
            own["text"] = one.text
        elif one.vectors is not None:
            matrix = np.ascontiguousarray(one.vectors, "<f4")
            own |= {"vectors": base64.b64encode(matrix.tobytes()).decode(), "dim": matrix.shape[1]}
        found.append(own)
    return found


def _from_json(value: Any) -> list[Judged]:
    """Raises KeyError, TypeError, ValueError."""
    found = []
    for one in value:
        vectors = None
        if "vectors" in one:
            flat = np.frombuffer(base64.b64decode(one["vectors"], validate=True), "<f4").astype(np.float32)
            vectors = flat.reshape(-1, int(one["dim"]))
        grades = {str(document): int(grade) for document, grade in one["grades"].items()}
        turns = tuple(Turn(str(role), str(text)) for role, text in one.get("turns", ()))
        text = spoken(turns) if turns else one.get("text")
        found.append(Judged(str(one["id"]), grades, None if text is None else str(text), vectors, turns=turns))
    return found
