"""Processes that use a log as Sheaf does, and all that must hold whatever happens to them.

A commit's content is JSON: a value that nobody else writes, and files that come and go with it. A base is the list of
all contents up to its number. So what every process sees can be held against what every other one saw.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

from simulated import Interrupted, Meeting, Process, Weather, World

from app.collection.writes.group_commit import GroupCommit
from app.errors import (
    Fenced,
    Invalid,
    ObjectMissing,
    ReaderBehind,
    StoreUnavailable,
    Unsure,
)
from app.replication.protocol import Opened, Stored
from app.replication.reader import LogReader, open_reader
from app.replication.records import place_of
from app.replication.terms import Terms
from app.replication.writer import LogWriter, claim

TERMS = Terms(lease_s=30.0, grace_s=120.0)


class Violation(AssertionError):
    """Something that never may be."""


def files_of(contents: Iterable[str]) -> set[str]:
    """That the state after these commits needs."""
    needed: set[str] = set()
    for content in contents:
        change = json.loads(content)
        needed |= set(change["adds"])
        needed -= set(change["drops"])
    return needed


class Witness:
    """What was acknowledged and what was seen, by anybody."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[str] = []
        self.values: dict[str, int] = {}
        self.members: dict[str, int] = {}
        """Of what requests wrote, each in one commit."""
        self.acknowledged = 0
        self.refused: set[str] = set()
        self.readers: dict[Process, tuple[LogReader, list[str], int]] = {}
        self.opened = self.followed = 0
        self.met: set[str] = set()
        world.on_removal.append(self._removed)

    def saw(self, number: int, content: str, who: str) -> None:
        """Of commit ``number``; everybody sees the same."""
        if number <= len(self.seen):
            if self.seen[number - 1] != content:
                raise Violation(f"{who} sees {content} as commit {number}, another saw {self.seen[number - 1]}")
            return
        if number != len(self.seen) + 1:
            raise Violation(f"{who} sees commit {number} before {len(self.seen) + 1}")
        value = json.loads(content)["value"]
        if value in self.values:
            raise Violation(f"{value} is commit {self.values[value]} and {number}")
        if value in self.refused:
            raise Violation(f"{value} is commit {number}, and its writer was told that it never would be")
        self.values[value] = number
        self.seen.append(content)
        for member in json.loads(content)["members"]:
            if member in self.members:
                raise Violation(f"{member} is in commits {self.members[member]} and {number}")
            self.members[member] = number

    def acknowledge(self, number: int, content: str, who: str) -> None:
        self.saw(number, content, who)
        self.acknowledged = max(self.acknowledged, number)

    def refuse(self, content: str, who: str) -> None:
        value = json.loads(content)["value"]
        if value in self.values:
            raise Violation(f"{who} was told that {value} never is committed, and it is commit {self.values[value]}")
        self.refused.add(value)

    def state(self, opened: Opened, base: list[str], who: str, least: int) -> list[str]:
        """All contents of what was opened, held against what is known. least: commits that must be in it."""
        contents = base + [commit.content.decode() for commit in opened.commits]
        if len(base) != opened.number:
            raise Violation(f"{who} opened a base of {len(base)} commits as {opened.number}")
        for number, content in enumerate(contents, 1):
            self.saw(number, content, who)
        if len(contents) < least:
            raise Violation(f"{who} opened {len(contents)} commits, {least} were acknowledged before")
        self.opened += 1
        return contents

    def _removed(self, name: str) -> None:
        """By the writer: nobody with a live lease may need it."""
        place = place_of(name)
        for process, (reader, contents, held) in self.readers.items():
            if not (process.alive and reader._lease.live):
                continue
            if place is not None and place[1] > reader.number:
                raise Violation(f"{name} is removed, and {process.name} follows from {reader.number} on")
            states = (contents[:number] for number in range(held, len(contents) + 1))
            if place is None and any(name in files_of(state) for state in states):
                raise Violation(f"{name} is removed, and {process.name} holds {held} to {len(contents)}")


def _fetcher(process: Process, into: list[str]) -> Any:
    def fetch(base: Stored | None) -> None:
        into[:] = [] if base is None else json.loads(process.objects.read(base.name, 0, base.size))

    return fetch


