"""A real server in a process of its own, and what is asked of it over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import prestarted

ROOT = Path(__file__).parents[2]
MODELS = '{"words": {"type": "deterministic", "dim": 16}}'


class Server:
    """``python -m app`` over a folder. ready_s: from its start to its ready line."""

    def __init__(self, folder: Path, *, wait: bool = True, cold: bool = False, **environment: str) -> None:
        """wait: until it is ready. cold: with nothing imported yet."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
        settings = {"SHEAF_PORT": "0", "SHEAF_INDEXES": str(folder), "SHEAF_MODELS": MODELS, **environment}
        self.log = folder.with_name(f"{folder.name}.log")
        started = time.monotonic()
        with self.log.open("a") as log:
            self.process = (subprocess.Popen if cold else prestarted.Popen)(
                [sys.executable, "-W", "error", "-m", "app"],
                cwd=ROOT,
                env={**kept, **settings, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = ""
        if not wait:
            return
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready_s = time.monotonic() - started
        if not line.startswith("Sheaf is ready at "):
            raise AssertionError(f"the server did not start: {self.log.read_text()[-2_000:]}")
        self.url = line.split()[-1]

    def client(self, timeout: float = 120) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=timeout)

    def kill(self, after: float = 0.0) -> None:
        time.sleep(after)
        self.process.kill()
        self.process.communicate()

    def stop(self, timeout: float = 60) -> tuple[int, float]:
        """SIGTERM; its exit status, and how long it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=timeout)
        return self.process.returncode, time.monotonic() - started


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    """A server that is killed at the end, if it still runs."""
    server = Server(folder, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def everything(client: httpx.Client, name: str) -> dict[str, str]:
    """id -> text of every document, by listing. Raises AssertionError for one that is listed twice."""
    found: dict[str, str] = {}
    cursor: dict[str, str] = {}
    while True:
        page = client.get(f"/v1/collections/{name}/documents", params={"limit": "1000", **cursor}).json()
        for document in page["documents"]:
            assert document["id"] not in found, f"{document['id']} is listed twice"
            found[document["id"]] = document["text"]
        if not page.get("next"):
            return found
        cursor = {"cursor": page["next"]}


def follow(client: httpx.Client, location: str, timeout: float = 120) -> Any:
    """A task, at its end."""
    deadline = time.monotonic() + timeout
    while (task := client.get(location).json())["finished"] is None:
        assert time.monotonic() < deadline, task
        time.sleep(0.05)
    return task
