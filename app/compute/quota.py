"""The share of the machine that this process may use: its cores and its memory, or its container's share where that is
less.

A container sees the host's cores and its ``/proc/meminfo``; what it may use of them stands in its control group, of
version 2 or 1, and in each group around that one, which all hold. Every function takes the root of the file system.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")


def cores(root: Path = ROOT) -> int:
    """Threads that compute at once: the cores that this process may run on, and no more than its quota, rounded up."""
    shares = [share for folder in _groups(root, "cpu") if (share := _share(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, shares)]))


def tell_libraries(root: Path = ROOT) -> None:
    """Those with threads of their own (torch, faiss) count the host's cores. Under a quota that is less,
    threads as many spend it by waiting for each other. Holds for what is not loaded yet, unless the operator chose."""
    if cores(root) < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores(root)))


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that may still be taken. None: unknown."""
    found = [_of_machine(root), *map(_left, _groups(root, "memory"))]
    return min((left for left in found if left is not None), default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, outwards. A group that is not seen from inside has only those around it."""
    base = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        mount = base / names if names and (base / names).is_dir() else base / controller if names else base
        inside = Path(path.lstrip("/"))
        yield from (mount / group for group in (inside, *inside.parents) if ".." not in group.parts)


def _share(folder: Path) -> float | None:
    """Version 2 has `200000 100000`, or `max 100000`; version 1 two files, -1 in the first where there is no quota."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _of_machine(root: Path) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


_MEMORY: Final = (
    ("memory.max", "memory.current", ("active_file", "inactive_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
)
"""Of each version: the limit, what is used, and what of that is pages of files, which give way."""


def _left(folder: Path) -> int | None:
    for limit, used, files in _MEMORY:
        try:
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cached = sum(int(stat.get(name, 0)) for name in files)
            return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()) + cached)
        except (OSError, ValueError):
            # No such file, or `max`: no limit.
            continue
    return None
