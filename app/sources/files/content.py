"""What a file says, and how its bytes become text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.errors import Invalid, TooLarge
from app.sources.protocol import LeftOut, Unreadable
from app.types import Metadata

MAX_FILE: Final = 256 * 2**20
"""Bytes of a file that is read into memory."""
MAX_TEXT: Final = 32 * 2**20
"""Characters of the text of a document."""
PAGE: Final = "\f"
"""Between two pages: the page of a place is the number of these before it, and one."""

_MARKED: Final = re.compile(r"^(?= {0,3}#{1,6}[ \t]+\S)", re.MULTILINE)
"""Where a line begins that Markdown has as a heading."""
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Content:
    """title: as the file gives it; empty where it gives none. faults: of parts that could not be read, while the others
    are in the text. left_out: parts without text."""

    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    faults: Sequence[Unreadable] = ()
    left_out: Sequence[LeftOut] = ()


def content_of(path: Path) -> bytes:
    """Raises TooLarge, OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise TooLarge(f"a file may have {MAX_FILE:,} bytes, this one has more")
    return content


def decoded(content: bytes, charset: str | None = None, declared: str | None = None) -> str:
    """The bytes as text, without a mark of their order, with `\\n` at the ends of lines.

    UTF-8 and what begins with a mark need no name. declared: what the file itself says, taken first. charset: what the
    caller says of files that are not UTF-8. Raises Unreadable with the line.
    """
    for mark, name in _BOMS:
        if content.startswith(mark):
            return plain(_as(content[len(mark) :], name))
    for name in filter(None, (declared, "utf-8", charset)):
        try:
            return plain(content.decode(name))
        except (UnicodeDecodeError, LookupError) as error:
            fault = error if name == "utf-8" else None
            if fault is not None and charset is None:
                raise _not(content, error, "UTF-8") from error
    return plain(_as(content, charset or "utf-8"))


def plain(text: str) -> str:
    """With `\\n` at the ends of lines. Raises Unreadable for what is no text, TooLarge."""
    if len(text) > MAX_TEXT:
        raise TooLarge(f"a text may have {MAX_TEXT:,} characters, this one has {len(text):,}")
    if (place := text.find("\0")) >= 0:
        raise Unreadable("no text: it holds a NUL character", text.count("\n", 0, place) + 1)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def known_charset(name: str) -> str:
    """The name itself. Raises Invalid for a charset that Python does not know as one."""
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        raise Invalid(f"--charset: expected a charset such as utf-8, cp1252, shift_jis, got {name!r}") from None
    return name


def _as(content: bytes, name: str) -> str:
    try:
        return content.decode(name)
    except UnicodeDecodeError as error:
        raise _not(content, error, name) from error


def _not(content: bytes, error: UnicodeDecodeError | LookupError, name: str) -> Unreadable:
    start = error.start if isinstance(error, UnicodeDecodeError) else 0
    shown = content[start : start + 1].hex()
    return Unreadable(
        f"not {name} (byte 0x{shown}); name the charset that it has (--charset cp1252, shift_jis, ...)",
        content.count(b"\n", 0, start) + 1,
    )


def tidied(text: str) -> str:
    """Without spaces at the ends of lines, more than one blank line at a place, and space around all.

    >>> tidied("  a  \\n\\n\\n\\nb ")
    'a\\n\\nb'
    """
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t\xa0]+\n", "\n", text)).strip()


def unmarked(text: str) -> str:
    """Text that was read out of something else than text, of which no line is a Markdown heading: what would be one is
    moved in, as Markdown's code is. A text file stays as it is, to the byte.

    >>> unmarked("#!/bin/sh\\n# a comment\\n  ## two")
    '#!/bin/sh\\n    # a comment\\n      ## two'
    """
    return _MARKED.sub("    ", text) if "#" in text else text


def texts(given: Mapping[str, object]) -> Metadata:
    """Those of the values that are texts and not blank."""
    return {key: value.strip() for key, value in given.items() if isinstance(value, str) and value.strip()}
