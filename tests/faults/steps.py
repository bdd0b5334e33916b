"""``kill -9`` at every named step of every kind of write: what was acknowledged stands, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path

from acting import Steps, act
from forks import in_child
from ledger import Ledger, check, make
from report import Report
from writing_process import document, say, settings

from app.collection.catalogue import Catalogue
from app.collection.sealing import seal
from app.encoders.registry import Encoders
from app.ingest import write_documents


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: kills, at that many steps drawn at random, every pair of operation and step first; 0 means at each."""
    report = Report("steps", seed)
    base = folder / "base"
    made = in_child(lambda: make(base))
    assert made.well, made.errors
    shutil.copytree(base, folder / "counted")
    counted = in_child(lambda: _count(folder / "counted"))
    assert counted.well, counted.errors
    names: list[str] = json.loads(counted.output.splitlines()[-1])
    report.figures["steps"] = len(names)
    report.figures["names"] = len({name.partition(": ")[2] for name in names})
    first = {name: number for number, name in reversed(list(enumerate(names)))}
    chance = random.Random(seed)
    order = chance.sample(sorted(first.values()), len(first))
    order += chance.sample([n for n in range(len(names)) if n not in set(order)], len(names) - len(order))
    slowest = 0.0
    for number in order[: trials or len(order)]:
        report.trials += 1
        place = folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        where = f"step {number} ({names[number]})"
        killed = in_child(lambda place=place, number=number: act(place, Steps(number)))  # type: ignore[misc]
        if killed.signal != signal.SIGKILL:
            report.fail(f"{where}: it was not killed there: {killed.errors[-2_000:]}")
            continue
        started = time.monotonic()
        held = in_child(lambda place=place, said=killed.output: hold(place, said))  # type: ignore[misc]
        slowest = max(slowest, time.monotonic() - started)
        if not held.well:
            report.fail(f"{where}: {'hung' if held.hung else held.errors[-2_000:]}")
        report.counts[names[number].partition(": ")[2]] += 1
    report.figures["slowest recovery and check, s"] = round(slowest, 2)
    return report.done()


def _count(place: Path) -> None:
    steps = Steps(None)
    act(place, steps)
    say(*steps.names)


def hold(place: Path, said: str) -> None:
    """What the process said stands, and the collections can be written and sealed again."""
    ledgers = {"c": Ledger(), "own": Ledger()}
    lines = [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
    for name, ledger in ledgers.items():
        ledger.read(lines, name)
    check(place, ledgers)
    chosen = settings(place)
    with Catalogue(place, Encoders(chosen.models), chosen) as catalogue:
        catalogue.serve("http://here")
        assert catalogue.quarantined() == {}
        assert not [path.name for path in place.iterdir() if path.name.startswith((".creating", ".deleted"))]
        for name, ledger in ledgers.items():
            collection = catalogue.get(name)
            own = collection.spec.model is None
            write_documents(collection, [document(f"d{i}", 10**6, own=own) for i in range(3)])
            ledger.stands = ledger.maybe = {**ledger.stands, **{f"d{i}": 10**6 for i in range(3)}}
            seal(collection)
    check(place, ledgers)
