"""Markdown, and plain text: as it is. YAML front matter of Markdown becomes metadata, its first heading the title."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from app.errors import Invalid
from app.sources.files.content import Content, content_of, decoded
from app.sources.metadata import kept
from app.sources.protocol import Unreadable

MAX_FRONT: Final = 64 * 2**10
"""Characters of front matter."""
_FRONT: Final = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+(\S.*)")
_UNDERLINE: Final = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*$")


def read_text(path: Path, charset: str | None) -> Content:
    """Raises Unreadable, TooLarge, OSError."""
    return Content(decoded(content_of(path), charset))


def read_markdown(path: Path, charset: str | None) -> Content:
    """Raises Unreadable, TooLarge, Invalid for front matter that metadata cannot hold, OSError."""
    text = decoded(content_of(path), charset)
    metadata: dict[str, Any] = {}
    if (front := _FRONT.match(text[: MAX_FRONT + 4])) and (parsed := _front(front[1])) is not None:
        metadata, text = parsed, text[front.end() :]
    title = metadata.pop("title", None)
    if title is not None and not isinstance(title, str):
        title = str(title)
    return Content(text, title or first_heading(text), kept(metadata))


def first_heading(text: str) -> str:
    """Of Markdown, outside of fenced code; empty where there is none.

    >>> first_heading("```\\n# no\\n```\\nBirds\\n=====\\n# Wrens #")
    'Birds'
    """
    fence, before = "", ""
    for line in text.splitlines():
        marker = _FENCE.match(line)
        if marker and fence in ("", marker[1]):
            fence = "" if fence else marker[1]
        elif not fence:
            if heading := _HEADING.match(line):
                return heading[1].rstrip().rstrip("#").rstrip()
            if before and _UNDERLINE.match(line):
                return before
            before = line.strip()
    return ""


def _front(text: str) -> dict[str, Any] | None:
    """None where it is no mapping: then the lines were rules, and the text between them is text."""
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            # A few of these, one in the other, would be gigabytes.
            if isinstance(token, yaml.AliasToken):
                raise Unreadable("front matter: aliases are not taken", token.start_mark.line + 2)
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Unreadable(f"front matter: not YAML: {error.problem}", mark.line + 2 if mark else 1) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, Invalid):
            raise
        raise Unreadable(f"front matter: not YAML: {error}", 1) from error
    return found if isinstance(found, dict) else None
