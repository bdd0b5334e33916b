"""What schemathesis does not know of bodies, and what would cost it too much; SCHEMATHESIS_HOOKS loads it."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


def content(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.serializer("application/x-ndjson")
def lines(_: Any, value: Any) -> bytes:
    return content(value)


@schemathesis.serializer("application/x-tar")
def archive(_: Any, value: Any) -> bytes:
    return content(value)


@schemathesis.serializer("application/x-npy", "application/vnd.apache.arrow.stream")
def arrays(_: Any, value: Any) -> bytes:
    return content(value)


@schemathesis.hook
def before_load_schema(_: Any, raw_schema: dict[str, Any]) -> None:
    """A text that is not blank: one character and a length become `\\S{1,100000}`, which leaves spaces out, and is
    compiled for seconds wherever it stands. Two branches that say the same are taken as they are."""

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("pattern") == r"\S":
                value["pattern"] = r"\S|\S"
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(raw_schema)


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """A search that is given no time ends in 504, as it is meant to; here each has enough."""
    if isinstance(case.body, dict):
        listed = case.body.get("searches")
        for one in [case.body, *(listed if isinstance(listed, list) else [])]:
            if isinstance(one, dict) and type(one.get("timeout_ms")) is int and 0 < one["timeout_ms"] < 60_000:
                one["timeout_ms"] = 60_000
