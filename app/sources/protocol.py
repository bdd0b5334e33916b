"""The protocol of a source of documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from app.errors import MalformedBody, RequestError
from app.types import Document

Unit: TypeAlias = Literal["line", "page", "row"]
"""The unit in which places of a file are counted, from 1."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a source is no document and no fault. reason: in words that a number stands before."""

    reason: str
    count: int = 1


class Entry(NamedTuple):
    """One document, one fault, or what is left out.

    line: where in the source, counted from 1 in ``unit``; 0 is all of a file. file: which of a source of several; empty
    where it is one.
    """

    line: int
    found: Document | RequestError | LeftOut
    file: str = ""
    unit: Unit = "line"

    @property
    def place(self) -> str:
        """
        >>> Entry(3, LeftOut("empty"), "a.pdf", "page").place, Entry(2, LeftOut("empty")).place
        ('a.pdf, page 3', 'line 2')
        """
        return ", ".join(filter(None, (self.file, f"{self.unit} {self.line}" if self.line else "")))


class Unreadable(MalformedBody):
    """A fault of a file at a place of it. number: counted from 1 in ``unit``; 0 is all of it."""

    def __init__(self, message: str, number: int = 0, unit: Unit = "line") -> None:
        super().__init__(message)
        self.number = number
        self.unit: Unit = unit


class Source(Protocol):
    """Documents in a fixed order, read once and lazily: memory does not grow with the source.

    A line that is no document is an entry with its error, and the next line is read; what makes all the rest
    unreadable (a torn gzip stream) is raised as MalformedBody, a missing file as NotFound. Of a source of several files
    it is an entry too, and the next file is read.
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
