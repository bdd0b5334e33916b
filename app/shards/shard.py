"""A shard: a process on some machine that has segments of collections, and does what is asked of their vectors.

It fetches the files of each segment that it is to hold from the store, checked as ever, opens them, and keeps them
until ``GRACE_S`` after it is told of another generation, for searches that began before. It never writes the store, and
its folder may be lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from app.collection.segment import Segment
from app.compute import deadline
from app.compute.native import keep_in, prepare
from app.compute.workers import Workers
from app.errors import Damaged, SheafError, SystemFault
from app.objects.opening import open_objects
from app.query.gathering import Work
from app.replicas.fetching import fetch
from app.replicas.files import Unit
from app.replicas.listing import prefix_of
from app.search import loops
from app.shards.messages import COMING, Held, Key, Lacking, Raised, received, sent, unpacked
from app.store.directory import Directory, Lock
from app.store.layout import SEGMENTS
from app.store.local_directory import LocalDirectory

GRACE_S: Final = 60.0
"""How long a segment is kept that no generation names any more."""
AGAIN_S: Final = 5.0
"""From one attempt at a segment that cannot be had to the next."""
PATIENCE_S: Final = 1.0
"""How long a search waits for a segment that is being opened."""

MOST: Final = 256
"""Shards of one machine."""
LOCK: Final = ".shard.lock"

log = logging.getLogger(__name__)


class Shard:
    """Safe from any thread."""

    def __init__(self, url: str, folder: str, threads: int) -> None:
        """url: of the store. folder: of this machine's shards, in which it takes one that no other has. threads: as in
        ``Workers``."""
        own = Path(folder).expanduser()
        self._url, self._root, self._lock = url, *_taken(own)
        # Of all shards of this machine.
        keep_in(own / ".compiled")
        self._workers = Workers(threads)
        self._changed = threading.Condition()
        """Held while what follows is looked at; told when a segment is open."""
        self._version = ""
        self._wanted: dict[Key, Held] = {}
        self._open: dict[Key, Segment] = {}
        self._left: dict[Key, float] = {}
        """When a segment that is open was told to be held last, where it no longer is."""
        self._failed: dict[Key, tuple[str, float]] = {}
        """Why a segment cannot be had, and when it is tried again."""
        self._swept = False
        for work in (lambda: prepare(loops(), lambda: True), self._tend):
            threading.Thread(target=work, daemon=True).start()

    def process(self) -> int:
        """The number of its process, for whoever looks for it on its machine."""
        return os.getpid()

    def hold(self, version: str, content: bytes | None) -> tuple[str, dict[Key, str]]:
        """It is to hold these segments, of whatever name the caller gives to them all; None asks only. The name that
        it was told last, and of each segment nothing where it is open, else why it is not."""
        with self._changed:
            if content is not None:
                now = time.monotonic()
                wanted = {one.key: one for one in received(content)}
                self._left.update(dict.fromkeys(self._wanted.keys() - wanted.keys(), now))
                for key in wanted:
                    self._left.pop(key, None)
                self._version, self._wanted = version, wanted
                self._changed.notify_all()
            said = {key: "" if key in self._open else self._why(key) for key in self._wanted}
            return self._version, said

    def ask(self, work: bytes, content: bytes, left_s: float | None) -> bytes:
        """How many seconds it took, and the answer of each segment to a piece of work, or Lacking; or Raised."""
        began = time.perf_counter()
        answer = self._answer(work, content, left_s)
        return sent((time.perf_counter() - began, answer))

    def _answer(self, work: bytes, content: bytes, left_s: float | None) -> Any:
        keys, asked = received(content)
        found: list[Any] = [Lacking()] * len(keys)
        try:
            with deadline.deadline(None if left_s is None else time.monotonic() + left_s):
                parts = self._parts(keys)
                if parts:
                    given = [unpacked(asked[place]) for place in parts]
                    answers = self._answers(received(work), keys, parts, given)
                    for place, answer in zip(parts, answers, strict=True):
                        found[place] = answer
        except SheafError as error:
            return Raised.of(error)
        return found

    def _answers(
        self, work: Work[Any, Any], keys: Sequence[Key], parts: Mapping[int, Segment], given: Sequence[Any]
    ) -> Sequence[Any]:
        """Of parts by place; what the disk does not give as it was written is lacking, and brought anew."""
        try:
            return work.of(list(parts.values()), given, self._workers)
        except Damaged:
            # Of which is not said: each alone tells.
            found: list[Any] = []
            for (place, part), one in zip(parts.items(), given, strict=True):
                try:
                    found.extend(work.of([part], [one], self._workers))
                except Damaged as error:
                    log.warning("segment %s is fetched anew: %s", part.record.name, error.message)
                    self._lose(keys[place], part, error)
                    found.append(Lacking())
            return found

    def _lose(self, key: Key, part: Segment, error: Damaged) -> None:
        with self._changed:
            if self._open.get(key) is part:
                del self._open[key]
                self._failed[key] = error.message, time.monotonic()
                self._changed.notify_all()

    def _parts(self, keys: Sequence[Key]) -> dict[int, Segment]:
        """Those that are open, by place; waits for others that are just being opened."""
        until = time.monotonic() + PATIENCE_S
        with self._changed:
            while any(key in self._wanted and key not in self._open and key not in self._failed for key in keys):
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return {place: self._open[key] for place, key in enumerate(keys) if key in self._open}

    def _why(self, key: Key) -> str:
        return self._failed[key][0] if key in self._failed else COMING

    def _tend(self) -> None:
        """Opens what is wanted and lets go of what no longer is, for good."""
        while True:
            with self._changed:
                now = time.monotonic()
                for key in self._failed.keys() - self._wanted.keys():
                    del self._failed[key]
                due = [
                    one
                    for key, one in self._wanted.items()
                    if key not in self._open and (key not in self._failed or self._failed[key][1] <= now)
                ]
                gone = [key for key, since in self._left.items() if now - since > GRACE_S]
                for key in gone:
                    del self._left[key]
                    self._open.pop(key, None)
                sweeping, self._swept = bool(self._version) and not self._swept, bool(self._version)
                if not (due or gone or sweeping):
                    self._changed.wait(AGAIN_S)
            if sweeping:
                self._sweep()
            for key in gone:
                with suppress(SheafError, OSError):
                    self._place(key.history).folder(SEGMENTS).remove(key.name)
            for held in due:
                self._opened(held)

    def _opened(self, held: Held) -> None:
        try:
            place, unit = self._place(held.history), Unit(SEGMENTS, held.record.name)
            place.folder(SEGMENTS).make()
            fetch(place, {unit: held.files}, open_objects(f"{self._url}/{prefix_of(held.history)}"))
            segment = Segment.open_vectors(unit.within(place), held.record)
        except SheafError as error:
            why = error.message
        except Exception as error:
            log.exception("segment %s cannot be opened", held.record.name)
            why = repr(error)
        else:
            with self._changed:
                self._open[held.key] = segment
                self._failed.pop(held.key, None)
                self._changed.notify_all()
            return
        with self._changed:
            self._failed[held.key] = why, time.monotonic() + AGAIN_S
            self._changed.notify_all()

    def _place(self, history: str) -> Directory:
        return self._root.folder(history)

    def _sweep(self) -> None:
        """Removes what a shard before it had in its folder and it is not to hold."""
        with self._changed:
            kept = {(key.history, key.name) for key in (*self._wanted, *self._open)}
        for history in self._root.list():
            segments = self._place(history).folder(SEGMENTS)
            for name in [] if history.startswith(".") else segments.list():
                if (history, name) not in kept:
                    with suppress(SheafError, OSError):
                        segments.remove(name)


def _taken(folder: Path) -> tuple[Directory, Lock]:
    """The first folder that no other process has, and what keeps it: after a restart its files are there."""
    for number in range(MOST):
        place = LocalDirectory(folder / f"shard-{number}")
        place.make()
        lock = place.lock(LOCK)
        if lock.acquire():
            return place, lock
    raise SystemFault(f"{folder} has {MOST} shards already: give the cluster another folder (SHEAF_SHARD_FOLDER)")
