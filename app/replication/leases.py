"""Leases: what readers still need, told to the one that removes.

A lease is an object of its reader's own: the number of the oldest state that it reads from, and until when. They are
about garbage alone. Where clocks disagree by more than the lease's own length, or a reader sleeps, something may be
missing under it, which it finds out; what it reads is never wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from app.errors import ObjectChanged, ObjectMissing, StoreUnavailable
from app.objects.clock import Clock
from app.objects.protocol import Listed, Objects, Tag

LEASES: Final = "leases/"
_SWAPS: Final = 4
_NAME: Final = re.compile(rf"{LEASES}[A-Za-z0-9]+")


class Lease:
    """One reader's, until ``give_back``."""

    def __init__(self, objects: Objects, clock: Clock, lease_s: float) -> None:
        self._objects = objects
        self._clock = clock
        self._name = f"{LEASES}{clock.nonce()}"
        self.lease_s = lease_s
        self._tag: Tag | None = None
        # By the machine's clock and by the process's own, which one of both stands still while they are suspended.
        self._until = (float("-inf"), float("-inf"))

    @property
    def live(self) -> bool:
        """Whether the writer still respects it."""
        return self._clock.now() < self._until[0] and self._clock.passed() < self._until[1]

    @property
    def due(self) -> bool:
        """Whether a third of its time is over."""
        return self._clock.passed() >= self._until[1] - self.lease_s * 2 / 3

    def renew(self, number: int) -> None:
        """It stands at ``number``, from now on for its time."""
        until = self._clock.now() + self.lease_s, self._clock.passed() + self.lease_s
        body = {"number": number, "until": until[0], "nonce": self._clock.nonce()}
        content = json.dumps(body).encode()
        for _ in range(_SWAPS):
            try:
                self._tag = self._objects.replace(self._name, content, self._tag)
                break
            except ObjectChanged:
                # It ran out and was removed; or one was put whose answer was lost.
                self._tag = None
                with suppress(ObjectMissing):
                    self._tag = self._objects.get(self._name)[1]
        else:
            raise StoreUnavailable(f"{self._name} in {self._objects.place} changes by itself; try again")
        self._until = until

    def give_back(self) -> None:
        self._until = (float("-inf"), float("-inf"))
        self._objects.remove([self._name])


def live_numbers(objects: Objects, now: float, lease_s: float, grace_s: float) -> tuple[float, list[str]]:
    """(the lowest number that a live lease stands at, infinity where there is none; names of leases that ended longer
    than the grace period ago). What is no lease, but lies there, is passed over. A lease holds for its length beyond
    its end, for clocks disagree."""
    listed = [one for one in objects.list(LEASES) if _NAME.fullmatch(one.name)]

    def one(listed: Listed) -> Callable[[], tuple[int, float] | None]:
        def read() -> tuple[int, float] | None:
            try:
                body = json.loads(objects.get(listed.name)[0])
                return int(body["number"]), float(body["until"])
            except (ObjectMissing, ValueError, KeyError, TypeError):
                return None

        return read

    lowest, ended = float("inf"), []
    for found, lease in zip(listed, objects.together([one(each) for each in listed]), strict=True):
        if lease is None:
            continue
        number, until = lease
        if until + lease_s > now:
            lowest = min(lowest, number)
        elif until + lease_s + grace_s <= now:
            ended.append(found.name)
    return lowest, ended
