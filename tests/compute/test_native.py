"""Where machine code is kept: in a folder of this user alone, or nowhere; and that damage to it is noticed."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba.core import config

from app.compute.native import kernel

ROOT = Path(__file__).parents[2]
CODE = """
import sys, pathlib, numpy as np
from app.compute.native import keep_in
from app.codes.grid import GridCode
keep_in(*map(pathlib.Path, sys.argv[1:]))
print(GridCode("8bit", 2).encode(np.ones((1, 2), np.float32)).tolist())
"""
CHANGING = """
import sys
from app.compute import native
print(native.__file__, native._version())
for path in sys.argv[1:]:
    open(path, "a").write("# changed")
    print(native._version())
"""


def run(folder: Path, *installed: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    line = [sys.executable, "-c", CODE, str(folder), *map(str, installed)]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[[1, 1, 3, 2, 1, 60]]")
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


def test_a_new_folder_begins_with_what_was_compiled_at_the_installation(tmp_path: Path) -> None:
    installed, folder = tmp_path / "installed", tmp_path / "indexes/compiled"
    run(installed, tmp_path / "nothing")
    made = {Path(path).relative_to(installed): stamp for path, stamp in kept(installed).items()}
    run(folder, installed)
    assert {Path(path).relative_to(folder): stamp for path, stamp in kept(folder).items()} == made
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_an_installation_that_others_can_write_is_not_taken(tmp_path: Path) -> None:
    installed, folder = tmp_path / "installed", tmp_path / "compiled"
    run(installed, tmp_path / "nothing")
    (place,) = installed.iterdir()
    for path in place.rglob("*.nb*"):
        path.write_bytes(b"anything")
    place.chmod(0o777)
    run(folder, installed)
    assert kept(folder)
    assert [path.name for path in folder.iterdir()] == [place.name]
    assert all(Path(path).read_bytes() != b"anything" for path in kept(folder))


def test_an_installation_has_every_loop_of_searches(tmp_path: Path) -> None:
    """So a server that begins with it compiles none."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    stamps = []
    for _ in range(2):
        line = [sys.executable, "-m", "app.catalogue.prepare", str(tmp_path)]
        subprocess.run(line, cwd=ROOT, env=environment, check=True)
        stamps.append(kept(tmp_path))
    assert len(stamps[0]) > 50
    assert stamps[0] == stamps[1]


def test_what_is_kept_is_named_by_every_file_with_a_loop(tmp_path: Path) -> None:
    """An inner loop that changed must not run as it was: numba itself looks at the outer one's file alone."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    loops = [
        path
        for path in sorted((tmp_path / "app").rglob("*.py"))
        if re.search(r"^@(kernel|instruction)\b", path.read_text(), re.MULTILINE)
    ]
    assert len(loops) > 5
    done = subprocess.run(
        [sys.executable, "-c", CHANGING, *map(str, loops)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, *versions = done.stdout.split()
    assert Path(file) == tmp_path / "app/compute/native.py"
    assert len(set(versions)) == 1 + len(loops)


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    run(folder)
    (place,) = folder.iterdir()
    for path in place.rglob("*.nb*"):
        path.unlink()
    place.chmod(0o777)
    assert "others may write it" in run(folder).stderr
    assert not kept(tmp_path)


def keep_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # numba reads the variable again once it has changed.
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    monkeypatch.setattr(config, "CACHE_DIR", str(folder))


def twice(number: int) -> int:
    return 2 * number


def test_machine_code_that_is_not_what_was_kept_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_here(tmp_path, monkeypatch)

    def stats() -> tuple[int, int]:
        """Files read and made by another process, in effect; each knows what two and two are."""
        fresh: Any = kernel(twice)
        assert fresh(2) == 4
        return sum(fresh.stats.cache_hits.values()), sum(fresh.stats.cache_misses.values())

    assert stats() == (0, 1)
    assert stats() == (1, 0)
    chance, files = random.Random(1), sorted(tmp_path.rglob("*.nb*"))
    assert [path.suffix for path in files] == [".nbc", ".nbi"]
    for path in files:
        whole = path.read_bytes()
        cuts = [whole[:place] for place in (0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(18)))]
        flips = [flipped(whole, chance.randrange(len(whole)), chance.randrange(8)) for _ in range(200)]
        kept: Any = kernel(twice)
        (key,) = kept._cache._cache_file._load_index()
        for harmed in cuts + flips:
            path.write_bytes(harmed)
            assert kept._cache._cache_file.load(key) is None
        assert stats() == (0, 1)
        assert stats() == (1, 0)


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_a_loop_runs_though_its_code_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_here(tmp_path, monkeypatch)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        fresh: Any = kernel(twice)
        assert fresh(2) == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.nb*"))
