"""Trials of ``errors.py``, each a child of this process: recorder.c is loaded here, which lets a change fail."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

from acting import Steps, act
from forks import in_child
from report import Report
from steps import act_once, hold
from writing_process import document, say

from app.catalogue.catalogue import Catalogue
from app.errors import SheafError, StorageFull, SystemFault
from app.ingest import write_documents
from app.store import folders
from app.store.local_directory import LocalDirectory

LIBRARY = ctypes.CDLL(None)
ERRORS = (errno.EIO, errno.ENOSPC)
AFTER = 10**5
"""The version that is written after an error."""


def main() -> None:
    folder, seed, trials, out = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    report = Report("errors", seed)
    base = folder / "base"
    act_once(folder, base)
    shutil.copytree(base, folder / "counted")
    counted = in_child(lambda: _count(folder / "counted"))
    changes, syncs, commits = json.loads(counted.output.splitlines()[-1])
    report.figures["changes that may fail"] = changes
    report.figures["of them fsyncs"] = syncs
    chance = random.Random(seed)
    cases = [((at, -1), error) for at in range(changes) for error in ERRORS]
    if trials:
        # Half of them fsyncs: what they refuse may lie there as a whole.
        half = [((-1, at), error) for at in range(syncs) for error in ERRORS]
        cases = [*chance.sample(half, trials // 2), *chance.sample(cases, trials - trials // 2)]
    # The fsync of a commit of each operation, always: what it refused lies in the log as a whole.
    cases = [*(((-1, at), errno.EIO) for at in commits.values()), *cases]
    for at, error in cases:
        report.trials += 1
        where = f"{'fsync' if at[0] < 0 else 'change'} {max(at)} fails with {errno.errorcode[error]}"
        killed = report.trials <= len(commits) or chance.random() < 0.5
        place = folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        ended = in_child(lambda place=place, at=at, error=error, killed=killed: _fail(place, at, error, killed))  # type: ignore[misc]
        if (not ended.well and ended.signal != signal.SIGKILL) or ended.hung:
            report.fail(f"{where}: {ended.errors[-2_000:]}")
            continue
        raised = ended.errors.rpartition("raised: ")[2].partition(chr(10))[0]
        report.counts[raised or "nothing raised"] += 1
        held = in_child(lambda place=place, said=ended.output: hold(place, said))  # type: ignore[misc]
        if not held.well:
            report.fail(f"{where} ({raised}): {'hung' if held.hung else held.errors[-2_000:]}")
            if "--keep" in sys.argv:
                shutil.copytree(place, folder / f"failed-{max(at)}-{error}", dirs_exist_ok=True)
    out.write_text(json.dumps(report.done().to_json()))


class Commits(Steps):
    """The number of the fsync that the last commit of each operation makes: on the collection that is written to no
    more after it failed, so that nothing but the product takes it back."""

    def __init__(self) -> None:
        super().__init__(None)
        self.syncs: dict[str, int] = {}

    def __call__(self, step: str) -> None:
        super().__call__(step)
        if step == "transaction.filled":
            self.syncs[self.operation] = LIBRARY.synced_so_far()


def _count(place: Path) -> None:
    LIBRARY.fail(-1, -1, 0)
    steps = Commits()
    act(place, steps)
    say(LIBRARY.changed(), LIBRARY.synced_so_far(), steps.syncs)


def _fail(place: Path, at: tuple[int, int], error: int, killed: bool) -> None:
    LIBRARY.fail(*at, error)

    def failed(catalogue: Catalogue, raised: Exception) -> None:
        LIBRARY.fail(-1, -1, 0)
        if not isinstance(raised, SheafError | OSError | sqlite3.Error | AssertionError):
            raise raised
        sys.stderr.write(f"raised: {type(raised).__name__}{chr(10)}")
        sys.stderr.flush()
        for name in folders.names(LocalDirectory(place)):
            found = catalogue.get(name).listing(None, 1_000)[0]
            say("seen", name, 0, {one.id: one.metadata["v"] for one in found} if name != "new" else {})
        # And goes on.
        say("upsert", "c", AFTER, ["d0", "after"])
        write_documents(catalogue.get("c"), [document(i, AFTER, own=False) for i in ("d0", "after")])
        say("done", "c", AFTER, [])
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        # SQLite does not tell why it could not open or sync a file. A task that failed is no success, as it should be.
        of_sqlite = isinstance(raised, SystemFault) and isinstance(raised.__cause__, sqlite3.Error)
        if error == errno.ENOSPC and not (
            of_sqlite or isinstance(raised, StorageFull | AssertionError | sqlite3.Error)
        ):
            raise AssertionError("a full disk is not said to be one") from raised

    act(place, Steps(None), failed)


if __name__ == "__main__":
    main()
