"""Pages of one list: a cursor names the list, the moment it is of, and how much of it was seen.

A list is the same as long as the collection is: nothing is lost or seen twice. Once the collection has changed (by a
write, or by what the background makes of writes) the list of that moment is gone, and its cursor says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any, Final

from app.collection.view import Snapshot
from app.errors import Conflict, Invalid
from app.query.asked import Query
from app.types import REACH, Side

_FREE: Final = ("k", "offset", "cursor", "include", "facets", "passages", "highlights", "explain", "weights", "at")
"""Fields that may differ from page to page. The weights of the first page are those of all."""
_LISTED: Final = [
    (one.name, {} if one.default is MISSING else one.default)
    for one in fields(Query)
    if one.name not in (*_FREE, "vectors", "sparse", "like", "scorer")
]
"""The others that are no arrays, and what each is where nothing is said."""


def resumed(query: Query, snapshot: Snapshot, sides: Sequence[Side]) -> Query:
    """The query at the place of its cursor. sides: that a hybrid search of the collection weighs.

    Raises Invalid, and Conflict where the list is gone.
    """
    if query.cursor is None:
        return query
    at = f"{query.at}/cursor"
    try:
        said, offset, asked, used = _parsed(query.cursor)
    except (ValueError, TypeError, RecursionError):
        said = offset = asked = used = None
    if not (isinstance(said, int) and isinstance(offset, int) and 0 < offset < REACH and _weighs(used, sides)):
        raise Invalid.at(at, "expected the `next` of an answer")
    other = isinstance(query.weights, Mapping) and dict(query.weights) != used
    if asked != _named(query, snapshot.name) or other:
        raise Invalid.at(at, "the cursor is of another search: send the same one, of which only the page differs")
    if said != snapshot.published.commit:
        raise Conflict(
            "the collection has changed since the page before: begin the list anew, without a cursor",
            code="cursor_expired",
        )
    return replace(
        query, offset=offset, k=min(query.k, REACH - offset), weights=query.weights if used is None else used
    )


def following(
    query: Query, snapshot: Snapshot, weights: Mapping[Side, float] | None, hits: int, total: int
) -> str | None:
    """The cursor of the page after this one. weights: that were used. hits: of this page. total: of the list. Both are
    of groups where there are some."""
    offset = query.offset + hits
    if query.rerank is not None and query.rerank.budget_ms is not None:
        # Time decided the order.
        return None
    if not hits or offset >= min(total, REACH):
        return None
    ranks = "reciprocal_rank" if query.mode == "hybrid" else None
    used = ranks if weights is None else dict(weights)
    # Of a page that is not the first the weights are those of the first, whatever it was asked with.
    named = _named(query, snapshot.name) if query.cursor is None else _parsed(query.cursor)[2]
    said = json.dumps([snapshot.published.commit, offset, named, used])
    return base64.urlsafe_b64encode(said.encode()).decode()


def _parsed(cursor: str) -> tuple[Any, Any, Any, Any]:
    """Commit, offset, name and weights, as they are said. Raises ValueError, TypeError, RecursionError."""
    said, offset, named, used = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
    return said, offset, named, used


def _named(query: Query, collection: str) -> str:
    """The same for queries that have one list."""
    named = hashlib.sha256(collection.encode())
    for name, default in _LISTED:
        value = getattr(query, name)
        # Most are as they are where nothing is said, and the search is named in a fifth of the time.
        if value is not default and value != default:
            named.update(f"{name}={value!r};".encode(errors="surrogatepass"))
    if query.vectors is not None:
        named.update(query.vectors.tobytes())
    if query.sparse is not None:
        named.update(b"sparse" + query.sparse.indices.tobytes() + query.sparse.values.tobytes())
    if query.like is not None:
        named.update(query.like.named)
    if query.scorer is not None:
        named.update(b"scorer" + query.scorer.named)
    named.update(query.weights.encode() if isinstance(query.weights, str) else b"")
    return named.hexdigest()[:16]


def _weighs(value: object, sides: Sequence[Side]) -> bool:
    """Whether these are weights of the sides, ranks in their place, or nothing."""
    if value in (None, "reciprocal_rank"):
        return True
    numbers = isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values())
    return isinstance(value, dict) and numbers and set(value) == set(sides)
