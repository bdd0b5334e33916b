"""mteb itself drives a running Sheaf, dense and by late interaction, over a task that is made on the spot.

It lies in a folder of its own, which is filled once: beside torch's packages its own would slow every start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from beside import PEERS, ROOT, installed
from running import Running

from app.client import Sheaf


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed("requirements.lock", tmp_path_factory.mktemp("mteb"))


@pytest.mark.slow
def test_mteb_drives_a_running_server(packages: Path, server: Running, sheaf: Sheaf, tmp_path: Path) -> None:
    line = [sys.executable, PEERS / "mteb_sheaf.py", "--url", server.url, "--local", "--kind", "dense", "multi_vector"]
    # Nothing is asked of a hub.
    environment = {
        **os.environ,
        "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "MTEB_CACHE": str(tmp_path),
    }
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^SheafLocal, (\w+), (\w+): ([\d.]+)$", done.stdout, re.MULTILINE)
    assert found == [("dense", "dense", "1.0000"), ("multi_vector", "semantic", "1.0000")]
    # It leaves nothing behind.
    assert not [one["name"] for one in sheaf.collections() if one["name"].startswith("mteb-")]
