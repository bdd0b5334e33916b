"""Ends the process when nobody has said for a while that it lives; then a supervisor starts it anew.

A call that hangs may hold the interpreter's lock for good, or wait for it: then no Python thread runs, no signal is
handled, and nobody is told. So the waiting is machine code in threads of its own, without the lock. After the limit the
first of them takes the lock, where it is free, writes the stacks of all threads to standard error and ends the process
with 1. Where it is not, the second does so without it, a sixth of the limit later. Not earlier: to walk the stacks of
threads that run can crash. (Both exit by themselves: the first process of a container takes no deadly signal from
inside.)

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
_DUMP: Final = signal.SIGRTMAX
"""The signal that the second thread sends itself, so that faulthandler writes the stacks."""

_poll = types.ExternalFunction("poll", types.int32(types.voidptr, types.uint64, types.int32))
_write = types.ExternalFunction("write", types.int64(types.int32, types.voidptr, types.uint64))
_raise = types.ExternalFunction("raise", types.int32(types.int32))
_exit = types.ExternalFunction("_exit", types.void(types.int32))


@kernel
def _stand_by(ended: I64, beats: I64, slices: int, slice_ms: int, last_words: np.ndarray, dump: int) -> bool:
    """ended: (1), a ``struct pollfd`` that is readable at the end. beats: (1), changed by whoever lives.

    False at the end. After so many slices without a beat: true, or, where ``dump`` is a signal, it ends the process.
    """
    still, seen = 0, beats[0]
    while still < slices:
        if _poll(ended.ctypes, 1, slice_ms) == 1:
            return False
        still = still + 1 if beats[0] == seen else 0
        seen = beats[0]
    if dump:
        _write(2, last_words.ctypes, last_words.size)
        _raise(dump)
        _exit(1)
    return True


def write_stacks_when_asked() -> None:
    """By SIGUSR1: those of all threads, on standard error. From the main thread."""
    signal.signal(signal.SIGUSR1, lambda number, frame: faulthandler.dump_traceback(2, all_threads=True))


class Watchdog:
    """Waits from its making to ``close``; each ``beat`` begins the wait anew."""

    def __init__(self, limit_s: float) -> None:
        """limit_s: the longest time without a beat. Compiles what waits, or loads it: seconds at a first start."""
        faulthandler.register(_DUMP, 2, all_threads=True)
        said = f"nothing has moved for {limit_s:g} s: the stacks of all threads follow, and the process ends\n"
        self._last_words = np.array(bytearray(said.encode()))
        self._beats = np.zeros(1, np.int64)
        self._slice_ms = max(1, round(limit_s * 1_000 / SLICES))
        self._ended, self._end = os.pipe()
        os.close(self._end)
        # Nobody can write to it any more: compiled now, it returns at once.
        self._wait(SLICES, 0)
        os.close(self._ended)
        self._ended, self._end = os.pipe()
        self._threads = [
            threading.Thread(target=work, name="sheaf-watchdog", daemon=True)
            for work in (self._with_the_lock, lambda: self._wait(SLICES + SLICES // 6, int(_DUMP)))
        ]
        for thread in self._threads:
            thread.start()

    def beat(self) -> None:
        self._beats += 1

    def close(self) -> None:
        """Nobody is watched over any more."""
        os.close(self._end)
        for thread in self._threads:
            thread.join()
        os.close(self._ended)

    def _wait(self, slices: int, dump: int) -> bool:
        return _stand_by(_readable(self._ended), self._beats, slices, self._slice_ms, self._last_words, dump)

    def _with_the_lock(self) -> None:
        if self._wait(SLICES, 0):
            os.write(2, bytes(self._last_words))
            faulthandler.dump_traceback(2, all_threads=True)
            os._exit(1)


def _readable(descriptor: int) -> I64:
    """A ``struct pollfd`` that asks whether it is, or has no writer: (1)."""
    return np.array([descriptor | select.POLLIN << 32], np.int64)
