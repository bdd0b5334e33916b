"""The last queries that a collection was asked, kept where the operator wants it, to tune and to measure with.

One file of lines, each a CRC-32 and a JSON object, `{"text"}` or `{"vectors", "dim"}` (float32, base64), and what the
search found, where that is known. A line is one
write without fsync: what was logged survives the process, and a power loss may take the last ones. A line that is torn
or damaged is left out. When the file has grown by a quarter beyond what is kept, or beyond its bytes, it is replaced by
its last lines. Its name begins with a dot, so that no snapshot takes it and no archive brings one.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import SystemFault
from app.store.files import file_size
from app.store.local_directory import LocalDirectory
from app.types import F32

NAME: Final = ".queries"
MOST_BYTES: Final = 16 * 2**20
"""Of the file of one collection."""
LONGEST: Final = 2**20
"""Bytes of a line; a longer query is not kept."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave. hits: of its page; best: the score of the first one, None without any. took_ms: in all."""

    mode: str
    hits: int
    best: float | None
    took_ms: float


@dataclass(frozen=True, slots=True)
class Logged:
    """A query as it came: its text, or its vectors (q, dim) float32. found: None for a later page, which does not tell
    what is best."""

    text: str | None = None
    vectors: F32 | None = None
    found: Found | None = None


class QueryLog:
    """Of one collection; safe from any thread."""

    def __init__(self, folder: Path, kept: int) -> None:
        """kept: how many queries ``record`` keeps, the last ones; 0 is none."""
        self._folder, self._kept = LocalDirectory(folder), kept
        self._lock = threading.Lock()
        self._lines = -1
        self._bytes = 0
        self._failing = False

    @property
    def nbytes(self) -> int:
        """On disk."""
        return file_size(self._folder, NAME)

    def record(self, queries: Iterable[Logged]) -> None:
        """Keeps them; never fails a search: where the disk takes nothing, the log says so and they are not kept."""
        if not self._kept:
            return
        lines = [line for line in map(_line, queries) if len(line) <= LONGEST]
        with self._lock:
            try:
                self._append(lines)
                self._failing = False
            except (OSError, SystemFault) as error:
                if not self._failing:
                    log.warning("queries of collection %s are not kept: %s", self._folder.name, error)
                self._failing, self._lines = True, -1

    def all(self) -> list[Logged]:
        """The kept queries, the oldest first."""
        with self._lock:
            content = self._read()
        found = [_parse(line) for line in content.splitlines()]
        return [one for one in found if one is not None][-self._kept :]

    def clear(self) -> int:
        """Removes all of them; how many there were."""
        with self._lock:
            count = sum(_parse(line) is not None for line in self._read().splitlines())
            self._folder.remove(NAME)
            self._lines, self._bytes = 0, 0
        return min(count, self._kept) if self._kept else count

    def _append(self, lines: list[bytes]) -> None:
        if self._lines < 0:
            self._shorten()
        part = b"".join(lines)
        self._folder.append(NAME, part)
        self._lines += len(lines)
        self._bytes += len(part)
        if self._lines > self._kept + self._kept // 4 or self._bytes > MOST_BYTES:
            self._shorten()

    def _shorten(self) -> None:
        """The last whole lines, as many as are kept, and of half the bytes where there were too many."""
        content = self._read()
        lines = [line for line in content.splitlines(keepends=True) if _parse(line) is not None][-self._kept :]
        most = MOST_BYTES if len(content) <= MOST_BYTES else MOST_BYTES // 2
        ends = np.cumsum([len(line) for line in reversed(lines)])
        lines = lines[len(lines) - int(np.count_nonzero(ends <= most)) :]
        kept = b"".join(lines)
        if kept != content:
            part = f"{NAME}.part"
            self._folder.append(part, kept, anew=True)
            self._folder.publish(part, NAME)
        self._lines, self._bytes = len(lines), len(kept)

    def _read(self) -> bytes:
        try:
            return self._folder.read(NAME)
        except FileNotFoundError:
            return b""


def _line(query: Logged) -> bytes:
    if query.vectors is None:
        value: dict[str, object] = {"text": query.text}
    else:
        matrix = np.ascontiguousarray(query.vectors, "<f4")
        value = {"vectors": base64.b64encode(matrix.tobytes()).decode(), "dim": matrix.shape[1]}
    if query.found is not None:
        value["found"] = asdict(query.found)
    content = json.dumps(value).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _parse(line: bytes) -> Logged | None:
    """None for a line that is not as it was written."""
    content = line[9:].rstrip(b"\n")
    if line[:9] != b"%08x " % zlib.crc32(content):
        return None
    value = json.loads(content)
    found = Found(**value["found"]) if "found" in value else None
    if "text" in value:
        return Logged(text=value["text"], found=found)
    flat = np.frombuffer(base64.b64decode(value["vectors"]), "<f4").astype(np.float32)
    return Logged(vectors=flat.reshape(-1, value["dim"]), found=found)
