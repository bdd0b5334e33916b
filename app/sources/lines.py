"""Lines of a file, plain or gzip, or of standard input: numbered, bounded in length, with the place for progress."""

from __future__ import annotations

import gzip
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

from app.errors import MalformedBody, NotFound, TooLarge

MAX_LINE = 64 * 2**20
"""Bytes; a longer line is a bad line, and is not held in memory."""
Readable: TypeAlias = IO[bytes] | gzip.GzipFile


class Lines:
    """``entries()`` gives (number from 1, line without its end) or (number, TooLarge).

    ``done`` and ``total`` count the bytes of the file as it lies on disk, so compressed ones of a gzip file.
    """

    def __init__(self, path: Path | None) -> None:
        """path: None reads standard input. Raises NotFound for what is no file."""
        if path is not None and not path.is_file():
            raise NotFound(f"{path} is not a file")
        self._path = path
        self.name = "standard input" if path is None else str(path)
        self.total = None if path is None else path.stat().st_size
        self.done = 0

    def entries(self) -> Iterator[tuple[int, bytes | TooLarge]]:
        if self._path is None:
            yield from self._read(sys.stdin.buffer, None)
            self.total = self.done
            return
        with self._path.open("rb") as file:
            if self._path.suffix == ".gz":
                with gzip.open(file) as content:
                    yield from self._read(content, file)
            else:
                yield from self._read(file, file)

    def _read(self, content: Readable, file: IO[bytes] | None) -> Iterator[tuple[int, bytes | TooLarge]]:
        number = 0
        while line := self._line(content, number + 1):
            number += 1
            self.done = self.done + len(line) if file is None else file.tell()
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if len(line) <= MAX_LINE:
                yield number, line.rstrip(b"\r\n")
                continue
            while line and not line.endswith(b"\n"):
                line = self._line(content, number)
            yield number, TooLarge(f"a line may have {MAX_LINE:,} bytes, this one has more")
        if self.total is not None:
            self.done = self.total

    def _line(self, content: Readable, number: int) -> bytes:
        try:
            return content.readline(MAX_LINE + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MalformedBody(f"{self.name}, line {number}: not a whole gzip stream ({error})") from error
