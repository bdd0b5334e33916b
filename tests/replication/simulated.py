"""A world of one seed: an object store, its network, clocks and processes, in one thread and in virtual time.

The code of app/objects and app/replication runs as it is; each request of it switches to the world, which decides by
the seed when it is applied, whether its answer arrives, and who goes on next. Processes are greenlets, so nothing but
the seed decides the order.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from greenlet import getcurrent, greenlet

from app.errors import ObjectChanged, ObjectMissing, ObjectTaken, StoreUnavailable, Unsure
from app.objects.clock import Clock
from app.objects.persistent import Persistent
from app.objects.protocol import Listed

TIMEOUT_S = 2.0
"""Of one request."""
DEADLINE_S = 6.0


@dataclass
class Weather:
    """How likely a request fails, in each of five ways, and how likely its process stands still afterwards."""

    refused: float = 0.0
    dropped: float = 0.0
    unanswered: float = 0.0
    late: float = 0.0
    interrupted: float = 0.0
    """Of what writes: it is applied, and then something else is raised."""
    pause: float = 0.0
    stale: float = 0.0
    stale_s: float = 0.0
    longest_s: float = 600.0
    """Of pauses, and of what arrives late."""


class Interrupted(Exception):
    """What a process may meet at any moment, such as no memory, and that says nothing of its request."""


class Store:
    """The objects, each request applied at one moment. ``compares``: off is a planted fault."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.objects: dict[str, tuple[bytes, str, float]] = {}
        # An object that is replaced is still listed by a listing of before.
        self.created: dict[str, float] = {}
        self.removed: list[tuple[str, int, float, float]] = []
        self.compares = True
        self.tags = 0

    def get(self, name: str) -> tuple[bytes, str]:
        if name not in self.objects:
            raise ObjectMissing(f"{name} is missing")
        return self.objects[name][:2]

    def read(self, name: str, start: int, length: int) -> bytes:
        return self.get(name)[0][start : start + length]

    def put_new(self, name: str, content: bytes) -> str:
        if name in self.objects and self.compares:
            raise ObjectTaken(f"{name} is taken")
        return self.put(name, content)

    def replace(self, name: str, content: bytes, tag: str) -> str:
        if self.compares and (name not in self.objects or self.objects[name][1] != tag):
            raise ObjectChanged(f"{name} changed")
        return self.put(name, content)

    def put(self, name: str, content: bytes) -> str:
        self.tags += 1
        self.objects[name] = content, f"t{self.tags}", self.world.time
        self.created.setdefault(name, self.world.time)
        return self.objects[name][1]

    def list(self, prefix: str, after: str, lag_s: float) -> list[Listed]:
        """As it was ``lag_s`` ago."""
        then = self.world.time - lag_s
        found = {
            name: Listed(name, len(content), modified)
            for name, (content, _, modified) in self.objects.items()
            if name.startswith(prefix) and name > after and self.created[name] <= then
        }
        for name, size, created, gone in self.removed:
            if name.startswith(prefix) and name > after and created <= then < gone:
                found[name] = Listed(name, size, created)
        return list(found.values())

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self.objects:
                content, _, _ = self.objects.pop(name)
                self.removed.append((name, len(content), self.created.pop(name), self.world.time))
                for watch in self.world.on_removal:
                    watch(name)


class Process:
    """One that runs until it ends or is killed. skew: of its clock. asleep: seconds that its own clock missed."""

    def __init__(self, world: World, name: str, skew: float) -> None:
        self.world, self.name, self.skew = world, name, skew
        self.alive, self.asleep = True, 0.0
        self.cut_until, self.deaf = 0.0, False
        self.objects = Persistent(_Requests(self), DEADLINE_S, self.clock(), self.together)

    def cut_off(self, seconds: float, deaf: bool) -> None:
        """No answer comes for so long; deaf: its requests arrive all the same."""
        self.cut_until, self.deaf = self.world.time + seconds, deaf

    def clock(self) -> Clock:
        world = self.world
        return Clock(
            lambda: world.time + self.skew,
            lambda: world.time - self.asleep,
            lambda s: world.sleep(self, s),
            world.nonce,
        )

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Each in a greenlet of its own, as the real ones are in threads."""
        if len(calls) < 2:
            return [call() for call in calls]
        results: list[Any] = [None] * len(calls)
        waiting = [len(calls), getcurrent()]

        def run(i: int, call: Callable[[], Any]) -> None:
            try:
                results[i] = True, call()
            except Exception as error:  # noqa: BLE001, it is raised below
                results[i] = False, error
            waiting[0] -= 1
            if not waiting[0]:
                self.world.soon(0.0, self, waiting[1].switch)

        for i, call in enumerate(calls):
            self.world.soon(0.0, self, greenlet(lambda i=i, call=call: run(i, call), self.world.hub).switch)
        self.world.hub.switch()
        for fine, value in results:
            if not fine:
                raise value
        return [value for _, value in results]


class Meeting:
    """A condition of the process's greenlets, as threads have ``threading.Condition``: nothing switches inside."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.waiting: list[Any] = []

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *raised: object) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        mine = getcurrent()
        self.waiting.append(mine)

        def late() -> None:
            if mine in self.waiting:
                self.waiting.remove(mine)
                mine.switch()

        if timeout is not None:
            self.process.world.soon(timeout, self.process, late)
        self.process.world.hub.switch()
        return True

    def notify_all(self) -> None:
        woken, self.waiting = self.waiting, []
        for one in woken:
            self.process.world.soon(0.0, self.process, one.switch)


