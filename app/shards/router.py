"""Who searches the segments of this server's collections: each lies with two shards, and is asked of the first of them
that answers.

A search sends one message a stage to each shard that it needs, all at once, and merges what comes back. A shard that
has not answered when its share of the search's time is over, or that is lost, is not waited for alone: the other copy
is asked, and whichever answers first is taken. A segment that neither answers for is told to the search, which goes on
without its documents and says so (``PartsUnreached``).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final
from weakref import WeakValueDictionary

from app.collection.part import Part
from app.collection.segment import Segment
from app.collection.view import Generation
from app.compute import deadline
from app.errors import PartsUnreached, RequestError, TooSlow
from app.replicas.files import Unit, stored
from app.replicas.position import Position, read_position
from app.shards.members import Member, Members
from app.shards.messages import Held, Key, Lacking, Raised, packed, received, sent
from app.shards.placing import placed
from app.store.database import get_record
from app.store.layout import SEGMENTS

LOOK_S: Final = 1.0
"""From one look at the cluster to the next, where all is well."""
SOON_S: Final = 0.02
"""The same while some segment is not held yet, at first; each next is twice as long."""
READY_S: Final = 60.0
"""How long a new generation waits for shards that hold it, before it is searched with what there is."""
GIVEN_UP_S: Final = 10.0
"""How long a shard says nothing of itself until no generation waits for it."""
WHOLE_S: Final = 30.0
"""The time of a search that has no limit."""

log = logging.getLogger(__name__)


class Elsewhere:
    """Of one collection."""

    def __init__(self, router: Router, history: str) -> None:
        self._router, self.history = router, history
        self.held: Sequence[Held] = ()
        """What is searched."""
        self.coming: tuple[int, Sequence[Held]] = 0, ()
        """What is about to be, and from which commit of the log on."""

    @property
    def wanted(self) -> list[Held]:
        return list({one.key: one for one in (*self.coming[1], *self.held)}.values())

    def begin(self, work: Any, parts: Sequence[Part], asked: Sequence[Any]) -> Callable[[], list[Any]]:
        keys = []
        for part in parts:
            assert isinstance(part, Segment), "only segments lie elsewhere"
            keys.append(Key(self.history, part.record.name, part.record.crc))
        return _Asking(self._router, sent(work), keys, [packed(one) for one in asked]).answers


class Router:
    """Of one server, from its start to ``close``. Safe from any thread."""

    def __init__(self, members: Members, budget_s: float) -> None:
        """budget_s: how long a copy is waited for before the other is asked too, or a third of the search's time,
        whichever is shorter."""
        self.members, self.budget_s = members, budget_s
        self._known: WeakValueDictionary[str, Elsewhere] = WeakValueDictionary()
        """By history, as long as a segment of the collection is open."""
        self._changed = threading.Condition()
        self._places: tuple[Mapping[str, Member], dict[Key, list[str]]] = {}, {}
        """Of segments, among the shards that there were then."""
        self._round = 0
        """Of looks that have ended."""
        self.on_round: Callable[[float], None] = lambda seconds: None
        """Told of each round of messages how long the shard that took longest has worked."""
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="shards", daemon=True)
        self._thread.start()

    def of(self, name: str, connection: sqlite3.Connection) -> Elsewhere:
        """As ``app.collection.opening.Holders``."""
        position, held = segments_of(name, connection)
        with self._changed:
            found = self._of(position.history)
            found.held = held
            # A search may follow the commit before while the next is expected.
            if found.coming[0] <= position.number:
                found.coming = 0, ()
            self._changed.notify_all()
        return found

    def expect(self, name: str, connection: sqlite3.Connection) -> None:
        """As ``app.collection.opening.Holders``. What is searched already is not waited for, whoever holds it."""
        position, held = segments_of(name, connection)
        with self._changed:
            found = self._of(position.history)
            found.coming = position.number, held
            searched = {one.key for one in found.held}
            self._changed.notify_all()
        self._await(f"collection {name}", [one.key for one in held if one.key not in searched])

    def settle(self) -> None:
        """Waits for a while until somebody holds each segment that is searched: at the start, before the server says
        that it is ready."""
        with self._changed:
            collections = list(self._known.values())
        self._await("at the start", [one.key for collection in collections for one in collection.wanted])

    def _of(self, history: str) -> Elsewhere:
        found = self._known.get(history)
        if found is None:
            found = self._known[history] = Elsewhere(self, history)
        return found

    def stop(self) -> None:
        """Nobody waits for shards any more, nor looks after them; searches are answered up to ``close``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def close(self) -> None:
        self.stop()
        self.members.close()

    def copies(self, key: Key) -> list[Member]:
        """The shards that hold a segment, the one to be asked first before others: one that has it open, and has
        answered lately."""
        now = self.members.now
        # One pair from here on: others may put theirs in its place meanwhile.
        members, places = self._places
        if members is not now:
            members, places = now, {}
            self._places = members, places
        names = places.get(key)
        if names is None:
            names = places[key] = placed(key.name, {name: one.machine for name, one in members.items()})
        chosen = [members[name] for name in names]
        return sorted(chosen, key=lambda one: (one.silent, one.suspect, key in one.failed, key not in one.ready))

    def lost(self, member: Member, error: Exception) -> None:
        """What a call of a shard raised."""
        self.members.lost(member, error)
        with self._changed:
            self._changed.notify_all()

    def _await(self, whose: str, keys: Sequence[Key]) -> None:
        """Until somebody holds each of these, or will not."""
        limit = deadline.left()
        until = time.monotonic() + (READY_S if limit is None else min(READY_S, limit))
        with self._changed:
            while not self._closed:
                ready = frozenset().union(*(one.ready for one in self.members.now.values()))
                missing = [key for key in keys if key not in ready]
                if not missing:
                    return
                left = until - time.monotonic()
                why = [self._hopeless(key) for key in missing]
                if left <= 0 or None not in why:
                    told = next((one for one in why if one is not None), "none has it yet")
                    log.warning(
                        "%s: %d of %d new segments are held by no shard: %s", whose, len(missing), len(keys), told
                    )
                    return
                self._changed.wait(left)

    def _hopeless(self, key: Key) -> str | None:
        """Why none of its shards will have a segment soon; None where one may."""
        copies = self.copies(key)
        if not copies:
            return "there is none" if self._round else None
        now = time.monotonic()
        found = [
            "it does not answer"
            if one.silent_since is not None and now - one.silent_since > GIVEN_UP_S
            else one.failed.get(key)
            for one in copies
        ]
        return None if None in found else found[0]

    def _watch(self) -> None:
        pause = SOON_S
        while True:
            done = False
            try:
                self.members.look()
                done = self.members.tell(self._wanted())
            except Exception:
                # What Ray raises where its head is away; searches say what is not answered for.
                log.exception("the cluster cannot be looked at")
            with self._changed:
                self._round += 1
                self._changed.notify_all()
                pause = LOOK_S if done else min(LOOK_S, 2 * pause)
                if not self._closed and self._changed.wait(pause):
                    pause = SOON_S
                if self._closed:
                    return

    def _wanted(self) -> dict[str, tuple[str, list[Held]]]:
        """By shard: what it is to hold, and a name of all that."""
        machines = {name: one.machine for name, one in self.members.now.items()}
        wanted: dict[str, list[Held]] = {name: [] for name in machines}
        with self._changed:
            collections = list(self._known.values())
        for collection in collections:
            for held in collection.wanted:
                for name in placed(held.record.name, machines):
                    wanted[name].append(held)
        return {name: (_version(held), held) for name, held in wanted.items()}


