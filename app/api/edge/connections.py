"""Connections that only wait, or are too many: closed, so that nobody holds what others need.

uvicorn bounds the pause between two requests, but neither the time before the first byte or inside a head, nor the
size of a head, nor the rest of a body whose answer was given already; a client could hold its connection for good.
A body that is still read is bounded in ``app.api.edge.bodies``. What a client does not read of its answer is bounded by
the kernel (TCP_USER_TIMEOUT).
"""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.settings import Settings

MAX_HEAD_BYTES: Final = 65_536
UNREAD_S: Final = 30
"""An answer of which the client takes nothing for so long is given up."""
_RESERVED: Final = 256
"""File descriptors kept for the collections, of as many as the system allows."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on its patience."""

    head_s = 10.0
    """From the connection, or from the first byte of a later request, to the end of the head."""
    body_s = 10.0
    """From an answer to the end of the body that was sent for it."""
    most = 2_000
    """Connections."""
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int | None = None
    _body_ended = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1_000)
        if len(self.connections) > self.most:
            self._refuse(b"503 Service Unavailable\r\nretry-after: 1")
        else:
            self._arm(self.head_s)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._arm(self.head_s)

    def on_headers_complete(self) -> None:
        self._head_bytes, self._body_ended = None, False
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._body_ended = True
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self._body_ended:
            self._arm(self.body_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _refuse(self, status: bytes) -> None:
        """Answers before there is a request to answer."""
        self._head_bytes = None
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def patient(settings: Settings) -> type[PatientProtocol]:
    """The protocol with the operator's bounds."""

    class Configured(PatientProtocol):
        head_s = settings.head_timeout_s
        body_s = settings.body_timeout_s
        most = settings.max_connections

    return Configured


def raise_open_files(settings: Settings) -> int:
    """Lets the process open as many files as the connections need, or as the system allows: the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + _RESERVED
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
