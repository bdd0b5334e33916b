"""Whether a store keeps the conditions of puts, found by asking it: one that ignores them would let two writers win."""

from __future__ import annotations

from typing import Final

from app.errors import ObjectChanged, ObjectTaken, StoreRefused
from app.objects.clock import Clock
from app.objects.protocol import Objects

_PROBES: Final = "probe/"


def check_conditions(objects: Objects, clock: Clock | None = None) -> None:
    """Puts an object of its own four times, twice against its condition, and removes it.

    Raises StoreRefused where the store takes what it has to refuse, StoreUnavailable.
    """
    nonce = (clock or Clock()).nonce
    name = f"{_PROBES}{nonce()}"
    tag = objects.put_new(name, nonce().encode())
    try:
        try:
            objects.put_new(name, nonce().encode())
        except ObjectTaken:
            pass
        else:
            raise _ignored(objects, "If-None-Match", "an object in the place of another")
        objects.replace(name, nonce().encode(), tag)
        try:
            objects.replace(name, nonce().encode(), tag)
        except ObjectChanged:
            pass
        else:
            raise _ignored(objects, "If-Match", "an object in the place of one that had changed")
    finally:
        objects.remove([name])


def _ignored(objects: Objects, condition: str, taken: str) -> StoreRefused:
    return StoreRefused(
        f"{objects.place} does not keep the condition {condition} of a put: it took {taken}, so two writers could both "
        "have acknowledged the same commit; nothing was put there. Use a store that keeps conditional puts (Amazon S3, "
        "a recent MinIO, a folder)"
    )
