"""Cores and memory of a container, by folders such as its kernel shows: both versions, nested, seen from inside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.compute import quota

UNLIMITED = "9223372036854771712"
V1 = "4:memory:{at}\n2:cpu,cpuacct:{at}\n1:name=systemd:{at}\n"
V2 = "0::{at}\n"


def files(root: Path, content: dict[str, str]) -> None:
    """content: by path."""
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def put(root: Path, content: dict[str, str]) -> None:
    files(root / "sys/fs/cgroup", content)


def group(root: Path, version: str, at: str = "/") -> None:
    files(root / "proc", {"self/cgroup": version.format(at=at)})


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def test_without_a_quota_the_cores_of_the_process_count(tmp_path: Path) -> None:
    assert quota.cores(tmp_path) == 8
    group(tmp_path, V2)
    put(tmp_path, {"cpu.max": "max 100000\n"})
    assert quota.cores(tmp_path) == 8
    group(tmp_path, V1)
    put(tmp_path, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"})
    assert quota.cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("share", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("6400000 100000", 8)]
)
def test_a_quota_is_cores_rounded_up(tmp_path: Path, share: str, cores: int) -> None:
    group(tmp_path, V2)
    put(tmp_path, {"cpu.max": f"{share}\n"})
    assert quota.cores(tmp_path) == cores


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("at", ["/", "/docker/abc"])
def test_version_1_seen_from_inside_or_from_the_host(tmp_path: Path, mount: str, at: str) -> None:
    group(tmp_path, V1, at)
    folder = tmp_path / "sys/fs/cgroup" / mount
    files(folder, {"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"})
    assert quota.cores(tmp_path) == 3


def test_of_nested_groups_all_limits_hold(tmp_path: Path) -> None:
    group(tmp_path, V2, "/slice/unit/inner")
    put(tmp_path, {"slice/cpu.max": "200000 100000\n", "slice/unit/cpu.max": "400000 100000\n"})
    put(tmp_path, {"slice/unit/inner/cpu.max": "max 100000\n", "other/cpu.max": "100000 100000\n"})
    assert quota.cores(tmp_path) == 2
    for name, limit in (("slice", "100"), ("slice/unit", "max")):
        files(
            tmp_path / "sys/fs/cgroup" / name,
            {"memory.max": limit, "memory.current": "40\n", "memory.stat": "file 0\n"},
        )
    files(tmp_path / "proc", {"meminfo": "MemTotal: 99 kB\nMemAvailable: 9 kB\n"})
    assert quota.available_memory(tmp_path) == 60


def test_the_limit_of_memory_counts_without_pages_that_give_way(tmp_path: Path) -> None:
    assert quota.available_memory(tmp_path) is None
    files(tmp_path / "proc", {"meminfo": "MemTotal: 99 kB\nMemAvailable: 9 kB\n"})
    assert quota.available_memory(tmp_path) == 9 * 1024
    group(tmp_path, V2)
    put(tmp_path, {"memory.max": "1000\n", "memory.current": "700\n"})
    # Content of a temporary file system is counted as a file too, but stays.
    put(tmp_path, {"memory.stat": "anon 400\nfile 250\nshmem 100\ninactive_file 50\nactive_file 100\n"})
    assert quota.available_memory(tmp_path) == 450
    put(tmp_path, {"memory.max": "max\n"})
    assert quota.available_memory(tmp_path) == 9 * 1024
    group(tmp_path, V1)
    put(tmp_path, {"memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "700\n"})
    put(tmp_path, {"memory/memory.stat": "cache 250\ntotal_inactive_file 50\ntotal_active_file 20\n"})
    assert quota.available_memory(tmp_path) == 370
    put(tmp_path, {"memory/memory.limit_in_bytes": UNLIMITED})
    assert quota.available_memory(tmp_path) == 9 * 1024


def test_libraries_are_told_of_a_quota_and_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    quota.tell_libraries(tmp_path)
    assert "OMP_NUM_THREADS" not in os.environ
    group(tmp_path, V2)
    put(tmp_path, {"cpu.max": "200000 100000\n"})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    quota.tell_libraries(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.delenv("OMP_NUM_THREADS")
    quota.tell_libraries(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_nothing_counts_the_cores_of_the_host() -> None:
    root = Path(__file__).parents[2]
    asking = [
        str(path.relative_to(root))
        for folder in ("app", "scripts")
        for path in (root / folder).rglob("*.py")
        if "cpu_count(" in path.read_text() or "sched_getaffinity(" in path.read_text()
    ]
    assert asking == ["app/compute/quota.py"]
