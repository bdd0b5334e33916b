"""Ends the process when nobody has said for a while that it lives; then a supervisor starts it anew.

What hangs may hold the interpreter's lock for good, or wait for it: then no Python thread runs, no signal is handled,
and nobody is told. So the waiting is machine code in a thread of its own, without the lock. It writes the stacks of
all threads to standard error, as ``kill -USR1`` does at any time, and ends the process with 1. (It exits by itself:
the first process of a container takes no deadly signal from inside.)

The time is counted in sixty slices, each slept through, so a process that was stopped (Ctrl-Z, ``docker pause``, a
debugger, a laptop's sleep) loses one of them at most. ``faulthandler.dump_traceback_later`` has one deadline instead,
which has passed when such a process goes on: it would end a server that is well.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import threading
from typing import Final

import numpy as np
from numba import types

from app.compute.native import kernel
from app.types import I64

SLICES: Final = 60

_poll = types.ExternalFunction("poll", types.int32(types.voidptr, types.uint64, types.int32))
_write = types.ExternalFunction("write", types.int64(types.int32, types.voidptr, types.uint64))
_raise = types.ExternalFunction("raise", types.int32(types.int32))
_exit = types.ExternalFunction("_exit", types.void(types.int32))


@kernel
def _stand_by(ended: I64, beats: I64, slices: int, slice_ms: int, last_words: np.ndarray, dump: int) -> None:
    """ended: (1), a ``struct pollfd`` that is readable at the end. beats: (1), changed by whoever lives."""
    still, seen = 0, beats[0]
    while still < slices:
        if _poll(ended.ctypes, 1, slice_ms) == 1:
            return
        still = still + 1 if beats[0] == seen else 0
        seen = beats[0]
    _write(2, last_words.ctypes, last_words.size)
    _raise(dump)
    _exit(1)


def write_stacks_when_asked() -> None:
    """By SIGUSR1: those of all threads, on standard error."""
    faulthandler.register(signal.SIGUSR1, 2, all_threads=True)


class Watchdog:
    """Waits from its making to ``close``; each ``beat`` begins the wait anew."""

    def __init__(self, limit_s: float) -> None:
        """limit_s: the longest time without a beat. Compiles what waits, or loads it: seconds at a first start."""
        write_stacks_when_asked()
        said = f"nothing has moved for {limit_s:g} s: the stacks of all threads follow, and the process ends\n"
        self._beats = np.zeros(1, np.int64)
        rest = (
            self._beats,
            SLICES,
            max(1, round(limit_s * 1_000 / SLICES)),
            np.array(bytearray(said.encode())),
            int(signal.SIGUSR1),
        )
        ended, self._end = os.pipe()
        # Nobody writes to it any more: compiled now, it returns at once.
        os.close(self._end)
        _stand_by(_readable(ended), *rest)
        os.close(ended)
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=_stand_by, args=(_readable(self._ended), *rest), name="sheaf-watchdog")
        self._thread.daemon = True
        self._thread.start()

    def beat(self) -> None:
        self._beats += 1

    def close(self) -> None:
        """Nobody is watched over any more."""
        os.close(self._end)
        self._thread.join()
        os.close(self._ended)


def _readable(descriptor: int) -> I64:
    """A ``struct pollfd`` that asks whether it is, or has no writer: (1)."""
    return np.array([descriptor | select.POLLIN << 32], np.int64)
