"""Lines of a file, plain or compressed, or of standard input: numbered, bounded, with the place for progress."""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Final

from app.errors import Invalid, MalformedBody, NotFound, TooLarge

MAX_LINE = 64 * 2**20
"""Bytes; a longer line is a bad line, and is not held in memory."""
COMPRESSED: Final = (".gz", ".zst")
"""Suffixes of files that are read as what they hold."""


class Lines:
    """``entries()`` gives (number from 1, line) or (number, TooLarge).

    ``done`` and ``total`` count the bytes of the file as it lies on disk, so compressed ones of a compressed file.
    """

    def __init__(self, path: Path | None, *, ends: bool = False, charset: str = "utf-8") -> None:
        """path: None reads standard input. ends: whether lines keep the end that they have. charset: in which they are
        given, as they lie on disk; only what parts lines otherwise (UTF-16, UTF-32) is turned into UTF-8.

        Raises NotFound for what is no file, Invalid for a compression that is not installed."""
        if path is not None and not path.is_file():
            raise NotFound(f"{path} is not a file")
        self._path = path
        self._ends = ends
        self._wide = codecs.lookup(charset).name if codecs.lookup(charset).name.startswith(("utf-16", "utf-32")) else ""
        self.charset = "utf-8" if self._wide else charset
        self.name = "standard input" if path is None else str(path)
        self._zstd = _zstd(self.name) if path is not None and path.suffix == ".zst" else None
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
            elif self._zstd is not None:
                with self._zstd.ZstdFile(file) as content:
                    yield from self._read(content, file)
            else:
                yield from self._read(file, file)

    def _read(
        self, content: IO[bytes] | gzip.GzipFile, file: IO[bytes] | None
    ) -> Iterator[tuple[int, bytes | TooLarge]]:
        number = 0
        if self._wide:
            content = codecs.EncodedFile(content, "utf-8", self._wide)
        while line := self._line(content, number + 1):
            number += 1
            self.done = self.done + len(line) if file is None else file.tell()
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if len(line) <= MAX_LINE:
                yield number, line if self._ends else line.rstrip(b"\r\n")
                continue
            while line and not line.endswith(b"\n"):
                line = self._line(content, number)
            yield number, TooLarge(f"a line may have {MAX_LINE:,} bytes, this one has more")
        if self.total is not None:
            self.done = self.total

    def _line(self, content: IO[bytes] | gzip.GzipFile, number: int) -> bytes:
        try:
            return content.readline(MAX_LINE + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._torn(number, error) from error
        except UnicodeError as error:
            raise MalformedBody(f"{self.name}, line {number}: not {self._wide}: {error}") from error
        except Exception as error:
            if self._zstd is None or not isinstance(error, self._zstd.ZstdError):
                raise
            raise self._torn(number, error) from error

    def _torn(self, number: int, error: Exception) -> MalformedBody:
        form = "gzip" if self._zstd is None else "Zstandard"
        return MalformedBody(f"{self.name}, line {number}: not a whole {form} stream ({error})")


def wide(path: Path | None) -> str | None:
    """The charset of a file that begins with the mark of UTF-16 or UTF-32, None of any other."""
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        mark = file.read(4)
    if mark in (BOM_UTF32_LE, BOM_UTF32_BE):
        return "utf-32"
    return "utf-16" if mark[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else None


def _zstd(name: str) -> ModuleType:
    """Python's own reader of Zstandard, or the same from the extra that older ones need. Raises Invalid."""
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(module)
        except ImportError:
            continue
    raise Invalid(f"{name} is compressed with Zstandard: install sheaf[zstd] to read it, or unpack it (zstd -d) before")
