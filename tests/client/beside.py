"""Packages that stand beside Sheaf's own, in a folder that one test imports from: what they pin, or take of a start, is
no affair of the others."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "scripts" / "peers"


def installed(lock: str, scratch: Path) -> Path:
    """The folder with what a lock of scripts/peers has, which is filled once. scratch: on the same disk. Where no index
    has it the test is skipped, but in CI."""
    content = (PEERS / lock).read_bytes()
    kept = ROOT / ".pytest_cache" / f"{Path(lock).stem}-{hashlib.sha256(content).hexdigest()[:12]}"
    if not kept.exists():
        made = scratch / "packages"
        line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-compile"]
        done = subprocess.run(
            [*line, "--target", made, "--requirement", PEERS / lock], capture_output=True, text=True, check=False
        )
        if done.returncode:
            assert os.environ.get("SHEAF_REQUIRE_PEERS") != "1", done.stderr
            pytest.skip(f"{lock} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        kept.parent.mkdir(exist_ok=True)
        shutil.move(made, kept)
    return kept
