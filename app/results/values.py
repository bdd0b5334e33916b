"""Fields and values of metadata, as sorting and counting take them."""

from __future__ import annotations

from typing import TypeAlias

from app.errors import Invalid
from app.filters import is_number
from app.metadata.names import EXPECTED, FIELD, RESERVED
from app.metadata.values import Scalar

Typed: TypeAlias = tuple[int, Scalar]
"""A value and the rank of its type, so that true is not 1, and all have an order."""


def typed(value: Scalar) -> Typed:
    """Booleans come first, then numbers, then strings.

    >>> sorted(map(typed, ["a", 2, True]))
    [(0, True), (1, 2), (2, 'a')]
    """
    return (0 if isinstance(value, bool) else 1 if is_number(value) else 2), value


def require_field(field: str, at: str) -> None:
    """Raises Invalid, pointing at ``at``, for what is no name of a metadata field."""
    if not FIELD.fullmatch(field) or field in RESERVED:
        raise Invalid.at(at, f"{EXPECTED}; and, or, not are quoted, too; got {field[:100]!r}")
