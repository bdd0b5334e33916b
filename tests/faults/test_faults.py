"""A short run of each scenario of run.py; `make faults` runs the long ones."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import prestarted
import pytest

ROOT = Path(__file__).parents[2]
RUN = Path(__file__).with_name("run.py")


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    results = tmp_path / "results.json"
    done = prestarted.run(
        [sys.executable, RUN, *arguments, "--json", results],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert results.exists(), done.stderr
    (found,) = json.loads(results.read_text())
    return done.returncode, found


def held(tmp_path: Path, scenario: str) -> dict[str, Any]:
    status, found = run(tmp_path, scenario, "--short")
    skipped = [name for name in found["counts"] if name.startswith("NOT RUN")]
    if skipped:
        pytest.skip(skipped[0])
    assert found["failures"] == []
    assert status == 0
    assert found["trials"] > 0
    return found


def test_killed_at_named_steps(tmp_path: Path) -> None:
    found = held(tmp_path, "steps")
    assert found["figures"]["steps"] > 1_000
    assert found["figures"]["names"] >= 31


def test_killed_at_named_steps_with_a_home_in_a_store(tmp_path: Path) -> None:
    found = held(tmp_path, "home")
    assert found["figures"]["steps"] > 2_000
    assert found["figures"]["names"] >= 40


def test_the_power_is_cut(tmp_path: Path) -> None:
    found = held(tmp_path, "power")
    assert found["figures"]["fsyncs"] > 100


def test_a_missing_fsync_would_be_noticed(tmp_path: Path) -> None:
    status, found = run(tmp_path, "power-without-fsync", "--trials", "8")
    if any(name.startswith("NOT RUN") for name in found["counts"]):
        pytest.skip("no C compiler")
    assert status == 1
    assert len(found["failures"]) >= 2


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    found = held(tmp_path, "errors")
    assert found["counts"]["SystemFault"] >= 8
    assert found["figures"]["of them fsyncs"] > 500


def test_damaged_files(tmp_path: Path) -> None:
    found = held(tmp_path, "damage")
    assert found["figures"]["kinds"] > 25
    assert found["trials"] > found["figures"]["kinds"]
    assert found["counts"]["refused"] > 12
    assert found["counts"]["made anew"] >= 4
    assert found["counts"].get("rebuilt", 0) + found["counts"].get("irreplaceable", 0) == 2


def test_killed_at_random_moments(tmp_path: Path) -> None:
    assert held(tmp_path, "kill")["counts"]["writes acknowledged"] > 0


def test_stops_failing_encoders_full_disks_and_strange_files(tmp_path: Path) -> None:
    counts = held(tmp_path, "stops")["counts"]
    assert counts["encoder failed and came back"] == counts["strange files"] == 1
    assert counts["disk full, by a limit"] == 1
    assert counts.get("disk full, of a file system", 0) + counts.get("no file system can be mounted", 0) == 1


def test_time_and_restarts_change_neither_recall_nor_disk(tmp_path: Path) -> None:
    held(tmp_path, "quality")


def test_readers_writers_and_a_rebuild(tmp_path: Path) -> None:
    counts = held(tmp_path, "load")["counts"]
    assert counts["200"] > 50
    assert not [status for status in counts if status.startswith("5")]
