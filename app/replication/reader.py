"""A reader of a log: opened at the latest state by two requests in a row, and following from there.

The two: the head, and a listing of the log; then the base, all records that were listed with the one after them, and
this reader's lease. A reader that slept in between begins anew: where the log begins later by then, a record may be
missing because it was collected, not because it was never put. Whether it slept two clocks tell, for one of them stands
still while a machine is suspended. No listing decides anything: what it leaves out is found by asking for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import RLock
from typing import Final

from app.errors import Damaged, ObjectMissing, ReaderBehind, StoreUnavailable
from app.objects.clock import Clock
from app.objects.protocol import Listed, Objects
from app.replication.head import Head, read_head
from app.replication.leases import Lease
from app.replication.protocol import Commit, Fetch, Opened
from app.replication.records import record_name
from app.replication.trail import Trail

_OPENINGS: Final = 8


def open_reader(objects: Objects, fetch: Fetch, *, clock: Clock | None = None) -> LogReader:
    """A reader at the latest state.

    fetch: reads the base, while the log is read; called again where the log began later meanwhile. Raises ObjectMissing
    where there is no log, Damaged, StoreUnavailable.
    """
    clock = clock or Clock()
    for _ in range(_OPENINGS):
        began = clock.passed(), clock.now()
        found, listed = objects.together([lambda: read_head(objects), lambda: objects.list("log/")])
        head: Head = found[0]  # type: ignore[assignment]
        lease = Lease(objects, clock, head.lease_s)
        trail = Trail(objects, head.start)
        commits = _read(objects, head, trail, listed, lease, fetch)  # type: ignore[arg-type]
        if commits is not None and in_time(clock, began, head.grace_s):
            opened = Opened(head.base, head.start.number, head.start.chain, tuple(commits))
            return LogReader(objects, trail, lease, opened)
        lease.give_back()
    raise StoreUnavailable(f"{objects.place}: it changed {_OPENINGS} times while it was opened; try again")


def in_time(clock: Clock, began: tuple[float, float], grace_s: float) -> bool:
    """Whether nothing that was there when the opening began can have been collected. What nobody needs stays for the
    grace period, and a lease counts from half of it on at the latest, for listings of leases may lag as long."""
    return max(clock.passed() - began[0], clock.now() - began[1]) < grace_s / 2


def look(objects: Objects) -> Opened:
    """What there is now, for who does not follow it: without the base, and with no lease. Raises ObjectMissing where
    there is no log, Damaged, StoreUnavailable."""
    for _ in range(_OPENINGS):
        head, tag = read_head(objects)
        trail = Trail(objects, head.start)
        commits = trail.read(objects.list("log/", record_name(head.start.epoch, head.start.number)))
        again, tag_again = read_head(objects)
        if tag == tag_again or again.start.number <= trail.position.number:
            return Opened(head.base, head.start.number, head.start.chain, tuple(commits))
    raise StoreUnavailable(f"{objects.place}: it changed {_OPENINGS} times while it was read; try again")


def _read(
    objects: Objects, head: Head, trail: Trail, listed: Sequence[Listed], lease: Lease, fetch: Fetch
) -> list[Commit] | None:
    """Commits after the base; None where the base is gone."""

    def fetched() -> bool:
        try:
            fetch(head.base)
        except ObjectMissing as error:
            if read_head(objects)[0].base == head.base:
                raise Damaged(f"{objects.place}: the base that its head names is missing: {error}") from error
            return False
        return True

    there, commits, _ = objects.together([fetched, lambda: trail.read(listed), lambda: lease.renew(head.start.number)])
    return commits if there else None  # type: ignore[return-value]


class LogReader:
    """``Reader`` (``app.replication.protocol``), made by ``open_reader``."""

    def __init__(self, objects: Objects, trail: Trail, lease: Lease, opened: Opened) -> None:
        self._objects = objects
        self._trail = trail
        self._lease = lease
        self._opened = opened
        self._held = opened.number
        self._lock = RLock()

    @property
    def opened(self) -> Opened:
        return self._opened

    def took(self) -> None:
        self._opened = replace(self._opened, commits=())

    @property
    def number(self) -> int:
        return self._trail.position.number

    def poll(self) -> list[Commit]:
        with self._lock:
            start = self._renewed()
            commits = self._trail.read()
            if start is not None and start > self.number:
                raise self._behind(start, self.number)
            return commits

    def hold(self, number: int, /) -> None:
        with self._lock:
            self._held = max(self._held, min(number, self.number))
            self._renewed()

    def close(self) -> None:
        with self._lock:
            self._lease.give_back()

    def _renewed(self) -> int | None:
        """Renews the lease where that is due: the number that the log begins at then."""
        live = self._lease.live
        if live and not self._lease.due:
            return None
        self._lease.renew(self._held)
        # After the renewal: what is removed because the log begins later than this says, is removed with it in sight.
        start = read_head(self._objects)[0].start.number
        if not live and start > self._held:
            raise self._behind(start, self._held)
        return start

    def _behind(self, start: int, number: int) -> ReaderBehind:
        return ReaderBehind(
            f"the log in {self._objects.place} begins after commit {start} by now, and what this reader needs, from "
            f"{number} on, was not kept by a lease renewed in time: open it anew"
        )
