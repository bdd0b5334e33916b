"""Named steps of what must survive a crash. ``reach`` does nothing, until a test sets ``hook``.

tests/faults kills a process at every one of these names, in every operation that comes by; so a step that is added to a
write or a swap is named here, where it stands in the code, and is tested without another line.
"""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None
"""Told of every step that is reached. Set by tests alone; nothing in the environment can set it."""


def reach(step: str) -> None:
    """A step of that name is reached."""
    if hook is not None:
        hook(step)
