"""Time and chance, handed in, so that tests/replication plays them by one seed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass


def _nonce() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Clock:
    """now: seconds since 1970, which machines agree on roughly. passed: seconds that only go forward, of this process.
    wait: for so many seconds. nonce: a word of letters and digits that nobody had before."""

    now: Callable[[], float] = time.time
    passed: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    nonce: Callable[[], str] = _nonce