class _Requests:
    """``Requests`` of one process."""

    place = "sim://store"

    def __init__(self, process: Process) -> None:
        self.process = process
        self.send = process.world.send
        self.store = process.world.store

    def get(self, name: str) -> tuple[bytes, str]:
        return self.send(self.process, False, lambda: self.store.get(name))

    def read(self, name: str, start: int, length: int) -> bytes:
        return self.send(self.process, False, lambda: self.store.read(name, start, length))

    def put_new(self, name: str, content: bytes) -> str:
        return self.send(self.process, True, lambda: self.store.put_new(name, content))

    def replace(self, name: str, content: bytes, tag: str) -> str:
        return self.send(self.process, True, lambda: self.store.replace(name, content, tag))

    def put(self, name: str, stream: BinaryIO) -> None:
        content = stream.read()
        self.send(self.process, True, lambda: self.store.put(name, content))

    def list(self, prefix: str, after: str = "") -> list[Listed]:
        lag = self.process.world.lag()
        return self.send(self.process, False, lambda: self.store.list(prefix, after, lag))

    def remove(self, names: Sequence[str]) -> None:
        # In any order, and one that fails halfway has removed some.
        shuffled = self.process.world.rng.sample(list(names), len(names))
        half = len(shuffled) // 2
        self.send(self.process, True, lambda: self.store.remove(shuffled[:half]))
        self.send(self.process, True, lambda: self.store.remove(shuffled[half:]))


class World:
    """``run`` plays events in the order of their time until nothing is left to do."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.rng = random.Random(seed)
        self.weather = weather
        self.time = 1_000_000.0
        self.store = Store(self)
        self.hub = getcurrent()
        self.on_removal: list[Callable[[str], None]] = []
        self.requests = 0
        self._events: list[tuple[float, int, Process | None, Callable[[], Any]]] = []
        self._order = 0
        self._nonces = 0

    def nonce(self) -> str:
        self._nonces += 1
        return f"n{self._nonces}"

    def lag(self) -> float:
        return self.rng.uniform(0, self.weather.stale_s) if self.rng.random() < self.weather.stale else 0.0

    def soon(self, after: float, process: Process | None, call: Callable[[], Any]) -> None:
        """Calls it later, unless its process is dead by then."""
        self._order += 1
        heapq.heappush(self._events, (self.time + after, self._order, process, call))

    def start(self, process: Process, body: Callable[[], None]) -> None:
        self.soon(0.0, process, greenlet(body, self.hub).switch)

    def run(self) -> None:
        while self._events:
            time, _, process, call = heapq.heappop(self._events)
            self.time = max(self.time, time)
            if process is None or process.alive:
                call()

    def sleep(self, process: Process, seconds: float) -> None:
        self.soon(seconds, process, getcurrent().switch)
        self.hub.switch()

    def send(self, process: Process, writes: bool, apply: Callable[[], Any]) -> Any:
        """One request of a process: its result, or what became of it instead."""
        rng, weather = self.rng, self.weather
        self.requests += 1
        caller = getcurrent()
        draw, way = rng.random(), rng.uniform(0.001, 0.06)

        def answer(after: float, resume: Callable[[], Any]) -> None:
            if rng.random() < weather.pause:
                still = rng.uniform(0, weather.longest_s)
                after += still
                process.asleep += still * rng.choice((0, 1))
            self.soon(after, process, resume)

        def arrive() -> None:
            try:
                result = apply()
            except Exception as error:  # noqa: BLE001, it is the answer
                raised = error
                answer(way, lambda: caller.throw(raised))
            else:
                answer(way, lambda: caller.switch(result))

        def ignored() -> None:
            with suppress(ObjectTaken, ObjectChanged, ObjectMissing):
                apply()

        lost = Unsure("no answer came")
        limits = [
            weather.refused,
            weather.dropped,
            weather.unanswered,
            *((weather.late, weather.interrupted) if writes else ()),
        ]
        fate = next((i for i in range(len(limits)) if draw < sum(limits[: i + 1])), 5)
        if process.cut_until > self.time:
            fate = 2 if process.deaf else 1
        if fate == 0:
            answer(way, lambda: caller.throw(StoreUnavailable("slow down")))
        elif fate == 5:
            self.soon(way, None, arrive)
        elif fate == 4:
            self.soon(way, None, ignored)
            answer(2 * way, lambda: caller.throw(Interrupted("no memory")))
        else:
            if fate == 2:
                self.soon(way, None, ignored)
            if fate == 3:
                self.soon(way + rng.uniform(0, weather.longest_s) ** rng.choice((0.2, 1)), None, ignored)
            answer(TIMEOUT_S, lambda: caller.throw(lost))
        return self.hub.switch()
