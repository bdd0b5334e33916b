"""What is wrong with a value that came as JSON, and where: faults that validators raise, in Sheaf's own words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic_core import ErrorDetails, PydanticCustomError


def fault(at: str, message: str) -> PydanticCustomError:
    """A fault to raise inside a validator; ``at`` is a JSON pointer relative to the validated value."""
    return PydanticCustomError("fault", "{message}", {"message": message, "at": at})


def pointer(parts: Iterable[str | int]) -> str:
    """Path parts as a JSON pointer (RFC 6901, section 3); a very long key is cut.

    >>> pointer(["documents", 0, "a/b~c"])
    '/documents/0/a~1b~0c'
    """
    keys = (str(part) for part in parts)
    cut = (key if len(key) <= 200 else key[:200] + "…" for key in keys)
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in cut)


_PLAIN: Final = {
    "missing": "required, but missing",
    "extra_forbidden": "unknown field",
    "string_pattern_mismatch": "expected a string that matches {pattern}",
    "string_too_long": "expected at most {max_length} characters",
    "too_short": "expected at least {min_length}, got {actual_length}",
    "too_long": "expected at most {max_length}, got {actual_length}",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
}
"""pydantic's types of faults -> our words, with what it tells of them."""


def plain(fault: ErrorDetails) -> str:
    """The fault, in our words; pydantic's own speak of its classes.

    >>> plain({"type": "less_than_equal", "loc": ("k",), "msg": "", "input": 7, "ctx": {"le": 5}})
    'expected 5 or less'
    """
    ours = _PLAIN.get(fault["type"])
    return ours.format(**fault.get("ctx", {})) if ours else fault["msg"].replace("Input should be", "expected")


def name_of(value: object) -> str:
    """The kind of a value of JSON, for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
