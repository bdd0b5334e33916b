"""README's examples, as they stand there, against a live server with the built-in model: each is answered."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from running import Running

from app.settings import Settings

pytestmark = pytest.mark.slow  # a shell, and the built-in model

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "make run": "tests/scripts builds python-docs; the rest is an installation",
    "docker compose up": "scripts/container.sh",
}
"""What an example that is not run here begins with, and what runs it."""
WAIT = """ID=$(python -c '
import json, sys, time, urllib.request
base = sys.argv[1]
while not (found := json.load(urllib.request.urlopen(base + "/v1/collections/papers/snapshots"))["snapshots"]):
    time.sleep(.05)
print(found[0]["id"])' "http://$SERVER")"""
"""In the place of `ID=...`: the snapshot's own, once it is there."""
SHELL = """set -e
curl() { command curl -w '%{stderr}%{http_code}\\n' "$@"; echo; }
"""


def shell_blocks() -> list[str]:
    return [block for language, block in BLOCKS if language == "sh" and not block.startswith(tuple(ELSEWHERE))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(Settings(indexes=tmp_path_factory.mktemp("readme"))).opened()
    with httpx.Client(base_url=running.url, trust_env=False, timeout=300) as client:
        for _ in range(600):
            made = client.post("/v1/collections", json={"name": "python-docs"})
            if made.status_code != 503:
                break
        assert made.status_code == 201, made.text
        document = {"id": "zipfile.ZipFile", "text": "Class with methods to open, read and write ZIP archives."}
        assert client.post("/v1/collections/python-docs/documents", json=document).status_code == 200
        yield running
    running.stop()


@pytest.fixture(scope="module")
def asked(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[int]]:
    """Runs shell examples; the status of each request."""
    folder = tmp_path_factory.mktemp("cwd")
    lines = [{"id": f"p{i}", "text": f"paper {i} about archives"} for i in range(3)]
    (folder / "papers.ndjson").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (folder / "films.csv").write_text("title,plot,year\nHeron,It stands in the reeds,2001\n")
    address = server.url.removeprefix("http://")
    environment = {**os.environ, "SERVER": address, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(block: str) -> list[int]:
        script = SHELL + block.replace("localhost:8000", address).replace("ID=...", WAIT + " #")
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        statuses = [int(line) for line in done.stderr.split() if line.isdecimal()]
        assert len(statuses) == len(re.findall(r"^curl\b", block, re.MULTILINE)), done.stderr
        return statuses

    return run


def test_every_request_of_the_shell_is_answered(asked: Callable[[str], list[int]], server: Running) -> None:
    """In their order, for later ones ask what earlier ones wrote."""
    requests = 0
    for block in shell_blocks():
        if "localhost:8000" not in block or "SHEAF_API_KEY" in block:
            continue
        found = asked(block)
        assert set(found) <= {200, 201, 202}, block
        requests += len(found)
        wait_for_tasks(server)
    assert requests >= 18
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        query = {"query": "archives that are compressed"}
        hits = client.post("/v1/collections/papers/search", json=query).json()["hits"]
        assert hits[0]["id"] in ("a", "p0", "p1", "p2")
        assert client.get("/v1/collections/papers/documents/7").json()["text"].startswith("An integer")
        assert client.get("/v1/collections/copy/documents/7").status_code == 200


def wait_for_tasks(server: Running) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        while any(task["finished"] is None for task in client.get("/v1/tasks").json()["tasks"]):
            pass
        failed = [task for task in client.get("/v1/tasks").json()["tasks"] if task["state"] != "succeeded"]
        assert failed == []


def test_every_example_in_python_runs(server: Running) -> None:
    """As a program of its own, from where Sheaf lies."""
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        client.post("/v1/collections", json={"name": "papers"})
    blocks = [block for language, block in BLOCKS if language == "python"]
    assert len(blocks) == 2
    for block in blocks:
        program = f"import cohere\nfrom openai import OpenAI\n{block.replace('http://localhost:8000', server.url)}"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("[") == ("print(" in block)


def test_the_models_of_the_example_are_settings() -> None:
    (block,) = [block for block in shell_blocks() if "export SHEAF_MODELS" in block]
    value = block.partition("'")[2].rpartition("'")[0]
    assert set(Settings(models=json.loads(value)).models) == {
        "colbert",
        "minilm",
        "cross",
        "splade",
        "hyper",
        "short",
        "remote",
    }


def test_the_key_of_the_example_is_one() -> None:
    (block,) = [block for block in shell_blocks() if "app.keys" in block]
    line = block.splitlines()[0].partition("#")[0].replace(".venv/bin/python", sys.executable)
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    (said,) = json.loads(block.splitlines()[1].partition("'")[2].rpartition("'")[0])
    assert set(made) == set(said)
    assert {**made, "sha256": said["sha256"]} == said


def test_every_example_is_of_a_kind_that_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    skipped = [block for language, block in BLOCKS if language == "sh" and block not in shell_blocks()]
    assert len(skipped) == len(ELSEWHERE)
    others = [block for block in shell_blocks() if "localhost:8000" not in block]
    assert len(others) == 1