def segments_of(name: str, connection: sqlite3.Connection) -> tuple[Position, list[Held]]:
    """Where a copy stands as of a connection's commit, and its segments."""
    position = read_position(connection, name)
    assert position is not None, "a reader's collections come from a store"
    files = stored(connection, name)
    generation = get_record(connection, "generation", name, Generation.from_json)
    return position, [
        Held(position.history, record, files[Unit(SEGMENTS, record.name)]) for record in generation.segments
    ]


def _version(held: Sequence[Held]) -> str:
    return blake2b(repr(sorted(one.key for one in held)).encode(), digest_size=8).hexdigest()


class _Asking:
    """One piece of work, asked of all shards that it takes, by the thread that waits for it."""

    def __init__(self, router: Router, work: bytes, keys: Sequence[Key], asked: Sequence[Any]) -> None:
        self._router, self._ray = router, router.members.ray
        self._work, self._keys, self._asked = work, keys, asked
        left = deadline.left()
        self._began, self._left = time.monotonic(), WHOLE_S if left is None else left
        self._copies = {key: router.copies(key) for key in keys}
        self._found: dict[int, Any] = {}
        self._running: dict[Any, tuple[Member, list[int]]] = {}
        self._ask(range(len(keys)))
        # Where the first of the copies says nothing of itself, the others do not either: all are asked, and one budget
        # is waited.
        self._ask([place for member, mine in list(self._running.values()) if member.silent for place in mine])

    def answers(self) -> list[Any]:
        budget = min(self._router.budget_s, self._left / 3)
        try:
            # The usual case, in one call.
            refs = list(self._running)
            contents = self._ray.get(refs, timeout=budget)
            self._router.on_round(
                max((self._take(ref, content) for ref, content in zip(refs, contents, strict=True)), default=0.0)
            )
        except self._ray.exceptions.RayError:
            self._collect(len(self._running), 0.0)
            for member, _ in self._running.values():
                member.doubt()
        # What is left of the time then is for a search without these.
        until = self._began + 2 * self._left / 3
        while open_ := self._open():
            self._ask(open_)
            if not self._running:
                break
            # Nobody is waited for who has fallen silent; so it is looked at again from time to time.
            waits = not all(member.silent for member, _ in self._running.values())
            left = until - time.monotonic() if waits else 0.0
            if not self._collect(1, min(left, budget)) and left <= budget:
                break
        if open_ := self._open():
            names = sorted({self._keys[place].name for place in open_})
            deadline.check(deadline.current())
            raise PartsUnreached(
                f"no shard answers for {len(names):,} segments ({', '.join(names[:5])}): see the log of this server, "
                "and `ray status`",
                names,
            )
        return [self._found[place] for place in range(len(self._keys))]

    def _open(self) -> list[int]:
        return [place for place in range(len(self._keys)) if place not in self._found]

    def _ask(self, places: Sequence[int]) -> None:
        """The next copy of each, where there is one that was not asked."""
        groups: dict[str, tuple[Member, list[int]]] = {}
        for place in places:
            copies = self._copies[self._keys[place]]
            if copies:
                member = copies.pop(0)
                groups.setdefault(member.name, (member, []))[1].append(place)
        for member, mine in groups.values():
            content = sent(([self._keys[place] for place in mine], [self._asked[place] for place in mine]))
            left = None if deadline.current() is None else max(0.0, self._left - (time.monotonic() - self._began))
            try:
                self._running[member.ask.remote(self._work, content, left)] = member, mine
            except Exception:
                # What Ray raises where a shard has just gone, or Ray itself.
                log.exception("shard %s cannot be asked", member.name)
                member.doubt()

    def _collect(self, number: int, timeout: float) -> bool:
        """Takes what comes within some seconds, not more than so many; whether that was anything."""
        ready, _ = self._ray.wait(list(self._running), num_returns=number, timeout=max(0.0, timeout))
        for ref in ready:
            try:
                content = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                member, _ = self._running.pop(ref)
                member.doubt()
                log.warning("shard %s did not answer: %s", member.name, " ".join(str(error).split())[:200])
                self._router.lost(member, error)
                continue
            self._take(ref, content)
        return bool(ready)

    def _take(self, ref: Any, content: bytes) -> float:
        """The seconds that the shard has worked. Raises what the work raised, where it is the query's fault or the
        time's; else the copy has failed, of all or of what it lacks."""
        member, places = self._running.pop(ref)
        seconds, answer = received(content)
        if isinstance(answer, Raised):
            error = answer.error()
            if isinstance(error, RequestError | TooSlow):
                raise error
            log.warning("shard %s: %s", member.name, error)
        else:
            given = zip(places, answer, strict=True)
            self._found.update((place, one) for place, one in given if not isinstance(one, Lacking))
        return float(seconds)


def open_router(address: str, url: str, folder: str, each: int, threads: int, budget_s: float) -> Router:
    """Raises Invalid where no cluster answers."""
    return Router(Members(address, url, folder, each, threads), budget_s)