def write(process: Process, witness: Witness, steps: int, work: tuple[int, int, int, int]) -> None:
    """A writer's life: it claims, works, and ends where it is fenced."""
    rng, sleep = process.world.rng, process.world.sleep
    base: list[str] = []
    least = witness.acknowledged
    try:
        writer = claim(process.objects, _fetcher(process, base), terms=TERMS, clock=process.clock(), note=process.name)
    except (StoreUnavailable, Fenced, Interrupted):
        return
    contents = witness.state(writer.opened, base, process.name, least)
    for step in range(steps):
        sleep(process, rng.expovariate(1 / rng.choice((0.1, 5, 40))))
        try:
            match rng.choices(("append", "file", "rebase", "collect"), work)[0]:
                case "append":
                    _append(writer, contents, [], witness, process, step)
                case "file":
                    stored = writer.put_file(BytesIO(f"file {step}".encode()), "segment")
                    _append(writer, contents, [stored.name], witness, process, step)
                case "rebase" if writer.number:
                    number = rng.randint(max(1, writer._head.start.number), writer.number)
                    state = contents[:number]
                    stored = writer.put_file(BytesIO(json.dumps(state).encode()), "base")
                    # A former one that was unsure may have been of a later commit.
                    with suppress(Invalid):
                        writer.rebase(number, stored, files_of(state))
                case "collect":
                    writer.collect()
        except StoreUnavailable:
            witness.met.add("unavailable")
        except Interrupted:
            witness.met.add("interrupted")
        except Fenced:
            witness.met.add("fenced")
            return


class Writers:
    """Of one process: several that come at about the same time, each with a value of its own, as requests do. What is
    said to one of them is held against the commit that has its value."""

    def __init__(
        self, writer: LogWriter, contents: list[str], adds: list[str], witness: Witness, process: Process, step: int
    ) -> None:
        self.given = writer, contents, adds, witness, process, step
        self.world, self.witness, self.process = process.world, witness, process
        self.told: list[str] = []
        self.group: GroupCommit[str, int] = GroupCommit(
            self.commit, len, 10_000, condition=Meeting(process), passed=process.clock().passed
        )
        self.commits = 0

    def commit(self, take: Callable[[], Sequence[str]]) -> list[int | BaseException]:
        values = take()
        writer, contents, adds, witness, process, step = self.given
        self.commits += 1
        # Files come with the first.
        adds = adds if self.commits == 1 else []
        _commit(writer, contents, adds, witness, process, f"{step}.{self.commits}", values)
        return [writer.number] * len(values)

    def one(self, value: str) -> None:
        """A request: told that it is kept, or why it is not."""
        try:
            self.group.join(value)
        except (StoreUnavailable, Fenced, Interrupted, Unsure) as error:
            self.told.append(type(error).__name__)
            if value in self.witness.members:
                raise Violation(f"{value} was refused, and is in commit {self.witness.members[value]}") from error
            raise
        if not 0 < self.witness.members.get(value, 0) <= self.witness.acknowledged:
            raise Violation(f"{value} was told that it is kept, and is in no commit")
        self.told.append("kept")


def _append(
    writer: LogWriter, contents: list[str], adds: list[str], witness: Witness, process: Process, step: int
) -> None:
    """By one to four requests at once; an error of theirs is raised once all of them were told."""
    rng = process.world.rng
    writers = Writers(writer, contents, adds, witness, process, step)
    values = [f"{process.name}.{step}.{i}" for i in range(rng.choice((1, 1, 2, 4)))]

    def request(value: str) -> None:
        process.world.sleep(process, rng.choice((0.0, 0.01, 0.1)))
        writers.one(value)

    try:
        process.together([partial(request, value) for value in values])
    finally:
        if writers.commits < len(values):
            witness.met.add("shared")
    if len(writers.told) != len(values):
        raise Violation(f"{len(values)} requests of {process.name}, told: {writers.told}")


