"""Connections that only wait: a head must be complete within a time, else the connection is closed.

uvicorn bounds the pause between two requests, but not the time before the first byte or inside a head, so that a
client which sends nothing would hold its connection for good. Bodies are bounded in ``app.api.bodies``.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S: Final = 20.0
"""From the connection, or from the first byte of a later request, to the end of the head."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on its patience."""

    head_s = HEAD_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(self.head_s, self.transport.close)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
