"""Histories of a log by their seeds: what holds in all of them, and that each planted fault breaks one.

Ten thousand by one command: ``python tests/replication/simulate.py --seeds 10000``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lives import play
from simulated import World

import app.objects.persistent
import app.replication.reader
import app.replication.writer
from app.collection.writes.group_commit import GroupCommit
from app.replication.head import Records
from app.replication.writer import LogWriter

SEEDS = range(40)
FEW = range(60)
"""In which a planted fault must show; most do in the first ten."""


def test_what_is_acknowledged_is_there_once_whatever_happens() -> None:
    worlds = [play(seed) for seed in SEEDS]
    # They did something: commits, readers that followed, and all that may go wrong.
    assert sum(len(world.witness.seen) for world in worlds) > 300
    assert sum(world.witness.followed for world in worlds) > 50
    assert {"interrupted put", "shared", "fenced", "unsure", "settled", "behind", "refused"} <= set().union(
        *(world.witness.met for world in worlds)
    )


def test_a_seed_is_one_history() -> None:
    first, second = play(7), play(7)
    assert first.witness.seen == second.witness.seen
    assert (first.time, first.requests, first.store.objects) == (second.time, second.requests, second.store.objects)


Patch = Callable[[pytest.MonkeyPatch, World], None]


def no_compare(_: pytest.MonkeyPatch, world: World) -> None:
    world.store.compares = False


def no_grace(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(app.replication.writer, "collectable", lambda gone, old, lowest: True)


def no_leases(patch: pytest.MonkeyPatch, _: World) -> None:
    patch.setattr(app.replication.writer, "collectable", lambda gone, old, lowest: gone.since <= old)


def collected_seals(patch: pytest.MonkeyPatch, _: World) -> None:
    """As if they were like commits."""

    def all_of_them(writer: LogWriter, number: int) -> tuple[Records, ...]:
        last = {place.epoch: of for of, place in writer._places.items() if of <= number}
        seals = {(epoch, of + 1) for epoch, of in last.items() if epoch < writer.epoch}
        found = {(place.epoch, of) for of, place in writer._places.items() if of <= number} | seals
        return tuple(Records(epoch, at, at) for epoch, at in sorted(found))

    patch.setattr(LogWriter, "_removable", all_of_them)


def no_seal(patch: pytest.MonkeyPatch, _: World) -> None:
    def unsealed(objects: Any, trail: Any, clock: Any, note: str) -> list[Any]:
        from app.replication.head import Position

        trail.position = Position(trail.position.epoch + 1, *trail.position[1:])
        return []

    patch.setattr(app.replication.writer, "_sealed", unsealed)


def no_second_look(patch: pytest.MonkeyPatch, _: World) -> None:
    """A claim does not look whether the head is still its own."""
    patch.setattr(app.replication.writer, "still", lambda objects, tag: True)


def blind_retry(patch: pytest.MonkeyPatch, _: World) -> None:
    """What a put says after its answer was lost is believed: taken is taken, whoever took it."""

    class Others(bytes):
        """Never ours, whatever it is."""

        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = bytes.__hash__

    found = app.objects.persistent.Persistent._there

    def there(self: Any, *asked: Any) -> tuple[bytes, str] | None:
        content = found(self, *asked)
        return None if content is None else (Others(content[0]), content[1])

    patch.setattr(app.objects.persistent.Persistent, "_there", there)


def left_aside(patch: pytest.MonkeyPatch, _: World) -> None:
    """What is unsure is taken as not applied, and its number used for the next."""

    def forget(writer: LogWriter) -> Any:
        commit = writer._drafted[0] if writer._drafted else None
        writer._drafted, writer._unsure = None, False
        return commit

    patch.setattr(LogWriter, "settle", forget)


def slept_through(patch: pytest.MonkeyPatch, _: World) -> None:
    """A reader that slept while it was opened takes what is missing as the log's end."""
    patch.setattr(app.replication.reader, "in_time", lambda clock, began, grace_s: True)


def told_early(patch: pytest.MonkeyPatch, _: World) -> None:
    """Who joins others is told before the commit is put."""
    lead = GroupCommit._lead

    def early(gathering: Any) -> None:
        for one in list(gathering._waiting)[1:]:
            one.outcome.append(0)
        lead(gathering)

    patch.setattr(GroupCommit, "_lead", early)


def told_alone(patch: pytest.MonkeyPatch, _: World) -> None:
    """An error reaches one of those whose commit it was, and the others are told that all is well."""
    lead = GroupCommit._lead

    def alone(gathering: Any) -> None:
        waiting = list(gathering._waiting)
        lead(gathering)
        for one in waiting[1:]:
            one.outcome[:] = [0] if one.outcome else []

    patch.setattr(GroupCommit, "_lead", alone)


PLANTED = [
    (no_compare, "storm"),
    (no_grace, "followers"),
    (no_leases, "followers"),
    (collected_seals, "takeovers"),
    (no_seal, "takeovers"),
    (no_second_look, "takeovers"),
    (blind_retry, "storm"),
    (left_aside, "storm"),
    (told_early, "storm"),
    (told_alone, "storm"),
]


@pytest.mark.parametrize(
    ("plant", "mood", "seeds"), [*((*one, FEW) for one in PLANTED), (slept_through, "takeovers", range(60, 70))]
)
def test_a_planted_fault_is_found(plant: Patch, mood: str, seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in seeds:
        with monkeypatch.context() as patch:
            try:
                play(seed, mood, lambda world, patch=patch: plant(patch, world))
            except Exception:  # noqa: BLE001, a history that broke breaks anything
                return
    pytest.fail(f"{plant.__name__} broke nothing in {len(seeds)} histories")
