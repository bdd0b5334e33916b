"""JSON: an array of objects, one object, or one a line (NDJSON). Which it is, its beginning tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, NoReturn

from app.errors import MalformedBody, RequestError, TooLarge
from app.sources.files.content import content_of, decoded
from app.sources.lines import Lines
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row

_SPACE: Final = " \t\r\n"


def read_json(path: Path | None) -> Iterator[Row]:
    """Raises Unreadable where what follows cannot be read, TooLarge."""
    lines = Lines(path)
    entries = lines.entries()
    first: list[tuple[int, bytes | TooLarge]] = []
    for number, line in entries:
        first.append((number, line))
        if isinstance(line, RequestError) or line.strip():
            break
    begins = first[-1][1] if first else b""
    if isinstance(begins, bytes) and not _is_object(begins):
        if path is None or path.suffix in (".gz", ".zst"):
            what = "unpack an array, or an object of lines, before" if path else "give an array as a file"
            raise Unreadable(f"expected one JSON object a line (NDJSON): {what}")
        yield from _whole(decoded(content_of(path)))
        return
    for number, line in chain(first, entries):
        share = lines.done / max(1, lines.total or 0)
        if isinstance(line, RequestError):
            yield Row(number, line, share, unit="line")
        elif line.strip():
            try:
                yield Row(number, _object(_parsed(line.decode())), share, unit="line")
            except UnicodeDecodeError as error:
                yield Row(number, MalformedBody(f"not UTF-8: {error}"), share, unit="line")
            except RequestError as error:
                yield Row(number, error, share, unit="line")


def _is_object(line: bytes) -> bool:
    """Whether a line is an object by itself, or was meant to be one."""
    try:
        return isinstance(_parsed(line.decode()), dict)
    except (RequestError, UnicodeDecodeError):
        # The first line of an object of several is none and ends within it; of NDJSON a bad one ends with its brace.
        return line.lstrip()[:1] == b"{" and line.rstrip()[-1:] == b"}"


def _whole(text: str) -> Iterator[Row]:
    """Of an array or an object. The number of a row is its place in the array, the one of a fault its line."""
    decoder = json.JSONDecoder(parse_constant=_no_number)
    at = _after(text, 0)
    if text[at : at + 1] != "[":
        found, end = _next(decoder, text, at)
        if (rest := _after(text, end)) < len(text):
            raise _not("expected the end of the file", text, rest)
        yield Row(0, _object(found), 1.0)
        return
    at, number = _after(text, at + 1), 0
    while text[at : at + 1] != "]":
        number += 1
        found, at = _next(decoder, text, at)
        try:
            yield Row(number, _object(found), at / len(text))
        except MalformedBody as error:
            yield Row(number, error, at / len(text))
        at = _after(text, at)
        if text[at : at + 1] == ",":
            at = _after(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _not("expected a comma or the end of the array", text, at)
    if (rest := _after(text, at + 1)) < len(text):
        raise _not("expected the end of the file", text, rest)


def _next(decoder: json.JSONDecoder, text: str, at: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _not(error.msg, text, error.pos) from error
    except (RecursionError, ValueError) as error:
        raise _not(str(error), text, at) from error


def _not(why: str, text: str, at: int) -> Unreadable:
    return Unreadable(f"not JSON: {why}; what follows is not read", text.count("\n", 0, at) + 1)


def _after(text: str, at: int) -> int:
    """Where the next character is that is no space."""
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _parsed(line: str) -> Any:
    try:
        return json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"not JSON: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise MalformedBody(f"expected a JSON object, got {type(found).__name__}")
    return found
