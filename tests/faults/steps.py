"""``kill -9`` at every named step of every kind of write: what was acknowledged stands, and nothing else."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Set
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final

from acting import ALIASES, Steps, act
from forks import in_child
from ledger import Ledger, check, make
from report import Report
from writing_process import document, settings

from app.catalogue.catalogue import Catalogue
from app.compute import native
from app.encoders.registry import Encoders
from app.indexing.sealing import seal
from app.ingest import write_documents

ROOT = Path(__file__).parents[2]
HALF = (".creating", ".deleted", ".restoring", ".replaced")


STORED: Final = ("app/replicas", "app/catalogue/stored.py")
"""Whose steps only a collection comes by that has its home in a store: home.py."""


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: kills, at that many steps drawn at random, every pair of operation and step first; 0 means at each."""
    base = folder / "base"
    report = Report("steps", seed)
    names = act_once(folder, base)
    kill_at_each(report, folder, base, names, trials, act, hold)
    for name in sorted(named_steps() - named_steps(*STORED) - {name.partition(": ")[2] for name in names}):
        report.fail(f"{name}: no operation comes by this step")
    return report.done()


def kill_at_each(
    report: Report,
    folder: Path,
    base: Path,
    names: list[str],
    trials: int,
    act: Callable[[Path, Steps], None],
    hold: Callable[[Path, str], None],
    before: Set[str] = frozenset(),
) -> None:
    """Copies of the base, each killed at one step of what ``act`` does, and held. before: steps that come first."""
    report.figures["steps"] = len(names)
    report.figures["names"] = len({name.partition(": ")[2] for name in names})
    chance = random.Random(report.seed)
    first = {name: number for number, name in reversed(list(enumerate(names)))}
    order = chance.sample(sorted(first.values()), len(first))
    order.sort(key=lambda number: names[number].partition(": ")[2] not in before)
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


def named_steps(*places: str) -> set[str]:
    """In the product's code, or in these places of it."""
    paths = [ROOT / place for place in places or ("app",)]
    files = [file for path in paths for file in ([path] if path.suffix else path.rglob("*.py"))]
    found = (re.findall(r'\breach\("([^"]+)"\)', file.read_text()) for file in files)
    return {name for names in found for name in names}


def act_once(folder: Path, base: Path) -> list[str]:
    """Every step there is. Makes what a trial begins with, and does all of it once without a kill: in this process, so
    that its children find every loop compiled."""
    native.keep_in(folder / "compiled")
    make(base)
    shutil.copytree(base, folder / "once")
    steps, said = Steps(None), StringIO()
    with redirect_stdout(said):
        act(folder / "once", steps)
    hold(folder / "once", said.getvalue())
    return steps.names


def hold(place: Path, said: str) -> None:
    """Everything the process said stands, and the collections can be written and sealed again."""
    ledgers, aliases = told(said)
    check(place, ledgers)
    chosen = settings(place)
    with Catalogue(place, Encoders(chosen.models), chosen) as catalogue:
        catalogue.serve("http://here")
        hold_open(catalogue, ledgers, aliases)
    check(place, ledgers)


def told(said: str) -> tuple[dict[str, Ledger], Ledger]:
    """What a process said of each collection, and of aliases."""
    ledgers = {"c": Ledger(), "own": Ledger(), "c-again": Ledger(there=False), "own-again": Ledger(there=False)}
    lines = [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
    for name, ledger in ledgers.items():
        ledger.read(lines, name)
    aliases = Ledger()
    aliases.read(lines, ALIASES)
    return ledgers, aliases


def hold_open(catalogue: Catalogue, ledgers: dict[str, Ledger], aliases: Ledger) -> None:
    """That nothing half done is left, and that each can be written and sealed."""
    assert catalogue.quarantined() == {}
    assert not [path.name for path in catalogue.folder.iterdir() if path.name.startswith(HALF)]
    assert catalogue.aliases.all() in (aliases.stands, aliases.maybe)
    for name, ledger in ledgers.items():
        _hold_snapshots(catalogue, name)
        if not ledger.there:
            continue
        collection = catalogue.get(name)
        own = collection.spec.model is None
        write_documents(collection, [document(f"d{i}", 10**6, own=own) for i in range(3)])
        ledger.stands = ledger.maybe = {**ledger.stands, **{f"d{i}": 10**6 for i in range(3)}}
        seal(collection)


def _hold_snapshots(catalogue: Catalogue, name: str) -> None:
    """Those that are listed are whole, and nothing else is kept."""
    known = {f"{saved.id}{suffix}" for saved in catalogue.snapshots.of(name) for suffix in (".json", ".tar")}
    assert {path.name for path in (catalogue.folder / ".snapshots" / name).glob("*")} == known
    for saved in catalogue.snapshots.of(name):
        found, archive = catalogue.snapshots.get(name, saved.id)
        with archive.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == found.sha256
