"""``python -m app``: the server alone, set by the environment (see ``app.settings``); with ``--cluster ADDRESS`` one
whose segments are searched by the shards of a Ray cluster (docs/cluster.md).

Says one line on standard output when it is ready, with its URL; before, while it opens the collections, it answers
503. Logs go to standard error. SIGTERM and SIGINT let running requests end, for at most 30 seconds, and exit with 0.
Wrong settings exit with 2, a failed start with 3.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # Loading makes no garbage, and to look for it takes a tenth of a start.
    gc.disable()

import argparse
import asyncio
import atexit
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Final

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError
from starlette.datastructures import State

from app.api.edge.connections import give_up_unread, patient
from app.api.edge.hosts import url_of
from app.api.observe.logs import log_to_stderr
from app.compute.watchdog import Watchdog, write_stacks_when_asked
from app.errors import Invalid
from app.main import create_app, keyring
from app.settings import Settings, refusals, unknown_variables
from app.store.system import raise_open_files

GRACE_S: Final = 20
"""For running requests, once a stop was asked for."""
STOP_S: Final = 30.0
"""For everything; then the process ends as it is, which the store is made for."""
SWITCH_S: Final = 0.0005
"""How long a thread that computes in Python keeps the interpreter's lock where another waits for it, by default 5 ms. A
search lets it go some times (it is handed to a thread and back, walks a graph), and beside a large write has it back so
much later each time (docs/decisions.md)."""

log = logging.getLogger("app")


def main(arguments: Sequence[str] = ()) -> int:
    """arguments: of the command line; the environment says the rest."""
    # Loaded modules stay, and are not looked through again.
    gc.freeze()
    gc.enable()
    parser = argparse.ArgumentParser(prog="python -m app", description="The server, set by the environment: README.md.")
    parser.add_argument("--cluster", metavar="ADDRESS", help="of a Ray cluster that searches, HOST:PORT or auto")
    asked = parser.parse_args(arguments)
    try:
        settings = Settings() if asked.cluster is None else Settings(cluster=asked.cluster)
    except (ValidationError, SettingsError) as error:
        sys.stderr.write("".join(f"{line}\n" for line in refusals(error)))
        return 2
    log_to_stderr(settings.log_level, settings.log_format)
    write_stacks_when_asked()
    for name in unknown_variables():
        log.warning("%s: no setting has this name", name)
    try:
        keys = len(keyring(settings))
    except Invalid as error:
        sys.stderr.write(f"SHEAF_KEYS, SHEAF_KEYS_FILE: {error.message}\n")
        return 2
    try:
        listener = _bind(settings)
    except OSError as error:
        log.critical("cannot listen on %s port %d: %s", settings.host, settings.port, error.strerror)
        return 3
    address, port = listener.getsockname()[:2]
    if not keys and not ipaddress.ip_address(address).is_loopback and not settings.allow_anonymous:
        listener.close()
        sys.stderr.write(
            f"SHEAF_HOST: {address} is not loopback, and no key is set, so anyone who reaches it could read and delete "
            "everything. Set SHEAF_KEYS (python -m app.keys makes a key), or SHEAF_ALLOW_ANONYMOUS=true where "
            "something else decides who reaches it\n"
        )
        return 2
    log.info("%s", f"keys: {keys}" if keys else f"no keys: anyone who reaches {address} may do everything")
    app = create_app(settings.model_copy(update={"port": port}))
    config = uvicorn.Config(
        app,
        http=patient(settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    files = raise_open_files()
    if files < settings.max_connections:
        log.warning("the system allows %d open files, fewer than SHEAF_MAX_CONNECTIONS", files)
    server = _Server(config, app.state, settings.watchdog_s)
    sys.setswitchinterval(SWITCH_S)
    with listener:
        try:
            server.run(sockets=[listener])
        except SystemExit as stopped:
            return stopped.code if isinstance(stopped.code, int) else 3
    return 3 if server.failed else 0


def _bind(settings: Settings) -> socket.socket:
    """Takes the address before anything is opened; it is listened on only when the collections are."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        # So that :: is all addresses, 127.0.0.1 too, whatever the system's default is.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        listener.bind((settings.host, settings.port))
        give_up_unread(listener)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server, which says its address once it is ready, and ends with 0 after a signal."""

    def __init__(self, config: uvicorn.Config, state: State, limit_s: float) -> None:
        """limit_s: how long the event loop may stand still; 0 for good."""
        super().__init__(config)
        self._state, self._limit_s = state, limit_s
        self.failed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        self._watching = asyncio.ensure_future(self._watch())
        self._said = asyncio.ensure_future(self._say_when_ready(sockets[0]))

    async def _watch(self) -> None:
        if self._limit_s:
            watchdog = await asyncio.to_thread(Watchdog, self._limit_s)
            atexit.register(watchdog.close)
            self._moving = asyncio.ensure_future(self._say_that_it_moves(watchdog))

    async def _say_that_it_moves(self, watchdog: Watchdog) -> None:
        """To the end of the loop. The rest, up to the end of the interpreter, has the limit once more."""
        while True:
            watchdog.beat()
            await asyncio.sleep(self._limit_s / 8)

    async def _say_when_ready(self, listener: socket.socket) -> None:
        try:
            await asyncio.shield(self._state.opening)
            await asyncio.shield(self._state.warming)
        except Exception:
            log.critical("cannot open the collections", exc_info=True)
            self.failed = self.should_exit = True
            return
        await self._watching
        if self.should_exit:
            return
        host, port = listener.getsockname()[:2]
        sys.stdout.write(f"Sheaf is ready at {url_of(host, port)}\n")
        sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Unlike uvicorn's, it does not raise the signal again after the end, which would make the exit status -15.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif not self.should_exit:
            self.should_exit = True
            watch = threading.Timer(STOP_S, _give_up)
            watch.daemon = True
            watch.start()


def _give_up() -> None:
    log.critical("did not stop within %g s; ending now, nothing that was acknowledged is lost", STOP_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
