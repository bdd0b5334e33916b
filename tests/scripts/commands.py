"""Shared parts of the tests of the commands."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from app.catalogue.catalogue import Catalogue

ROOT = Path(__file__).parents[2]
MODELS = '{"words": {"type": "deterministic", "dim": 32}, "other": {"type": "deterministic", "dim": 16}}'
DEADLINE_S = 60.0

Command = Callable[..., "subprocess.CompletedProcess[str]"]


OpenCatalogue = Callable[..., Catalogue]


def eventually(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds; fails after a minute."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
