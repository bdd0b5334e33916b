"""Bulk build through a server that holds the collection: one streamed import, whose task is then followed.

The server lists bad lines by their place in what it was sent; here they get back their place in the source.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from app.client import Collection, Task
from app.client.operations import PIECE
from app.documents import to_line
from app.errors import RequestError
from app.load.bulk import BadLine, OnError, Stopped, Summary, at
from app.load.marked import MARK, PAGE, Marked, marked
from app.sources.protocol import Entry, LeftOut, Source, Unit
from app.types import Kind

TIMEOUT_S: Final = 300.0
"""Without a byte from the server; it answers an import once the whole body is on its disk."""


class Places:
    """Where in the source each document is that was sent: 8 bytes each, and a little for each file."""

    def __init__(self) -> None:
        self._lines = array("q")
        self._firsts: list[int] = []
        self._files: list[tuple[str, Unit]] = []

    def add(self, entry: Entry) -> None:
        if not self._files or self._files[-1] != (entry.file, entry.unit):
            self._firsts.append(len(self._lines))
            self._files.append((entry.file, entry.unit))
        self._lines.append(entry.line)

    def __getitem__(self, number: int) -> str:
        """The place of the document that was sent as this one, from 0."""
        file, unit = self._files[bisect_right(self._firsts, number) - 1]
        return Entry(self._lines[number], LeftOut(""), file, unit).place


def send(collection: Collection, kind: Kind, source: Source, on_error: OnError, bad_line: BadLine,
         progress: Callable[[Summary], None]) -> tuple[Task, Summary, Places]:  # fmt: skip
    """Streams the source as one import: its task, what was sent, and the place of each line sent.

    Raises Stopped at a bad line where ``on_error`` is `stop`, and what the server answers."""
    summary, places = Summary(), Places()
    pieces = _pieces(source, kind, on_error, bad_line, summary, places, progress)
    task = collection.import_lines(pieces, on_error=on_error)
    summary.skipped = source.skipped
    return task, summary, places


def delete_gone(collection: Collection, source: Marked) -> int:
    """Deletes what carries the mark of a source and is not in it; how many those were. Looked at again just before: a
    document that somebody else has written since stays, where it has no such mark."""
    there = collection.documents(filter=marked(source.mark), include=("metadata",))
    gone = [document.id for document in there if document.id not in source.ids]
    deleted = 0
    for first in range(0, len(gone), PAGE):
        found = collection.get_many(gone[first : first + PAGE], include=("metadata",))
        if still := [one.id for one in found if one.metadata.get(MARK) == source.mark]:
            deleted += collection.delete(still)
    return deleted


def _pieces(
    source: Source, kind: Kind, on_error: OnError, bad_line: BadLine, summary: Summary, places: Places,
    progress: Callable[[Summary], None],
) -> Iterator[bytes]:  # fmt: skip
    piece = bytearray()
    for entry in source.entries():
        found = entry.found
        if isinstance(found, LeftOut):
            summary.left_out[found.reason] += found.count
            continue
        summary.read += 1
        if isinstance(found, RequestError):
            summary.bad += 1
            if on_error == "stop":
                # Ends the request in its middle: the server keeps nothing of it.
                raise Stopped(
                    f"{at(source, entry)}: {found.message}. Nothing of the source is written; "
                    "`--on-error skip` passes over such"
                )
            bad_line(entry.place or source.name, found)
            continue
        places.add(entry)
        piece += to_line(found, kind)
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
            progress(summary)
    yield bytes(piece)
    progress(summary)
