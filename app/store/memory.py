"""Whether what is to be loaded fits into memory: refused with the figures, before the kernel ends the process for it.

The memory that counts is a process's own: indexes, small arrays and the tail. Mapped files are read through the
page cache, which gives way.
"""

from __future__ import annotations

from app.compute.quota import available_memory
from app.errors import MemoryShort


def require_room(name: str, needed: int) -> None:
    """Raises MemoryShort where ``needed`` more bytes do not fit."""
    left = available_memory()
    if left is not None and needed > left:
        raise MemoryShort(
            f"collection {name} needs {needed:,} bytes of memory, {left:,} are available: it is not opened; nothing of "
            "it is lost. Give the server more memory, or fewer collections, and start it again"
        )
