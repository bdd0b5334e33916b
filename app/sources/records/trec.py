"""TREC's markup: <DOC> with <DOCNO>, and what else stands in it. Line by line, so a collection may be any size."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from app.errors import RequestError, TooLarge
from app.sources.files.content import MAX_TEXT, decoded, tidied
from app.sources.lines import Lines
from app.sources.protocol import Unreadable
from app.sources.records.rows import Row

_NUMBER: Final = re.compile(r"<DOCNO>(.*?)</DOCNO>", re.DOTALL | re.IGNORECASE)
_TITLE: Final = re.compile(r"<(TITLE|HEADLINE|HL|TI)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_TEXT: Final = re.compile(r"<(TEXT|BODY)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,500}>")


def read_trec(path: Path, charset: str | None = None) -> Iterator[Row]:
    """The line of a row is that of its <DOC>. Raises MalformedBody for a torn stream."""
    lines = Lines(path)
    row = partial(Row, unit="line")
    begun, piece, size = 0, [b""], 0
    for number, line in lines.entries():
        share = lines.done / max(1, lines.total or 0)
        if isinstance(line, RequestError):
            yield row(number, line, share)
            continue
        mark = line.strip()[:6].upper()
        if mark.startswith(b"<DOC>"):
            if begun:
                yield row(begun, Unreadable(f"<DOC> is not closed before line {number:,}"), share)
            begun, piece, size = number, [], 0
        elif not begun and mark:
            yield row(number, Unreadable("expected <DOC>"), share)
            continue
        size += len(line)
        if size <= MAX_TEXT:
            piece.append(line)
        if begun and line.rstrip()[-6:].upper() == b"</DOC>":
            yield _row(row, begun, b"\n".join(piece), size, charset, share)
            begun = 0
    if begun:
        yield row(begun, Unreadable("not whole: <DOC> is not closed"), 1.0)


def _row(row: Any, begun: int, content: bytes, size: int, charset: str | None, share: float) -> Row:
    try:
        if size > MAX_TEXT:
            raise TooLarge(f"a document may have {MAX_TEXT:,} bytes, this one has {size:,}")
        text = decoded(content, charset)
    except RequestError as error:
        found: Row = row(begun, error, share)
        return found
    number = _NUMBER.search(text)
    if number is None:
        return row(begun, Unreadable("expected <DOCNO>"), share)  # type: ignore[no-any-return]
    title = " ".join(_plain(one[2]) for one in _TITLE.finditer(text))
    bodies = [one[2] for one in _TEXT.finditer(text)] or [_TITLE.sub("", text[number.end() :])]
    record = {"id": _plain(number[1]), "title": title, "text": "\n\n".join(map(_plain, bodies))}
    return row(begun, record, share)  # type: ignore[no-any-return]


def _plain(markup: str) -> str:
    return tidied(html.unescape(_TAG.sub(" ", markup)))