def _commit(
    writer: LogWriter,
    contents: list[str],
    adds: list[str],
    witness: Witness,
    process: Process,
    step: str,
    members: Sequence[str],
) -> None:
    drops = sorted(files_of(contents))[: process.world.rng.choice((0, 0, 1))]
    content = json.dumps({"value": f"{process.name}.{step}", "adds": adds, "drops": drops, "members": list(members)})
    commit = writer.draft(content.encode(), adds)
    try:
        writer.append(commit)
    except (Unsure, Interrupted) as error:
        witness.met.add("unsure" if isinstance(error, Unsure) else "interrupted put")
        while True:
            try:
                settled = writer.settle()
                witness.met.add("settled")
                break
            except (Unsure, Interrupted):
                process.world.sleep(process, process.world.rng.uniform(0, process.world.rng.choice((10, 1000))))
        if settled != commit:
            raise Violation(f"{process.name} settled {settled}, not {commit}") from None
    except (StoreUnavailable, Fenced):
        witness.refuse(content, process.name)
        witness.met.add("refused")
        raise
    witness.acknowledge(commit.number, content, process.name)
    contents.append(content)


def read(process: Process, witness: Witness, steps: int, steady: bool) -> None:
    """A reader's life: it opens, follows, and opens anew where it is behind."""
    rng, sleep = process.world.rng, process.world.sleep
    lets_go = rng.choice((0.01, 0.2)) if steady else 0.5
    while steps > 0:
        steps -= 1
        base: list[str] = []
        least = witness.acknowledged
        try:
            reader = open_reader(process.objects, _fetcher(process, base), clock=process.clock())
        except (StoreUnavailable, Interrupted):
            continue
        except ObjectMissing as error:
            if least:
                raise Violation(f"{process.name} finds no log: {error}") from error
            sleep(process, 1)
            continue
        contents = witness.state(reader.opened, base, process.name, least)
        held = reader.opened.number
        witness.readers[process] = reader, contents, held
        try:
            while steps > 0:
                steps -= 1
                sleep(process, rng.uniform(1, 9) if steady else rng.expovariate(1 / rng.choice((0.1, 5, 30))))
                held = _follow(process, witness, reader, contents, held, lets_go)
        except (ReaderBehind, ObjectMissing) as error:
            witness.met.add("behind")
            if isinstance(error, ObjectMissing) and reader._lease.live:
                raise Violation(f"{process.name} misses what its lease holds: {error}") from error
        finally:
            witness.readers.pop(process, None)


def _follow(
    process: Process, witness: Witness, reader: LogReader, contents: list[str], held: int, lets_go: float
) -> int:
    rng = process.world.rng
    try:
        for commit in reader.poll():
            witness.saw(commit.number, commit.content.decode(), process.name)
            contents.append(commit.content.decode())
            witness.followed += 1
        if len(contents) != reader.number:
            raise Violation(f"{process.name} is at {reader.number} with {len(contents)} commits")
        needed = sorted(files_of(contents))
        if needed:
            process.objects.get(rng.choice(needed))
        if rng.random() < lets_go:
            held = rng.randint(held, len(contents))
            # What is held is told first: from the call on, no more than that is needed.
            witness.readers[process] = reader, contents, held
            reader.hold(held)
    except (StoreUnavailable, Interrupted):
        pass
    return held


@dataclass(frozen=True)
class Mood:
    """What kind of history it is. writers, readers: how many, at least and at most. gaps: between their starts, in
    seconds. work: how often a writer appends, appends with a file, rebases, collects. kills, cuts: how likely each
    process is killed, or hears nothing for a while. steady: how likely a reader is always in time and lets go seldom.
    The rest as ``Weather``, one of each."""

    writers: tuple[int, int]
    readers: tuple[int, int]
    gaps: tuple[float, ...]
    work: tuple[int, int, int, int]
    kills: float
    cuts: float
    steady: float
    bad: tuple[float, ...]
    pauses: tuple[float, ...]
    longest_s: tuple[float, ...]


