"""Power loss: what was not fsynced is gone, in part or in whole; what was acknowledged stands.

Every change of the disk that a process makes (SQLite's too) is recorded by a library that is loaded before the C
library; then the power is cut at any place of the record, and what a disk would hold is opened. Needs a C compiler.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from disk_model import Change, Disk, Loss, read_log
from forks import in_child
from report import Report
from steps import act_once, hold

HERE = Path(__file__).parent
LOSSES: tuple[Loss, ...] = ("all", "some", "some", "none")


def run(folder: Path, seed: int, trials: int, *, heed: bool = True) -> Report:
    """trials: cuts, at places drawn at random; 0 is a cut before every fsync, with each kind of loss.

    heed: False takes every fsync out of the record, to see that the rig would notice.
    """
    report = Report("power", seed)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        report.counts["NOT RUN: no C compiler"] += 1
        return report.done()
    library, recorded, log = folder / "recorder.so", folder / "recorded", folder / "log"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "recorder.c", "-ldl"], check=True)
    recorded.mkdir()
    # Before children are forked; and what is compiled stays out of the record.
    act_once(folder, folder / "base")
    compiled = {"NUMBA_CACHE_DIR": str(folder / "compiled"), **os.environ}
    preloaded = {"LD_PRELOAD": str(library), "RECORD_FOLDER": str(recorded), "RECORD_LOG": str(log)}
    path = os.pathsep.join(sys.path)
    subprocess.run(
        [sys.executable, HERE / "recorded_process.py", recorded],
        env={**compiled, **preloaded, "PYTHONPATH": path},
        check=True,
    )
    changes = list(read_log(log))
    said_path = f"{recorded}/said"
    if missed := _missed(recorded, changes, folder / "replayed"):
        report.fail(f"the record misses changes of the disk: {missed[:5]}")
        return report.done()
    begun = next(i for i, one in enumerate(changes) if one.path == said_path and b'["made"]' in one.data)
    syncs = [i for i, one in enumerate(changes) if one.kind in "sd" and i > begun]
    report.figures["changes recorded"] = len(changes) - begun
    report.figures["fsyncs"] = len(syncs)
    chance = random.Random(seed)
    if trials:
        # Half of them just before or after an fsync, where the most is at stake.
        places = [chance.choice(syncs) + chance.randint(0, 1) for _ in range(trials // 2)]
        places += [chance.randrange(begun + 1, len(changes)) for _ in range(trials - len(places))]
        cuts = sorted((place, LOSSES[i % len(LOSSES)]) for i, place in enumerate(places))
    else:
        cuts = [(place, loss) for place in syncs for loss in LOSSES]
    disk, at, said = Disk(str(recorded)), 0, b""
    for place, loss in cuts:
        for change in changes[at:place]:
            if change.path == said_path:
                said += change.data if change.kind == "w" else b""
            elif heed or change.kind not in "sd":
                disk.replay(change)
        at = max(at, place)
        report.trials += 1
        report.counts[f"lost {loss}"] += 1
        left = folder / "left"
        shutil.rmtree(left, ignore_errors=True)
        disk.cut(left, loss, chance)
        lines = said.decode().partition('["made"]\n')[2]
        held = in_child(lambda left=left, lines=lines: hold(left, lines))  # type: ignore[misc]
        if not held.well:
            before = changes[place - 1]
            report.fail(f"cut after change {place} ({before.kind} {before.path}), {loss} lost: {held.errors[-2_000:]}")
            if "--folder" in sys.argv:
                shutil.copytree(left, folder / f"failed-{place}-{loss}", dirs_exist_ok=True)
    return report.done()


def _missed(recorded: Path, changes: list[Change], place: Path) -> list[str]:
    """Where what the record makes is not what is there."""
    disk = Disk(str(recorded))
    for change in changes:
        disk.replay(change)
    disk.cut(place, "none", random.Random(0))

    def held(root: Path) -> dict[str, bytes]:
        # SQLite keeps the index of its log in mapped memory, and makes it anew at the next opening.
        paths = (path for path in root.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}

    made, there = held(place), held(recorded)
    return sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
