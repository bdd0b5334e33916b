"""The commands as they are typed, and a server as it is started: processes of their own, with a quick encoder, and with
everything imported (tests/prestarted.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import prestarted
import pytest
from commands import DEADLINE_S, MODELS, ROOT, Command


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables that the operator set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "SHEAF_INDEXES": str(tmp_path / "indexes"),
        "SHEAF_MODELS": MODELS,
        "SHEAF_PORT": "0",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs `scripts/NAME.py ARGUMENTS` to its end, elsewhere than in the repository."""

    def run(name: str, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
        done = prestarted.run(line, stdin, env=environment, cwd=tmp_path)
        return subprocess.CompletedProcess(line, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The URL of a running `python -m app`."""
    log = (tmp_path / "server.log").open("wb")
    process = prestarted.Popen(
        [sys.executable, "-m", "app"], stdout=subprocess.PIPE, stderr=log, env=environment, cwd=tmp_path
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline().decode()
        found = re.search(r"http://\S+", said)
        assert found is not None, (said, (tmp_path / "server.log").read_text())
        yield found[0]
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        process.stdout.close()
        log.close()
