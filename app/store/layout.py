"""The names on disk: of collections, and of what lies in the folder of each. indexes/README.md says what each holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import FormatTooNew, Invalid

FORMAT: Final = 4
"""The number of the format on disk; a collection of another one is refused. indexes/README.md specifies it."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Of a collection."""

PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_]+)*", re.ASCII)
"""Names of files that come from others: a part of a path, never one."""

DATABASE: Final = "collection.sqlite"
MARK: Final = "commits.mark"
PARTLY: Final = "copy.partly"
"""In a copy of which large files come by blocks, and some may not be here."""
WRITER_LOCK: Final = "writer.lock"
SEGMENTS: Final = "segments"
TAIL: Final = "tail"
IMPORTS: Final = "imports"
ENCODINGS: Final = "encodings"
SNAPSHOTS: Final = ".snapshots"
"""Beside the collections, where no collection's name can reach."""


@contextmanager
def of_this_version(what: str) -> Iterator[None]:
    """For reading a record whose checksum is right: one that is not understood was written by another version.

    Raises FormatTooNew.
    """
    try:
        yield
    except (Invalid, KeyError, TypeError, ValueError, AttributeError) as error:
        why = error.message if isinstance(error, Invalid) else f"{type(error).__name__}: {error}"
        raise FormatTooNew(f"{what} was written by another version of Sheaf, use that one ({why})") from error


def check_name(name: str) -> None:
    """Raises Invalid for an invalid name of a collection."""
    if not NAME.fullmatch(name):
        raise Invalid.at("/name", f"a collection's name matches {NAME.pattern}; got {name!r}")
