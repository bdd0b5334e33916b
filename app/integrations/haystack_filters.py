"""Haystack's filters as Sheaf's, with Haystack's meaning: "not equal" keeps documents without the field, null is a
field that is not there, and what is ordered is numbers and dates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from haystack.errors import FilterError

from app.integrations.metadata import NOTHING, Filter, any_of, filterable, is_scalar

_ORDERED: Final = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_OWN: Final = frozenset({"id", "content", "blob", "embedding", "sparse_embedding", "score"})
"""Fields of a document that are none of its metadata."""


class Inexpressible(Exception):
    """Sheaf has no such filter: a date, which Haystack compares with its time zone, a list as a value, a document's own
    field, a key that is no name. Haystack's own function is asked instead, of every document."""


def to_filter(filters: Mapping[str, Any] | None) -> Filter | None:
    """None for all documents. Raises FilterError as Haystack does, Inexpressible.

    >>> to_filter({"field": "meta.year", "operator": "!=", "value": 2024})
    {'not': {'year': {'eq': 2024}}}
    """
    if not filters:
        return None
    if not isinstance(filters, Mapping):
        raise FilterError("filters must be a dictionary")
    return _comparison(filters) if "field" in filters else _logical(filters)


def _logical(filters: Mapping[str, Any]) -> Filter:
    for key in ("operator", "conditions"):
        if key not in filters:
            raise FilterError(f"{key!r} key missing in {dict(filters)}")
    operator, conditions = filters["operator"], filters["conditions"]
    if operator not in ("AND", "OR", "NOT"):
        raise FilterError(f"expected AND, OR or NOT, got {operator!r}")
    made, inexpressible = [], None
    for one in conditions:
        try:
            made.append(_comparison(one) if "field" in one else _logical(one))
        except Inexpressible as error:
            inexpressible = error
    # After all were looked at: what is wrong is said before what is merely slow.
    if inexpressible is not None or not made:
        raise inexpressible or Inexpressible
    if operator == "OR":
        return {"or": made}
    return {"and": made} if operator == "AND" else {"not": {"and": made}}


def _comparison(filters: Mapping[str, Any]) -> Filter:
    for key in ("field", "operator", "value"):
        if key not in filters:
            raise FilterError(f"{key!r} key missing in {dict(filters)}")
    field, operator, value = filters["field"], filters["operator"], filters["value"]
    name = field.removeprefix("meta.")
    if operator in _ORDERED:
        return _ordered(name, operator, value, field in _OWN)
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"expected a list as the value of {operator!r}, got {type(value).__name__}")
        return _negated(_any_of(name, value, field in _OWN), operator == "not in")
    if operator not in ("==", "!="):
        raise FilterError(f"unknown operator {operator!r}")
    return _negated(_any_of(name, [value], field in _OWN), operator == "!=")


def _any_of(name: str, values: list[Any], own: bool) -> Filter:
    if own or not filterable(name) or any(_is_date(one) or not (one is None or is_scalar(one)) for one in values):
        raise Inexpressible
    # null is a field that is not there.
    made = any_of(name, [one for one in values if one is not None])
    return {"or": [made, {name: {"eq": None}}, {name: {"exists": False}}]} if None in values else made


def _ordered(name: str, operator: str, value: Any, own: bool) -> Filter:
    if value is None:
        return NOTHING
    if isinstance(value, list):
        raise FilterError(f"{operator!r} orders numbers and dates, not lists")
    if isinstance(value, datetime) or _is_date(value):
        raise Inexpressible
    if isinstance(value, str):
        raise FilterError(f"{operator!r} orders numbers and dates; a text must be an ISO date, got {value!r}")
    if own or not filterable(name) or isinstance(value, bool) or not is_scalar(value):
        raise Inexpressible
    return {name: {_ORDERED[operator]: value}}


def _negated(made: Filter, negated: bool) -> Filter:
    return {"not": made} if negated else made


def _is_date(value: object) -> bool:
    """Whether Haystack may compare it as a date."""
    if isinstance(value, datetime):
        return True
    return isinstance(value, str) and len(value) >= 10 and value[:4].isdigit() and value[4] == value[7] == "-"
