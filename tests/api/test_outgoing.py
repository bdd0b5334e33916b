"""The server asks nobody but the remotes that are configured, whatever a request names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
# Every connection and every look-up of a name that Python makes goes to the log; none is stopped.
WATCHED = """
import sys

def watch(event, arguments):
    if event == "socket.connect":
        sys.stderr.write(f"OUT connect {arguments[1]!r}\\n")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        sys.stderr.write(f"OUT look-up {arguments[0]!r}\\n")
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        sys.stderr.write(f"OUT process {arguments!r}\\n")

sys.addaudithook(watch)
from app.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """(the URL, a function that ends the server and gives what it asked for)."""
    models = {
        "words": {"type": "deterministic", "dim": 4},
        # Nobody listens there: what counts is that it is the one that is tried.
        "far": {"type": "remote", "url": "http://127.0.0.1:9/v1", "model": "m", "dim": 4, "retries": 0, "timeout_s": 5},
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "SHEAF_PORT": "0", "SHEAF_INDEXES": str(tmp_path / "indexes")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED],
            env={**environment, "SHEAF_MODELS": json.dumps(models)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def end() -> list[str]:
        process.terminate()
        process.communicate(timeout=60)
        return [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("OUT ")]

    assert process.stdout is not None
    yield process.stdout.readline().split()[-1], end
    if process.poll() is None:
        process.kill()
        process.communicate()


BAIT = [
    "http://evil.example/x",
    "file:///etc/passwd",
    "//evil.example",
    "evil/model",
    "../../etc/passwd",
    "/etc/passwd",
]


def test_nobody_is_asked_whatever_a_request_names(watched: tuple[str, Any]) -> None:
    url, end = watched
    with httpx.Client(base_url=f"{url}/v1", trust_env=False, timeout=60) as client:
        made = client.post("/collections", json={"name": "c", "encoder": {"model": "words"}})
        assert made.status_code == 201
        for bait in BAIT:
            body = {"name": "d", "encoder": {"model": bait}}
            refused = client.post("/collections", json=body)
            assert refused.status_code == 422
            assert [one["pointer"] for one in refused.json()["errors"]] == ["/encoder/model"]
            document = {"id": bait, "text": bait, "title": bait, "metadata": {"url": bait, "$ref": bait}}
            written = client.post("/collections/c/documents", json={"documents": [document]})
            assert written.status_code == 200, written.text
            assert client.post("/collections/c/search", json={"query": bait}).status_code == 200
            for field in ("url", "path", "model", "callback", "source"):
                assert client.post("/collections/c/search", json={"query": "x", field: bait}).status_code == 422
            for name in ("Referer", "Origin", "X-Forwarded-Host", "X-Original-URL", "Location"):
                assert client.get("/collections", headers={name: bait}).status_code == 200
    assert end() == []


def test_a_configured_remote_is_the_only_one_asked(watched: tuple[str, Any]) -> None:
    url, end = watched
    with httpx.Client(base_url=f"{url}/v1", trust_env=False, timeout=60) as client:
        body = {"name": "c", "encoder": {"model": "far", "kind": "dense"}}
        client.post("/collections", json=body)
        client.post("/collections/c/documents", json={"documents": [{"id": "a", "text": "http://evil.example"}]})
        client.post("/collections/c/search", json={"query": "http://evil.example"})
    asked = end()
    assert asked
    assert {line.split("(")[0].strip() for line in asked} <= {"OUT connect", "OUT look-up '127.0.0.1'"}
    assert all("127.0.0.1" in line for line in asked)
