"""Whether what is to be loaded fits into memory: refused with the figures, before the kernel ends the process for it.

What counts is what a process takes for itself: indexes, small arrays and the tail. Mapped files are read through the
page cache, which gives way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from app.errors import MemoryShort

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that may still be taken: of the machine, or of the container's limit if that is less. None: unknown."""
    found = [left for left in (_of_machine(), _of_container()) if left is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _of_container() -> int | None:
    """Under cgroup v2, seen from inside. What the page cache holds of the limit gives way, so it is not counted."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(cached.get("file", 0)))
    except (OSError, ValueError):
        # No such file, or `max`: no limit.
        return None


def require_room(name: str, needed: int) -> None:
    """Raises MemoryShort where ``needed`` more bytes do not fit."""
    left = available()
    if left is not None and needed > left:
        raise MemoryShort(
            f"collection {name} needs {needed:,} bytes of memory, {left:,} are available: it is not opened; nothing of "
            "it is lost. Give the server more memory, or fewer collections, and start it again"
        )
