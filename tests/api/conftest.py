"""A real server over HTTP, with the deterministic encoder, for all tests of the API."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import prestarted
import pytest
from limited import TIGHT, post
from running import Running

from app.settings import DeterministicModel, Settings

ROOT = Path(__file__).parents[2]
LIMITS: dict[str, Any] = {"max_body_bytes": 200_000, "max_import_bytes": 400_000, "max_documents": 20, "max_batch": 3}


@pytest.fixture(scope="session")
def running() -> Callable[[Settings], Running]:
    """Starts a server with settings of the test's own, which the test stops."""
    return Running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("indexes")
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    settings = Settings(indexes=folder, models=models, hosts=["search.example"], **LIMITS)
    running = Running(settings).opened()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a server in this process, with settings of its own."""
    with ExitStack() as stack:

        def begin(*, wait: bool = True, **settings: Any) -> Running:
            models = {"words": DeterministicModel(type="deterministic", dim=16)}
            running = Running(Settings(**{"indexes": tmp_path / "indexes", "models": models, **settings}))
            stack.callback(running.stop)
            return running.opened() if wait else running

        yield begin


_NUMBERS = count(1)


@pytest.fixture
def create(client: httpx.Client) -> Callable[..., str]:
    """Makes a new collection and gives its address, such as ``/v1/collections/c7``."""

    def make(**body: Any) -> str:
        name = f"c{next(_NUMBERS)}"
        body.setdefault("encoder", {"model": "words"})
        answer = client.post("/v1/collections", json={"name": name, **body})
        assert answer.status_code == 201, answer.text
        return f"/v1/collections/{name}"

    return make


@pytest.fixture
def collection(create: Callable[..., str], client: httpx.Client) -> str:
    """A multi-vector collection with three documents about animals."""
    address = create()
    documents = [
        {"id": "cat", "title": "Cat", "text": "a cat sleeps on the mat", "metadata": {"legs": 4, "tags": ["pet"]}},
        {"id": "dog", "title": "Dog", "text": "a dog barks at night", "metadata": {"legs": 4, "loud": True}},
        {"id": "hen", "text": "a hen lays eggs", "metadata": {"legs": 2, "mass": 2.0}},
    ]
    answer = client.post(f"{address}/documents", json={"documents": documents})
    assert answer.status_code == 200, answer.text
    return address


@pytest.fixture
def finished(client: httpx.Client) -> Callable[[str], Any]:
    """Follows a task to its end."""

    def follow(location: str) -> Any:
        for _ in range(6_000):
            task = client.get(location).json()
            if task["finished"] is not None:
                return task
            time.sleep(0.01)
        raise AssertionError(f"the task did not end within a minute: {task}")

    return follow


class Process:
    """``python -m app`` as a process of its own. cold: with nothing imported yet."""

    def __init__(self, folder: Path, cold: bool = False, **environment: str) -> None:
        self.folder = folder
        settings = {
            "SHEAF_PORT": "0",
            "SHEAF_INDEXES": str(folder),
            "SHEAF_MODELS": '{"words": {"type": "deterministic", "dim": 16}}',
            **environment,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
        # test_start.py is about what a start loads.
        begin = subprocess.Popen if cold else prestarted.Popen
        self.process = begin(
            [sys.executable, "-W", "error", "-m", "app"],
            cwd=ROOT,
            env={**kept, **settings, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> str:
        """Waits for the line that says the URL."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Sheaf is ready at "), self.end()
        return line.split()[-1]

    def end(self, timeout: float = 60) -> tuple[int, str]:
        """Waits for the end; the exit status, and what was logged."""
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts servers over one folder; what still runs at the end of the test is killed."""
    with ExitStack() as stack:

        @contextmanager
        def ended(process: Process) -> Iterator[None]:
            try:
                yield
            finally:
                if process.process.poll() is None:
                    process.process.kill()
                    process.end()

        def begin(cold: bool = False, **environment: str) -> Process:
            process = Process(tmp_path / "indexes", cold, **environment)
            stack.enter_context(ended(process))
            return process

        yield begin


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, running: Callable[[Settings], Any]) -> Iterator[Any]:
    models = {"words": DeterministicModel(type="deterministic", dim=16)}
    server = running(Settings(indexes=tmp_path_factory.mktemp("tight"), models=models, **TIGHT)).opened()
    for name, encoder in (("text", {"model": "words"}), ("many", {"model": None, "dim": 2})):
        post(server, "", {"name": name, "encoder": encoder}, status=201)
    post(server, "/text/documents", {"documents": [{"id": "a", "text": "a cat", "metadata": {"legs": 4}}]})
    yield server
    server.stop()
