"""The shards of a Ray cluster, as one server has them: so many on each machine, begun anew where one is lost.

They are actors of this server's own, and end with it. An actor that dies is begun again by Ray on the same machine; one
whose machine is gone is given up here, and what it held has another place.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.errors import Invalid
from app.shards.messages import COMING, Held, Key, sent
from app.shards.shard import Shard
from app.sources.extras import library

ANSWERS: Final = 64
"""Calls that a shard works on side by side."""
TOLD: Final = "told"
"""What a shard says of itself comes beside them, however many there are."""
HOLD_S: Final = 2.0
"""How long is waited for what a shard says of itself."""
SUSPECT_S: Final = 5.0
"""How long a shard that did not answer in time is asked last."""

CONNECTING_S: Final = 10.0
ANEW_S: Final = 2.0
"""How long a shard that ended is let be, before another is begun: it may have ended because it cannot begin."""
LOCAL: Final = "local"
"""The address of a cluster of this machine alone, made for this server."""

log = logging.getLogger(__name__)


def require_cluster(address: str) -> None:
    """Raises Invalid where nothing listens at the address: Ray itself would look for it for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), CONNECTING_S).close()
    except (OSError, OverflowError) as error:
        raise Invalid(f"no Ray cluster answers at {address}: {error}") from error


@dataclass
class Member:
    """A shard. machine: the node that it is on. told: of what it was told to hold. ready: what it has open. failed: why
    it cannot have others."""

    name: str
    machine: str
    actor: Any
    ask: Any
    told: str = ""
    ready: frozenset[Key] = frozenset()
    failed: Mapping[Key, str] = field(default_factory=dict)
    suspect_until: float = 0.0
    heard: bool = False
    """Whether it ever said something of itself."""
    silent_since: float | None = None
    """Since when it does not, though it did before."""
    asked: Any = None
    """What it has not answered yet of itself."""

    @property
    def suspect(self) -> bool:
        return time.monotonic() < self.suspect_until

    @property
    def silent(self) -> bool:
        return self.silent_since is not None

    def doubt(self) -> None:
        self.suspect_until = time.monotonic() + SUSPECT_S

    def says(self, told: str, said: Mapping[Key, str]) -> None:
        """What it has been told to hold, and of each segment why it does not have it; nothing where it does."""
        self.told = told
        self.ready = frozenset(key for key, why in said.items() if not why)
        self.failed = {key: why for key, why in said.items() if why not in ("", COMING)}
        self.heard, self.silent_since = True, None

    def says_nothing(self, since: float) -> None:
        self.doubt()
        if self.heard and self.silent_since is None:
            self.silent_since = since


class Members:
    """From the connection to the cluster on, to ``close``. Safe from any thread."""

    def __init__(self, address: str, url: str, folder: str, each: int, threads: int) -> None:
        """address: of a running cluster, `HOST:PORT` or `auto`, or LOCAL. url: of the store. folder: of shards, on each
        machine. each: shards of a machine. Raises Invalid where no cluster answers."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray = library("ray", "cluster", "a Ray cluster", "asked")
        require_cluster(address)
        self._own = not self.ray.is_initialized()
        if self._own:
            own: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
            try:
                self.ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                raise Invalid(f"no Ray cluster answers at {address}: {' '.join(str(error).split())[:300]}") from error
        self._made = self.ray.remote(
            num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=ANSWERS, concurrency_groups={TOLD: 1}
        )(Shard)
        self._given = url, folder, threads
        self._each = each
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._ended: dict[str, float] = {}
        """When a shard of the name ended, of those that did lately."""

    @property
    def now(self) -> dict[str, Member]:
        """By name."""
        return self._members

    def look(self) -> None:
        """Shards on each machine that lends processors, and none of those that are gone."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = {
            node["NodeID"]: node["NodeManagerAddress"]
            for node in self.ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) > 0
        }
        with self._lock:
            members = {name: one for name, one in self._members.items() if one.machine in nodes}
            for gone in self._members.keys() - members.keys():
                log.warning("shard %s is given up: its machine is gone", gone)
            now = time.monotonic()
            self._ended = {name: when for name, when in self._ended.items() if now - when < ANEW_S}
            for machine, address in nodes.items():
                have = sum(one.machine == machine for one in members.values())
                # Names that come again with the machine: what one held it is to hold again.
                names = (f"{address}/{i}" for i in range(self._each * len(nodes)))
                free = [name for name in names if name not in members]
                for name in free[: self._each - have]:
                    if name in self._ended:
                        continue
                    actor = self._made.options(
                        scheduling_strategy=NodeAffinitySchedulingStrategy(machine, soft=False)
                    ).remote(*self._given)
                    members[name] = Member(name, machine, actor, actor.ask)
                    log.info("shard %s is begun", name)
            self._members = members

    def tell(self, wanted: Mapping[str, tuple[str, list[Held]]]) -> bool:
        """Each what it is to hold, by the name of the shard: a name of it all, and the segments. Whether all of them
        said that they have it."""
        now, done = time.monotonic(), True
        members = list(self._members.values())
        for member in members:
            if member.asked is None:
                version, held = wanted.get(member.name, ("", []))
                content = None if member.told == version else sent(held)
                member.asked = member.actor.hold.options(concurrency_group=TOLD).remote(version, content)
        for member in members:
            try:
                told, said = self.ray.get(member.asked, timeout=max(0.0, now + HOLD_S - time.monotonic()))
            except self.ray.exceptions.RayError as error:
                if not isinstance(error, self.ray.exceptions.GetTimeoutError):
                    member.asked = None
                member.says_nothing(now)
                self.lost(member, error)
                done = False
                continue
            member.asked = None
            # Begun anew, it knows nothing.
            member.says(told, said)
            done = done and told == wanted.get(member.name, ("", []))[0] and len(member.ready) == len(said)
        return done

    def lost(self, member: Member, error: Exception) -> None:
        """What a call of it raised: of one that is dead another takes the place, at the next look."""
        if isinstance(error, self.ray.exceptions.GetTimeoutError):
            return
        member.ready, member.told = frozenset(), ""
        if isinstance(error, self.ray.exceptions.ActorDiedError):
            log.warning("shard %s is begun anew: %s", member.name, " ".join(str(error).split())[:200])
            with self._lock:
                self._members = {name: one for name, one in self._members.items() if one is not member}
                self._ended[member.name] = time.monotonic()

    def close(self) -> None:
        for member in list(self._members.values()):
            self.ray.kill(member.actor)
        self._members = {}
        if self._own:
            self.ray.shutdown()
