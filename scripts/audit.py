"""Whether what is installed here is what is locked: every package of requirements-dev.lock, at its version.

Run by ``make audit``. Needs no network, and so knows nothing of faults that were found in a version since; the Makefile
names the command that asks.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
UNLOCKED: Final = re.compile(r"sheaf|pip|torch|triton|nvidia-.*|cuda-.*")
"""Sheaf itself, the installer, and torch with what its builds need."""


def normal(name: str) -> str:
    """A package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def differences(lock: str, installed: dict[str, str]) -> list[str]:
    """Packages installed at another version than is locked, or not locked at all.

    >>> differences("a==1 --hash=x\\nb==2 --hash=y", {"a": "1", "b": "3", "c": "4"})
    ['b 3 is installed, 2 is locked', 'c 4 is installed and not locked']
    """
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, re.MULTILINE):
        versions.setdefault(normal(name), set()).add(version)
    found = []
    for name, version in sorted(installed.items()):
        if UNLOCKED.fullmatch(name):
            continue
        if name not in versions:
            found.append(f"{name} {version} is installed and not locked")
        elif version not in versions[name]:
            found.append(f"{name} {version} is installed, {' or '.join(sorted(versions[name]))} is locked")
    return found


def main() -> int:
    installed = {normal(one.metadata["Name"]): one.version for one in distributions()}
    found = differences((ROOT / "requirements-dev.lock").read_text(), installed)
    print(*(found or [f"{len(installed)} packages are installed as they are locked"]), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
