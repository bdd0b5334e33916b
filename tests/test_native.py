"""Where machine code is kept: in a folder of this user alone, or nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import sys, pathlib, numpy as np
from app.native import keep_in
from app.codes.grid import GridCode
keep_in(pathlib.Path(sys.argv[1]))
print(GridCode("8bit", 2).encode(np.ones((1, 2), np.float32)).tolist())
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    line = [sys.executable, "-c", CODE, str(folder)]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[[255, 255, ")
    return done


def kept(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.nb*")}


def test_a_second_process_takes_what_the_first_kept(tmp_path: Path) -> None:
    run(tmp_path / "compiled")
    first = kept(tmp_path)
    assert first
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "compiled").iterdir())
    run(tmp_path / "compiled")
    assert kept(tmp_path) == first


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    run(folder)
    (place,) = folder.iterdir()
    for path in place.rglob("*.nb*"):
        path.unlink()
    place.chmod(0o777)
    assert "others may write it" in run(folder).stderr
    assert not kept(tmp_path)