MOODS = {
    "storm": Mood(
        (2, 4), (1, 4), (0.0, 0.05, 60.0, 300.0), (6, 2, 2, 3), 0.3, 0.3, 0.5,
        (0.0, 0.01, 0.05, 0.12), (0.0, 0.002, 0.02), (5.0, 100.0, 900.0),
    ),
    "takeovers": Mood(
        (4, 6), (1, 1), (100.0, 200.0), (5, 1, 4, 6), 0.0, 0.8, 0.5, (0.0, 0.05), (0.02, 0.06), (900.0,)
    ),
    "followers": Mood(
        (1, 2), (2, 3), (0.0, 300.0), (2, 5, 3, 4), 0.0, 0.0, 1.0, (0.0, 0.01), (0.0,), (5.0,)
    ),
}  # fmt: skip
"""Of a seed one, by chance."""


def play(seed: int, mood: str | None = None, plant: Any = None) -> World:
    """One history; raises Violation. plant: what breaks the world, given it before anything runs."""
    mind = random.Random(seed)
    drawn = mind.choice(list(MOODS))
    kind = MOODS[mood or drawn]
    bad = mind.choice(kind.bad)
    world = World(
        seed,
        Weather(
            refused=bad,
            dropped=bad / 2,
            unanswered=bad,
            late=bad,
            interrupted=bad / 2,
            pause=mind.choice(kind.pauses),
            stale=mind.choice((0, 0.3)),
            stale_s=TERMS.grace_s / 3,
            longest_s=mind.choice(kind.longest_s),
        ),
    )
    witness = Witness(world)
    if plant is not None:
        plant(world)
    for role, among in (("writer", kind.writers), ("reader", kind.readers)):
        at = 0.0
        for i in range(mind.randint(*among)):
            process = Process(world, f"{role}{i}", mind.uniform(-5, 5))
            at += mind.choice(kind.gaps)
            body = (
                _writing(process, witness, mind, kind) if role == "writer" else _reading(process, witness, mind, kind)
            )
            world.soon(at, None, lambda p=process, b=body: world.start(p, b))
            if mind.random() < kind.kills:
                world.soon(at + mind.expovariate(1 / 100), None, lambda p=process: _kill(p, witness))
            if mind.random() < kind.cuts:
                cut = mind.uniform(1, 900), mind.random() < 0.5
                world.soon(at + mind.expovariate(1 / 50), None, lambda p=process, cut=cut: p.cut_off(*cut))
    world.run()
    _end(world, witness)
    world.witness = witness  # type: ignore[attr-defined]
    return world


def _writing(process: Process, witness: Witness, mind: random.Random, kind: Mood) -> Callable[[], None]:
    steps = mind.randint(5, 30)
    return lambda: write(process, witness, steps, kind.work)


def _reading(process: Process, witness: Witness, mind: random.Random, kind: Mood) -> Callable[[], None]:
    steps, steady = mind.randint(5, 120), mind.random() < kind.steady
    return lambda: read(process, witness, steps, steady)


def _kill(process: Process, witness: Witness) -> None:
    process.alive = False
    witness.readers.pop(process, None)


def _end(world: World, witness: Witness) -> None:
    """In fair weather, after all: everything is there once, one can write on, and nothing is left that nobody needs."""
    late = world.weather.late > 0
    world.weather = Weather()
    last, failed = Process(world, "last", 0.0), []

    def finish() -> None:
        base: list[str] = []
        writer = claim(last.objects, _fetcher(last, base), terms=TERMS, clock=last.clock())
        contents = witness.state(writer.opened, base, "last", witness.acknowledged)
        _append(writer, contents, [], witness, last, 0)
        stored = writer.put_file(BytesIO(json.dumps(contents).encode()), "base")
        needed = files_of(contents)
        writer.rebase(writer.number, stored, needed)
        for _ in range(3):
            world.sleep(last, 2 * TERMS.grace_s)
            writer.collect()
        there = {one.name for one in last.objects.list("files/")}
        if (needed | {stored.name}) - there or (there - needed - {stored.name} and not late):
            raise Violation(f"files {sorted(there)}, needed {sorted(needed)} and {stored.name}")
        reader = open_reader(last.objects, _fetcher(last, base), clock=last.clock())
        if witness.state(reader.opened, base, "last reader", witness.acknowledged) != contents:
            raise Violation("the last reader sees something else than the last writer")
        failed.append("finished")

    world.start(last, finish)
    world.run()
    if not failed:
        raise Violation("the last process did not come to its end")
