"""Metadata as a caller gives it: any JSON object, within limits that keep its columns small."""

from __future__ import annotations

import math
from typing import Any, Final

from app.schema.faults import name_of
from app.types import Metadata

MAX_DEPTH: Final = 20
"""Objects and lists in one another, the metadata itself counted."""
MAX_KEYS: Final = 10_000
"""Of all objects of one document's metadata."""
MAX_ITEMS: Final = 100_000
"""Of all lists."""
MAX_SIZE: Final = 2**22
"""Characters of all strings and keys."""
MAX_INTEGER: Final = 10**308
"""As large as a float can be, nearly, so that any two numbers can be compared."""


class Unfit(ValueError):
    """What is no metadata. at: the keys and places that lead to it."""

    def __init__(self, at: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.at, self.message = at, message


def read(value: object) -> Metadata:
    """The same, once it was looked at. Raises Unfit at the first value that cannot be.

    >>> read({"by": {"name": "Ada", "born": None}, "marks": [1, 2.5]})
    {'by': {'name': 'Ada', 'born': None}, 'marks': [1, 2.5]}
    """
    if not isinstance(value, dict):
        raise Unfit((), f"expected an object, got {name_of(value)}")
    _Walk().enter(value, (), 1)
    return value


class _Walk:
    def __init__(self) -> None:
        self.keys = self.items = self.size = 0

    def enter(self, value: Any, at: tuple[str | int, ...], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Unfit(at, f"metadata is nested at most {MAX_DEPTH} deep")
        if isinstance(value, list):
            self.items += len(value)
            if self.items > MAX_ITEMS:
                raise Unfit(at, f"the lists of metadata have at most {MAX_ITEMS:,} items together")
            for i, item in enumerate(value):
                self.look(item, (*at, i), depth)
            return
        self.keys += len(value)
        if self.keys > MAX_KEYS:
            raise Unfit(at, f"metadata has at most {MAX_KEYS:,} keys, those of nested objects counted")
        for key, item in value.items():
            if not isinstance(key, str):
                raise Unfit((*at, str(key)), f"expected a string as a key, got {name_of(key)}")
            self.count(key, (*at, key))
            self.look(item, (*at, key), depth)

    def look(self, item: object, at: tuple[str | int, ...], depth: int) -> None:
        if isinstance(item, str):
            self.count(item, at)
        elif item is None or isinstance(item, bool):
            return
        elif isinstance(item, int):
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise Unfit(at, "an integer has at most 308 digits")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise Unfit(at, "expected a finite number")
        elif isinstance(item, dict | list):
            self.enter(item, at, depth + 1)
        else:
            raise Unfit(at, f"expected what JSON has, got {type(item).__name__}")

    def count(self, text: str, at: tuple[str | int, ...]) -> None:
        self.size += len(text)
        if self.size > MAX_SIZE:
            raise Unfit(at, f"the strings and keys of metadata have at most {MAX_SIZE:,} characters together")
