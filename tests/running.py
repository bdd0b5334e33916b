"""A server in a thread of the tests' own process."""

from __future__ import annotations

import threading
import time

import uvicorn

from app.api.edge.connections import patient
from app.main import create_app
from app.settings import Settings


class Running:
    """A server in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app = create_app(settings)
        config = uvicorn.Config(
            self.app,
            port=0,
            http=patient(settings),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def opened(self) -> Running:
        """Waits until the collections are, and the encoders that are loaded first."""
        state = self.app.state
        while not (state.opening.done() and state.warming.done() and state.preparing.done()):
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
