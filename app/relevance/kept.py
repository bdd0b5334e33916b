"""The curves that a collection keeps, one for each mode, with what their judgements said of them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from sqlite3 import Connection
from typing import Any, Final

import numpy as np

from app.collection.collection import Collection
from app.collection.spec import FINGERPRINT, CollectionSpec
from app.errors import Conflict
from app.query.asked import Mode
from app.relevance.curve import Curve
from app.relevance.features import LEARNABLE, names_of
from app.store.database import find_record, put_meta

_KEY: Final = "relevance:"
_ENCODER: Final = "encoder"


@dataclass(frozen=True, slots=True)
class Learned:
    """A curve that hits' `relevance` is read from, and how it did on queries that it was not learned from. judgements:
    the set. queries, hits, relevant: that it was learned from; a hit that nobody judged counts as not relevant. error:
    how far chances were from the share that was relevant, on average over ten bins of hits. area: how often a relevant
    hit was likelier than another. squared_error: the mean square of chance less truth; squared_error_of_share: of one
    number for all."""

    mode: Mode
    judgements: str
    queries: int
    hits: int
    relevant: int
    error: float
    area: float
    squared_error: float
    squared_error_of_share: float
    curve: Curve


def kept(collection: Collection) -> list[Learned]:
    """By mode, those that fit the collection as it is. Raises Damaged."""
    with collection.database.read() as connection:
        found = [_read(connection, collection.spec, mode) for mode in LEARNABLE]
    return [one for one in found if one is not None]


def curve_of(connection: Connection, spec: CollectionSpec, mode: Mode) -> Curve:
    """Raises Conflict (relevance_not_learned) where there is none for the mode, or for another encoder; Damaged."""
    found = _read(connection, spec, mode)
    if found is None:
        raise Conflict(
            f"collection {spec.name} has not learned how relevant the hits of {mode} searches are: "
            f"PUT /v1/collections/{spec.name}/relevance with a set of judgements teaches it",
            code="relevance_not_learned",
        )
    return found.curve


def keep(collection: Collection, learned: Learned) -> None:
    """In the place of what was there for the mode."""

    def write(txn: Connection) -> None:
        value = {**asdict(learned), _ENCODER: _encoder(txn, collection.spec)}
        put_meta(txn, {_KEY + learned.mode: value})

    collection.record(write)


def forget(collection: Collection) -> int:
    """All of them; how many there were."""
    keys = [(_KEY + mode,) for mode in LEARNABLE]
    return collection.record(lambda txn: txn.executemany("DELETE FROM meta WHERE key = ?", keys).rowcount)


def _read(connection: Connection, spec: CollectionSpec, mode: Mode) -> Learned | None:
    def parse(value: Any) -> tuple[Learned, Any]:
        own = {name: value[name] for name in Learned.__slots__ if name != "curve"}
        return Learned(**own, curve=_curve(**value["curve"])), value[_ENCODER]

    found = find_record(connection, _KEY + mode, spec.name, parse)
    if found is None:
        return None
    learned, encoder = found
    # Of other vectors a curve knows nothing.
    fits = encoder == _encoder(connection, spec) and learned.curve.names == tuple(names_of(spec, mode))
    return learned if fits else None


def _curve(names: Any, means: Any, scales: Any, weights: Any, intercept: Any) -> Curve:
    """Raises ValueError for numbers that make no chance."""
    numbers = np.array([means, scales, weights], np.float64)
    if numbers.shape != (3, len(names)) or not np.isfinite(numbers).all() or (numbers[1] <= 0).any():
        raise ValueError(f"a curve of {len(names)} features with other numbers")
    if not math.isfinite(intercept):
        raise ValueError(f"an intercept of {intercept}")
    own = [tuple(row) for row in numbers.tolist()]
    return Curve(tuple(map(str, names)), own[0], own[1], own[2], float(intercept))


def _encoder(connection: Connection, spec: CollectionSpec) -> str | None:
    """What made the vectors, as text to be compared."""
    found = find_record(connection, FINGERPRINT, spec.name, lambda value: value)
    return None if found is None else json.dumps(found, sort_keys=True)
