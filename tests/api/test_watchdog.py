"""A server that hangs ends by itself and says where it hung; one that was only stopped for a while goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
HANGING = """
import ctypes, signal, sys, time
from app.__main__ import main

def hang(*_):
    {how}

signal.signal(signal.SIGUSR2, hang)
sys.exit(main())
"""


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """A real server whose event loop stands still from SIGUSR2 on, and its limit in seconds; ready, watched over."""
    begun: list[subprocess.Popen[str]] = []

    def begin(how: str, limit: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
        settings = {"SHEAF_INDEXES": str(tmp_path / "indexes"), "SHEAF_PORT": "0", "SHEAF_WATCHDOG_S": limit}
        process = subprocess.Popen(
            [sys.executable, "-c", HANGING.format(how=how)],
            env={**kept, **settings, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Sheaf is ready at ")
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


# The interpreter's lock is held for good, or is free.
@pytest.mark.parametrize("how", ["ctypes.PyDLL(None).sleep(1_000)", "time.sleep(1_000)"])
def test_a_loop_that_stands_still_ends_the_process_with_all_stacks(
    hanging: Callable[[str, str], subprocess.Popen[str]], how: str
) -> None:
    process = hanging(how, "3")
    process.send_signal(signal.SIGUSR2)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "nothing has moved for 3 s: the stacks of all threads follow" in said
    assert "in hang" in said


def test_0_never_ends_it(hanging: Callable[[str, str], subprocess.Popen[str]]) -> None:
    process = hanging("time.sleep(3)", "0")
    process.send_signal(signal.SIGUSR2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def test_a_server_that_was_stopped_for_longer_goes_on(start: Callable[..., Any]) -> None:
    server = start(SHEAF_WATCHDOG_S="4")
    url = server.ready()
    server.process.send_signal(signal.SIGSTOP)
    # The time that passes is what is tested.
    time.sleep(5)
    server.process.send_signal(signal.SIGCONT)
    assert httpx.get(f"{url}/health/live", trust_env=False, timeout=60).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0


def test_the_stacks_are_written_for_whoever_asks(start: Callable[..., Any]) -> None:
    server = start()
    url = server.ready()
    server.process.send_signal(signal.SIGUSR1)
    assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    status, said = server.end()
    assert status == 0
    assert "(most recent call first)" in said
