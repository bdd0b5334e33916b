"""The TypeScript client, generated from the API's description, compiled, and run by Node against a live server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import Running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as `scripts/typescript.sh` makes it, with the trial among its sources."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        assert os.environ.get("SHEAF_REQUIRE_NODE") != "1", f"{' and '.join(missing)} must be here in CI"
        pytest.skip(f"needs {' and '.join(missing)} (Debian's nodejs, npm)")
    folder = tmp_path_factory.mktemp("typescript") / "client"
    own = shutil.ignore_patterns("node_modules", "dist", "openapi.json", "schema.ts")
    shutil.copytree(ROOT / "scripts" / "typescript", folder, ignore=own)
    shutil.copy(Path(__file__).parent / "trial.ts", folder / "src")
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / "scripts" / "typescript.sh", folder], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_it_creates_writes_searches_exports_and_is_refused_by_type(made: Path, server: Running) -> None:
    line = ["node", made / "dist" / "trial.js", server.url, "typescript"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["created"] == "typescript"
    assert found["ids"][:2] == ["cat", "7"]
    assert len(found["ids"][2]) == 32
    assert found["hits"] == ["7"]
    assert found["filtered"] == 2
    assert sorted(found["texts"]) == ["a cat sleeps \u2028 on the mat", "a hen lays eggs", "an owl sees at night"]
    assert found["refused"]["errors"] == [{"pointer": "/k", "message": "expected 1 or more"}]
    assert (found["refused"]["status"], found["refused"]["code"], found["refused"]["named"]) == (422, "invalid", True)
    assert found["patched"] == {}


@pytest.mark.slow
def test_a_wrong_body_does_not_compile(made: Path) -> None:
    wrong = made / "src" / "wrong.ts"
    wrong.write_text(
        'import { sheaf } from "./sheaf.js";\n'
        'const path = { name: "x" };\n'
        'await sheaf("x").POST("/v1/collections/{name}/search", { params: { path }, body: { query: 7 } });\n'
        'await sheaf("x").POST("/v1/collections/{name}/serach", { params: { path }, body: {} });\n'
    )
    try:
        done = subprocess.run(["npx", "tsc", "--noEmit"], cwd=made, capture_output=True, text=True, check=False)
    finally:
        wrong.unlink()
    assert done.returncode != 0
    assert "src/wrong.ts(3," in done.stdout
    assert "src/wrong.ts(4," in done.stdout
