"""A disk that refuses one change: any of those that every kind of write makes, with an error of the disk or for want of
room. Acknowledged writes stand, a failed one is there as a whole or not at all, before a restart as after it; and the
same process goes on writing. Needs a C compiler.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from report import Report

HERE = Path(__file__).parent


def run(folder: Path, seed: int, trials: int) -> Report:
    """trials: changes drawn at random, each failing once, beside a commit of each operation, whose fsync always does;
    0 is every change, with each error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        report = Report("errors", seed)
        report.counts["NOT RUN: no C compiler"] += 1
        return report.done()
    library, work, out = folder / "recorder.so", folder / "work", folder / "report.json"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "recorder.c", "-ldl"], check=True)
    work.mkdir()
    subprocess.run(
        [sys.executable, HERE / "failing_process.py", work, str(seed), str(trials), out],
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "RECORD_FOLDER": str(work),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        check=True,
    )
    return Report.from_json(json.loads(out.read_text()))
