"""The commit mark: the number of the last commit, in a file beside the database.

SQLite drops damaged frames of its write-ahead log at recovery without a word. Every commit has a number; it is written
here after the commit and before the answer, so a database whose number is lower has lost what was acknowledged.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

from app.errors import Damaged
from app.store.layout import MARK
from app.store.local_directory import LocalDirectory

_SLOT: Final = struct.Struct("<8sQI")
_MAGIC: Final = b"sheafmk1"


def create_mark(folder: Path) -> None:
    """The mark of a collection without a commit, durable but for its name."""
    made = LocalDirectory(folder).create(MARK)
    try:
        made.write(_slot(0) + _slot(0))
        made.finish()
    finally:
        made.close()


def write_mark(folder: Path, commits: int) -> None:
    """Durable when it returns."""
    # Two slots in turn: a torn write of one leaves the other, which is one commit behind.
    LocalDirectory(folder).overwrite(MARK, (commits % 2) * 32, _slot(commits))


def read_mark(folder: Path, name: str) -> int:
    """The number of the last commit that was acknowledged. Raises Damaged, SystemFault."""
    try:
        content = LocalDirectory(folder).read(MARK)
    except OSError:  # it is missing, or no file
        content = b""
    found = []
    for start in (0, 32):
        slot = content[start : start + 32]
        if len(slot) == 32 and slot == _slot(int.from_bytes(slot[8:16], "little")):
            found.append(int.from_bytes(slot[8:16], "little"))
    if not found:
        raise Damaged(f"{MARK} of collection {name} is damaged or missing. Restore a backup of the collection.")
    return max(found)


def _slot(commits: int) -> bytes:
    head = _MAGIC + commits.to_bytes(8, "little")
    return _SLOT.pack(_MAGIC, commits, zlib.crc32(head)).ljust(32, b"\0")
