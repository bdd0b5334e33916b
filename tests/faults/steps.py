"""``kill -9`` at every named step of every kind of write: what was acknowledged stands, and nothing else."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

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


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: kills, at that many steps drawn at random, every pair of operation and step first; 0 means at each."""
    report = Report("steps", seed)
    base = folder / "base"
    names = act_once(folder, base)
    report.figures["steps"] = len(names)
    report.figures["names"] = len({name.partition(": ")[2] for name in names})
    for name in sorted(named_steps() - {name.partition(": ")[2] for name in names}):
        report.fail(f"{name}: no operation comes by this step")
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


def named_steps() -> set[str]:
    """In the product's code."""
    found = (re.findall(r'\breach\("([^"]+)"\)', path.read_text()) for path in (ROOT / "app").rglob("*.py"))
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
    ledgers = {"c": Ledger(), "own": Ledger(), "c-again": Ledger(there=False), "own-again": Ledger(there=False)}
    lines = [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
    for name, ledger in ledgers.items():
        ledger.read(lines, name)
    aliases = Ledger()
    aliases.read(lines, ALIASES)
    check(place, ledgers)
    chosen = settings(place)
    with Catalogue(place, Encoders(chosen.models), chosen) as catalogue:
        catalogue.serve("http://here")
        assert catalogue.quarantined() == {}
        assert not [path.name for path in place.iterdir() if path.name.startswith(HALF)]
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
    check(place, ledgers)


def _hold_snapshots(catalogue: Catalogue, name: str) -> None:
    """Those that are listed are whole, and nothing else is kept."""
    known = {f"{saved.id}{suffix}" for saved in catalogue.snapshots.of(name) for suffix in (".json", ".tar")}
    assert {path.name for path in (catalogue.folder / ".snapshots" / name).glob("*")} == known
    for saved in catalogue.snapshots.of(name):
        found, archive = catalogue.snapshots.get(name, saved.id)
        with archive.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == found.sha256
