"""The protocol of a source of documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from app.errors import RequestError
from app.types import Document


class Entry(NamedTuple):
    """One document or one bad line. line: where in the source, counted from 1."""

    line: int
    found: Document | RequestError


class Source(Protocol):
    """Documents in a fixed order, read once and lazily: memory does not grow with the source.

    A line that is no document is an entry with its error, and the next line is read; what makes all the rest
    unreadable (a torn gzip stream) is raised as MalformedBody, a missing file as NotFound.
    """

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def unit(self) -> Literal["bytes", "documents"]:
        """The unit of ``total`` and ``done``."""
        ...

    @property
    def total(self) -> int | None:
        """Of the whole source; None where it cannot be known (standard input). Known once the first entry came."""
        ...

    @property
    def done(self) -> int:
        """Read so far; equals ``total`` at the end."""
        ...

    @property
    def skipped(self) -> int:
        """Documents left out so far since they have neither title nor text."""
        ...

    def entries(self) -> Iterator[Entry]: ...
