"""Processes of Sheaf that begin with everything imported: a start is two seconds of imports, and there are hundreds.

One process a run (``Mother``) imports what the server and the scripts do, loads the loops of searches, and waits. Each
start is a fork of it, which takes the arguments, the environment, the folder and the files that it is given, and then
runs the module or the script as Python would run it. It is a process of its own, a child of ours, with everything that
``subprocess.Popen`` has; it only knows more modules than it asked for. So what is about starts themselves starts Python
(tests/api/test_start.py, tests/test_packaging.py).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
SCRIPTS = ("backup", "build_index", "evaluate", "scrub", "tune")


class Mother:
    """The process that is forked, seen from the one that asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                cwd=ROOT,
                env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def close(self) -> None:
        self._ours.close()
        self._process.wait()

    def start(self, asked: dict[str, Any], files: list[int]) -> int:
        """The id of a new child of this process. files: its standard input, output and error."""
        content = json.dumps(asked).encode()
        prctl = ctypes.CDLL(None).prctl
        with self._lock:
            # Its parent has ended by the answer: it is handed on to the next process above that takes some.
            prctl(SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._ours, [len(content).to_bytes(8, "little")], files)
                self._ours.sendall(content)
                answer = self._ours.recv(8, socket.MSG_WAITALL)
            finally:
                prctl(SUBREAPER, 0, 0, 0, 0)
        assert len(answer) == 8, "the process that is forked has ended"
        return int.from_bytes(answer, "little")


@cache
def mother() -> Mother:
    return Mother()


class Popen(subprocess.Popen[Any]):
    """``subprocess.Popen`` of ``[sys.executable, "-m", MODULE, ...]`` or ``[sys.executable, SCRIPT, ...]``, with
    ``-W error`` before either."""

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, *rest: Any,
    ) -> None:  # fmt: skip
        line = [os.fspath(one) for one in args]
        assert line[0] == sys.executable
        assert preexec_fn is None
        # As Popen does it, for whoever listens (tests/conftest.py).
        sys.audit("subprocess.Popen", line[0], line, cwd, env)
        strict = line[1:3] == ["-W", "error"]
        asked = {
            "line": line[3 if strict else 1 :],
            "strict": strict,
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        files = [given if given != -1 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = mother().start(asked, files)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(
    line: list[Any], stdin: bytes = b"", timeout: float | None = None, **given: Any
) -> subprocess.CompletedProcess[bytes]:
    """As ``subprocess.run`` with its output captured."""
    with Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **given) as process:
        try:
            out, errors = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(line, process.returncode, out, errors)


# What follows is run in the process that is forked.


def wait(asking: socket.socket) -> dict[str, Any] | None:
    """In a fork what it is to be, with its standard files in place; None at the end."""
    while True:
        head, files, _, _ = socket.recv_fds(asking, 8, 3)
        if not head:
            return None
        asked: dict[str, Any] = json.loads(asking.recv(int.from_bytes(head, "little"), socket.MSG_WAITALL))
        told, telling = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child:
                os.write(telling, child.to_bytes(8, "little"))
                os._exit(0)
            for own, given in enumerate(files):
                os.dup2(given, own)
            os.closerange(3, 1 + max(*files, telling))
            return asked
        # From here on its parent is the one that asked.
        os.waitpid(between, 0)
        asking.sendall(os.read(told, 8))
        for given in (*files, told, telling):
            os.close(given)


def become(asked: dict[str, Any]) -> NoReturn:
    """Runs a module or a script, as Python does it at its start, and ends as Python does, but for taking apart what the
    other process had made."""
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    prompt = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        open(1, "wb", buffering=0 if prompt else -1, closefd=False),  # noqa: SIM115
        line_buffering=os.isatty(1),
        write_through=prompt,
    )
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(
        open(2, "wb", buffering=0, closefd=False),  # noqa: SIM115
        errors="backslashreplace",
        write_through=True,
    )
    if asked["strict"]:
        warnings.simplefilter("error")
        sys.warnoptions[:] = ["error"]
    program, *arguments = asked["line"]
    status = 0
    try:
        if program == "-m":
            name = arguments.pop(0)
            sys.argv, sys.path[0] = [name, *arguments], asked["cwd"]
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = [program, *arguments], os.path.dirname(program)  # noqa: PTH120
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    own = socket.socket(fileno=int(sys.argv[1]))
    sys.path.insert(1, str(ROOT / "scripts"))
    for one in ("app.__main__", *SCRIPTS):
        import_module(one)
        del sys.modules[one]
    sys.path.pop(1)
    # Their machine code is read from where the tests keep it, a second of each start.
    native = import_module("app.compute.native")
    native.keep_in(ROOT / ".pytest_cache" / "compiled")
    native.prepare(import_module("app.search").loops())
    gc.freeze()
    found = wait(own)
    if found is not None:
        become(found)
