"""How much of what one request may hold, where the schema of its body must know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.types import MAX_K


@dataclass(frozen=True, slots=True)
class Limits:
    """Given to the schemas as their context; ``app.settings`` says what each is."""

    k: int = MAX_K
    candidates: int = 100_000
    vectors: int = 65_536
    query_vectors: int = 4_096
    filter_depth: int = 32
    filter_conditions: int = 4_096


DEFAULT: Final = Limits()


def limits_of(context: object) -> Limits:
    """The limits that a schema was given, else the defaults."""
    return context if isinstance(context, Limits) else DEFAULT
