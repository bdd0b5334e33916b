"""Work in a child process that may be killed or crash: a fork, so that a trial costs no start of Python.

Only from a process that has started no thread: see run.py.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

DEADLINE_S = 120.0


@dataclass(frozen=True)
class Ended:
    """signal: what killed it, 0 where nothing did. status: its exit status; 1 where it raised, with the traceback in
    errors. output: what it wrote to standard output."""

    signal: int
    status: int
    output: str
    errors: str
    hung: bool

    @property
    def well(self) -> bool:
        return not (self.signal or self.status or self.hung)


def in_child(work: Callable[[], None]) -> Ended:
    """Runs the work to its end in a child."""
    assert threading.active_count() == 1, "a fork of a process with threads"
    sys.stdout.flush()
    out, errors = (os.memfd_create(name) for name in ("out", "errors"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(out, 1)
            os.dup2(errors, 2)
            work()
            sys.stdout.flush()
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    hung, deadline = False, time.monotonic() + DEADLINE_S
    pause = 0.001
    while True:
        done, ended = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            hung = True
            _, ended = os.waitpid(child, 0)
            break
        time.sleep(pause)
        pause = min(0.01, pause * 1.5)
    texts = []
    for descriptor in (out, errors):
        size = os.fstat(descriptor).st_size
        texts.append(os.pread(descriptor, size, 0).decode(errors="replace"))
        os.close(descriptor)
    killed = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
    return Ended(killed, os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else 0, *texts, hung)
